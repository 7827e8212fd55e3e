"""Box geometry against hand-made values and the exact oracle."""

import fractions

import hypothesis.extra.numpy
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import boxes
import oracles

# Corners on a grid of 1/16: IoU is then a ratio of small integers, ties are ties, and float32 is exact before the
# division. Empty, inverted, touching, equal and nested boxes all come up often.
GRID = hypothesis.extra.numpy.arrays(
    np.float32, st.tuples(st.integers(0, 8), st.just(4)), elements=st.integers(-4, 20).map(lambda v: v / 16)
)
SCORES = st.lists(st.integers(0, 3).map(lambda v: v / 4), min_size=8, max_size=8)


def box(*corners):
    return np.array([corners], np.float32)


def test_conversion_by_hand():
    corners = box(0.1, 0.2, 0.5, 0.8)
    np.testing.assert_allclose(boxes.to_cxcywh(corners), [[0.3, 0.5, 0.4, 0.6]], rtol=1e-6)
    np.testing.assert_allclose(boxes.from_cxcywh(box(0.3, 0.5, 0.4, 0.6)), corners, rtol=1e-6)


@given(GRID)
def test_conversion_there_and_back(given_boxes):
    np.testing.assert_array_equal(boxes.from_cxcywh(boxes.to_cxcywh(given_boxes)), given_boxes)


def test_clip_to_the_unit_square_and_to_pixels():
    np.testing.assert_array_equal(boxes.clip(box(-0.5, 0.25, 0.5, 1.5)), [[0, 0.25, 0.5, 1]])
    np.testing.assert_array_equal(boxes.clip(box(-5, 7, 500, 400), 200, 100), [[0, 7, 200, 100]])


def test_clip_leaves_its_argument_alone():
    given_boxes = box(-1, -1, 2, 2)
    boxes.clip(given_boxes)
    np.testing.assert_array_equal(given_boxes, [[-1, -1, 2, 2]])


def test_area_of_inverted_boxes_is_0():
    both = np.array([[0, 0, 2, 3], [2, 0, 0, 3], [2, 3, 0, 0]], np.float32)
    np.testing.assert_array_equal(boxes.area(both), [6, 0, 0])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0, 0, 2, 2), 1),
        ((1, 1, 3, 3), 1 / 7),
        ((0, 0, 1, 1), 1 / 4),
        ((2, 0, 4, 2), 0),  # they share an edge
        ((2, 2, 4, 4), 0),  # a corner
        ((1, 1, 1, 1), 0),  # a point
        ((3, 3, 4, 4), 0),
    ],
)
def test_iou_by_hand(other, expected):
    assert boxes.iou(box(0, 0, 2, 2), box(*other))[0, 0] == pytest.approx(expected)


def test_iou_of_two_points_is_0():
    assert boxes.iou(box(1, 1, 1, 1), box(1, 1, 1, 1))[0, 0] == 0


def test_iou_takes_integers():
    overlap = boxes.iou(np.array([[0, 0, 2, 2]]), np.array([[1, 1, 3, 3]]))
    assert overlap[0, 0] == pytest.approx(1 / 7)


def test_iou_of_nothing_has_a_shape():
    nothing = np.zeros((0, 4), np.float32)
    assert boxes.iou(nothing, box(0, 0, 1, 1)).shape == (0, 1)
    assert boxes.iou(box(0, 0, 1, 1), nothing).shape == (1, 0)


def exact(values):
    return [fractions.Fraction(float(v)) for v in values]


@given(GRID, GRID)
@settings(deadline=None)
def test_iou_equals_exact_arithmetic(a, b):
    kept = a.copy(), b.copy()
    expected = [[float(oracles.iou(exact(x), exact(y))) for y in b] for x in a]
    np.testing.assert_allclose(boxes.iou(a, b), np.reshape(expected, (len(a), len(b))), rtol=1e-6)
    np.testing.assert_array_equal(a, kept[0])
    np.testing.assert_array_equal(b, kept[1])


@given(GRID, GRID)
@settings(deadline=None)
def test_iou_with_columns_is_the_same(a, b):
    np.testing.assert_array_equal(boxes.iou(a, boxes.columns(b)), boxes.iou(a, b))


@given(GRID, GRID)
@settings(deadline=None)
def test_iou_pair_by_pair_is_the_same(a, b):
    np.testing.assert_allclose(boxes.paired_iou(a[:, None], b), boxes.iou(a, b), rtol=1e-6)
    whole, other = (np.rint(one).astype(np.int64) for one in (a, b))
    np.testing.assert_allclose(boxes.paired_iou(whole[:, None], other), boxes.iou(whole, other), rtol=1e-6)


def test_nms_by_hand():
    row = np.array([[0, 0, 4, 4], [0, 0, 4, 3], [3, 0, 7, 4], [0, 0, 4, 4.5]], np.float32)
    scores = np.array([0.6, 0.9, 0.5, 0.7], np.float32)
    kept = boxes.nms(row, scores, 0.5)
    assert kept.tolist() == [1, 2]
    assert kept.dtype == np.int64


def test_nms_keeps_an_overlap_of_exactly_the_threshold():
    row = np.array([[0, 0, 2, 2], [0, 0, 2, 1]], np.float32)  # IoU 0.5
    assert boxes.nms(row, np.array([0.9, 0.8]), 0.5).tolist() == [0, 1]
    assert boxes.nms(row, np.array([0.9, 0.8]), 0.49).tolist() == [0]


def test_nms_of_nothing():
    assert boxes.nms(np.zeros((0, 4), np.float32), np.zeros(0), 0.5).tolist() == []


@given(GRID, SCORES, st.sampled_from([0.0, 0.25, 0.45, 0.5, 1.0]), st.sampled_from([None, 0, 1, 3]))
@settings(deadline=None)
def test_nms_equals_the_oracle(given_boxes, scores, threshold, top_k):
    scores = np.array(scores[: len(given_boxes)])
    expected = oracles.nms([exact(b) for b in given_boxes], scores, fractions.Fraction(threshold), top_k)
    assert boxes.nms(given_boxes, scores, threshold, top_k).tolist() == expected


def test_inclusive_iou_counts_pixels():
    """Boxes over whole pixels, both ends included: a 2 × 2 and a 3 × 2 box share 1 × 2 pixels."""
    a, b = np.array([[1, 1, 2, 2.0]]), np.array([[2, 1, 4, 2.0], [1, 1, 2, 2], [3, 1, 3, 1]])
    np.testing.assert_allclose(boxes.inclusive_iou(a, b), [2 / 8, 1, 0])
    np.testing.assert_allclose(boxes.inclusive_iou(b[:, None], a), [[2 / 8], [1], [0]])
