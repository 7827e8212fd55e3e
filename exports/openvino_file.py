"""OpenVINO's two files, NAME.xml and NAME.bin, made from the ONNX model.

Weights are of 16 bits unless in float32, or, where NNCF has quantized the model, of 8.
"""

import contextlib
import io
import json
import logging
import os
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from exports import file_metadata, formats
from exports.opened import DETECTION_OUTPUTS, INPUT
from structures import UserError
from system import wording

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf

PLACE = ["model_info", "metadata"]  # of the metadata in the file's rt_info
TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}


def write(path: str, graph: "tf.Graph", metadata: dict[str, Any]) -> None:
    """Write a portable float32 graph of `detector.build_graph`. path: of the .xml, beside which the .bin lies."""
    _save(path, _convert(graph, metadata), metadata, compress=metadata["precision"] != "float32")


class Quantizer:
    """A `model_files.Quantizer` by NNCF."""

    def __init__(self, graph: "tf.Graph", metadata: dict[str, Any], batches: Sequence[np.ndarray]):
        """As `model_files.quantizer`."""
        self._model, self._batches = _convert(graph, metadata), batches

    def write(self, path: str, metadata: dict[str, Any], kept: Collection[str]) -> None:
        """As `model_files.Quantizer.write`."""
        import nncf

        after_network = ["detections/.*", *(f"{name}$" for name in DETECTION_OUTPUTS)]
        patterns = [f"^{pattern}" for pattern in (*after_network, *(f"{re.escape(name)}/.*" for name in sorted(kept)))]
        nncf.set_log_level(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):  # bars of its progress
            model = nncf.quantize(
                self._model,
                nncf.Dataset(self._batches),
                subset_size=len(self._batches),
                # A raw model has nothing after its network
                ignored_scope=nncf.IgnoredScope(patterns=patterns, validate=False),
            )
        _save(path, model, metadata, compress=False)


def _convert(graph, metadata):
    """The graph as a model of OpenVINO."""
    import openvino

    from exports import onnx_graph  # not for those who only run a file, who do without TensorFlow

    return openvino.Core().read_model(onnx_graph.convert(graph, metadata).SerializeToString())


def _save(path, model, metadata, compress):
    """Write a model with its metadata. compress: whether weights are stored in 16 bits."""
    import openvino

    model.set_rt_info(json.dumps(metadata), PLACE)
    try:
        openvino.save_model(model, path, compress_to_fp16=compress)
    except Exception:
        _write_on(path)
        raise


def _write_on(path):
    """Raise the OSError that stopped OpenVINO, which does not say why: go on writing where it could not."""
    for file in (f"{os.path.splitext(path)[0]}.bin", path):
        with open(file, "ab", buffering=0) as stream:
            stream.write(bytes(1 << 20))
            stream.write(b"any")  # an almost full disk takes a part of the first


class OpenVinoFile:
    """An `opened.Opened` OpenVINO file.

    metadata: of `file_metadata`.
    """

    def __init__(self, path: str):
        """path: of the .xml. Raises UserError if it cannot be read, or OpenVINO is not installed."""
        formats.require(formats.FORMATS["openvino"].to_run, path)
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(path)
            text = model.get_rt_info(PLACE).astype(str) if model.has_rt_info(PLACE) else None
            self.metadata = file_metadata.parse(path, text)
            # By itself OpenVINO computes in bfloat16 where the CPU has it, whatever the file's weights are
            settings = {"INFERENCE_PRECISION_HINT": TYPES[self.metadata["precision"]]}
            self._model = core.compile_model(model, "CPU", settings)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{path}: not an OpenVINO file that can be run ({wording.reason(error)})") from None
        self._request = self._model.create_infer_request()

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """As `opened.Opened.run`."""
        results = self._request.infer({INPUT: file_metadata.arrange(batch, self.metadata)})
        # Copies, since the next call overwrites the arrays
        return {output.get_any_name(): np.array(values) for output, values in results.items()}

    def close(self) -> None:
        """As `opened.Opened.close`."""
        del self._request, self._model
