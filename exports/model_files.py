"""The table of formats whose files are written, and of those that a file can be opened in beside frozen graphs."""

from collections.abc import Collection, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow.compat.v1 as tf

from exports import file_probe, formats, frozen, onnx_file, openvino_file, saved_model, tflite_file
from exports.opened import Opened

_WRITERS = {
    "frozen": frozen.write,
    "savedmodel": saved_model.write,
    "onnx": onnx_file.write,
    "openvino": openvino_file.write,
    "tflite": tflite_file.write,
}
_QUANTIZERS = {"openvino": openvino_file.Quantizer, "tflite": tflite_file.Quantizer}
_OPENERS = {
    "savedmodel": saved_model.SavedModel,
    "onnx": onnx_file.OnnxFile,
    "openvino": openvino_file.OpenVinoFile,
    "tflite": tflite_file.TFLiteFile,
}


class Quantizer(Protocol):
    """Writes a model in int8, several times with different layers in float."""

    def write(self, path: str, metadata: dict[str, Any], kept: Collection[str]) -> None:
        """Write the file, in place of one that is there. kept: names of layers that stay in float."""
        ...


def write(name: str, path: str, graph: tf.Graph, metadata: dict[str, Any]) -> None:
    """Write a portable graph of `detector.build_graph` in the format of that name, a key of formats.FORMATS.

    path: of the file, or of the folder of a SavedModel; nothing is there yet. metadata: of `file_metadata`; its
    "outputs" and "layout" say what is written.
    """
    _WRITERS[name](path, graph, metadata)
    file_probe.note(name, path)


def quantizer(name: str, graph: tf.Graph, metadata: dict[str, Any], batches: Sequence[np.ndarray]) -> Quantizer:
    """What writes a portable float32 graph in int8. name, graph, metadata: as in `write`.

    batches: inputs of the file, from which the ranges of all values are taken.
    """
    return _QUANTIZERS[name](graph, metadata, batches)


def open_file(name: str, path: str) -> Opened:
    """Open a file in the format of that name; a frozen graph is read by `detector.read_frozen`.

    Raises UserError if it cannot be read, was not written by export_model.py, needs a package that is not there, or
    does not run in a process of its own.
    """
    formats.require(formats.FORMATS[name].to_run, path)
    if name in file_probe.ENGINES:
        file_probe.check(name, path)
    return _OPENERS[name](path)
