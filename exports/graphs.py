"""Parts of a portable graph of `detector.build_graph`, from which every format is made."""

from collections.abc import Callable, Sequence

import tensorflow
import tensorflow.compat.v1 as tf

from exports import file_metadata
from exports.opened import DETECTION_OUTPUTS, RAW_OUTPUTS

INPUT = "image_input"
# Without gradients: those of kernels/convolution.py are no functions of TensorFlow 2, and nobody trains the file
SAVE_OPTIONS = tensorflow.saved_model.SaveOptions(experimental_custom_gradients=False)


def output_names(outputs: str) -> dict[str, str]:
    """{name: name of the graph's operation} of the outputs of a kind: file_metadata.DETECTIONS or RAW."""
    if outputs == file_metadata.RAW:
        return {name: f"result/{name}" for name in RAW_OUTPUTS}
    return {name: f"detections/{name}" for name in DETECTION_OUTPUTS}


def extract(graph: tf.Graph, operations: Sequence[str]) -> tf.GraphDef:
    """The part of a graph from the pictures to some operations, without anything else."""
    waiting, needed = list(operations), set()
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            operation = graph.get_operation_by_name(name)
            waiting += [made.name for made in (*(tensor.op for tensor in operation.inputs), *operation.control_inputs)]
    definition = graph.as_graph_def()
    kept = [node for node in definition.node if node.name in needed]  # in their order
    return tf.GraphDef(node=kept, versions=definition.versions)


def with_outputs(graph: tf.Graph, names: Sequence[str]) -> tf.Graph:
    """A graph with some outputs and what they need. names: of those of `detector.postprocess`."""
    operations = {**output_names(file_metadata.DETECTIONS), "result": "result/result"}
    definition = extract(graph, [*(operations[name] for name in names), "metadata/json"])
    with tf.Graph().as_default() as reduced:
        tf.import_graph_def(definition, name="")
    return reduced


def as_function(graph: tf.Graph, outputs: str, edit: Callable[[tf.GraphDef], None] = lambda definition: None):
    """A function of TensorFlow 2: pictures, uint8 [N,S,S,3] named `image_input` -> dict of the outputs of a kind.

    edit: changes the extracted GraphDef in place.
    """
    names = output_names(outputs)
    definition = extract(graph, list(names.values()))
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
