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
    grid, channels = preset.input_wh[::-1], 3
    depths = {}  # channels of each layer's output
    for layer, pool in ssd_layers.trunk(preset):
        outputs = depths[layer.name] = ssd_layers.channels(layer.channels, preset.width)
        grid, cost = _convolution(layer, grid, channels, outputs)
        yield cost
        if layer.name == ssd_layers.NORMALIZED:
            yield Cost(ssd_layers.NORMALIZATION, outputs, 0)
        grid, channels = tuple(-(-side // pool) for side in grid), outputs
    maps = zip(ssd_layers.feature_names(preset), preset.grids, preset.anchors_per_cell, strict=True)
    for feature, cells, shapes in maps:
        for kind, values in ((ssd_layers.LOGITS, classes + 1), (ssd_layers.OFFSETS, 4)):
            head = ssd_layers.Layer(ssd_layers.head_name(feature, kind), shapes * values)
            yield _convolution(head, cells, depths[feature], head.channels)[1]


def _convolution(layer, grid, inputs, outputs):
    """((rows, columns) of the output, Cost) of a convolution with biases.

    grid: rows and columns of the input; inputs, outputs: channels.
    """
    rows, columns = map(layer.cells, grid)
    weights = layer.size**2 * inputs * outputs
    return (rows, columns), Cost(layer.name, weights + outputs, weights * rows * columns)
