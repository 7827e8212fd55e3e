"""The loss on validation pictures, from what the network says of them while they are scored."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

import config
import losses
import sources
import ssd_utils
from settings.training_settings import TrainingSettings
from structures import Sample
from system import stages
from training import optimization

THREADS = 2  # that compute the loss of a batch each
TINIEST = float(np.finfo(np.float32).tiny)  # whose logarithm is taken of less: TensorFlow takes that for 0


class ValidationLoss:
    """The multibox loss of predictions, a small graph of its own beside the network's in the default graph.

    settings: those of the training, which decide what is matched and which objects count; class_weights: as in
    `losses.multibox_loss`.

    batch_size: pictures whose loss is computed at once.
    """

    def __init__(
        self,
        description: config.ModelDescription,
        settings: TrainingSettings,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        preset, columns = description.preset, 1 + len(description.class_names)
        self.batch_size = settings.batch_size
        self._settings, self._variances = settings, preset.variances
        self._anchors = ssd_utils.make_anchors(preset)
        self._anchor_columns = ssd_utils.anchor_columns(self._anchors)
        with tf.name_scope("validation_loss"):
            self._inputs = (
                tf.placeholder(tf.float32, [None, preset.num_anchors, columns + 4]),
                tf.placeholder(tf.int32, [None, preset.num_anchors]),
                tf.placeholder(tf.float32, [None, preset.num_anchors, 4]),
            )
            predictions, *targets = self._inputs
            probabilities, offsets = tf.split(predictions, [columns, 4], axis=2)
            self._parts = losses.multibox_loss(
                tf.log(tf.maximum(probabilities, TINIEST)),  # the softmax of which is the probabilities
                offsets,
                *targets,
                negative_ratio=settings.negative_ratio,
                class_weights=class_weights,
                normalize=settings.normalize,
            )

    def begin(self, session: tf.Session, samples: Sequence[Sample]) -> "LossOfSamples":
        """What adds up the loss of some samples, with the objects that a training would use."""
        used = list(samples)
        if self._settings.difficult == "ignore":
            used = sources.without_difficult(used)
        return LossOfSamples(self, session, sources.without_crowds(used))

    def targets(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """(class_targets, offset_targets) of `ssd_utils.encode_targets` for a picture that is only resized."""
        bipartite = self._settings.matching == "bipartite"
        matches = ssd_utils.match_columns(self._anchor_columns, sample.boxes, bipartite=bipartite)
        return ssd_utils.encode_targets(self._anchors, sample.boxes, sample.labels, matches, self._variances)

    def sums(self, session: tf.Session, pictures: Sequence[tuple[np.ndarray, ...]]) -> dict[str, float]:
        """The sums of `losses.multibox_loss` over pictures, each (predictions, class_targets, offset_targets)."""
        arrays = map(np.stack, zip(*pictures, strict=True))
        found = session.run(self._parts, dict(zip(self._inputs, arrays, strict=True)))
        return {name: float(value) for name, value in found.items()}


class LossOfSamples:
    """Adds up the loss picture by picture, in threads; made by `ValidationLoss.begin`. Use it in a `with` block."""

    def __init__(self, loss: ValidationLoss, session: tf.Session, samples: Sequence[Sample]) -> None:
        self._loss, self._session, self._samples = loss, session, samples
        self._waiting: list[tuple[int, np.ndarray]] = []
        self._sums = dict.fromkeys(("confidence", "localization", "positives"), 0.0)
        # Matching alone takes longer than a GPU takes for the picture
        self._threads = stages.Background(self._add_sums, threads=THREADS, ahead=THREADS)

    def __enter__(self) -> "LossOfSamples":
        self._threads.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._threads.__exit__(*error)

    def add(self, index: int, predictions: np.ndarray) -> None:
        """Add a picture. index: of its sample; predictions: float32 [A,1+classes+4] of a detector.ReadImage."""
        self._waiting.append((index, predictions))
        if len(self._waiting) == self._loss.batch_size:
            self._run()

    def _run(self):
        group, self._waiting = self._waiting, []
        if group:
            self._threads.run(self._sums_of, group)

    def _sums_of(self, group):
        pictures = [(predictions, *self._loss.targets(self._samples[index])) for index, predictions in group]
        return self._loss.sums(self._session, pictures)

    def _add_sums(self, sums):
        for name, value in sums.items():
            self._sums[name] += value

    def _finish(self):
        self._run()
        self._threads.finish()

    def add_up(self, total: Callable[[dict[str, float]], dict[str, float]]) -> None:
        """Replace the sums so far by those of several processes, which `total` makes of them."""
        self._finish()
        self._sums = total(self._sums)

    def means(self) -> dict[str, float]:
        """'confidence', 'localization' and 'loss' of all pictures, as `optimization.mean_losses`."""
        self._finish()
        return optimization.mean_losses(self._sums)
