"""A SavedModel, as TensorFlow Serving and TensorFlow's own loaders read it. Its signatures:

  serving_default   pictures: uint8 [N,H,W,3] RGB, of any one size
  jpeg              jpeg_bytes: string [N], the contents of JPEG files of any sizes; EXIF orientation is not applied
  prepared          image_input: uint8 [N,H,W,3] RGB, already resized; what our own programs call

Each returns boxes, scores, classes and count, as the tensors of a frozen graph, or logits and offsets where the model
was exported raw. Metadata is in assets.extra/metadata.json, which serving systems leave alone.
"""

import os
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow.compat.v1 as tf1
from tensorflow.core.protobuf import saved_model_pb2

import config
import ssd_utils
from exports import file_metadata, graphs, resizing, stored_graphs
from exports.opened import INPUT
from structures import UserError
from system import files, wording

METADATA = os.path.join("assets.extra", "metadata.json")


def write(path: str, graph: tf.Graph, metadata: dict[str, Any]) -> None:
    """Write a portable graph of `detector.build_graph` into a new folder."""
    preset, batch = ssd_utils.SSDPreset.from_json(metadata["preset"]), metadata["batch"]
    module = tf.Module()
    module.detect = prepared = graphs.as_function(graph, metadata["outputs"])

    @tf.function(input_signature=[tf.TensorSpec([batch, None, None, 3], tf.uint8, "pictures")])
    def serve_pictures(pictures):
        return prepared(resizing.resize(pictures, preset.input_wh))

    def read(jpeg):
        # The decoder's settings that cv2 and Pillow have, so that pixels are the same
        picture = tf.io.decode_jpeg(jpeg, channels=3, fancy_upscaling=True, dct_method="INTEGER_ACCURATE")
        return resizing.resize(picture[None], preset.input_wh)[0]

    @tf.function(input_signature=[tf.TensorSpec([batch], tf.string, "jpeg_bytes")])
    def serve_jpeg(jpeg_bytes):
        resized = tf.TensorSpec(preset.image_shape, tf.uint8)
        return prepared(tf.map_fn(read, jpeg_bytes, fn_output_signature=resized))

    signatures = {"serving_default": serve_pictures, "jpeg": serve_jpeg, "prepared": prepared}
    tf.saved_model.save(module, path, signatures=signatures)
    files.write_json(os.path.join(path, METADATA), metadata)


def read_metadata(path: str) -> dict[str, Any]:
    """What `file_metadata` says of the SavedModel in a folder. Raises UserError."""
    if not os.path.isfile(os.path.join(path, METADATA)):
        raise UserError(f"{path}: has no {METADATA}, which export_model.py writes; export the model again")
    return file_metadata.parse(path, files.read_text(os.path.join(path, METADATA)))


class SavedModel:
    """An `opened.Opened` SavedModel, run as it is: the function of its signature `prepared`, and nothing else of it.

    metadata: of `file_metadata`.
    """

    def __init__(self, path: str):
        """path: of a folder that `stored_graphs.read_saved_model` has read. Raises UserError if it cannot be run."""
        self.metadata = read_metadata(path)
        content = stored_graphs.read_checked(os.path.join(path, config.SAVED_MODEL_GRAPH))
        try:
            self._session, self._input, self._outputs = _open(content)
        except Exception as error:  # the importer raises its own exceptions for damage
            raise UserError(f"{path}: not a SavedModel of export_model.py ({wording.reason(error)})") from None

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """As `opened.Opened.run`."""
        return self._session.run(self._outputs, {self._input: batch})

    def close(self) -> None:
        """As `opened.Opened.close`."""
        self._session.close()


def _open(content):
    """The bytes of a saved_model.pb -> (session, name of the input, {name: name of the tensor} of the outputs)."""
    (stored,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    signature = stored.signature_def[stored_graphs.SIGNATURE]
    outputs = {name: tensor.name for name, tensor in signature.outputs.items()}
    definition = tf1.graph_util.extract_sub_graph(stored.graph_def, [name.split(":")[0] for name in outputs.values()])
    called = stored_graphs.called_functions(content)
    kept = [function for function in definition.library.function if function.signature.name in called]
    del definition.library.function[:], definition.library.gradient[:]
    definition.library.function.extend(kept)
    with tf1.Graph().as_default() as graph:
        tf1.import_graph_def(definition, name="")
    return tf1.Session(graph=graph), signature.inputs[INPUT].name, outputs
