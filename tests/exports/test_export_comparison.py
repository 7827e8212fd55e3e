"""What counts as the same detections, and what does not."""

import numpy as np
import pytest

from exports import comparison
from exports.comparison import Tolerance
from structures import Detections

TOLERANCE = Tolerance(score=0.001, box=0.001, unmatched=0.01)


def detections(count=20, seed=0):
    """Detections on a picture of 200×100 pixels."""
    rng = np.random.default_rng(seed)
    low = rng.random((count, 2)) * [150, 60]
    boxes = np.concatenate([low, low + 5 + 30 * rng.random((count, 2))], 1).astype(np.float32)
    scores = -np.sort(-(0.1 + 0.9 * rng.random(count))).astype(np.float32)
    return Detections(boxes, scores, rng.integers(0, 3, count).astype(np.int32))


def compare(wanted, found, threshold=0.01, keep=200):
    return comparison.compare([wanted], [found], [(200, 100)], threshold, keep, 0.45, TOLERANCE)


def changed(one, **fields):
    values = {"boxes_px": one.boxes_px.copy(), "scores": one.scores.copy(), "labels": one.labels.copy(), **fields}
    return Detections(**values)


def test_equal_and_empty():
    assert compare(detections(), detections()) == comparison.Difference(1, 20, 0, 0, 0, 0.0, 0.0)
    assert compare(Detections.empty(), Detections.empty()).is_within(TOLERANCE)
    assert compare(detections(), Detections.empty()).unmatched == 20


def test_order_does_not_matter_but_each_is_matched_once():
    one = detections()
    order = np.random.default_rng(1).permutation(20)
    assert compare(one, one.where(order)).matched == 20
    doubled = one.where(np.repeat(np.arange(20), 2))
    assert (compare(one, doubled).matched, compare(one, doubled).unmatched) == (20, 20)


@pytest.mark.parametrize(("step", "good"), [(0.0009, True), (0.0011, False)])
def test_largest_differences(step, good):
    one = detections()
    found = compare(one, changed(one, scores=one.scores - np.float32(step)))
    assert found.score == pytest.approx(step if good else 0, rel=1e-3)
    assert found.is_within(TOLERANCE) is good
    moved = one.boxes_px.copy()
    moved[3, 1] += 100 * step  # in pixels of the height
    found = compare(one, changed(one, boxes_px=moved))
    assert found.box == pytest.approx(step if good else 0, rel=1e-2)
    assert found.is_within(TOLERANCE) is good


def test_another_class_or_place_is_no_partner():
    one = detections()
    labels = one.labels.copy()
    labels[4] += 1
    assert compare(one, changed(one, labels=labels)).unmatched == 2
    moved = one.boxes_px.copy()
    moved[4] += 30
    assert compare(one, changed(one, boxes_px=moved)).unmatched == 2
    assert not compare(one, changed(one, boxes_px=moved)).is_within(TOLERANCE)


def test_a_detection_at_the_limit_is_explained():
    one = detections()
    threshold = float(one.scores[-1]) - 0.0005
    found = compare(one, one.where(np.arange(19)), threshold)
    assert (found.unmatched, found.explained) == (0, 1)
    found = compare(one, one.where(np.arange(1, 20)), threshold)
    assert (found.unmatched, found.explained) == (1, 0)
    # The last of as many as can be kept
    other = changed(one)
    other.boxes_px[-1] = [0, 0, 5, 5]
    assert compare(one, other, keep=20).unmatched == 0
    assert compare(one, other, keep=21).unmatched == 2


def test_explained_detections_cannot_be_the_most():
    one = changed(detections(), scores=np.full(20, 0.5, np.float32))
    other = changed(one, boxes_px=one.boxes_px + 40)
    found = compare(one, other, keep=20)
    assert found.unmatched == 0
    assert not found.is_within(TOLERANCE)


def row(lefts, scores):
    """Boxes of one class, 40 pixels wide, side by side."""
    lefts = np.float32(lefts)
    edges = np.stack([lefts, np.zeros_like(lefts), lefts + 40, np.full_like(lefts, 50)], 1)
    return Detections(edges, np.float32(scores), np.zeros(len(lefts), np.int32))


def test_suppression_may_keep_either_of_two_equals():
    # Of boxes every 10 pixels, those 20 pixels apart stay: IoU 20 / 60. The second choice follows from the first
    one, other = row([0, 20, 40], [0.9, 0.8, 0.7]), row([10, 30], [0.9, 0.75])
    found = compare(one, other)
    assert (found.matched, found.unmatched, found.tied) == (0, 5, 5)
    assert "5 not (5 of them where suppression may keep either)" in str(found)
    assert not found.is_within(TOLERANCE)  # they count all the same
    worse = compare(one, row([10, 30], [0.85, 0.75]))
    assert (worse.unmatched, worse.tied) == (5, 0)


def test_suppression_may_drop_what_overlaps_as_much_as_the_limit():
    step = 40 * 0.55 / 1.45  # IoU 0.45
    one = row([0, step], [0.9, 0.7])
    assert compare(one, one.where([0])).tied == 1
    far = row([0, step + 1], [0.9, 0.7])
    assert (compare(far, far.where([0])).unmatched, compare(far, far.where([0])).tied) == (1, 0)
    other_class = changed(one, labels=np.int32([0, 1]))
    assert compare(other_class, other_class.where([0])).tied == 0
