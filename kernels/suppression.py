"""Non-maximum suppression in plain tensor operations: they run on a GPU and compile (XLA), TensorFlow's own does not.

`tf.image.combined_non_max_suppression` has a CPU kernel only: a GPU that has found the boxes waits for it.
"""

import tensorflow.compat.v1 as tf

# Bytes of the largest tensors of `suppress`, of which two are there at once. 80 classes with 400 candidates each have
# 102 MB; imported detectors that compare all anchors with each other have up to 97 GB
MOST_OF_A_PICTURE = 2**28


def fits(classes: int, candidates: int) -> bool:
    """Whether `suppress` leaves room on a GPU: for some classes with so many candidates each, K below."""
    return 4 * 2 * classes * candidates**2 <= MOST_OF_A_PICTURE


def suppress(
    boxes: tf.Tensor, scores: tf.Tensor, *, iou_threshold: float, score_threshold: float, keep: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Suppress boxes of each class, then keep the best of all classes: the rows of combined_non_max_suppression.

    boxes: float32 [N,classes,K,4] (xmin, ymin, xmax, ymax); scores: float32 [N,classes,K], falling along K.
    iou_threshold: a box goes if its IoU with a better one that stays is above.
    score_threshold: a box goes if its score is not above.
    keep: how many rows the result has.
    -> boxes float32 [N,keep,4], scores float32 [N,keep] (falling), classes int32 [N,keep], count int32 [N]: how many
    rows are detections; the other rows are 0.
    """
    with tf.name_scope("suppression"):
        alive = scores > score_threshold
        survives = _survivors(_overlaps(boxes, iou_threshold), alive)
        return _best(boxes, tf.where(survives, scores, -tf.ones_like(scores)), keep)


def suppress_on_cpu(
    boxes: tf.Tensor, scores: tf.Tensor, *, iou_threshold: float, score_threshold: float, keep: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """`suppress` by TensorFlow's own operation, which is faster on a CPU and the only place where y comes first."""
    kept = tf.image.combined_non_max_suppression(
        tf.transpose(tf.gather(boxes, [1, 0, 3, 2], axis=-1), [0, 2, 1, 3]),  # [N,K,classes,4]
        tf.transpose(scores, [0, 2, 1]),  # [N,K,classes]
        max_output_size_per_class=scores.shape[2],
        max_total_size=keep,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
        clip_boxes=False,
    )
    boxes = tf.gather(kept.nmsed_boxes, [1, 0, 3, 2], axis=-1)
    return boxes, kept.nmsed_scores, tf.cast(kept.nmsed_classes, tf.int32), kept.valid_detections


def _overlaps(boxes, iou_threshold):
    """bool [N,classes,K,K]: whether the IoU of two boxes [N,classes,K,4] is above the threshold."""
    low, high = boxes[..., :2], boxes[..., 2:]
    size = tf.maximum(high - low, 0.0)
    area = size[..., 0] * size[..., 1]  # [N,classes,K]
    shared = tf.maximum(
        tf.minimum(high[..., :, None, :], high[..., None, :, :])
        - tf.maximum(low[..., :, None, :], low[..., None, :, :]),
        0.0,
    )
    shared = shared[..., 0] * shared[..., 1]  # [N,classes,K,K]
    return tf.math.divide_no_nan(shared, area[..., :, None] + area[..., None, :] - shared) > iou_threshold


def _survivors(overlaps, alive):
    """bool [N,classes,K]: what the sequential rule leaves, found by iteration to its fixed point.

    The rule: from the best box on, a box stays unless it overlaps a better one that stays. Here all boxes are judged at
    once, by what the round before left. The best box is right after one round, and a box is right one round after all
    better ones are; so the rounds end at the rule's result, after as many as the longest chain of boxes that decide
    each other has links, which are few.
    """
    count = alive.shape[-1]
    ranks = tf.range(count, dtype=tf.float32)  # a GPU leaves comparisons of int32 to the host
    better = ranks[:, None] < ranks[None, :]  # [K,K]: of the row's box over the column's
    # Of 16 bits, as sums of at most a few hundred ones are only compared with 0
    decides = tf.cast(overlaps & better & alive[..., :, None], tf.float16)

    def judge(stays):
        against = tf.linalg.matvec(decides, tf.cast(stays, tf.float16), transpose_a=True)
        return alive & tf.equal(against, 0)

    def goes_on(stays, before):
        return tf.reduce_any(tf.not_equal(stays, before))

    first = judge(alive)
    # Without a bound on the rounds, which the host would count; a round after the last would change nothing
    stays, _ = tf.while_loop(goes_on, lambda stays, _: (judge(stays), stays), (first, alive), back_prop=False)
    return stays


def _best(boxes, scores, keep):
    """The rows of `suppress`, best first. scores: float32 [N,classes,K], below 0 for boxes that went."""
    _, classes, candidates = scores.shape
    missing = max(0, keep - classes * candidates)
    flat = tf.pad(tf.reshape(scores, [-1, classes * candidates]), [[0, 0], [0, missing]], constant_values=-1.0)
    flat_boxes = tf.pad(tf.reshape(boxes, [-1, classes * candidates, 4]), [[0, 0], [0, missing], [0, 0]])
    best, rows = tf.math.top_k(flat, keep)
    is_there = best > 0
    picked = tf.gather(flat_boxes, rows, batch_dims=1)  # [N,keep,4]
    # A GPU leaves divisions and sums of int32 to the host
    classes_of = tf.cast(tf.cast(rows, tf.int64) // candidates, tf.int32)
    return (
        picked * tf.cast(is_there, tf.float32)[..., None],
        tf.where(is_there, best, tf.zeros_like(best)),
        tf.where(is_there, classes_of, tf.zeros_like(rows)),
        tf.cast(tf.reduce_sum(tf.cast(is_there, tf.float32), axis=1), tf.int32),
    )
