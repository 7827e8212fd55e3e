"""A TensorFlow Lite file: logits and offsets of uint8 pictures; decoding and suppression are its user's work.

`metadata.json` and `labels.txt`, a class on each line, are in a ZIP archive at the file's end, where TensorFlow Lite
keeps the files that belong to a model: unzip reads them, and an interpreter does not see them.
"""

import contextlib
import json
import tempfile
import warnings
import zipfile
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from exports import file_metadata, graphs
from exports.opened import INPUT
from structures import UserError
from system import files, wording, worker_processes, write_errors

METADATA, LABELS = "metadata.json", "labels.txt"
MOST_METADATA = 1 << 26  # bytes, of which a few make an archive that unpacks to any number
# Operations that only arrange the heads' values: in int8, all maps would share one scale
AFTER_HEADS = ["SPLIT_V", "RESHAPE", "CONCATENATION"]


def write(path: str, graph: tf.Graph, metadata: dict[str, Any]) -> None:
    """Write a portable float32 graph of `detector.build_graph`."""
    with _converter(graph) as converter:
        if metadata["precision"] == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        _save(path, converter.convert(), metadata)


class Quantizer:
    """A `model_files.Quantizer` by TensorFlow's converter.

    Its debugger is the only way to keep layers in float; what else that finds out is not asked for.
    """

    def __init__(self, graph: tf.Graph, metadata: dict[str, Any], batches: Sequence[np.ndarray]):
        """As `model_files.quantizer`."""

        def calibration():
            for batch in batches:
                yield {INPUT: batch}

        with _converter(graph) as converter, _quiet():
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = calibration
            self._debugger = tf.lite.experimental.QuantizationDebugger(
                converter=converter, debug_dataset=calibration, debug_options=_options(())
            )

    def write(self, path: str, metadata: dict[str, Any], kept: Collection[str]) -> None:
        """As `model_files.Quantizer.write`."""
        with _quiet():
            self._debugger.options = _options(_names_in(self._debugger.calibrated_model, kept))
            _save(path, self._debugger.get_nondebug_quantized_model(), metadata)


def _options(kept):
    """The debugger's options that keep values of some names in float."""
    return tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=AFTER_HEADS, denylisted_nodes=list(kept))


@contextlib.contextmanager
def _quiet():
    """Context manager without the warning that the interpreter moves to another package some day."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _names_in(model, layers):
    """The names of the values of some layers in a model's bytes; a value that several operations made has them all."""
    names = [tensor["name"] for tensor in tf.lite.Interpreter(model_content=model).get_tensor_details()]
    return [name for name in names if {part.split("/")[0] for part in name.split(";")} & set(layers)]


@contextlib.contextmanager
def _converter(graph):
    """Context manager: a TFLiteConverter of the raw graph. Raises UserError if the disk for temporary files is full."""
    module = tf.Module()
    module.detect = graphs.as_function(graph, file_metadata.RAW, _keep_normalization)
    with tempfile.TemporaryDirectory() as folder:
        try:
            tf.saved_model.save(module, folder, signatures=module.detect)
        except Exception as error:  # of TensorFlow
            if not write_errors.is_about_writing(error):
                raise
            raise UserError(f"TMPDIR {write_errors.unwritable(tempfile.gettempdir(), error)}") from None
        yield tf.lite.TFLiteConverter.from_saved_model(folder)


def _save(path, model, metadata):
    """Write a model's bytes with its metadata."""
    files.write(path, model)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA, json.dumps(metadata, indent=2))
        archive.writestr(LABELS, "".join(f"{name}\n" for name in metadata["class_names"]))


def _read_metadata(path):
    """The bytes of the file's metadata. Raises UserError if there are none, or more than export_model.py writes."""
    text = b""
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive, archive.open(METADATA) as file:
        text = file.read(MOST_METADATA + 1)  # raises zipfile's exceptions and those of each decompressor
    if not 0 < len(text) <= MOST_METADATA:
        raise UserError(f"{path}: not a TensorFlow Lite file of export_model.py")
    return text


def _keep_normalization(definition):
    """Keep the converter from its own L2 normalization, which scales cells that are almost 0 by another factor.

    It looks for a product with a reciprocal root; a minimum that changes nothing between the two hides it.
    """
    roots = {node.name for node in definition.node if node.op == "Rsqrt"}
    for node in [node for node in definition.node if node.op == "Mul" and roots & set(node.input)]:
        (root,) = roots & set(node.input)
        node.input[:] = [f"{root}/kept" if name == root else name for name in node.input]
        limit = definition.node.add(name=f"{root}/limit", op="Const")
        limit.attr["dtype"].type = tf.float32.as_datatype_enum
        limit.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.float32(1e30)))
        kept = definition.node.add(name=f"{root}/kept", op="Minimum", input=[root, limit.name])
        kept.attr["T"].type = tf.float32.as_datatype_enum


class TFLiteFile:
    """An `opened.Opened` TensorFlow Lite file.

    metadata: of `file_metadata`.
    """

    def __init__(self, path: str):
        """Raises UserError if the file cannot be read."""
        self.metadata = file_metadata.parse(path, _read_metadata(path))
        try:
            with _quiet():
                interpreter = tf.lite.Interpreter(path, num_threads=worker_processes.usable_cores())
        except ValueError as error:
            raise UserError(f"{path}: damaged ({wording.reason(error)}); export the model again") from None
        self._run = interpreter.get_signature_runner()

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """As `opened.Opened.run`."""
        return self._run(image_input=batch)

    def close(self) -> None:
        """As `opened.Opened.close`."""
        del self._run
