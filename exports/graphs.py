"""Parts of a portable graph of `detector.build_graph`, from which every format is made."""

from collections.abc import Callable, Iterable, Sequence

import tensorflow
import tensorflow.compat.v1 as tf

from exports import file_metadata
from exports.opened import DETECTION_OUTPUTS, INPUT, METADATA, OUTPUTS, RAW_OUTPUTS


def output_names(outputs: str) -> dict[str, str]:
    """{name: name of the graph's operation} of the outputs of a kind: file_metadata.DETECTIONS or RAW."""
    return {name: OUTPUTS[name] for name in (RAW_OUTPUTS if outputs == file_metadata.RAW else DETECTION_OUTPUTS)}


def definition_of(graph: tf.Graph) -> tf.GraphDef:
    """A whole graph for other programs, whose TensorFlow does not have the gradients of kernels/convolution.py.

    With their names in it, TensorFlow computes no gradients there and warns where the graph is saved or loaded.
    """
    definition = graph.as_graph_def()
    for node in definition.node:
        node.attr.pop("_gradient_op_type", None)
    return definition


def extract(graph: tf.Graph, operations: Iterable[str]) -> tf.GraphDef:
    """The part of a graph from the pictures to some operations, without anything else."""
    return tf.graph_util.extract_sub_graph(definition_of(graph), list(operations))


def with_outputs(graph: tf.Graph, names: Sequence[str]) -> tf.Graph:
    """A graph with some outputs and what they need. names: keys of OUTPUTS."""
    definition = extract(graph, [*(OUTPUTS[name] for name in names), METADATA])
    with tf.Graph().as_default() as reduced:
        tf.import_graph_def(definition, name="")
    return reduced


def as_function(graph: tf.Graph, outputs: str, edit: Callable[[tf.GraphDef], None] = lambda definition: None):
    """A function of TensorFlow 2: pictures, uint8 [N,H,W,3] named `image_input` -> dict of the outputs of a kind.

    edit: changes the extracted GraphDef in place.
    """
    names = output_names(outputs)
    definition = extract(graph, names.values())
    edit(definition)
    pictures = graph.get_tensor_by_name(f"{INPUT}:0")

    def imported(image_input):
        wanted = [f"{operation}:0" for operation in names.values()]
        tensors = tf.import_graph_def(definition, {f"{INPUT}:0": image_input}, wanted, name="")
        return {name: tf.identity(tensor, name=name) for name, tensor in zip(names, tensors, strict=True)}

    specification = tf.TensorSpec(pictures.shape, pictures.dtype, INPUT)
    wrapped = tf.wrap_function(imported, [specification])
    # A wrapped function alone cannot be a signature
    return tensorflow.function(lambda image_input: wrapped(image_input), input_signature=[specification])
