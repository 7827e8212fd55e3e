"""Suppression in tensor operations against TensorFlow's own and against the sequential rule in NumPy."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import boxes as box_geometry
from kernels import suppression

IOU, SCORE = 0.45, 0.01


@pytest.fixture(scope="module")
def both():
    """A callable: boxes [N,classes,K,4], scores [N,classes,K] -> (the rows of ours, the rows of TensorFlow's)."""
    with tf.Graph().as_default(), tf.Session() as session:

        def run(boxes, scores, keep=200, iou=IOU):
            settings = {"iou_threshold": iou, "score_threshold": SCORE}
            ours = suppression.suppress(tf.constant(boxes), tf.constant(scores), keep=keep, **settings)
            theirs = suppression.suppress_on_cpu(tf.constant(boxes), tf.constant(scores), keep=keep, **settings)
            return session.run((ours, theirs))

        yield run


def case(seed, spread, images=3, classes=4, candidates=150):
    """Random boxes of falling scores; the smaller the spread, the more they overlap."""
    rng = np.random.default_rng(seed)
    shape = (images, classes, candidates, 2)
    center = 0.5 + spread * (rng.random(shape) - 0.5)
    size = 0.02 + 0.3 * max(spread, 0.1) * rng.random(shape)
    scores = -np.sort(-(rng.random(shape[:3]) ** 4), axis=-1)
    return np.concatenate([center - size / 2, center + size / 2], -1).astype(np.float32), scores.astype(np.float32)


def assert_same(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("spread", [1.0, 0.3, 0.1, 0.02])  # the last: all boxes of a class overlap most others
@pytest.mark.parametrize("seed", [0, 1])
def test_same_rows_as_tensorflow(both, seed, spread):
    ours, theirs = both(*case(seed, spread))
    assert_same(ours, theirs)
    assert (ours[3] > 0).all()


def test_nothing_and_little_to_keep(both):
    boxes, scores = case(2, 0.5)
    scores[0] = 0  # an image without candidates
    scores[1, :, 3:] = 0
    ours, theirs = both(boxes, scores)
    assert_same(ours, theirs)
    assert ours[3][0] == 0 and ours[3][1] <= 12


def test_more_rows_than_candidates(both):
    ours, theirs = both(*case(3, 0.5, classes=1, candidates=20), keep=50)
    assert_same(ours, theirs)


def test_a_long_chain_of_boxes_that_decide_each_other(both):
    """Each box overlaps only the next: the first, third, … stay, which takes a round for each link."""
    left = 0.3 * np.arange(60, dtype=np.float32)
    boxes = np.stack([left, np.zeros(60), left + 1, np.ones(60)], -1).astype(np.float32)[None, None]
    scores = np.linspace(1, 0.5, 60, dtype=np.float32)[None, None]
    ours, theirs = both(boxes, scores)
    assert_same(ours, theirs)
    kept = box_geometry.nms(boxes[0, 0], scores[0, 0], IOU)
    np.testing.assert_array_equal(ours[1][0][: ours[3][0]], scores[0, 0][kept])
    assert ours[3][0] == 30


def test_a_box_that_no_longer_stays_suppresses_nothing(both):
    """B goes because of A, so C stays although it overlaps B."""
    boxes = np.array([[0, 0, 1, 1], [0.3, 0, 1.3, 1], [0.6, 0, 1.6, 1]], np.float32)[None, None]
    ours, theirs = both(boxes, np.array([[[0.9, 0.8, 0.7]]], np.float32))
    assert_same(ours, theirs)
    np.testing.assert_allclose(ours[1][0][: ours[3][0]], [0.9, 0.7])


def test_a_score_of_exactly_the_threshold_is_not_above_it(both):
    boxes = np.array([[0, 0, 1, 1], [2, 0, 3, 1]], np.float32)[None, None]
    ours, theirs = both(boxes, np.array([[[0.5, SCORE]]], np.float32))
    assert_same(ours, theirs)
    assert ours[3].tolist() == [1]


@pytest.mark.parametrize(("iou", "count"), [(0.5, 2), (0.49, 1)])
def test_an_overlap_of_exactly_the_threshold_is_not_above_it(both, iou, count):
    boxes = np.array([[0, 0, 1, 2], [0, 0, 1, 1]], np.float32)[None, None]
    ours, theirs = both(boxes, np.array([[[0.9, 0.8]]], np.float32), iou=iou)
    assert_same(ours, theirs)
    assert ours[3].tolist() == [count]


@pytest.mark.parametrize(("classes", "candidates"), [(209, 400), (1, 5792)])
def test_two_tensors_of_pairs_have_a_limit(classes, candidates):
    """4 bytes for each pair of candidates of a class, twice: 256 MiB for a picture at most."""
    assert 2 * 4 * classes * candidates**2 <= 2**28 < 2 * 4 * (classes + 1) * candidates**2
    assert suppression.fits(classes, candidates)
    assert not suppression.fits(classes + 1, candidates)
