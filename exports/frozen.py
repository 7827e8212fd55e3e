"""A frozen graph: one GraphDef whose weights are constants. `detector.read_frozen` reads it."""

import json
from typing import Any

import tensorflow.compat.v1 as tf

from exports import graphs
from system import files


def write(path: str, graph: tf.Graph, metadata: dict[str, Any]) -> None:
    """Write a portable graph of `detector.build_graph`."""
    definition = graph.as_graph_def()
    (place,) = (node for node in definition.node if node.name == graphs.METADATA)
    place.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(json.dumps(metadata)))
    files.write(path, definition.SerializeToString())
