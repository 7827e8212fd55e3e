"""The network's layers: names, order, channels and forms, written once and without TensorFlow.

A layer's name is the scope of its variables: `LAYER/weights`, `LAYER/biases`, and `norm_conv4_3/scale`.

Sources: arXiv 1512.02325 section 2.1; `examples/ssd/ssd_pascal.py` of weiliu89/caffe; for vgg512-article, the article
(ARCHITECTURE.md).
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ssd_utils import SSDPreset

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
    """Yield the layers after fc7: conv8_1, conv8_2, … conv11_2, and for inputs of 512 pixels conv12_1 and conv12_2."""
    halving: dict[str, Any] = {"stride": 2, "padding": (1, 1)}
    valid: dict[str, Any] = {"padding": "VALID"}
    if preset.input_size < 512:
        forms = [halving, halving, valid, valid]  # of the second convolution of each pair
    elif preset.conv12_form == "4x4":
        forms = [halving, halving, halving, halving, {"size": 4, "padding": (1, 1)}]
    else:  # the article's, whose conv11_2 makes 4 -> 2 cells as well, without padding
        forms = [halving, halving, halving, valid, {"padding": (0, 1)}]
    for group, form in enumerate(forms, 8):
        narrow, channels = (256, 512) if group == 8 else (128, 256)
        yield Layer(f"conv{group}_1", narrow, size=1)
        yield Layer(f"conv{group}_2", channels, **form)


def feature_names(preset: SSDPreset) -> tuple[str, ...]:
    """The layers whose outputs are feature maps, from fine to coarse: conv4_3, fc7, conv8_2, conv9_2, …"""
    return NORMALIZED, FC_NAMES[-1], *names(extra_layers(preset))[1::2]


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
