"""The graph of a training, its session, and a detector of the weights in training."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

import config
import detector
import ssd_vgg
from distribution import collective
from kernels import devices
from settings.training_settings import TrainingSettings
from training import optimization, valid_loss


@dataclasses.dataclass(frozen=True)
class TrainingGraph:
    """The session of a training and what runs in it.

    session: of the graph; whoever built it closes it.
    training_step: the TrainingStep, which changes the weights.
    detector: a Detector with the weights, or with their moving averages under --ema; it keeps predictions.
    valid_loss: the loss of its predictions.
    """

    session: tf.Session
    training_step: optimization.TrainingStep
    detector: detector.Detector
    valid_loss: valid_loss.ValidationLoss

    def initialize(self, first_values: Mapping[str, np.ndarray]) -> None:
        """Give every variable its first value. first_values: arrays by variable name, in place of random values."""
        with self.session.graph.as_default():
            self.session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            set_values(self.session, tf.trainable_variables(), first_values)
        self.training_step.start_averages(self.session)

    def filters(self) -> dict[str, np.ndarray]:
        """{variable name: float32 array} of the trained weights, without biases and scales."""
        variables = [v for v in self.training_step.trained if v.op.name.endswith("/weights")]
        return {v.op.name: value for v, value in zip(variables, self.session.run(variables), strict=True)}


def set_values(session: tf.Session, variables: Iterable[tf.Variable], values: Mapping[str, np.ndarray]) -> None:
    """Set the variables that `values`, arrays by variable name, names."""
    initializers = [(v.initializer, values[v.op.name]) for v in variables if v.op.name in values]
    # One run for all: TensorFlow prepares each new set of operations for several milliseconds
    session.run([op for op, _ in initializers], {op.inputs[1]: value for op, value in initializers})


def build(
    description: config.ModelDescription,
    settings: TrainingSettings,
    dtype: tf.DType,
    class_weights: Sequence[float] | None = None,
    xla: str = "off",
    ranks: collective.Ranks | None = None,
) -> TrainingGraph:
    """Build a TrainingGraph into the default graph; its variables have no values yet.

    dtype: of the computation; class_weights: as in `losses.multibox_loss`; xla: one of XLA_FORMS, what XLA
    compiles of a training step, it compiles nothing else; ranks: the processes that train together, None for one alone.
    """
    tf.set_random_seed(settings.seed)
    # A GPU chooses its algorithms anew, and XLA compiles anew, for each number of images
    fixed_shapes = xla in ("on", "whole") or devices.has_gpu()
    training_step = optimization.TrainingStep(
        description, settings, dtype, class_weights, fixed_shapes, feed_ahead=devices.has_gpu(), xla=xla, ranks=ranks
    )
    preset = description.preset
    with devices.left_to_tensorflow():
        logits, offsets = _evaluated(training_step, description, settings, dtype)
        detections = detector.postprocess(logits, offsets, preset, preset.score_threshold)
        loss_of_predictions = valid_loss.ValidationLoss(description, settings, class_weights)
    variables = [*tf.global_variables(), *tf.local_variables()]
    devices.leave_to_tensorflow([training_step.first_averages, *(v.initializer for v in variables)])
    setup = session_config(settings, ranks is not None, xla)
    session = tf.Session(ranks.target, config=ranks.prepare(setup)) if ranks else tf.Session(config=setup)
    validated = detector.Detector(
        detector.GraphNetwork(session, training_step.images, detections, owns_session=False),
        description,
        precision=dtype.name,
        threshold=preset.score_threshold,
        batch_size=settings.batch_size,
        keep_predictions=True,
    )
    return TrainingGraph(session, training_step, validated, loss_of_predictions)


def session_config(settings: TrainingSettings, together: bool, xla: str = "off") -> tf.ConfigProto:
    """Settings of a training's session and of the server of a rank, whose threads its session uses.

    together: whether several processes train; xla: as of `build`.
    """
    return devices.session_config(compile=xla == "on", exchange_beside=together and settings.bucket_mb is not None)


def _evaluated(training_step, description, settings, dtype):
    """(logits, offsets) to score: those of the step; with --ema, of a second network whose weights are the averages."""
    if settings.ema is None:
        return training_step.logits, training_step.offsets
    with tf.name_scope("averaged"):
        return ssd_vgg.build(
            training_step.images,
            description.preset,
            len(description.class_names),
            compute_dtype=dtype,
            averages=training_step.averages,
        )
