"""A network in whole numbers of 8 bits, with layers in float where it needs them: which ones is found by trying.

Every trial writes the file anew and measures its mAP, so there are few of them. Each keeps more layers in float than
the last: those that 8 bits disturb most, by a measurement that costs as much as a few pictures do.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from exports import file_metadata, file_probe, graphs, model_files
from exports.opened import INPUT
from structures import UserError

COMPARED_PICTURES = 4  # on which the noise of layers is measured
# Shares of the layers that stay in float, a trial for each; with more than half of them int8 gains little
SHARES = (0.0, 0.125, 0.25, 0.5)
WIDTH = 8  # bits


class Trial(NamedTuple):
    """A choice of layers that was tried.

    kept: names of those in float, the noisiest first.
    lost: what it costs, in points of mAP.
    """

    kept: tuple[str, ...]
    lost: float


def layers(graph: tf.Graph) -> tuple[str, ...]:
    """The names of what can stay in float in a graph of `detector.build_graph`: convolutions and the normalization."""
    nodes = graphs.extract(graph, graphs.output_names(file_metadata.RAW).values()).node
    return tuple(dict.fromkeys(node.name.split("/")[0] for node in nodes if node.op in ("Conv2D", "Rsqrt")))


def choose(
    noise: Callable[[], Mapping[str, float]],
    lost: Callable[[tuple[str, ...]], float],
    most_lost: float,
    say: Callable[[str], object] = print,
) -> Trial:
    """Keep more and more layers in float, the noisiest first, until the loss is small -> the Trial.

    noise: as `noise_of_layers`; asked for where all layers in int8 lose too much. lost: points of mAP that a file loses
    which keeps some layers in float. most_lost: the points allowed. say: gets a line for each trial that lost more.
    Raises UserError if the last of SHARES of the layers does not help.
    """
    trial = Trial((), lost(()))
    losses, ranked = [trial.lost], ()
    for share in SHARES[1:]:
        if trial.lost <= most_lost:
            return trial
        if not ranked:
            measured = noise()
            ranked = tuple(sorted(measured, key=lambda name: -measured[name]))
        where = f"with {', '.join(trial.kept)} in float" if trial.kept else "everywhere"
        say(f"int8 {where} loses {trial.lost:.2f} points of mAP; trying more layers in float")
        kept = ranked[: round(share * len(ranked)) or 1]
        trial = Trial(kept, lost(kept))
        losses.append(trial.lost)
    if trial.lost > most_lost:
        raise UserError(
            f"--precision int8: loses {losses[0]:.2f} points of mAP, and still {min(losses):.2f} with up to "
            f"{len(trial.kept)} of {len(ranked)} layers in float; choose another --precision, or allow more with "
            "--most-lost"
        )
    return trial


def noise_of_layers(graph: tf.Graph, pictures: np.ndarray) -> dict[str, float]:
    """{layer: its noise in int8}, the share that is wrong of the energy of its output if its inputs are right.

    Along a network such shares add up, so a layer's own says what keeping it in float is worth. A convolution's input
    has one scale and each filter its own, as in int8 files; of the normalization, each step is rounded. Infinite where
    the rounded layer divides by 0. graph: of `detector.build_graph`, in float32. pictures: uint8 [N,H,W,3]; the first
    COMPARED_PICTURES are taken.
    """
    names = layers(graph)
    definition = graphs.extract(graph, graphs.output_names(file_metadata.RAW).values())
    with tf.Graph().as_default() as copy:
        tf.import_graph_def(definition, name="")
        found = {name: _noise(copy, name) for name in names}
        with tf.Session() as session:
            measured = session.run(found, {f"{INPUT}:0": pictures[:COMPARED_PICTURES]})
    # A cell whose sum of squares is rounded to 0 is divided by it
    return {name: float(value) if np.isfinite(value) else float("inf") for name, value in measured.items()}


def _noise(graph, layer):
    """The tensor of a layer's noise."""
    operations = [op for op in graph.get_operations() if op.name.split("/")[0] == layer and op.type != "Const"]
    convolutions = [op for op in operations if op.type == "Conv2D"]
    rounded: dict[str, tf.Tensor] = {}  # by name of the value; tensors themselves cannot be keys
    for operation in convolutions or operations:
        inputs = [rounded.get(tensor.name, tensor) for tensor in operation.inputs]
        inputs = [_round(tensor) if tensor.dtype == tf.float32 else tensor for tensor in inputs]
        attributes = {name: operation.node_def.attr[name] for name in operation.node_def.attr}
        copy = graph.create_op(operation.type, inputs, attrs=attributes, name="int8")
        rounded[operation.outputs[0].name] = copy.outputs[0]
    right = operation.outputs[0]
    energy = tf.maximum(tf.reduce_sum(right**2), np.finfo(np.float32).tiny)  # a layer may be 0 everywhere
    return tf.reduce_sum((rounded[right.name] - right) ** 2) / energy


def _round(tensor):
    """A tensor in steps of 8 bits between its limits; of filters, each has its own."""
    if tensor.op.type == "Const" and len(tensor.shape) == 4:
        limit = tf.reduce_max(tf.abs(tensor), axis=[0, 1, 2])
        return tf.quantization.fake_quant_with_min_max_vars_per_channel(tensor, -limit, limit, WIDTH, narrow_range=True)
    low, high = tf.minimum(tf.reduce_min(tensor), 0), tf.maximum(tf.reduce_max(tensor), 0)
    return tf.quantization.fake_quant_with_min_max_vars(tensor, low, high, WIDTH)


class Writer:
    """Writes a graph in one format in int8, with some layers in float."""

    def __init__(self, name: str, graph: tf.Graph, metadata: Mapping[str, Any], pictures: np.ndarray):
        """name: of the format. graph: portable, in float32. pictures: uint8 [N,H,W,3], from which ranges are taken."""
        self._name, self._metadata = name, {**metadata, "precision": "int8"}
        self._quantizer = model_files.quantizer(name, graph, self._metadata, list(self._batches(pictures)))

    def _batches(self, pictures):
        """Yield the pictures as inputs of a file: one by one, or as many as it takes."""
        count = self._metadata["batch"] or 1
        for start in range(0, len(pictures), count):
            places = np.arange(start, start + count) % len(pictures)
            yield file_metadata.arrange(pictures[places], self._metadata)

    def write(self, path: str, kept: Collection[str] = ()) -> dict[str, Any]:
        """Write the file, in place of one that is there, and return its metadata. kept: layers in float."""
        values = {**self._metadata, "float_layers": sorted(kept)}
        self._quantizer.write(path, values, kept)
        file_probe.note(self._name, path)
        return values
