"""The inputs that the original SSD was given for tests/fixtures/caffe: numbers by formula, the same everywhere."""

import math

import numpy as np

import weight_twins


def uniform(seed, *shape):
    """float32 in [0, 1): splitmix64 of (seed, index), of which 24 bits fit float32 exactly."""
    index = np.arange(math.prod(shape), dtype=np.uint64) + np.uint64((seed << 32) + 1)
    z = index * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)).reshape(shape)


def centered(seed, *shape):
    """float32 in [-0.5, 0.5)."""
    return uniform(seed, *shape) - np.float32(0.5)


def picture(seed, side):
    """uint8 RGB [side,side,3]: blocks of 64, 16, 4 and 1 pixels added up."""
    total = np.zeros((side, side, 3), np.int64)
    for index, (cell, span) in enumerate(((64, 120), (16, 80), (4, 40), (1, 16))):
        cells = math.ceil(side / cell)
        blocks = (uniform(seed * 8 + index, cells, cells, 3) * span).astype(np.int64)
        total += blocks.repeat(cell, axis=0).repeat(cell, axis=1)[:side, :side]
    return total.clip(0, 255).astype(np.uint8)


def caffemodel_arrays(width, classes=20):
    """{`LAYER/INDEX`: array} of SSD300's layers as Caffe has them (OIHW), in the order of its file."""
    shapes = {name: array.shape for name, array in weight_twins.ssd("caffe-ssd", 300, classes, width)[0].items()}
    layers, _, heads, _, _ = weight_twins.SSD["caffe-ssd"]
    order = [*layers, "conv4_3_norm", *(name for conf, loc in heads[:6] for name in (loc, conf))]
    arrays = {}
    for number, name in enumerate(order):
        if name == "conv4_3_norm":
            arrays[f"{name}/0"] = np.float32(20) + 4 * centered(1000 + number, *shapes[f"{name}/0"])
            continue
        kernel = shapes[f"{name}/0"]
        factor = np.float32(_factor(name, math.prod(kernel[1:])))
        arrays[f"{name}/0"] = centered(1000 + number, *kernel) * factor
        biases = centered(2000 + number, *shapes[f"{name}/1"]) * np.float32(0.5)
        if name.endswith("mbox_conf"):
            biases.reshape(-1, classes + 1)[:, 0] += np.float32(3)
        arrays[f"{name}/1"] = biases
    return arrays


def _factor(name, fan_in):
    if name.startswith("conv4_3_norm"):
        return 1 / 8 if name.endswith("conf") else 1 / 16
    if "mbox" in name:
        return (8 if name.endswith("conf") else 4) / fan_in**0.5
    return (24 / fan_in) ** 0.5 / (64 if name == "conv1_1" else 1)
