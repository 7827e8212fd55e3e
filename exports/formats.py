"""What each format of an exported model has, without loading anything: precisions, kinds of output, packages."""

import importlib.util
from collections.abc import Iterable
from typing import NamedTuple

from exports.comparison import Tolerance
from exports.file_metadata import NCHW, NHWC
from settings.computation import PRECISIONS
from structures import UserError

REQUIREMENTS = "requirements-export.txt"


class Format(NamedTuple):
    """What a file of this format can be.

    precisions: of the network, values of --precision.
    computes_in_graph: whether the graph that it is made from has that precision already.
    has_detections: whether suppression may be inside.
    has_raw: whether there may be logits and offsets alone.
    raw_layout: of the pictures that it then takes.
    to_write, to_run, to_write_int8: names of Python packages beside requirements.txt.
    """

    precisions: tuple[str, ...]
    computes_in_graph: bool = True
    has_detections: bool = True
    has_raw: bool = True
    raw_layout: str = NHWC
    to_write: tuple[str, ...] = ()
    to_run: tuple[str, ...] = ()
    to_write_int8: tuple[str, ...] = ()


_TO_ONNX = ("tf2onnx", "onnx")
FORMATS = {
    # The raw outputs stand beside the detections in every frozen graph
    "frozen": Format(PRECISIONS, has_raw=False),
    "savedmodel": Format(PRECISIONS),
    "onnx": Format(("float32", "float16"), raw_layout=NCHW, to_write=_TO_ONNX, to_run=("onnxruntime",)),
    "openvino": Format(
        ("float32", "bfloat16", "float16", "int8"),
        computes_in_graph=False,
        raw_layout=NCHW,
        to_write=(*_TO_ONNX, "openvino"),
        to_run=("openvino",),
        to_write_int8=("nncf",),
    ),
    # TensorFlow Lite has no suppression of many classes that all its interpreters run
    "tflite": Format(("float32", "float16", "int8"), computes_in_graph=False, has_detections=False),
}
# Of detections, by the network's precision, beside those of the run in float32
TOLERANCES = {
    "float32": Tolerance(score=1e-4, box=1e-4, unmatched=0.01),
    "float16": Tolerance(score=0.02, box=0.02, unmatched=0.1),
    "bfloat16": Tolerance(score=0.1, box=0.05, unmatched=0.2),
    "int8": Tolerance(score=0.1, box=0.05, unmatched=1.0),  # its mAP is what counts
}


def missing(packages: Iterable[str]) -> list[str]:
    """Those of some packages that are not installed."""
    return [name for name in dict.fromkeys(packages) if importlib.util.find_spec(name) is None]


def require(packages: Iterable[str], purpose: str) -> None:
    """Raise UserError if a package is not installed. purpose: the flag or file that needs it."""
    if absent := missing(packages):
        raise UserError(f"{purpose}: needs {', '.join(absent)}; pip install -r {REQUIREMENTS}")
