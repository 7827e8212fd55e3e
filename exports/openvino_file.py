"""OpenVINO's two files, NAME.xml and NAME.bin, made from the ONNX model. Weights are of 16 bits unless in float32."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from exports import file_metadata, formats
from exports.opened import INPUT
from structures import UserError
from system import files

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf

PLACE = ["model_info", "metadata"]  # of the metadata in the file's rt_info
TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


def write(path: str, graph: "tf.Graph", metadata: dict[str, Any]) -> None:
    """Write a portable float32 graph of `detector.build_graph`. path: of the .xml, beside which the .bin lies."""
    import openvino

    from exports import onnx_graph  # not for those who only run a file, who do without TensorFlow

    model = openvino.Core().read_model(onnx_graph.convert(graph, metadata).SerializeToString())
    model.set_rt_info(json.dumps(metadata), PLACE)
    openvino.save_model(model, path, compress_to_fp16=metadata["precision"] != "float32")


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
            raise UserError(f"{path}: not an OpenVINO file that can be run ({files.reason(error)})") from None
        self._request = self._model.create_infer_request()

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """As `opened.Opened.run`."""
        results = self._request.infer({INPUT: file_metadata.arrange(batch, self.metadata)})
        # Copies, since the next call overwrites the arrays
        return {output.get_any_name(): np.array(values) for output, values in results.items()}

    def close(self) -> None:
        """As `opened.Opened.close`."""
        del self._request, self._model
