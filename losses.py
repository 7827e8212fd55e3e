"""The multibox loss as a pure function of tensors (arXiv 1512.02325, section 2.2; Caffe's MultiBoxLoss)."""

import system.quiet_tensorflow  # noqa: F401

import math
from collections.abc import Sequence

import tensorflow.compat.v1 as tf


def multibox_loss(
    logits: tf.Tensor,
    offsets: tf.Tensor,
    class_targets: tf.Tensor,
    offset_targets: tf.Tensor,
    negative_ratio: int = 3,
    class_weights: Sequence[float] | None = None,
    fixed_shapes: bool = False,
    normalize: str = "batch",
) -> dict[str, tf.Tensor]:
    """The loss terms as sums over the batch, not divided by the number of positives.

    logits: float32 [N,A,1+classes], background first; offsets: float32 [N,A,4]; class_targets: int32 [N,A], label + 1,
    or 0 for background; offset_targets: float32 [N,A,4], used where class_targets > 0.
    negative_ratio: hard negatives per positive of an image.
    class_weights: by label, a factor on the confidence loss of the positives of each class; None for 1.
    fixed_shapes: whether no tensor has a size that depends on the values of others, for a compiler (XLA).
    normalize: "batch", or "image": the terms of each image are divided by its positives, so that each image counts
    alike, and `positives` is the number of images that have any. The article's code, which does the first too, then
    takes the mean over all images of a batch; here those that only fill a batch up must not count.
    Returns scalars: `confidence` (softmax cross-entropy of positives and hard negatives), `localization` (Smooth L1
    over positives), `positives` (their number, float32). The caller divides by the positives of the whole effective
    batch, so that accumulated and distributed batches give the same gradient.
    """
    positive = class_targets > 0
    with tf.name_scope("confidence"):
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=class_targets, logits=logits)
        weighted = cross_entropy
        if class_weights is not None:
            factors = tf.constant([1.0, *class_weights], tf.float32)  # background's is never used
            weighted = cross_entropy * tf.gather(factors, class_targets)
        hardest = _hard_negatives(cross_entropy, positive, negative_ratio, fixed_shapes)
        confidence = tf.where(positive, weighted, tf.zeros_like(cross_entropy)) + hardest
    with tf.name_scope("localization"):
        localization = tf.where(positive, smooth_l1(offsets - offset_targets), tf.zeros_like(cross_entropy))
    count = tf.cast(positive, tf.float32)
    if normalize == "image":
        positives = tf.reduce_sum(count, axis=1, keepdims=True)  # [N,1]
        confidence, localization = (term / tf.maximum(positives, 1.0) for term in (confidence, localization))
        count = tf.minimum(positives, 1.0)
    return {
        "confidence": tf.reduce_sum(confidence),
        "localization": tf.reduce_sum(localization),
        "positives": tf.reduce_sum(count),
    }


def smooth_l1(differences: tf.Tensor) -> tf.Tensor:
    """Smooth L1 of differences [...,4], summed over the four coordinates -> [...] (arXiv 1504.08083, equation 3)."""
    size = tf.abs(differences)
    return tf.reduce_sum(tf.where(size < 1, 0.5 * tf.square(differences), size - 0.5), axis=-1)


def _hard_negatives(cross_entropy, positive, negative_ratio, fixed_shapes):
    """[N,A]: each image's highest losses of negatives, negative_ratio of them per positive of the image; others are 0.

    An image without positives adds none. Of equal losses the lower anchor index goes first.
    """
    with tf.name_scope("hard_negatives"):
        hardest = _hardest(tf.stop_gradient(cross_entropy), positive, negative_ratio, fixed_shapes)
        return tf.where(hardest, cross_entropy, tf.zeros_like(cross_entropy))


def _hardest(losses, positive, negative_ratio, fixed_shapes):
    """bool [N,A]: the hard negatives, those above the lowest loss that is wanted and of its equals the first."""
    # Losses are >= 0, so positives sort behind all negatives. What is not a number must be chosen, to be noticed
    losses = tf.where(tf.is_nan(losses), tf.fill(tf.shape(losses), math.inf), losses)
    candidates = tf.where(positive, -tf.ones_like(losses), losses)
    # Counts are floats, which are exact up to 2^24: a GPU leaves comparisons and sums of int32 to the host
    positives = tf.reduce_sum(tf.cast(positive, tf.float32), axis=1)
    negatives = tf.cast(tf.shape(positive)[1], tf.float32) - positives
    wanted = tf.minimum(negative_ratio * positives, negatives)  # [N]
    last = tf.cast(tf.maximum(wanted - 1, 0), tf.int32)
    # A CPU sorts only as many as this batch wants; XLA would compile anew for each number
    most = tf.shape(positive)[1] if fixed_shapes else tf.reduce_max(last) + 1
    falling, _ = tf.math.top_k(candidates, most)
    lowest = tf.gather(falling, last, batch_dims=1)[:, None]  # [N,1]
    above, equal = candidates > lowest, tf.equal(candidates, lowest)  # none of them where none is wanted
    room = wanted - tf.reduce_sum(tf.cast(above, tf.float32), axis=1)
    return above | (equal & (tf.cumsum(tf.cast(equal, tf.float32), axis=1) <= room[:, None]))
