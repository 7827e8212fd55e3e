"""The association: as ByteTrack's on one class, and what it does beyond."""

import numpy as np
import pytest

import moving_boxes
from structures import Detections
from tracking import metrics
from tracking.tracker import Settings, Tracker, held_back


def found(*rows):
    """Detections of (xmin, score, label): boxes of 20 × 40 pixels."""
    boxes = [(x, 100, x + 20, 140) for x, _, _ in rows]
    scores, labels = ([row[part] for row in rows] for part in (1, 2))
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int32)
    )


def seen(sightings):
    """{id: x of the box} of the tracks that are detected."""
    return {one.track.id: round(float(one.box[0])) for one in sightings if one.track.id and not one.carried}


@pytest.mark.parametrize("seed", range(4))
def test_it_is_bytetrack_on_one_class(seed):
    rng = np.random.default_rng(seed)
    truth, times = moving_boxes.moving(rng, 14, 80)
    truth = moving_boxes.as_one_class(truth)
    detections = [moving_boxes.detected(rng, one) for one in truth]
    theirs = moving_boxes.followed_by_bytetrack(detections)
    ours = moving_boxes.followed(Tracker(moving_boxes.BYTETRACK), times, detections)
    scores = metrics.score(dict(enumerate(theirs)), ours, "a", None)
    assert scores["hota"] > 1 - 1e-6 and scores["mota"] == scores["idf1"] == 1 and scores["boxes"] > 300  # of other ids
    known = dict(enumerate(truth))
    one, other = (metrics.score(known, found, "a", None) for found in (theirs, ours))
    for name in ("hota", "mota", "idf1"):
        assert one[name] == pytest.approx(other[name], abs=1e-6)


@pytest.mark.parametrize("times", ["even", "uneven", "10 a second"])
def test_identities_stay_when_boxes_are_dropped(times):
    rng = np.random.default_rng(7)
    at = {"even": None, "uneven": np.cumsum(rng.uniform(0.005, 0.08, 90)), "10 a second": np.arange(60) / 10}[times]
    truth, at = moving_boxes.moving(rng, 10, 90, at)
    detections = [moving_boxes.detected(rng, one, jitter=0.03) for one in truth]
    scores = metrics.score(
        dict(enumerate(truth)), moving_boxes.followed(Tracker(Settings(low=0.1)), at, detections), "ab", "ab"
    )
    assert scores["id_switches"] <= 1 and scores["idf1"] > 0.8


def test_identities_do_not_depend_on_the_order_of_detections():
    rng = np.random.default_rng(8)
    truth, times = moving_boxes.moving(rng, 8, 40)
    detections = [moving_boxes.detected(rng, one) for one in truth]
    mixed = [one.where(rng.permutation(len(one))) for one in detections]
    one, other = (moving_boxes.followed(Tracker(), times, each) for each in (detections, mixed))
    scores = metrics.score(dict(enumerate(one)), other, "ab", "ab")
    assert (scores["hota"], scores["mota"]) == (pytest.approx(1), 1)


def test_a_low_score_continues_a_track_and_starts_none():
    tracker = Tracker()
    tracker.update(0.0, found((10, 0.9, 0)))
    assert seen(tracker.update(0.04, found((11, 0.2, 0), (200, 0.4, 0)))) == {1: 11}
    assert seen(tracker.update(0.08, found((12, 0.2, 0), (200, 0.4, 0)))) == {1: 12}
    assert seen(tracker.update(0.12, found((13, 0.05, 0)))) == {}  # below `low`


def test_a_track_needs_two_sightings_but_in_the_first_frame():
    tracker = Tracker()
    tracker.update(0.0, found())
    first = tracker.update(0.04, found((10, 0.9, 0), (300, 0.9, 0)))
    assert seen(first) == {} and len(first) == 2
    tracker.update(0.08, found((10, 0.9, 0)))
    assert [one.track.id for one in first] == [1, 0]
    assert seen(Tracker().update(0.0, found((10, 0.9, 0)))) == {1: 10}


def test_it_is_found_again_within_keep_but_not_after():
    for gap, expected in ((0.9, {1: 10}), (1.1, {})):
        tracker = Tracker()
        for time in (0.0, 0.1):
            tracker.update(time, found((10, 0.9, 0)))
        for time in np.arange(0.2, gap, 0.1):
            tracker.update(0.1 + time, found())
        assert seen(tracker.update(0.1 + gap, found((10, 0.9, 0)))) == expected


def test_a_slow_network_does_not_lose_tracks():
    """With two seconds from one look to the next, `keep` has always passed."""
    tracker = Tracker()
    assert [seen(tracker.update(time, found((10, 0.9, 0)))) for time in (0.0, 2.0, 4.0)] == [{1: 10}] * 3


def test_the_class_is_that_of_most_scores():
    tracker = Tracker()
    tracker.update(0.0, found((10, 0.6, 1)))
    for index in range(1, 4):
        [one] = tracker.update(index / 25, found((10, 0.95, 0)))
    assert one.track.label == 0 and one.track.id == 1


def test_a_second_class_on_the_same_object_starts_no_track():
    tracker = Tracker()
    for index in range(4):
        sightings = tracker.update(index / 25, found((10, 0.9, 0), (11, 0.7, 1), (100, 0.8, 1)))
    assert seen(sightings) == {1: 10, 2: 100}


def test_near_objects_of_different_classes_keep_theirs():
    """A car and the person before it: the car's box is not found once, and the person's does not take its place."""
    tracker = Tracker()
    for index in range(5):
        tracker.update(index / 25, found((10, 0.9, 0), (20, 0.85, 1)))
    last = tracker.update(0.2, found((15, 0.9, 1)))
    assert {one.track.id: one.track.label for one in last if not one.carried} == {2: 1}


def test_each_class_has_its_threshold():
    tracker = Tracker(Settings(high=(0.9, 0.3)))
    for index in range(3):
        sightings = tracker.update(index / 25, found((10, 0.8, 0), (100, 0.5, 1)))
    assert seen(sightings) == {1: 100}


def test_a_high_threshold_still_starts_tracks():
    tracker = Tracker(Settings(high=0.95))
    assert seen(tracker.update(0.0, found((10, 0.98, 0), (100, 0.96, 0)))) == {1: 10}


def shown(frames, hold, guess=False):
    return [
        {one.track.id: (round(float(one.box[0]), 1), one.carried) for one in sightings}
        for _, sightings in held_back(enumerate(frames), hold, guess)
    ]


def gap(tracker, xs, step=0.04):
    """The tracker's outputs for one object at xs, with None where it is not found."""
    return [tracker.update(index * step, found(*[(x, 0.9, 0)] * (x is not None))) for index, x in enumerate(xs)]


def test_a_gap_is_filled_between_its_ends():
    frames = shown(gap(Tracker(), [0, 4, 8, 12, None, None, 24, 28, None, None, None]), hold=3)
    boxes = [next(iter(frame.values()))[0] for frame in frames[:8]]
    assert [next(iter(frame.values()))[1] for frame in frames[:8]] == [False] * 4 + [True] * 2 + [False] * 2
    np.testing.assert_allclose(np.diff(boxes[3:7]), (boxes[6] - boxes[3]) / 3, atol=0.11)
    assert frames[8:] == [{}, {}, {}]  # it did not come back


def test_live_pictures_guess_and_stop_guessing():
    frames = shown(gap(Tracker(), [0, 4, 8, 12] + [None] * 20), hold=0, guess=True)
    there = [bool(frame) for frame in frames]
    assert there == [True] * 16 + [False] * 8  # Settings.carry is 0.5 s, 12 frames
    positions = [frame[1][0] for frame in frames[3:16]]
    assert (np.diff(positions) > 1).all()  # it goes on


def waits(frames, hold):
    """How many frames had come when each of them left."""
    came = []

    def coming():
        for index, frame in enumerate(frames):
            came.append(index)
            yield index, frame()

    return [len(came) for _ in held_back(coming(), hold, guess=False)]


def test_a_frame_leaves_when_all_of_its_tracks_are_known():
    tracker, places = Tracker(), [0, 4, 8, 12, 16, None, None, 28, 32, 36, None, None, None, None, None]
    frames = [
        lambda index=index, x=x: tracker.update(index * 0.04, found(*[(x, 0.9, 0)] * (x is not None)))
        for index, x in enumerate(places)
    ]
    # Two at once catch up with what comes, evenly
    assert waits(frames, hold=4) == [4, 4, 5, 5, 6, 8, 8, 9, 9, 10, 15, 15, 15, 15, 15]


def test_a_frame_does_not_wait_for_what_is_seen_once():
    tracker, others = Tracker(), [[], [], [], [], [(200, 0.9, 0)], [], []]
    frames = [
        lambda index=index, more=more: tracker.update(index * 0.04, found((5, 0.9, 0), *more))
        for index, more in enumerate(others)
    ]
    assert waits(frames, hold=4) == [4, 4, 5, 5, 6, 6, 7]


def test_a_frame_waits_while_the_class_of_a_track_is_disputed():
    tracker = Tracker()
    frames = [
        lambda index=index, label=label: tracker.update(index * 0.04, found((5, 0.9, label)))
        for index, label in enumerate([0, 0, 0, 0, 1, 1, 1, 1, 1])
    ]
    assert waits(frames, hold=2) == [3, 4, 4, 6, 7, 8, 9, 9, 9]


def told(sightings):
    return [(one.track.id, one.carried, one.score, *one.box) for one in sightings]


def test_what_is_taken_for_another_class_at_first_is_shown_with_the_class_that_it_keeps():
    tracker = Tracker()
    frames = (tracker.update(index * 0.04, found((5, 0.8, int(index < 3)))) for index in range(20))
    labels = [one.track.label for _, sightings in held_back(enumerate(frames), 12, guess=False) for one in sightings]
    assert labels == [0] * 20


def late(frames, hold):
    """What `held_back` shows without guesses, `told`, if every frame waits: the slow twin."""
    waiting, shown = [], []

    def leave(sightings):
        known = [one for one in sightings if one.settled or (one.settled is None and not one.track.missed)]
        shown.append(told(one for one in known if one.track.id))

    for sightings in frames:
        waiting.append(sightings)
        if len(waiting) > hold:
            leave(waiting.pop(0))
    for sightings in waiting:
        leave(sightings)
    return shown


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_frames_that_leave_early_show_what_they_would_show_later(seed, every):
    rng = np.random.default_rng(seed)
    truth, times = moving_boxes.moving(rng, 10, 120)
    detections = [moving_boxes.detected(rng, one, jitter=0.03) for one in truth]

    def tracked():
        tracker = Tracker(Settings(low=0.1))
        for index, (time, one) in enumerate(zip(times, detections, strict=True)):
            yield tracker.between(time) if index % every else tracker.update(time, one)

    early = [told(sightings) for _, sightings in held_back(enumerate(tracked()), 15, guess=False)]
    assert early == late(tracked(), 15) and sum(map(len, early)) > 300


def test_a_long_gap_is_not_filled():
    frames = shown(gap(Tracker(), [0, 0, 0] + [None] * 18 + [0, 0]), hold=30)
    assert [bool(frame) for frame in frames] == [True] * 3 + [False] * 18 + [True] * 2
    assert all(1 in frame for frame in frames if frame)


def test_the_first_sighting_is_shown_once_it_is_confirmed():
    frames = shown(gap(Tracker(), [None, 5, 5, 5]), hold=1)
    assert [list(frame) for frame in frames] == [[], [1], [1], [1]]


def test_between_runs_of_the_network_boxes_move():
    """--every 4: the frames in between are interpolated once the next run is known, and expected at the end."""
    tracker, frames = Tracker(), []
    for index in range(15):
        time = index / 25
        frames.append(tracker.between(time) if index % 4 else tracker.update(time, found((3 * index, 0.9, 0))))
    boxes = shown(frames, hold=4)
    assert [[carried for _, carried in frame.values()] for frame in boxes] == [[index % 4 > 0] for index in range(15)]
    places = [frame[1][0] for frame in boxes]
    for start in (0, 4, 8):
        np.testing.assert_allclose(
            np.diff(places[start : start + 5]), (places[start + 4] - places[start]) / 4, atol=0.11
        )
    assert np.diff(places[12:]).min() > 1.5


def test_nothing_at_all():
    tracker = Tracker()
    assert tracker.between(0.0) == [] and tracker.update(0.0, found()) == [] and tracker.between(0.1) == []
