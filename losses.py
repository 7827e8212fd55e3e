"""The multibox loss as a pure function of tensors (arXiv 1512.02325, section 2.2; Caffe's MultiBoxLoss)."""

import contextlib
from collections.abc import Sequence

import tensorflow.compat.v1 as tf


def multibox_loss(
    logits: tf.Tensor,
    offsets: tf.Tensor,
    class_targets: tf.Tensor,
    offset_targets: tf.Tensor,
    negative_ratio: int = 3,
    class_weights: Sequence[float] | None = None,
) -> dict[str, tf.Tensor]:
    """Sums over the batch, not yet divided by the number of positives.

    logits: float32 [N,A,1+classes], background first; offsets: float32 [N,A,4]; class_targets: int32 [N,A],
    label + 1 or 0 for background; offset_targets: float32 [N,A,4], used where class_targets > 0.
    class_weights: a factor for each class by label, on the confidence loss of its positives; None for 1.
    Returns scalars: `confidence` (softmax cross-entropy of positives and hard negatives), `localization`
    (Smooth L1 over positives), `positives` (their number, float32). Dividing by the positives of the whole
    effective batch is the caller's, so that accumulated and distributed batches give the same gradient.
    """
    positive = class_targets > 0
    with tf.name_scope("confidence"):
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=class_targets, logits=logits)
        weighted = cross_entropy
        if class_weights is not None:
            factors = tf.constant([1.0, *class_weights], tf.float32)  # background's is never used
            weighted = cross_entropy * tf.gather(factors, class_targets)
        confidence = tf.reduce_sum(tf.where(positive, weighted, tf.zeros_like(cross_entropy)))
        confidence += _hard_negatives(cross_entropy, positive, negative_ratio)
    with tf.name_scope("localization"):
        localization = tf.reduce_sum(
            tf.where(positive, smooth_l1(offsets - offset_targets), tf.zeros_like(cross_entropy))
        )
    return {
        "confidence": confidence,
        "localization": localization,
        "positives": tf.reduce_sum(tf.cast(positive, tf.float32)),
    }


def smooth_l1(differences: tf.Tensor) -> tf.Tensor:
    """Smooth L1 summed over the four coordinates, [...,4] -> [...]."""
    size = tf.abs(differences)
    return tf.reduce_sum(tf.where(size < 1, 0.5 * tf.square(differences), size - 0.5), axis=-1)


def _hard_negatives(cross_entropy, positive, negative_ratio):
    """Sum of the highest losses among each image's negatives, negative_ratio for each positive of it.

    An image without positives contributes none. Equal losses go by anchor index.
    """
    with tf.name_scope("hard_negatives"):
        hardest = _hardest(tf.stop_gradient(cross_entropy), positive, negative_ratio)
        return tf.reduce_sum(tf.where(hardest, cross_entropy, tf.zeros_like(cross_entropy)))


def _hardest(losses, positive, negative_ratio):
    """bool [N,A]: the negatives that count.

    XLA, on a GPU, would compile anew for each number of them, and with it all that it has joined, the whole network:
    it is kept out, and nothing that it sees has a size that changes.
    """
    # Its scope is for graphs alone, and would refuse tensors that have values already
    outside = contextlib.nullcontext() if tf.executing_eagerly() else tf.xla.experimental.jit_scope(compile_ops=False)
    with outside:
        # Losses are >= 0, so a positive sorts behind every negative
        candidates = tf.where(positive, -tf.ones_like(losses), losses)
        positives = tf.reduce_sum(tf.cast(positive, tf.int32), axis=1)
        negatives = tf.shape(positive)[1] - positives
        wanted = tf.minimum(negative_ratio * positives, negatives)  # [N]
        _, anchors = tf.math.top_k(candidates, tf.reduce_max(wanted))  # [N, most wanted]
        chosen = tf.sequence_mask(wanted, tf.shape(anchors)[1], tf.float32)
        images = tf.broadcast_to(tf.range(tf.shape(anchors)[0])[:, None], tf.shape(anchors))
        return tf.scatter_nd(tf.stack([images, anchors], axis=-1), chosen, tf.shape(losses)) > 0
