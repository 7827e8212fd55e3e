"""What learning.py converts between this project and torchvision's SSD300. It imports neither of the two libraries."""

import numpy as np
from bench_paths import ROOT  # noqa: F401, lets the next lines find the project

import ssd_layers
from structures import Detections, UserError
from weights import layouts

# {variable of ours: name of torchvision's parameter}
NAMES = {ours: theirs for theirs, ours in layouts.LAYOUTS["torchvision-ssd300"].variables.items()}


def torch_arrays(variables):
    """{variable: array as in our network} -> {name of torchvision's parameter: array}, kernels OIHW.

    Both networks take RGB of 0..255 minus (123, 117, 104), so no value changes.
    """
    return {
        NAMES[name]: np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array)
        for name, array in variables.items()
    }


def frozen_names(layers):
    """Layers as --freeze names them -> the sorted names of torchvision's parameters. Raises UserError."""
    found = set()
    for layer in layers:
        names = {theirs for ours, theirs in NAMES.items() if ssd_layers.in_layer(ours, layer)}
        if not names:
            raise UserError(f"--freeze {layer}: no such layer; give some like conv1,conv2,conv3")
        found |= names
    return sorted(found)


def to_detections(boxes, scores, labels, side, sample):
    """What torchvision's model found in a picture that was resized to side × side -> Detections.

    boxes: [N,4] in pixels of the resized picture; scores: [N], falling; labels: [N], from 1; sample: the picture.
    """
    scale = np.array([sample.width, sample.height] * 2, np.float32) / side
    return Detections(boxes.astype(np.float32) * scale, scores.astype(np.float32), labels.astype(np.int32) - 1)
