"""Detections to write, and detections read back to compare with them."""

import numpy as np

from structures import Detections

NAMES = ("car", "traffic light", "été")


def some_detections(rng, count):
    boxes = np.sort(rng.random((count, 2, 2), np.float32), axis=1).reshape(count, 4) * np.float32(499)
    boxes[:1] = [0, 1e-3, 4000, 1 / 3]
    scores = np.sort(rng.random(count, np.float32))[::-1]
    return Detections(boxes, scores, rng.integers(0, len(NAMES), count, np.int32))


def assert_same(a, b):
    for name in ("boxes_px", "scores", "labels"):
        one, other = getattr(a, name), getattr(b, name)
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, err_msg=name)


def assert_same_to_a_hundredth(read, written):
    """The same detections, whose boxes were written with two decimals."""
    np.testing.assert_array_equal(read.boxes_px, np.round(written.boxes_px.astype(np.float64), 2))
    np.testing.assert_array_equal(read.scores, written.scores)
    np.testing.assert_array_equal(read.labels, written.labels)


def some_images():
    """Dict stem -> Detections: many, one, and none."""
    rng = np.random.default_rng(5)
    return {"one": some_detections(rng, 30), "two words": some_detections(rng, 1), "none": Detections.empty()}
