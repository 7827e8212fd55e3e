"""The training step as a whole, and with a stage left out: the difference is what the stage costs."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import bench_ours
import tensorflow.compat.v1 as tf

from kernels import devices
from settings.training_settings import TrainingSettings
from training import optimization

RATE = 1e-5  # low enough for thousands of steps on noise


@dataclasses.dataclass(frozen=True)
class Training:
    """A training step that can run.

    step: optimization.TrainingStep
    session: of its graph, initialized
    initializer: the operation that gave the variables their values
    fed: {array name: array}, one batch of noise
    run: does the step once and returns the number of images
    """

    step: optimization.TrainingStep
    session: tf.Session
    initializer: tf.Operation
    fed: dict
    run: Callable[[], int]


@contextlib.contextmanager
def training(precision, batch, width, *, compile=False, options=None, changes=None):
    """Context manager: a Training of all layers of SSD300 with random weights.

    compile: as of devices.session_config; options: more arguments of TrainingStep; changes: of TrainingSettings.
    """
    description = bench_ours.describe(width=width)
    settings = TrainingSettings(data="", train="", batch_size=batch, **(changes or {}))
    fed = {k: bench_ours.aligned(v) for k, v in bench_ours.training_batch(description.preset, batch).items()}
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(0)
        dtype = devices.compute_dtype(precision)
        step = optimization.TrainingStep(description, settings, dtype, fixed_shapes=True, **(options or {}))
        initializer = tf.group(tf.global_variables_initializer(), tf.local_variables_initializer())
    # Several are open at once and close in any order, so neither graph nor session is the default one
    with contextlib.closing(tf.Session(graph=graph, config=devices.session_config(compile))) as session:
        session.run(initializer)

        def run():
            _require_finite(step.run(session, fed, RATE, following=fed if step.feeds_ahead else None))
            return batch

        yield Training(step, session, initializer, fed, run)


def _require_finite(sums):
    if not all(map(math.isfinite, sums.values())):
        raise RuntimeError(f"the loss is not finite: {sums}")


class _Recorder:
    """Takes a session's place in `TrainingStep.run`, to see what it fetches and feeds."""

    fetches: Any
    feeds: dict

    def run(self, fetches, feeds):
        self.fetches, self.feeds = fetches, feeds
        return {}, None


def recorded(opened):
    """A Training -> (what its step fetches, what it feeds)."""
    recorder = _Recorder()
    opened.step.run(recorder, opened.fed, RATE)
    return recorder.fetches, recorder.feeds


def fetches(step, batch, last):
    """What a run of a TrainingStep with a batch fetches. last: whether the batch is the last before an update."""
    recorder = _Recorder()
    step.run(recorder, batch, RATE, last=last)
    return recorder.fetches


@contextlib.contextmanager
def stage(precision, batch, width, part):
    """The training step without something. part: a key of PARTS."""
    make, changes = PARTS[part]
    with training(precision, batch, width, changes=changes) as opened, make(opened) as run:

        def counted():
            run()
            return batch

        yield {}, counted


@contextlib.contextmanager
def _whole(opened):
    yield opened.run


@contextlib.contextmanager
def _forward(opened):
    """The losses only."""
    _, feeds = recorded(opened)
    yield lambda: opened.session.run(opened.step.losses, feeds)


@contextlib.contextmanager
def _backward(opened):
    """Losses and gradients. The gradients' norm is fetched: TensorFlow drops what nobody reads."""
    _, feeds = recorded(opened)
    with opened.session.graph.as_default():
        norm = tf.global_norm(_gradients(opened.step))
    yield lambda: opened.session.run([opened.step.losses, norm], feeds)


@contextlib.contextmanager
def _descent(opened):
    """Losses, gradients, clipping, and plain gradient descent instead of Adam."""
    _, feeds = recorded(opened)
    step = opened.step
    with opened.session.graph.as_default():
        scale = 1.0 / tf.maximum(step.losses["positives"], 1.0)
        clip_norm = TrainingSettings.clip_norm
        clipped, _ = tf.clip_by_global_norm([g * scale for g in _gradients(step)], clip_norm)
        optimizer = tf.train.GradientDescentOptimizer(step.learning_rate)
        update = optimizer.apply_gradients(zip(clipped, step.trained, strict=True))
    yield lambda: opened.session.run([step.losses, update], feeds)


def _gradients(step):
    return tf.gradients(step.losses["confidence"] + step.losses["localization"], step.trained)


@contextlib.contextmanager
def _held(opened):
    """The whole step on a batch that lies in variables, on the card if there is one, so that nothing is fed."""
    (losses, update), feeds = recorded(opened)
    definition = opened.session.graph.as_graph_def()
    with tf.Graph().as_default() as graph:
        inputs, rate = {}, {}
        for placeholder, value in feeds.items():
            if placeholder.shape.rank == 0:
                rate[placeholder.name] = value
            else:
                inputs[placeholder.name] = _in_variable(value)
        tf.import_graph_def(definition, input_map=inputs, name="")
        held = tf.global_variables_initializer()
    fetches = [*(graph.get_tensor_by_name(loss.name) for loss in losses.values())]
    fetches.append(graph.get_operation_by_name(update.name))
    with contextlib.closing(tf.Session(graph=graph, config=devices.session_config())) as session:
        session.run([graph.get_operation_by_name(opened.initializer.name), held])
        yield lambda: session.run(fetches, rate)


def _in_variable(array):
    """A tensor that reads an array from a variable. int32 variables would lie in host memory, so they are float32."""
    kept = array.astype("float32") if array.dtype == "int32" else array
    variable = tf.Variable(kept, trainable=False, use_resource=True, name="held")
    return tf.cast(variable.read_value(), array.dtype)


# By the names of gpu_plan.PARTS: (the context manager that yields what to run, changed settings)
PARTS = {
    "whole": (_whole, None),
    "no-feeding": (_held, None),
    "no-clipping": (_whole, {"clip_norm": 0.0}),
    "no-adam": (_descent, None),
    "backward": (_backward, None),
    "forward": (_forward, None),
}
