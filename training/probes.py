"""What training steps leave to look at: norms of gradient, weights and update, and which units get a gradient.

An ordinary step only notes a few numbers in variables, as part of its update: its fetches stay the same, so that XLA
compiles nothing anew. The rest is computed when it is read.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from kernels import devices

NORMED = ("weights", "scale")  # the last part of the names of those whose norms are read; biases start from 0


class GradientProbe:
    """Notes the gradient of every update in variables that no checkpoint holds. Built into the default graph.

    trained: the variables that are trained; clip_norm: that of --clip-norm, 0 for none.

    norm: variable, the norm of the last update's gradient before clipping.
    counts: variable [2], the updates whose gradient was clipped and all updates, since it was set to 0.
    biases: names of the layers whose biases are trained; bias_gradients: variable, the last update's gradients of
    these, one layer behind the other; sizes: of each.
    """

    def __init__(self, trained: Sequence[tf.Variable], clip_norm: float) -> None:
        self._clip_norm = clip_norm
        self._is_bias = [v.op.name.endswith("/biases") for v in trained]
        biases = [v for v, chosen in zip(trained, self._is_bias, strict=True) if chosen]
        self.biases, self.sizes = [_layer(v) for v in biases], [int(v.shape[0]) for v in biases]
        self.norm, self.counts = local_variable([], "gradient_norm"), local_variable([2], "clipped")
        self.bias_gradients = local_variable([sum(self.sizes)], "bias_gradients")

    def note(self, gradients: Sequence[tf.Tensor], norm: tf.Tensor) -> tf.Operation:
        """The operation that notes an update. gradients: of the trained variables, in their order; norm: of all."""
        clipped = norm > self._clip_norm if self._clip_norm else tf.constant(False)
        noted = [
            self.norm.assign(norm, read_value=False),
            self.counts.assign_add(tf.stack([tf.cast(clipped, tf.float32), 1.0]), read_value=False),
        ]
        chosen = [gradient for gradient, is_bias in zip(gradients, self._is_bias, strict=True) if is_bias]
        if chosen:
            noted.append(self.bias_gradients.assign(tf.concat(chosen, axis=0), read_value=False))
        return tf.group(*noted)


@dataclasses.dataclass(frozen=True)
class Reading:
    """What the last update was.

    gradient_norm: before clipping.
    clipped, updates: how many updates were clipped, and how many were done, since `StepProbe.read` was called before.
    bias_gradients: {layer: float32 [channels]}, before clipping.
    weight_norms: {layer: norm of its weights after the update}.
    update_norms: {layer: norm of their change since `StepProbe.remember`}, empty if that was not called before.
    """

    gradient_norm: float
    clipped: int
    updates: int
    bias_gradients: dict[str, np.ndarray]
    weight_norms: dict[str, float]
    update_norms: dict[str, float]


class StepProbe:
    """Reads a GradientProbe, and measures how far the weights move. Built into the default graph.

    It holds a copy of the weights, in variables that no checkpoint holds; the session must initialize local variables.
    """

    def __init__(self, trained: Sequence[tf.Variable], gradients: GradientProbe) -> None:
        weights = [v for v in trained if v.op.name.endswith(tuple(f"/{name}" for name in NORMED))]
        self._layers = [_layer(v) for v in weights]
        self._gradients = gradients
        self._remembers = False
        with tf.name_scope("probe"), devices.left_to_tensorflow():
            copies = [local_variable(v.shape, "before") for v in weights]
            self._remember = tf.group(
                *(copy.assign(v.read_value(), read_value=False) for copy, v in zip(copies, weights, strict=True))
            )
            now, before = ([v.read_value() for v in variables] for variables in (weights, copies))
            self._norms = _norms(now)
            self._moved = _norms([a - b for a, b in zip(now, before, strict=True)])
            self._noted = [gradients.norm.read_value(), gradients.counts.read_value()]
            self._noted.append(gradients.bias_gradients.read_value())
            self._reset = gradients.counts.assign(tf.zeros([2]), read_value=False)

    def remember(self, session: tf.Session) -> None:
        """Copy the weights; call it before the step whose update is to be measured."""
        session.run(self._remember)
        self._remembers = True

    def count(self, session: tf.Session) -> tuple[int, int]:
        """(clipped, updates) as the next `read` gives them."""
        clipped, updates = session.run(self._gradients.counts)
        return int(clipped), int(updates)

    def read(self, session: tf.Session) -> Reading:
        """The Reading of the last update; begins to count clipped updates anew."""
        (norm, (clipped, updates), gradients), norms, moved = session.run([self._noted, self._norms, self._moved])
        session.run(self._reset)
        noted = self._gradients
        ends = np.cumsum(noted.sizes, dtype=int)
        reading = Reading(
            float(norm),
            int(clipped),
            int(updates),
            {layer: gradients[end - n : end] for layer, n, end in zip(noted.biases, noted.sizes, ends, strict=True)},
            dict(zip(self._layers, norms.tolist(), strict=True)),
            dict(zip(self._layers, moved.tolist(), strict=True)) if self._remembers else {},
        )
        self._remembers = False
        return reading


def _layer(variable):
    return variable.op.name.split("/")[0]


def _norms(tensors):
    return tf.stack([tf.norm(tensor) for tensor in tensors]) if tensors else tf.zeros([0])


def local_variable(shape: Sequence[int], name: str) -> tf.Variable:
    """A float32 variable of zeros that no checkpoint holds."""
    local = [tf.GraphKeys.LOCAL_VARIABLES]
    return tf.Variable(tf.zeros(shape), trainable=False, collections=local, name=name, use_resource=True)
