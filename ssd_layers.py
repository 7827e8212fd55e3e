"""The network's layers: names, order, channels and forms, written once and without TensorFlow.

A layer's name is the scope of its variables: `LAYER/weights`, `LAYER/biases`, and `norm_conv4_3/scale`.

Sources: arXiv 1512.02325 section 2.1; `examples/ssd/ssd_pascal.py` of weiliu89/caffe; for vgg512-article, the article
(ARCHITECTURE.md).
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ssd_utils import LIMITS, SSDPreset
from structures import UserError

INPUT_MULTIPLE = 32  # of the sides of an input that a preset is changed for
NORMALIZED = "conv4_3"  # the layer whose output is L2-normalized before its heads
NORMALIZATION = f"norm_{NORMALIZED}"
LOGITS, OFFSETS = "logits", "offsets"  # the two heads of a feature map


class Layer(NamedTuple):
    """A convolution with bias and ReLU.

    name: scope of its variables.
    channels: number of outputs in the network of width 1.
    size: side of the kernel, in cells.
    stride: in cells.
    padding: "SAME", "VALID", or (before, after), the cells of zeros at the near and far sides.
    dilation: distance of neighboring kernel taps, in cells.
    """

    name: str
    channels: int
    size: int = 3
    stride: int = 1
    padding: str | tuple[int, int] = "SAME"
    dilation: int = 1

    def cells(self, side: int) -> int:
        """Cells along a side of the output. side: of the input."""
        if self.padding == "SAME":
            return -(-side // self.stride)
        padded = side + (0 if isinstance(self.padding, str) else sum(self.padding))
        return (padded - self.dilation * (self.size - 1) - 1) // self.stride + 1


# VGG-16's convolutions (configuration D) by group
VGG_GROUPS = tuple(
    tuple(Layer(f"conv{group}_{index}", channels) for index in range(1, depth + 1))
    for group, (depth, channels) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1)
)
# (size, stride) of the max pooling after each group. SAME rounds up (75 -> 38), as Caffe's pooling does
POOLINGS = (*((2, 2),) * 4, (3, 1))
# fc6 and fc7 as convolutions by SSDPreset.fc_form; subsampled, fc6 is à trous
FC_LAYERS = {
    "subsampled": (Layer("fc6", 1024, dilation=6), Layer("fc7", 1024, size=1)),
    "full": (Layer("fc6", 4096, size=7), Layer("fc7", 4096, size=1)),
}
FC_NAMES = ("fc6", "fc7")


def channels(full: int, width: float) -> int:
    """The channel count of a layer at a width. full: that of the network of width 1."""
    return max(1, round(full * width))


def names(layers: Iterable[Layer]) -> tuple[str, ...]:
    """The names of layers, in their order."""
    return tuple(layer.name for layer in layers)


CONVOLUTIONS = names(layer for group in VGG_GROUPS for layer in group)
VGG_LAYERS = (*CONVOLUTIONS, *FC_NAMES)


def extra_layers(preset: SSDPreset) -> Iterator[Layer]:
    """Yield the layers after fc7: conv8_1, conv8_2, … conv11_2; for a seventh map, vgg512's, conv12_1 and conv12_2."""
    halving: dict[str, Any] = {"stride": 2, "padding": (1, 1)}
    valid: dict[str, Any] = {"padding": "VALID"}
    if len(preset.feature_maps) < 7:  # vgg300's
        forms = [halving, halving, valid, valid]  # of the second convolution of each pair
    elif preset.conv12_form == "4x4":
        forms = [halving, halving, halving, halving, {"size": 4, "padding": (1, 1)}]
    else:  # the article's, whose conv11_2 makes 4 -> 2 cells as well, without padding
        forms = [halving, halving, halving, valid, {"padding": (0, 1)}]
    for group, form in enumerate(forms, 8):
        narrow, channels = (256, 512) if group == 8 else (128, 256)
        yield Layer(f"conv{group}_1", narrow, size=1)
        yield Layer(f"conv{group}_2", channels, **form)


def trunk(preset: SSDPreset) -> Iterator[tuple[Layer, int]]:
    """Yield (Layer, stride of the pooling after it, or 1) of all layers but the heads."""
    for group, (_, stride) in zip(VGG_GROUPS, POOLINGS, strict=True):
        yield from ((layer, 1) for layer in group[:-1])
        yield group[-1], stride
    yield from ((layer, 1) for layer in (*FC_LAYERS[preset.fc_form], *extra_layers(preset)))


def feature_names(preset: SSDPreset) -> tuple[str, ...]:
    """The layers whose outputs are feature maps, from fine to coarse: conv4_3, fc7, conv8_2, conv9_2, …"""
    return NORMALIZED, FC_NAMES[-1], *names(extra_layers(preset))[1::2]


def maps_along(preset: SSDPreset, side: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """(cells of each feature map along a side of the input, distance of its anchor centers), both in order of the maps.

    side: in pixels. The distance is the layers' stride, as the original's 8, 16, 32 …; where so many cells do not cover
    the picture, because a layer has no padding, or the last center is far outside of it, the cells are spread evenly,
    as the original spreads them (100 pixels for 3 cells of 300). No cells are left of a side that is too small.
    """
    cells, stride, found = side, 1, {}
    for layer, pool in trunk(preset):
        cells, stride = layer.cells(cells), stride * layer.stride
        found[layer.name] = max(cells, 0), stride
        cells, stride = -(-cells // pool), stride * pool
    counts, strides = zip(*(found[name] for name in feature_names(preset)), strict=True)
    return counts, tuple(_step(side, *one) for one in zip(counts, strides, strict=True))


def _step(side, cells, stride):
    """The distance of the anchor centers of a map, along a side of the input in pixels."""
    # Of 300 pixels the last of 10 centers is at 304 in the original too; of 288 the last of 2 would be at 384
    covers = cells == -(-side // stride) and (cells - 0.75) * stride <= side
    return stride if covers else side / max(cells, 1)


def for_input(preset: SSDPreset, width: int, height: int) -> SSDPreset:
    """A preset, changed for an input of width × height pixels.

    Anchors keep their size in relation to the root of the input's area, so that the square network of equal cost has
    the same ones. Raises UserError if a side is not a multiple of INPUT_MULTIPLE or too small for the last map.
    """
    largest = int(LIMITS["input_size"].high)
    fitting = [side for side in range(INPUT_MULTIPLE, largest + 1, INPUT_MULTIPLE) if all(maps_along(preset, side)[0])]
    if not {width, height} <= set(fitting):
        nearest = [min((abs(one - side), one) for one in fitting)[1] for side in (width, height)]
        raise UserError(
            f"--input {width}x{height}: each side must be a multiple of {INPUT_MULTIPLE} from {fitting[0]} to {largest}"
            f" for {square_name(preset)}; the nearest is {'x'.join(map(str, nearest))}"
        )
    scale = math.sqrt(width * height) / preset.mean_side
    (columns, steps), (rows, row_steps) = (maps_along(preset, side) for side in (width, height))
    is_square = width == height
    return dataclasses.replace(
        preset,
        name=f"{square_name(preset)}-{width}x{height}",
        input_size=width,
        feature_maps=columns,
        steps=steps,
        min_sizes=tuple(size * scale for size in preset.min_sizes),
        max_sizes=tuple(size * scale for size in preset.max_sizes),
        input_height=None if is_square else height,
        map_rows=None if is_square else rows,
        row_steps=None if is_square else row_steps,
    )


def square_name(preset: SSDPreset) -> str:
    """The name of the preset that `for_input` made a preset from; its own if it was not made so."""
    return re.sub(r"-\d+x\d+$", "", preset.name)


def head_name(feature: str, kind: str) -> str:
    """The layer of a feature map's head. kind: LOGITS or OFFSETS."""
    return f"head_{feature}_{kind}"


def head_feature(head: str) -> str:
    """The feature map of a head's layer: the inverse of `head_name`."""
    return head.removeprefix("head_").rpartition("_")[0]


def is_confidence(variable_name: str) -> bool:
    """Whether a variable, as `head_fc7_logits/weights`, is of a head of logits, whose shape depends on the classes."""
    layer = variable_name.split("/")[0]
    return layer.startswith("head_") and layer.endswith(f"_{LOGITS}")


def variable_names(preset: SSDPreset) -> list[str]:
    """Names of the network's variables, for checks that come before the network is built."""
    heads = [head_name(feature, kind) for kind in (LOGITS, OFFSETS) for feature in feature_names(preset)]
    layers = (*VGG_LAYERS, *names(extra_layers(preset)), *heads)
    return [f"{layer}/{kind}" for layer in layers for kind in ("weights", "biases")] + [f"{NORMALIZATION}/scale"]


def in_layer(variable_name: str, layer: str) -> bool:
    """Whether `conv1_2/weights` and the like belong to a layer or group: `conv1_2`, `conv1`, not conv10."""
    name = variable_name.split("/")[0]
    return name == layer or name.startswith(layer + "_")
