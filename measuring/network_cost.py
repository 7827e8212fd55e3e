"""Parameters and arithmetic of a network, from its preset alone: how many numbers it has and what a picture costs.

Counted are the convolutions, two operations (a product and a sum) for each weight at each place of its output, also
where the weight meets the zeros around a map. Biases, ReLU, pooling, conv4_3's normalization and what comes after the
network are less than a hundredth of that. A program may compute the same with fewer products (kernels/winograd.py).
"""

from collections.abc import Iterator
from typing import NamedTuple

import ssd_layers
from ssd_utils import SSDPreset


class Cost(NamedTuple):
    """What one layer costs.

    name: of the layer.
    parameters: numbers that training changes.
    products: of one picture.
    """

    name: str
    parameters: int
    products: int


def parameters(preset: SSDPreset, classes: int) -> int:
    """The number of parameters of a network. classes: without background."""
    return sum(layer.parameters for layer in layers(preset, classes))


def gflop(preset: SSDPreset, classes: int) -> float:
    """Billions of operations for one picture. classes: without background."""
    return 2 * sum(layer.products for layer in layers(preset, classes)) / 1e9


def layers(preset: SSDPreset, classes: int) -> Iterator[Cost]:
    """Yield the Cost of each layer in the order of the network, the heads last. classes: without background."""
    side, channels = preset.input_size, 3
    depths = {}  # channels of each layer's output
    for layer, pool in _trunk(preset):
        outputs = depths[layer.name] = ssd_layers.channels(layer.channels, preset.width)
        side, cost = _convolution(layer, side, channels, outputs)
        yield cost
        if layer.name == ssd_layers.NORMALIZED:
            yield Cost(ssd_layers.NORMALIZATION, outputs, 0)
        side, channels = -(-side // pool), outputs
    maps = zip(ssd_layers.feature_names(preset), preset.feature_maps, preset.anchors_per_cell, strict=True)
    for feature, cells, shapes in maps:
        for kind, values in ((ssd_layers.LOGITS, classes + 1), (ssd_layers.OFFSETS, 4)):
            head = ssd_layers.Layer(ssd_layers.head_name(feature, kind), shapes * values)
            yield _convolution(head, cells, depths[feature], head.channels)[1]


def _trunk(preset):
    """Yield (ssd_layers.Layer, stride of the pooling after it or 1) of all layers but the heads."""
    for group, (_, stride) in zip(ssd_layers.VGG_GROUPS, ssd_layers.POOLINGS, strict=True):
        yield from ((layer, 1) for layer in group[:-1])
        yield group[-1], stride
    yield from ((layer, 1) for layer in (*ssd_layers.FC_LAYERS[preset.fc_form], *ssd_layers.extra_layers(preset)))


def _convolution(layer, side, inputs, outputs):
    """(side of the output, Cost) of a convolution with biases. side: of the input; inputs, outputs: channels."""
    if layer.padding == "SAME":
        side = -(-side // layer.stride)
    else:
        padded = side + (0 if layer.padding == "VALID" else sum(layer.padding))
        side = (padded - layer.dilation * (layer.size - 1) - 1) // layer.stride + 1
    weights = layer.size**2 * inputs * outputs
    return side, Cost(layer.name, weights + outputs, weights * side**2)
