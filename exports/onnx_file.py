"""An ONNX file, written through tf2onnx and run by ONNX Runtime."""

from typing import TYPE_CHECKING, Any

import numpy as np

from exports import file_metadata, formats
from exports.opened import INPUT
from structures import UserError
from system import files, wording

if TYPE_CHECKING:
    import tensorflow.compat.v1 as tf


def write(path: str, graph: "tf.Graph", metadata: dict[str, Any]) -> None:
    """Write a portable graph of `detector.build_graph`."""
    from exports import onnx_graph  # not for those who only run a file, who do without TensorFlow

    files.write(path, onnx_graph.convert(graph, metadata).SerializeToString())


class OnnxFile:
    """An `opened.Opened` ONNX file.

    metadata: of `file_metadata`.
    """

    def __init__(self, path: str):
        """Raises UserError if the file cannot be read, or ONNX Runtime is not installed."""
        formats.require(formats.FORMATS["onnx"].to_run, path)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of a module without public names
            raise UserError(f"{path}: not an ONNX file that can be run ({wording.reason(error)})") from None
        properties = self._session.get_modelmeta().custom_metadata_map
        self.metadata = file_metadata.parse(path, properties.get(file_metadata.PROPERTY))
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """As `opened.Opened.run`."""
        pictures = file_metadata.arrange(batch, self.metadata)
        return dict(zip(self._names, self._session.run(self._names, {INPUT: pictures}), strict=True))

    def close(self) -> None:
        """As `opened.Opened.close`."""
        del self._session
