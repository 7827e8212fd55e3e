"""A TensorFlow Lite file: logits and offsets of uint8 pictures; decoding and suppression are its user's work.

`metadata.json` and `labels.txt`, a class on each line, are in a ZIP archive at the file's end, where TensorFlow Lite
keeps the files that belong to a model: unzip reads them, and an interpreter does not see them.
"""

import json
import tempfile
import warnings
import zipfile
from typing import Any

import numpy as np
import tensorflow as tf

from exports import file_metadata, graphs
from structures import UserError
from system import files, worker_processes

METADATA, LABELS = "metadata.json", "labels.txt"


def write(path: str, graph: tf.Graph, metadata: dict[str, Any]) -> None:
    """Write a portable float32 graph of `detector.build_graph`."""
    module = tf.Module()
    module.detect = graphs.as_function(graph, file_metadata.RAW, _keep_normalization)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=module.detect)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if metadata["precision"] == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        files.write(path, converter.convert())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA, json.dumps(metadata, indent=2))
        archive.writestr(LABELS, "".join(f"{name}\n" for name in metadata["class_names"]))


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
        try:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(METADATA)
        except (zipfile.BadZipFile, KeyError, OSError):
            raise UserError(f"{path}: not a TensorFlow Lite file of export_model.py") from None
        self.metadata = file_metadata.parse(path, text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the interpreter moves to another package some day
            try:
                interpreter = tf.lite.Interpreter(path, num_threads=worker_processes.usable_cores())
            except ValueError as error:
                raise UserError(f"{path}: damaged ({files.reason(error)}); export the model again") from None
        self._run = interpreter.get_signature_runner()

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """As `opened.Opened.run`."""
        return self._run(image_input=batch)

    def close(self) -> None:
        """As `opened.Opened.close`."""
        del self._run
