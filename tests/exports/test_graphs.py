"""Graphs as other programs take them."""

import pytest
import tensorflow.compat.v1 as tf

from exports import frozen, graphs, opened
from kernels import convolution


@pytest.fixture
def graph(monkeypatch):
    """A layer whose convolution and biases have gradients of this project."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    with tf.Graph().as_default() as graph:
        pictures = tf.placeholder(tf.bfloat16, [1, 9, 9, 4], opened.INPUT)
        found = convolution.conv2d(pictures, tf.ones([3, 3, 4, 8], tf.bfloat16), dilation=6)
        tf.identity(convolution.bias_add(found, tf.ones([8], tf.bfloat16)), "result")
        tf.constant("", name=opened.METADATA)
    assert gradients_in(graph.as_graph_def()) == {"Conv2D", "BiasAdd"}
    return graph


def gradients_in(definition):
    """The types of the operations whose gradients have names of their own."""
    return {node.op for node in definition.node if "_gradient_op_type" in node.attr}


def test_no_format_names_gradients_that_only_this_project_has(graph, tmp_path):
    """TensorFlow elsewhere would compute none, not even its own, and warns."""
    frozen.write(str(tmp_path / "model.pb"), graph, {})
    whole = tf.GraphDef.FromString((tmp_path / "model.pb").read_bytes())
    assert {"Conv2D", "BiasAdd"} <= {node.op for node in whole.node}
    assert not gradients_in(whole)
    assert not gradients_in(graphs.extract(graph, ["result"]))
    assert gradients_in(graph.as_graph_def())  # it can still be trained
