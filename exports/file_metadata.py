"""What every exported file says of itself, as JSON: enough to use it without this project, and to read it again."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

import config
from settings import computation
from structures import UserError
from system import schema

# Increased when files change so that earlier readers would misread them. Files of 0.1.0 have none
FORMAT = 1
DETECTIONS, RAW = "detections", "raw"  # kinds of outputs
PROPERTY = "metadata"  # of an ONNX file, which has the JSON
NHWC, NCHW = "NHWC", "NCHW"  # layouts of the input
PRECISIONS = (*computation.PRECISIONS, "int8")  # of files, as --precision names them
LARGEST_BATCH = 4096  # of a file for batches of one size
LICENSE = (
    "code that wrote this file: MIT (ssd-tensorflow); weights: as stated by those who trained them (--license TEXT)"
)
ANCHORS = (
    "[anchors, 4] (cx, cy, w, h), ordered by (feature map m, row, column, shape). Center: "
    "((column + 0.5) * steps[m], (row + 0.5) * row_steps[m]), with steps where row_steps is null. "
    "Shapes (w, h), with a = min_sizes[m], b = max_sizes[m]: "
    "(a, a), (sqrt(a*b), sqrt(a*b)), then for each r of aspect_ratios[m] (a*sqrt(r), a/sqrt(r)) and "
    "(a/sqrt(r), a*sqrt(r)). All divided by the width (input_size) or height (input_height, or input_size where that "
    "is null) of the input; clip_anchors 'size' clips w and h, 'all' everything, to 0..1"
)
DECODING = (
    "offsets (dx, dy, dw, dh) at an anchor (cx, cy, w, h) mean the box with center (dx * variances[0] * w + cx, "
    "dy * variances[0] * h + cy) and size (exp(dw * variances[1]) * w, exp(dh * variances[1]) * h), as fractions of "
    "the picture; size_offset_limit bounds dw * variances[1] and dh * variances[1]. Class 0 of the logits is background"
)

Threshold = float | tuple[float, ...]  # detections score above it: one number, or one for each class


@dataclasses.dataclass
class _Metadata:
    """What readers rely on beside the fields of a config.ModelDescription. Files of 0.1.0 have the first two alone."""

    precision: str
    threshold: float
    thresholds: list[float] = dataclasses.field(default_factory=list)
    format: int = FORMAT
    outputs: str = DETECTIONS
    batch: int | None = None
    layout: str = NHWC


_FIELDS = dataclasses.fields(_Metadata)
_KNOWN = {field.name for field in _FIELDS}
_DEFAULTS = {field.name: field.default for field in _FIELDS if field.default is not dataclasses.MISSING}
_LIMITS = {
    "precision": schema.Limits(choices=[one for one in PRECISIONS if one != "auto"]),  # the one that it chose
    "threshold": schema.Limits(0, 1),
    "thresholds": schema.Limits(0, 1),
    "format": schema.Limits(1),
    "outputs": schema.Limits(choices=(DETECTIONS, RAW)),
    "batch": schema.Limits(1, LARGEST_BATCH),
    "layout": schema.Limits(choices=(NHWC, NCHW)),
}


def lowest_threshold(threshold: Threshold) -> float:
    """The smallest of thresholds."""
    return min(threshold) if isinstance(threshold, tuple) else threshold


def threshold_of(values: Mapping[str, Any]) -> Threshold:
    """The Threshold in a file's metadata."""
    return tuple(values["thresholds"]) if "thresholds" in values else values["threshold"]


def describe(description: config.ModelDescription, threshold: Threshold, precision: str) -> dict[str, Any]:
    """The metadata of a graph with detections for any number of pictures; export_model.py makes other files' of it.

    threshold: detections score above it. precision: name of the type that the network computes in.
    """
    width, height = description.preset.input_wh
    return {
        "format": FORMAT,
        **description.to_json(),
        "threshold": lowest_threshold(threshold),
        **({"thresholds": list(threshold)} if isinstance(threshold, tuple) else {}),  # of each class
        "precision": precision,
        "outputs": DETECTIONS,
        "batch": None,
        "layout": NHWC,
        "preprocessing": f"RGB, the whole picture resized to {width} x {height} by bilinear interpolation without "
        "antialiasing (cv2.resize, INTER_LINEAR), values 0..255; the file subtracts mean, applies input_scale and "
        "channel_order itself",
        "anchors": ANCHORS,
        "decoding": DECODING,
        "license": LICENSE,
    }


def parse(path: str, text: str | bytes | None) -> dict[str, Any]:
    """The JSON text of a file's metadata -> dict, in which what 0.1.0 did not write has the value that it means.

    Raises UserError if it is missing, damaged or of a later format.
    """
    if not text:
        raise UserError(f"{path}: has no metadata of export_model.py; export the model again")
    try:
        values = json.loads(text)
        if wrong := schema.mismatch(values, dict, {}):
            raise ValueError(wrong)
        known = {key: value for key, value in values.items() if key in _KNOWN}
        if wrong := schema.mismatch(known, _Metadata, _LIMITS):
            raise ValueError(wrong)
        if known.get("format", FORMAT) > FORMAT:
            raise UserError(f"{path}: has format {values['format']}, this version reads {FORMAT}; use a newer version")
        description = config.ModelDescription.from_json(values)
        if len(known.get("thresholds", description.class_names)) != len(description.class_names):
            raise ValueError("it has not one threshold for each class")
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: its metadata is damaged ({error}); export the model again with export_model.py"
        ) from None
    return {**_DEFAULTS, **values}


def arrange(batch: np.ndarray, metadata: Mapping[str, Any]) -> np.ndarray:
    """uint8 [N,H,W,3] -> the input of a file with this metadata: the same, or float32 [N,3,H,W]."""
    if metadata["layout"] == NHWC:
        return batch
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32)
