"""Boxes that end behind a nearer one, and a car that passes behind a person."""

import numpy as np
import pytest

from structures import Detections
from tracking import hiding
from tracking.tracker import Settings, Tracker

PERSON = (100, 80, 130, 220)
FAR = (90, 90, 110, 150)  # its feet are above the wheels of what is tested


def reach(*boxes_px, certain=True):
    return hiding.reach(np.array(boxes_px, np.float32), np.full(len(boxes_px), certain)).tolist()


@pytest.mark.parametrize(
    ("box", "sides"),
    [
        ((20, 150, 110, 200), [20, 130]),  # its right side is behind the person
        ((115, 150, 200, 200), [100, 200]),
        ((60, 150, 160, 200), [60, 160]),  # the person is in the middle
        ((105, 150, 120, 200), [105, 120]),  # wholly before or behind
        ((20, 150, 100, 200), [20, 100]),  # they touch
        ((20, 150, 110, 240), [20, 110]),  # the person is behind
        ((20, 20, 110, 120), [20, 110]),  # beside less than half of it
    ],
)
def test_reach(box, sides):
    assert reach(box, PERSON)[0] == sides
    assert reach(PERSON, box)[1] == sides  # whatever the order
    assert reach(box, PERSON, certain=False)[0] == [box[0], box[2]]


def test_reach_of_both_sides_and_of_several():
    car, other = (110, 150, 160, 200), (150, 100, 190, 210)
    assert reach(PERSON, car, other)[1] == [100, 190]
    assert reach((110, 150, 160, 200), other, (155, 100, 220, 205))[0] == [110, 220]  # the further of two
    assert reach((20, 150, 110, 200), FAR)[0] == [20, 110]
    assert hiding.reach(np.zeros((0, 4), np.float32), np.zeros(0, bool)).shape == (0, 2)


@pytest.mark.parametrize(
    ("box", "sides", "track", "whole"),
    [
        ((20, 150, 60, 200), [20, 130], (15, 150, 95, 200), (20, 100)),  # as wide as the track
        ((20, 150, 60, 200), [20, 80], (15, 150, 95, 200), (20, 80)),  # as far as it is hidden
        ((60, 150, 100, 200), [0, 100], (15, 150, 95, 200), (20, 100)),
        ((60, 150, 100, 200), [30, 120], (25, 150, 115, 200), (30, 115)),  # both: where the track is
        ((60, 150, 100, 200), [60, 100], (15, 150, 95, 200), (60, 100)),  # none
        ((20, 150, 96, 200), [20, 130], (15, 150, 95, 200), (20, 96)),  # it only wavers
        ((20, 150, 60, 190), [20, 130], (15, 130, 95, 200), (20, 60)),  # of another height: something else
        ((20, 150, 120, 200), [20, 130], (15, 150, 95, 200), (20, 120)),  # wider than the track
    ],
)
def test_completed(box, sides, track, whole):
    found = hiding.completed(np.float32(box), np.array(sides, float), np.array(track, float))
    assert found.tolist() == [whole[0], box[1], whole[1], box[3]]
    tracks = np.array([track, box], float)[:, None]  # each track with each box
    found = hiding.completed(np.float32([box, box]), np.array([sides, sides], float), tracks)
    assert found.shape == (2, 2, 4)
    assert found[0].tolist() == [[whole[0], box[1], whole[1], box[3]]] * 2 and found[1].tolist() == [list(box)] * 2


def passing():
    """(frames of a car of 120 × 60 pixels that passes behind a person of 40 pixels, its true box): the detector sees
    only the greater part."""
    for left in range(0, 300, 6):
        person, car = (180, 130, 220, 260), (left, 150, left + 120, 210)
        before, after = min(car[2], 185) - car[0], car[2] - max(car[0], 215)
        part = (car[0], 150, car[0] + before, 210) if before >= after else (car[2] - after, 150, car[2], 210)
        hidden = car[0] < 215 and car[2] > 185
        yield (
            Detections(
                np.array([person, part if hidden else car], np.float32), np.full(2, 0.9, np.float32), np.array([1, 0])
            ),
            car,
        )


def test_a_car_that_passes_behind_a_person_stays_one():
    names = {}
    for complete in (True, False):
        tracker, ids, off = Tracker(Settings(complete=complete)), set(), []
        for frame, (detections, car) in enumerate(passing()):
            cars = [one for one in tracker.update(frame / 25, detections) if one.track.label == 0 and not one.carried]
            ids |= {one.track.id for one in cars if one.track.id}
            off += [abs(one.box[[0, 2]] - (car[0], car[2])).max() for one in cars if one.track.id]
        names[complete] = len(ids), max(off)
    assert names[True][0] == 1 and names[False][0] == 2
    assert names[True][1] < 0.6 * names[False][1]  # and its box is nearer to the whole car
