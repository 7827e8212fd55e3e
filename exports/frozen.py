"""A frozen graph: one GraphDef whose weights are constants."""

import json
from typing import Any

import tensorflow.compat.v1 as tf

from exports import graphs, stored_graphs
from exports.opened import METADATA
from system import files


def write(path: str, graph: tf.Graph, metadata: dict[str, Any]) -> None:
    """Write a portable graph of `detector.build_graph`."""
    definition = graphs.definition_of(graph)
    (place,) = (node for node in definition.node if node.name == METADATA)
    place.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(json.dumps(metadata)))
    files.write(path, definition.SerializeToString())


def load(path: str) -> tf.Graph:
    """The graph of a file that `stored_graphs.read_frozen` has read without complaint, as it is in the file."""
    definition = tf.GraphDef.FromString(stored_graphs.read_checked(path))
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    return graph
