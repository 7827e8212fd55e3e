"""The loss on validation pictures, from what the network says of them while they are scored."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

import config
import losses
import sources
import ssd_utils
import training_data
from structures import Sample
from training import optimization

TINIEST = 1e-38  # a probability of 0 in float32 has no logarithm


class ValidationLoss:
    """The multibox loss of predictions, a small graph of its own beside the network's in the default graph.

    settings: those of the training, which decide what is matched and which objects count; class_weights: as in
    `losses.multibox_loss`.
    """

    def __init__(
        self,
        description: config.ModelDescription,
        settings: config.TrainingSettings,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        anchors, columns = description.preset.num_anchors, 1 + len(description.class_names)
        self._preset = description.preset
        self._settings = dataclasses.replace(settings, augmentation="none", unmatched="keep")  # validation only resizes
        with tf.name_scope("validation_loss"):
            self._inputs = {
                "predictions": tf.placeholder(tf.float32, [None, anchors, columns + 4]),
                "class_targets": tf.placeholder(tf.int32, [None, anchors]),
                "offset_targets": tf.placeholder(tf.float32, [None, anchors, 4]),
            }
            probabilities, offsets = tf.split(self._inputs["predictions"], [columns, 4], axis=2)
            self._parts = losses.multibox_loss(
                tf.log(tf.maximum(probabilities, TINIEST)),  # the softmax of which is the probabilities
                offsets,
                self._inputs["class_targets"],
                self._inputs["offset_targets"],
                settings.negative_ratio,
                class_weights,
                normalize=settings.normalize,
            )

    def begin(self, session: tf.Session, samples: Sequence[Sample]) -> "LossOfSamples":
        """What adds up the loss of some samples, with the objects that a training would use."""
        used = list(samples)
        if self._settings.difficult == "ignore":
            used = sources.without_difficult(used)
        item = training_data.make_item(sources.without_crowds(used), self._preset, self._settings)
        return LossOfSamples(session, item, self._inputs, self._parts, self._settings.batch_size)


class LossOfSamples:
    """Adds up the loss picture by picture; made by `ValidationLoss.begin`."""

    def __init__(
        self,
        session: tf.Session,
        item: training_data.MakeTrainingItem,
        inputs: Mapping[str, tf.Tensor],
        parts: Mapping[str, tf.Tensor],
        batch_size: int,
    ) -> None:
        self._session, self._item, self._inputs, self._parts = session, item, inputs, parts
        self._batch_size = batch_size
        self._waiting: list[tuple[np.ndarray, ...]] = []
        self._sums = dict.fromkeys(parts, 0.0)

    def add(self, index: int, predictions: np.ndarray) -> None:
        """Add a picture. index: of its sample; predictions: float32 [A,1+classes+4] of a detector.ReadImage."""
        plan, matches = self._item.plan((0, index))
        variances = self._item.preset.variances
        targets = ssd_utils.encode_targets(self._item.anchors, plan.boxes, plan.labels, matches, variances)
        self._waiting.append((predictions, *targets))
        if len(self._waiting) == self._batch_size:
            self._run()

    def _run(self):
        arrays = map(np.stack, zip(*self._waiting, strict=True))
        found = self._session.run(self._parts, dict(zip(self._inputs.values(), arrays, strict=True)))
        self._waiting = []
        for name, value in found.items():
            self._sums[name] += float(value)

    def means(self) -> dict[str, float]:
        """'confidence', 'localization' and 'loss' of all pictures, as `optimization.mean_losses`."""
        if self._waiting:
            self._run()
        return optimization.mean_losses(self._sums)
