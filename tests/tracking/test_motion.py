"""The filter of all boxes at once, compared with one of 8 × 8 for each."""

import numpy as np
import pytest

from oracles_tracking import Kalman, measured
from tracking import motion


def random_boxes(rng, count):
    low = rng.uniform(0, 400, (count, 2))
    return np.concatenate([low, low + rng.uniform(10, 90, (count, 2))], axis=1)


def test_it_equals_the_filter_of_8_by_8():
    """At steps of a frame."""
    rng = np.random.default_rng(0)
    first = random_boxes(rng, 6)
    state, slow = motion.start(first), [Kalman(measured(box)) for box in first]
    for index in range(20):
        state = motion.predict(state, motion.STEP)
        for one in slow:
            one.predict()
        np.testing.assert_allclose(state.boxes_px, [one.box for one in slow], atol=1e-6)
        if index % 3 != 2:
            seen = first + 2.5 * index + rng.normal(0, 1, (6, 4))
            state = motion.correct(state, seen)
            for one, box in zip(slow, seen, strict=True):
                one.correct(measured(box))
        covariances = np.array([one.covariance for one in slow])
        diagonal = np.arange(4)
        np.testing.assert_allclose(state.pp, covariances[:, diagonal, diagonal], rtol=1e-9)
        np.testing.assert_allclose(state.vv, covariances[:, diagonal + 4, diagonal + 4], rtol=1e-9)
        np.testing.assert_allclose(state.pv, covariances[:, diagonal, diagonal + 4], rtol=1e-9)


def test_time_may_be_cut_anywhere():
    state = motion.start(random_boxes(np.random.default_rng(1), 5))
    state = motion.correct(motion.predict(state, 0.05), state.boxes_px + 3)
    state.velocity[:, 3] = 0  # noise follows the height
    whole, parts = motion.predict(state, 0.31), state
    for seconds in (0.02, 0.0, 0.2, 0.09):
        parts = motion.predict(parts, seconds)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_it_learns_a_speed_whatever_the_times():
    """60 pixels/s to the right, seen at random times, is known to 2 pixels half a second later."""
    rng = np.random.default_rng(2)
    box, time = np.array([[10.0, 20, 50, 60]]), 0.0
    state = motion.start(box)
    for step in rng.uniform(0.01, 0.2, 25):
        time += step
        state = motion.correct(motion.predict(state, step), box + np.array([60, 0, 60, 0]) * time)
    expected = box + np.array([60, 0, 60, 0]) * (time + 0.5)
    np.testing.assert_allclose(motion.predict(state, 0.5).boxes_px, expected, atol=2)


def test_boxes_come_back_and_smoothing_is_between():
    boxes = random_boxes(np.random.default_rng(3), 4)
    state = motion.start(boxes)
    np.testing.assert_allclose(state.boxes_px, boxes)
    moved = motion.correct(motion.predict(state, 0.04), boxes + 4).boxes_px
    assert ((moved > boxes) & (moved < boxes + 4)).all()


def test_a_box_without_area_is_a_box():
    state = motion.start(np.array([[5.0, 5, 5, 5]]))
    assert np.isfinite(motion.correct(motion.predict(state, 1), np.array([[5.0, 5, 5, 5]])).boxes_px).all()


@pytest.mark.parametrize("seconds", [0.0, 0.04, 5.0])
def test_variances_stay_positive(seconds):
    boxes = random_boxes(np.random.default_rng(4), 3)
    state = motion.start(boxes)
    for _ in range(40):
        state = motion.correct(motion.predict(state, seconds), boxes)
        assert (state.pp > 0).all() and (state.vv > 0).all() and (state.pp * state.vv >= state.pv**2).all()
