"""Twins of public weight files, for tests: their names and shapes with random numbers, a slow
reading of them into our variables, and writers of every container that share nothing with the readers."""

import collections
import io
import json
import pickle
import struct
import sys
import types
import zipfile
from unittest import mock

import h5py
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# (our layer, inputs, outputs, side of the kernel) in the order of the forward pass
BASE = [
    *(("conv1_1", 3, 64, 3), ("conv1_2", 64, 64, 3), ("conv2_1", 64, 128, 3), ("conv2_2", 128, 128, 3)),
    *(("conv3_1", 128, 256, 3), ("conv3_2", 256, 256, 3), ("conv3_3", 256, 256, 3)),
    *(("conv4_1", 256, 512, 3), ("conv4_2", 512, 512, 3), ("conv4_3", 512, 512, 3)),
    *(("conv5_1", 512, 512, 3), ("conv5_2", 512, 512, 3), ("conv5_3", 512, 512, 3)),
]
REDUCED_FC = [("fc6", 512, 1024, 3), ("fc7", 1024, 1024, 1)]
EXTRAS = [
    *(("conv8_1", 1024, 256, 1), ("conv8_2", 256, 512, 3), ("conv9_1", 512, 128, 1), ("conv9_2", 128, 256, 3)),
    *(("conv10_1", 256, 128, 1), ("conv10_2", 128, 256, 3), ("conv11_1", 256, 128, 1), ("conv11_2", 128, 256, 3)),
]
CONV12 = [("conv12_1", 256, 128, 1), ("conv12_2", 128, 256, 4)]
FEATURES = [("conv4_3", 512), ("fc7", 1024), ("conv8_2", 512), ("conv9_2", 256), ("conv10_2", 256), ("conv11_2", 256)]
ANCHORS = {300: (4, 6, 6, 6, 4, 4), 512: (4, 6, 6, 6, 6, 4, 4)}

# The same layers' names in other programs' files, heads as (logits, offsets) of each feature map
_INDICES = ["0", "2", "5", "7", "10", "12", "14", "17", "19", "21", "24", "26", "28"]
_OURS = [layer for layer, *_ in BASE]
_CAFFE_EXTRAS = ["conv6_1", "conv6_2", "conv7_1", "conv7_2", "conv8_1", "conv8_2", "conv9_1", "conv9_2"]
_CAFFE = [*_OURS, "fc6", "fc7", *_CAFFE_EXTRAS]
_CAFFE_512 = ["conv10_1", "conv10_2"]
_CAFFE_HEADS = [
    (f"{name}_mbox_conf", f"{name}_mbox_loc")
    for name in ["conv4_3_norm", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2", "conv10_2"]
]
_TORCHVISION = [
    *(f"backbone.features.{i}" for i in _INDICES[:10]),
    *(f"backbone.extra.0.{i}" for i in ["1", "3", "5", "7.1", "7.3"]),
    *(f"backbone.extra.{i}" for i in ["1.0", "1.2", "2.0", "2.2", "3.0", "3.2", "4.0", "4.2"]),
]
_TORCHVISION_HEADS = [
    (f"head.classification_head.module_list.{i}", f"head.regression_head.module_list.{i}") for i in range(6)
]
_SSD_PYTORCH = [*(f"vgg.{i}" for i in [*_INDICES, 31, 33]), *(f"extras.{i}" for i in range(8))]
_LUFFICC = [*(f"backbone.vgg.{i}" for i in [*_INDICES, 31, 33]), *(f"backbone.extras.{i}" for i in range(8))]
_LUFFICC_HEADS = [(f"box_head.predictor.cls_headers.{i}", f"box_head.predictor.reg_headers.{i}") for i in range(7)]

_MMDETECTION = [f"backbone.features.{i}" for i in [*_INDICES, 31, 33]]
_MMDETECTION_HEADS = [(f"bbox_head.cls_convs.{i}.0", f"bbox_head.reg_convs.{i}.0") for i in range(7)]
_MMDETECTION_OLD_HEADS = [(f"bbox_head.cls_convs.{i}", f"bbox_head.reg_convs.{i}") for i in range(7)]

# name: (names of base to conv11, names of conv12, heads, suffixes, name of the scale)
SSD = {
    "torchvision-ssd300": (
        *(_TORCHVISION, [], _TORCHVISION_HEADS, (".weight", ".bias")),
        "backbone.scale_weight",
    ),
    "ssd.pytorch": (
        *(_SSD_PYTORCH, [], [(f"conf.{i}", f"loc.{i}") for i in range(6)], (".weight", ".bias")),
        "L2Norm.weight",
    ),
    "lufficc-ssd": (
        *(_LUFFICC, ["backbone.extras.8", "backbone.extras.9"], _LUFFICC_HEADS, (".weight", ".bias")),
        "backbone.l2_norm.weight",
    ),
    "ssd_keras": (
        *(_CAFFE, _CAFFE_512, _CAFFE_HEADS, ("/{}/kernel:0", "/{}/bias:0")),
        "conv4_3_norm/conv4_3_norm_gamma:0",
    ),
    "caffe-ssd": (_CAFFE, _CAFFE_512, _CAFFE_HEADS, ("/0", "/1"), "conv4_3_norm/0"),
    "mmdetection-ssd": (
        [*_MMDETECTION, *(f"neck.extra_layers.{g}.{i}.conv" for g in range(4) for i in (0, 1))],
        *(["neck.extra_layers.4.0.conv", "neck.extra_layers.4.1.conv"], _MMDETECTION_HEADS, (".weight", ".bias")),
        "neck.l2_norm.weight",
    ),
    "mmdetection-ssd-2.13": (
        [*_MMDETECTION, *(f"backbone.extra.{i}" for i in range(8))],
        *(["backbone.extra.8", "backbone.extra.9"], _MMDETECTION_OLD_HEADS, (".weight", ".bias")),
        "backbone.l2_norm.weight",
    ),
}


def ssd(layout, size, classes, width=1 / 32, seed=0):
    """({name: array as in the file}, {variable: array as in the network}); classes without background."""
    rng = np.random.default_rng(seed)
    *_, suffixes, scale = SSD[layout]
    file, ours = convolutions(rng, ssd_rows(layout, size, classes, width), suffixes, hwio=layout == "ssd_keras")
    if layout.startswith("mmdetection"):
        for name in [name for name in file if ".cls_convs." in name]:
            file[name] = background_last(file[name], classes + 1)
    factors = rng.normal(20, 1, slim(512, 0, width)[0]).astype(np.float32)
    return {**file, scale: factors}, {**ours, "norm_conv4_3/scale": factors}


def background_last(array, outputs):
    """A head's array with the rows of each anchor's background before those of its classes -> behind them."""
    rows = range(len(array))
    return np.stack([array[row + 1] if (row + 1) % outputs else array[row + 1 - outputs] for row in rows])


def ssd_rows(layout, size, classes, width):
    """(our layer, its name in the file, inputs, outputs, side of the kernel) of every convolution."""
    names, names_512, heads, _, _ = SSD[layout]
    layers = BASE + REDUCED_FC + EXTRAS + (CONV12 if size == 512 else [])
    rows = named_rows(layers, names + names_512, width)
    features = FEATURES + ([("conv12_2", 256)] if size == 512 else [])
    for (feature, inputs), shapes, (conf, loc) in zip(features, ANCHORS[size], heads, strict=False):
        inputs = slim(inputs, 0, width)[0]
        rows.append((f"head_{feature}_logits", conf, inputs, shapes * (classes + 1), 3))
        rows.append((f"head_{feature}_offsets", loc, inputs, shapes * 4, 3))
    return rows


VGG_NAMES = {
    "vgg16-keras": [f"block{layer[4]}_conv{layer[6]}" for layer in _OURS] + ["fc1", "fc2"],
    "vgg16-torchvision": [f"features.{i}" for i in _INDICES] + ["classifier.0", "classifier.3"],
    "vgg16-reducedfc": [*_INDICES, "31", "33"],
    "vgg16-caffe": [*_OURS, "fc6", "fc7"],
    "vgg16-npz": [*_OURS, "fc6", "fc7"],
}
VGG_SUFFIXES = {
    "vgg16-keras": ("/{}_W_1:0", "/{}_b_1:0"),
    "vgg16-torchvision": (".weight", ".bias"),
    "vgg16-reducedfc": (".weight", ".bias"),
    "vgg16-caffe": ("/0", "/1"),
    "vgg16-npz": ("/weights", "/biases"),
}


def vgg(layout, *, fc, width=1 / 32, seed=0):
    """As `ssd`, of a bare VGG-16. fc: "whole" (as trained on ImageNet), "reduced", or None to leave it out."""
    rng = np.random.default_rng(seed)
    hwio, suffixes = layout in ("vgg16-keras", "vgg16-npz"), VGG_SUFFIXES[layout]
    layers = BASE + (REDUCED_FC if fc == "reduced" else [])
    rows = named_rows(layers, VGG_NAMES[layout], width)
    file, ours = convolutions(rng, rows, suffixes, hwio)
    if fc == "whole":
        channels, full = slim(512, 4096, width)
        fc6, fc7 = VGG_NAMES[layout][-2:]
        whole = [("fc6", fc6, 7, channels), ("fc7", fc7, 1, full)]
        for layer, name, side, inputs in whole:
            matrix = rng.normal(size=(side * side * inputs, full)).astype(np.float32)
            bias = rng.normal(size=full).astype(np.float32)
            file[full_name(name, suffixes[0])] = matrix if hwio else np.ascontiguousarray(matrix.T)
            file[full_name(name, suffixes[1])] = bias
            ours[f"{layer}/weights"] = decimate(matrix, side, inputs, full, rows_first=hwio)
            ours[f"{layer}/biases"] = np.array([bias[4 * o] for o in range(full // 4)])
    return file, ours


def decimate(matrix, side, inputs, outputs, rows_first):
    """The article's subsampling of a fully connected layer [inputs, outputs], number by number."""
    rows = (0, 3, 6) if side == 7 else (0,)
    step = 1 if side == 7 else 4
    small = np.zeros((len(rows), len(rows), inputs // step, outputs // 4), np.float32)
    for y, row in enumerate(rows):
        for x, column in enumerate(rows):
            for i in range(inputs // step):
                if rows_first:
                    flat = (row * side + column) * inputs + step * i
                else:
                    flat = (step * i * side + row) * side + column
                for o in range(outputs // 4):
                    small[y, x, i, o] = matrix[flat, 4 * o]
    return small


def named_rows(layers, names, width):
    """Layers of the tables above and their names -> rows for `convolutions`; names may go on."""
    pairs = zip(layers, names, strict=False)
    return [(layer, name, *slim(inputs, outputs, width), side) for (layer, inputs, outputs, side), name in pairs]


def slim(inputs, outputs, width):
    """Channel counts of a network of that width; the image keeps its 3."""
    return tuple(count if count in (0, 3) else max(1, round(count * width)) for count in (inputs, outputs))


def convolutions(rng, rows, suffixes, hwio):
    """rows of (our layer, its name, inputs, outputs, side) -> the arrays of the file, and ours."""
    file, ours = {}, {}
    for layer, name, inputs, outputs, side in rows:
        kernel = rng.normal(size=(side, side, inputs, outputs)).astype(np.float32)
        bias = rng.normal(size=outputs).astype(np.float32)
        theirs = kernel
        if not hwio:
            theirs = np.zeros((outputs, inputs, side, side), np.float32)
            for y in range(side):
                for x in range(side):
                    for i in range(inputs):
                        theirs[:, i, y, x] = kernel[y, x, i]
        file[full_name(name, suffixes[0])], file[full_name(name, suffixes[1])] = theirs, bias
        ours[f"{layer}/weights"], ours[f"{layer}/biases"] = kernel, bias
    return file, ours


def full_name(name, suffix):
    return name + suffix.format(name)


def write_npz(path, arrays):
    np.savez(path, **arrays)


def write_safetensors(path, arrays, metadata=True):
    header, blocks, end = {"__metadata__": {"format": "pt"}} if metadata else {}, [], 0
    for name, array in arrays.items():
        blocks.append(np.ascontiguousarray(array).tobytes())
        kind = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64"}[array.dtype.name]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [end, end + len(blocks[-1])]}
        end += len(blocks[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blocks))


def write_h5(path, arrays, group=None):
    """Keras' form: names of layers and of their weights in attributes; LAYER/WEIGHT:0 as the data set."""
    with h5py.File(path, "w") as file:
        root = file.create_group(group) if group else file
        weights = collections.defaultdict(list, {"input_1": [], "pool1": []})
        for name, array in arrays.items():
            root[name] = array
            layer, _, weight = name.partition("/")
            weights[layer].append(weight.encode())
        root.attrs["layer_names"] = [layer.encode() for layer in weights]
        for layer, names in weights.items():
            root.require_group(layer).attrs["weight_names"] = names


def caffe_messages():
    """NetParameter of caffe.proto, the fields that hold weights, in both its old and its new form."""
    proto = descriptor_pb2.FileDescriptorProto(name="twin.proto", package="twin", syntax="proto2")

    def message(name, *fields):
        kinds = {"string": 9, "int32": 5, "int64": 3, "float": 2, "double": 1, "bool": 8}
        entry = proto.message_type.add(name=name)
        for field, number, kind, label, packed in fields:
            made = entry.field.add(name=field, number=number, label=label)
            if kind in kinds:
                made.type = kinds[kind]
            else:
                made.type, made.type_name = 11, f".twin.{kind}"
            if packed:
                made.options.packed = True

    message("BlobShape", ("dim", 1, "int64", 3, True))
    message(
        "BlobProto",
        *((name, number, "int32", 1, False) for number, name in enumerate(("num", "channels", "height", "width"), 1)),
        ("data", 5, "float", 3, True),
        ("shape", 7, "BlobShape", 1, False),
    )
    message(
        "LayerParameter",
        ("name", 1, "string", 1, False),
        ("type", 2, "string", 1, False),
        ("blobs", 7, "BlobProto", 3, False),
    )
    message(
        "V1LayerParameter",
        ("bottom", 2, "string", 3, False),
        ("name", 4, "string", 1, False),
        ("blobs", 6, "BlobProto", 3, False),
    )
    message(
        "NetParameter",
        ("name", 1, "string", 1, False),
        ("layers", 2, "V1LayerParameter", 3, False),
        ("force_backward", 5, "bool", 1, False),
        ("layer", 100, "LayerParameter", 3, False),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("twin.NetParameter"))


def write_caffemodel(path, arrays, old=False):
    net = caffe_messages()(name="twin", force_backward=True)
    data = net.layers.add(name="data") if old else net.layer.add(name="data", type="Data")
    assert not data.blobs
    layers = {}
    for name, array in arrays.items():
        layer, _, _index = name.partition("/")
        if layer not in layers:
            add = net.layers.add if old else net.layer.add
            layers[layer] = add(name=layer, **({"bottom": ["x"]} if old else {"type": "Convolution"}))
        blob = layers[layer].blobs.add(data=array.ravel().tolist())
        if old:
            dims = (1,) * (4 - array.ndim) + array.shape
            blob.num, blob.channels, blob.height, blob.width = dims
        else:
            blob.shape.dim.extend(array.shape)
    path.write_bytes(net.SerializeToString())


class _Storage:
    def __init__(self, key, array):
        self.key, self.array = key, array


class _Tensor:
    """Pickles itself as PyTorch's tensors do. strides in elements."""

    def __init__(self, storage, shape, strides, offset=0):
        self.arguments = (storage, offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


def _torch_modules():
    """Stand-ins for the modules that the pickle names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in [*STORAGES.values(), "BFloat16Storage"]:
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2():
        """Never called."""

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    return {"torch": torch, "torch._utils": utils}


def _tensors(arrays):
    """{name: array} -> ({name: _Tensor}, the storages). A Fortran-ordered array becomes a transposed view."""
    tensors, storages = collections.OrderedDict(), []
    for number, (name, array) in enumerate(arrays.items()):
        flat = array.ravel(order="K")
        storages.append(_Storage(str(number), flat))
        strides = tuple(stride // array.itemsize for stride in array.strides)
        tensors[name] = _Tensor(storages[-1], array.shape, strides)
    tensors._metadata = collections.OrderedDict({"": {"version": 1}})
    return tensors, storages


def _dump(file, content, legacy=False):
    pickler = pickle.Pickler(file, protocol=2)

    def persistent_id(value):
        if not isinstance(value, _Storage):
            return None
        kind = getattr(sys.modules["torch"], STORAGES[value.array.dtype.name])
        return ("storage", kind, value.key, "cpu", len(value.array), *([None] if legacy else []))

    pickler.persistent_id = persistent_id
    pickler.dump(content)


def write_torch(path, arrays, wrap=lambda tensors: tensors, folder="archive"):
    """The zip form that PyTorch has written since 1.6."""
    tensors, storages = _tensors(arrays)
    content = io.BytesIO()
    with mock.patch.dict(sys.modules, _torch_modules()):
        _dump(content, wrap(tensors))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", content.getvalue())
        archive.writestr(f"{folder}/byteorder", "little")
        for storage in storages:
            archive.writestr(f"{folder}/data/{storage.key}", storage.array.tobytes())
        archive.writestr(f"{folder}/version", "3\n")


def write_torch_legacy(path, arrays, wrap=lambda tensors: tensors):
    """The form before PyTorch 1.6."""
    tensors, storages = _tensors(arrays)
    with open(path, "wb") as file, mock.patch.dict(sys.modules, _torch_modules()):
        for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}):
            pickle.dump(part, file, protocol=2)
        _dump(file, wrap(tensors), legacy=True)
        pickle.dump([storage.key for storage in reversed(storages)], file, protocol=2)
        for storage in reversed(storages):
            file.write(struct.pack("<q", len(storage.array)) + storage.array.tobytes())
