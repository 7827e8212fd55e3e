"""How public SSD and VGG-16 files name and order their arrays, and what their programs do before and after the network.

A file's arrays become the network's variables (`LAYER/weights` HWIO, `LAYER/biases`, `norm_conv4_3/scale`). Every array
is either used, or known as not needed; a file with any other array is refused.

Sources: weiliu89/caffe branch ssd (`ssd_pascal.py`, `detection_output_layer.cpp`, `prior_box_layer.cpp`),
pytorch/vision `models/vgg.py` and `models/detection/ssd.py`, amdegroot/ssd.pytorch, lufficc/SSD,
pierluigiferrari/ssd_keras, Keras `applications/vgg16.py`, open-mmlab/mmdetection `ssd_vgg.py`, `ssd_neck.py`,
`ssd_head.py`, `configs/ssd` and `tools/model_converters/upgrade_ssd_version.py`. Decimation of fc6 and fc7: arXiv
1512.02325 section 3.
"""

import dataclasses
import functools
import math
import re

import numpy as np

import ssd_layers
import ssd_utils
from ssd_layers import CONVOLUTIONS, LOGITS, OFFSETS, VGG_LAYERS
from structures import UserError

_LARGE = ssd_utils.get_preset("vgg512")  # whose network has every layer of the smaller one
EXTRAS = ssd_layers.names(ssd_layers.extra_layers(_LARGE))
FEATURES = ssd_layers.feature_names(_LARGE)
# Positions of VGG-16's convolutions in a list of layers that also counts ReLU and pooling
SEQUENCE = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
# RGB mean and standard deviation of ImageNet's pictures in 0..1; torchvision normalizes its input with them
TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_STD = (0.229, 0.224, 0.225)
VOC_CLASSES = 20
_LARGEST_SCALING = math.log(1000 / 16)  # of a box in relation to its anchor, in torchvision and mmdetection


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one program names and orders a network's arrays, and what its code does around the network.

    name: as in --layout.
    layers: {layer of ours: its name in the file}.
    suffixes: what the file appends to a layer's name for its weights and for its biases.
    channel_order: "RGB" or "BGR", as conv1_1 expects it.
    scale: name of conv4_3's factors; None for a bare VGG-16.
    fc_suffixes: those of fc6 and fc7, None for the same.
    hwio: whether kernels are HWIO (Keras), not OIHW.
    imagenet_statistics: whether the input is (x / 255 - mean) / std.
    not_needed: regular expression of the whole names that are not needed.
    cuts_across_classes: whether at most `keep` detections of all classes together are kept.
    cuts_candidates: whether at most `candidates_per_class` anchors enter the suppression.
    integer_anchor_sizes: whether its minimum and maximum sizes of anchors are rounded down to whole pixels.
    anchors_by_classes: whether its code takes VOC's anchors for 20 classes and COCO's for any other number.
    background_last: whether background is the last output of an anchor's logits, not the first.
    rules: fields of the preset that its own code's detections need, beside the anchors of `vgg300` or `vgg512`.
    rules_by_anchors: {preset whose anchors are taken: such fields for these anchors only}.
    """

    name: str
    layers: dict
    suffixes: tuple
    channel_order: str
    scale: str | None = None
    fc_suffixes: tuple | None = None
    hwio: bool = False
    imagenet_statistics: bool = False
    not_needed: str = r"$^"
    cuts_across_classes: bool = True
    cuts_candidates: bool = True
    integer_anchor_sizes: bool = False
    anchors_by_classes: bool = False
    background_last: bool = False
    rules: dict = dataclasses.field(default_factory=dict)
    rules_by_anchors: dict = dataclasses.field(default_factory=dict)

    @property
    def is_ssd(self):
        """Whether it is a layout of detectors, not of a bare VGG-16."""
        return self.scale is not None

    @property
    def has_own_anchors(self):
        """Whether its anchor sizes are the same whatever it was trained on."""
        return "min_sizes" in self.rules

    @functools.cached_property
    def variables(self):
        """{name in the file: variable of ours} of the largest network in this layout."""
        found = {}
        for layer, prefix in self.layers.items():
            weights, biases = (layer.startswith("fc") and self.fc_suffixes) or self.suffixes
            found[prefix + weights], found[prefix + biases] = f"{layer}/weights", f"{layer}/biases"
        return {**found, self.scale: f"{ssd_layers.NORMALIZATION}/scale"} if self.is_ssd else found


def _pairs(layers, names):
    return dict(zip(layers, names, strict=True))


def _heads(logits, offsets, names=range(7)):
    """{head layer of ours: its name in the file}. logits, offsets: patterns, to be filled with a map's name."""
    maps = list(zip(FEATURES, names, strict=False))
    return {
        ssd_layers.head_name(feature, kind): pattern.format(name)
        for kind, pattern in ((LOGITS, logits), (OFFSETS, offsets))
        for feature, name in maps
    }


_TORCH, _KERAS, _CAFFE, _OWN = (".weight", ".bias"), ("/kernel", "/bias"), ("/0", "/1"), ("/weights", "/biases")
_NOT_NEEDED_TORCH = r"(.*\.)?(priors?|prior_boxes|anchors)"  # anchors, which the preset has
# Caffe's names: its conv6_1 is our conv8_1
_CAFFE_SSD = {
    **_pairs(VGG_LAYERS, VGG_LAYERS),
    **_pairs(EXTRAS, (f"conv{group}_{index}" for group in (6, 7, 8, 9, 10) for index in (1, 2))),
    **_heads(
        "{}_mbox_conf", "{}_mbox_loc", ("conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2", "conv10_2")
    ),
}
_TORCHVISION_SSD = {
    **_pairs(CONVOLUTIONS[:10], (f"backbone.features.{place}" for place in SEQUENCE[:10])),
    **_pairs(VGG_LAYERS[10:], (f"backbone.extra.0.{place}" for place in ("1", "3", "5", "7.1", "7.3"))),
    **_pairs(EXTRAS[:8], (f"backbone.extra.{group}.{place}" for group in (1, 2, 3, 4) for place in (0, 2))),
    **_heads("head.classification_head.module_list.{}", "head.regression_head.module_list.{}", range(6)),
}
_SSD_PYTORCH = {
    **_pairs(VGG_LAYERS, (f"vgg.{place}" for place in (*SEQUENCE, 31, 33))),
    **_pairs(EXTRAS[:8], (f"extras.{place}" for place in range(8))),
    **_heads("conf.{}", "loc.{}", range(6)),
}
_LUFFICC = {
    **_pairs(VGG_LAYERS, (f"backbone.vgg.{place}" for place in (*SEQUENCE, 31, 33))),
    **_pairs(EXTRAS, (f"backbone.extras.{place}" for place in range(10))),
    **_heads("box_head.predictor.cls_headers.{}", "box_head.predictor.reg_headers.{}"),
}
_MMDETECTION_VGG = _pairs(VGG_LAYERS, (f"backbone.features.{place}" for place in (*SEQUENCE, 31, 33)))
_MMDETECTION_SSD = {
    **_MMDETECTION_VGG,
    **_pairs(EXTRAS, (f"neck.extra_layers.{group}.{place}.conv" for group in range(5) for place in (0, 1))),
    **_heads("bbox_head.cls_convs.{}.0", "bbox_head.reg_convs.{}.0"),
}
_MMDETECTION_OLD_SSD = {
    **_MMDETECTION_VGG,
    **_pairs(EXTRAS, (f"backbone.extra.{place}" for place in range(10))),
    **_heads("bbox_head.cls_convs.{}", "bbox_head.reg_convs.{}"),
}
_MMDETECTION = Layout(
    "mmdetection-ssd",
    _MMDETECTION_SSD,
    _TORCH,
    "RGB",
    scale="neck.l2_norm.weight",
    integer_anchor_sizes=True,
    cuts_candidates=False,
    anchors_by_classes=True,  # its two sets of configurations
    background_last=True,
    rules={
        "mean": (123.675, 116.28, 103.53),
        "score_threshold": 0.02,
        "candidates_per_map": 1000,
        "clip_boxes": "before_nms",
        "drop_empty_boxes": True,
        # It also has the lower limit -ln(1000 / 16), which no offset above -20 reaches
        "size_offset_limit": _LARGEST_SCALING,
    },
)
_KERAS_VGG = _pairs(VGG_LAYERS, (*(f"block{name[4]}_conv{name[6]}" for name in CONVOLUTIONS), "fc1", "fc2"))
_TORCHVISION_VGG = _pairs(VGG_LAYERS, (*(f"features.{place}" for place in SEQUENCE), "classifier.0", "classifier.3"))

LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("vgg16-keras", _KERAS_VGG, _KERAS, "BGR", hwio=True, not_needed=r"predictions/(kernel|bias)"),
        Layout(
            "vgg16-torchvision",
            _TORCHVISION_VGG,
            _TORCH,
            "RGB",
            imagenet_statistics=True,
            not_needed=r"classifier\.6\.(weight|bias)",
        ),
        Layout("vgg16-reducedfc", _pairs(VGG_LAYERS, map(str, (*SEQUENCE, 31, 33))), _TORCH, "RGB"),
        Layout("vgg16-reducedfc-keras", _pairs(VGG_LAYERS, VGG_LAYERS), _KERAS, "BGR", hwio=True),
        Layout("vgg16-caffe", _pairs(VGG_LAYERS, VGG_LAYERS), _CAFFE, "BGR", not_needed=r"fc8.*/[01]"),
        Layout(  # a SavedModel of the course on self-driving cars, which the article starts from
            "vgg16-udacity",
            _pairs(VGG_LAYERS, VGG_LAYERS),
            ("/filter", "/biases"),
            "BGR",
            fc_suffixes=_OWN,
            hwio=True,
            not_needed=r"fc8/(weights|biases)",
        ),
        Layout("vgg16-npz", _pairs(VGG_LAYERS, VGG_LAYERS), _OWN, "BGR", hwio=True),
        Layout(
            "torchvision-ssd300",
            _TORCHVISION_SSD,
            _TORCH,
            "RGB",
            scale="backbone.scale_weight",
            rules={
                # Scales 0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05 for every data set
                "min_sizes": ssd_utils.PRESETS["vgg300-coco"].min_sizes,
                "max_sizes": ssd_utils.PRESETS["vgg300-coco"].max_sizes,
                "clip_anchors": "size",
                "mean": tuple(255 * mean for mean in (0.48235, 0.45882, 0.40784)),
                "clip_boxes": "before_nms",
                "size_offset_limit": _LARGEST_SCALING,
            },
        ),
        Layout(
            "ssd.pytorch",
            _SSD_PYTORCH,
            _TORCH,
            "RGB",
            scale="L2Norm.weight",
            not_needed=_NOT_NEEDED_TORCH,
            cuts_across_classes=False,
            anchors_by_classes=True,
            rules={"clip_anchors": "all", "candidates_per_class": 200},
        ),
        Layout(
            "lufficc-ssd",
            _LUFFICC,
            _TORCH,
            "RGB",
            scale="backbone.l2_norm.weight",
            not_needed=_NOT_NEEDED_TORCH,
            cuts_candidates=False,
            rules={"clip_anchors": "all", "keep": 100},
            rules_by_anchors={"vgg512": {"max_sizes": (*_LARGE.max_sizes[:-1], 537.65)}},
        ),
        Layout(
            "ssd_keras",
            _CAFFE_SSD,
            _KERAS,
            "BGR",
            scale="conv4_3_norm/gamma",
            hwio=True,
            cuts_candidates=False,
        ),
        Layout("caffe-ssd", _CAFFE_SSD, _CAFFE, "BGR", scale="conv4_3_norm/0", integer_anchor_sizes=True),
        _MMDETECTION,
        dataclasses.replace(  # as it named them up to 2.13; its upgrade_ssd_version.py renames them, and nothing else
            _MMDETECTION, name="mmdetection-ssd-2.13", layers=_MMDETECTION_OLD_SSD, scale="backbone.l2_norm.weight"
        ),
    )
}
ANCHOR_PRESETS = ("vgg300", "vgg512", "vgg300-coco", "vgg512-coco")
# Detectors whose names look like those of a layout, or whose users ask for them, but whose network is another one:
# {regular expression of a name that only they have: what they are}
OTHER_NETWORKS = {
    r"bbox_head\.cls_convs\.\d+\.\d+\.(conv|depthwise_conv)\..*": "mmdetection's SSDLite, of separable convolutions",
    r"head\.classification_head\.module_list\.\d+\.\d+\..*": "torchvision's SSDLite, of separable convolutions",
    r"source_layer_add_ons\.0\..*": "qfgaohao/pytorch-ssd's vgg16-ssd, which has batch normalization after conv4_3",
    r"classification_headers\.\d+\..*": "qfgaohao/pytorch-ssd's, on another network than VGG-16",
}


def recognize(path, arrays):
    """The Layout that has the most names of a file. Raises UserError if none has any, or for one of OTHER_NETWORKS.

    Of layouts with equally many, the first in LAYOUTS is taken: a bare VGG-16 before an SSD.
    """
    names = _plain_names(arrays)
    for pattern, what in OTHER_NETWORKS.items():
        if any(re.fullmatch(pattern, name) for name in names):
            raise UserError(f"{path}: {what}, which this program does not read; it reads {', '.join(_detectors())}")
    known = {key: len(names.keys() & layout.variables.keys()) for key, layout in LAYOUTS.items()}
    best = max(known, key=known.get)
    if not known[best]:
        examples = ", ".join(list(arrays)[:3])
        raise UserError(f"{path}: unknown layout (it has {examples}, …); the known layouts are {', '.join(LAYOUTS)}")
    return LAYOUTS[best]


def _detectors():
    """Names of the layouts that are detectors."""
    return [name for name, layout in LAYOUTS.items() if layout.is_ssd]


def _plain_names(arrays):
    """{name without what a container adds to it: name in the file}."""
    wrapped = all(name.startswith("module.") for name in arrays)  # of PyTorch's DataParallel
    plain = {_plain_keras(name.removeprefix("module.") if wrapped else name): name for name in arrays}
    # If two names become the same, one would hide the other
    return plain if len(plain) == len(arrays) else {name: name for name in arrays}


def _plain_keras(name):
    """`fc6/fc6/kernel:0` and `fc1/fc1_W_1:0` -> `fc6/kernel`, `fc1/kernel`; other names as they are."""
    layer, slash, rest = name.partition("/")
    match = re.search(r"(?:^|[/_])(kernel|W|bias|b|gamma)(?:_\d+)?(?::\d+)?$", rest)
    if not slash or not match:
        return name
    kind = {"W": "kernel", "b": "bias"}.get(match[1], match[1])
    return f"{layer}/{kind}"


def ssd_preset(layout, arrays, num_classes, anchors=None):
    """The preset of an SSD file: anchors, input and rules as in its own code.

    anchors: name of the preset whose anchor sizes it was trained with; None for those that its code takes:
    torchvision's own, by the number of classes (`Layout.anchors_by_classes`), or VOC's. Raises UserError if that preset
    does not fit the file.
    """
    fitting = ssd_utils.get_preset(_name_of_size(layout, arrays))
    of_coco = layout.anchors_by_classes and num_classes != VOC_CLASSES
    base = ssd_utils.get_preset(anchors or f"{fitting.name}{'-coco' if of_coco else ''}")
    if base.input_size != fitting.input_size or (anchors and layout.has_own_anchors):
        raise UserError(
            f"--preset {anchors}: does not fit a {layout.name} file of input size {fitting.input_size}; leave it out"
        )
    preset = dataclasses.replace(
        base,
        name=f"{base.name}-{layout.name}",
        channel_order=layout.channel_order,
        input_scale=1.0,
        **{**layout.rules, **layout.rules_by_anchors.get(base.name, {})},
    )
    changes = {}
    if not layout.cuts_candidates:
        changes["candidates_per_class"] = preset.num_anchors
    if not layout.cuts_across_classes:
        changes["keep"] = min(preset.candidates_per_class * num_classes, ssd_utils.MOST_KEPT)
    if layout.integer_anchor_sizes:
        changes["min_sizes"], changes["max_sizes"] = (
            tuple(map(int, sizes)) for sizes in (preset.min_sizes, preset.max_sizes)
        )
    return dataclasses.replace(preset, **changes)


def _name_of_size(layout, arrays):
    """The preset of the input size of an SSD file, by whether it has the layers that only the larger network has."""
    large, small = (set(ssd_layers.variable_names(ssd_utils.get_preset(name))) for name in ("vgg512", "vgg300"))
    has_more = any(layout.variables.get(name) in large - small for name in _plain_names(arrays))
    return "vgg512" if has_more else "vgg300"


def count_classes(path, layout, arrays, preset):
    """Number of classes without background, by the first head of logits. Raises UserError if it is missing or odd."""
    name = layout.layers[ssd_layers.head_name(FEATURES[0], LOGITS)] + layout.suffixes[1]
    outputs = arrays[_plain_names(arrays)[name]].size if name in _plain_names(arrays) else 0
    classes, rest = divmod(outputs, preset.anchors_per_cell[0])
    if rest or classes < 2:
        raise UserError(f"{path}: {name} is missing or has {outputs} outputs; not a {layout.name} file")
    return classes - 1


def to_variables(path, layout, arrays, shapes):
    """A file's arrays -> (dict of float32 arrays by variable name, list of names that are not needed).

    shapes: {variable: shape} of the network. A VGG-16 may lack fc6 and fc7, or have them in full size. Raises one
    UserError that lists every array that is missing, unknown, wrongly shaped or not finite.
    """
    plain = _plain_names(arrays)
    names = {name: variable for name, variable in layout.variables.items() if variable in shapes}
    not_needed = r"classifier\..*" if is_features_only(layout, arrays) else layout.not_needed
    dropped = {name for name in plain if re.fullmatch(not_needed, name)}
    if not layout.is_ssd and not any(name in plain for name in _fc_names(names) - dropped):
        names = {name: variable for name, variable in names.items() if name not in _fc_names(names)}
    taken = names.keys() & plain.keys()
    values = {name: _to_variable(layout, names[name], arrays[plain[name]], shapes) for name in taken}
    problems = {
        "lacks": names.keys() - taken,
        "has unknown": {plain[name] for name in plain.keys() - taken - dropped},
        "has wrongly shaped": {f"{plain[n]} {arrays[plain[n]].shape}" for n in taken if values[n] is None},
        "has infinite numbers or NaN in": {
            plain[n] for n in taken if values[n] is not None and not np.isfinite(values[n]).all()
        },
    }
    if any(problems.values()):
        listed = "; ".join(f"{what} {', '.join(sorted(which))}" for what, which in problems.items() if which)
        raise UserError(f"{path}: does not fit the layout {layout.name}: {listed}")
    return {names[name]: values[name] for name in names}, sorted(plain[name] for name in dropped)


def _fc_names(names):
    return {name for name, variable in names.items() if variable.startswith("fc")}


def is_features_only(layout, arrays):
    """Whether a file is torchvision's IMAGENET1K_FEATURES: vgg16-reducedfc's convolutions and a classifier of NaN."""
    name = _plain_names(arrays).get("classifier.0.weight")
    return layout.imagenet_statistics and name is not None and bool(np.isnan(arrays[name]).all())


def _to_variable(layout, variable, array, shapes):
    """An array in the network's order and type, or None if it does not have its shape."""
    layer, kind = variable.split("/")
    shape = shapes[variable]
    if kind == "weights":
        array = _to_hwio(layout, layer, array)
    if layer in ("fc6", "fc7") and not layout.is_ssd and array.shape != shape:
        array = _subsample(layer, kind, array)
    if array.shape != shape:
        return None
    if layout.background_last and ssd_layers.is_confidence(variable):
        offsets = ssd_layers.head_name(ssd_layers.head_feature(layer), OFFSETS)
        per_cell = shapes[f"{offsets}/biases"][0] // 4  # anchors
        array = np.roll(array.reshape(*shape[:-1], per_cell, -1), 1, axis=-1).reshape(shape)
    return np.ascontiguousarray(array, np.float32)


def _to_hwio(layout, layer, array):
    """A kernel -> HWIO. A fully connected layer's matrix becomes a kernel as large as its input, 7×7 or 1×1."""
    if array.ndim == 2:
        side = 7 if layer == "fc6" else 1
        inputs = array.shape[0 if layout.hwio else 1] // side**2
        # Keras flattens (row, column, channel), PyTorch and Caffe (channel, row, column)
        shape = (side, side, inputs, array.shape[1]) if layout.hwio else (array.shape[0], inputs, side, side)
        if math.prod(shape) != array.size:
            return array
        array = array.reshape(shape)
    return array if layout.hwio or array.ndim != 4 else array.transpose(2, 3, 1, 0)


def _subsample(layer, kind, array):
    """VGG-16's fc6 or fc7 subsampled: every 4th output, every 4th input of fc7, rows and columns 0, 3, 6 of fc6."""
    if kind == "biases":
        return array[::4]
    if array.ndim != 4:
        return array
    return array[::3, ::3, :, ::4] if layer == "fc6" else array[:, :, ::4, ::4]
