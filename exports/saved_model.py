"""A SavedModel, as TensorFlow Serving and TensorFlow's own loaders read it. Its signatures:

  serving_default   pictures: uint8 [N,H,W,3] RGB, of any one size
  jpeg              jpeg_bytes: string [N], the contents of JPEG files of any sizes; EXIF orientation is not applied
  prepared          image_input: uint8 [N,S,S,3] RGB, already resized; what our own programs call

Each returns boxes, scores, classes and count, as the tensors of a frozen graph, or logits and offsets where the model
was exported raw. Metadata is in assets.extra/metadata.json, which serving systems leave alone.
"""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from exports import file_metadata, graphs, resizing
from structures import UserError
from system import files

METADATA = os.path.join("assets.extra", "metadata.json")


def write(path: str, graph: tf.Graph, metadata: dict[str, Any]) -> None:
    """Write a portable graph of `detector.build_graph` into a new folder."""
    side, batch = metadata["preset"]["input_size"], metadata["batch"]
    module = tf.Module()
    module.detect = prepared = graphs.as_function(graph, metadata["outputs"])

    @tf.function(input_signature=[tf.TensorSpec([batch, None, None, 3], tf.uint8, "pictures")])
    def serve_pictures(pictures):
        return prepared(resizing.resize(pictures, side))

    def read(jpeg):
        # The decoder's settings that cv2 and Pillow have, so that pixels are the same
        picture = tf.io.decode_jpeg(jpeg, channels=3, fancy_upscaling=True, dct_method="INTEGER_ACCURATE")
        return resizing.resize(picture[None], side)[0]

    @tf.function(input_signature=[tf.TensorSpec([batch], tf.string, "jpeg_bytes")])
    def serve_jpeg(jpeg_bytes):
        resized = tf.TensorSpec([side, side, 3], tf.uint8)
        return prepared(tf.map_fn(read, jpeg_bytes, fn_output_signature=resized))

    signatures = {"serving_default": serve_pictures, "jpeg": serve_jpeg, "prepared": prepared}
    tf.saved_model.save(module, path, signatures=signatures)
    files.write_json(os.path.join(path, METADATA), metadata)


class SavedModel:
    """An `opened.Opened` SavedModel.

    metadata: of `file_metadata`.
    """

    def __init__(self, path: str):
        """path: of the folder. Raises UserError if it cannot be read."""
        if not os.path.isfile(os.path.join(path, METADATA)):
            raise UserError(f"{path}: has no {METADATA}, which export_model.py writes; export the model again")
        self.metadata = file_metadata.parse(path, files.read_text(os.path.join(path, METADATA)))
        try:
            self._model = tf.saved_model.load(path)  # which keeps the functions alive
            self._run = self._model.signatures["prepared"]
        except Exception as error:  # the loader raises OSError, KeyError, ValueError and protobuf's own for damage
            raise UserError(f"{path}: not a SavedModel of export_model.py ({files.reason(error)})") from None

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """As `opened.Opened.run`."""
        return {name: tensor.numpy() for name, tensor in self._run(image_input=tf.constant(batch)).items()}

    def close(self) -> None:
        """As `opened.Opened.close`."""
        del self._run, self._model
