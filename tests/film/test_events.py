"""Clips and lines of what appears: with the seconds before, once for each time a class is there."""

import json
from fractions import Fraction

import numpy as np
import pytest

from film.events import AFTER, AWAY, BEFORE, NAME, Events
from film.frames import Frame
from media import video
from structures import Detections, UserError
from tracking.following import Shown

RATE = 10


def frame(index, *labels, outage=0.0):
    """A frame whose gray level is its index, with an object of each class. outage: seconds that are missing before."""
    boxes = np.array([[4 * n, 4, 4 * n + 8, 20] for n in range(len(labels))], np.float32).reshape(-1, 4)
    found = Detections(boxes, np.full(len(labels), 0.8, np.float32), np.array(labels, np.int32))
    return Frame(index, index / RATE + outage, np.full((48, 64, 3), index, np.uint8), None, found)


@pytest.fixture
def record(tmp_path):
    """Gives the frames with the classes that are there, {index: labels}, to an Events -> (lines, clips by name).

    outage: (frame, seconds) of a camera that is away before this frame.
    """

    def record(count, seen, outage=(0, 0.0)):
        events = Events(str(tmp_path / "events"), 64, 48, RATE, ("car", "bus/tram"))
        for index in range(count):
            events.add(frame(index, *seen.get(index, ()), outage=outage[1] if index >= outage[0] else 0.0))
        events.close()
        lines = [json.loads(line) for line in (tmp_path / "events" / NAME).read_text("utf-8").splitlines()]
        clips = {}
        for path in sorted((tmp_path / "events").glob("*.mp4")):
            with video.VideoReader(path) as reader:
                clips[str(path)] = [(round(image.mean()), seconds) for image, seconds in reader]
        return lines, clips

    return record


def test_a_clip_begins_before_the_class_appears(record):
    [line], clips = record(150, dict.fromkeys(range(50, 56), (0,)))
    assert (line["class"], line["frame"], line["time"], line["box"]) == ("car", 50, 5.0, [0, 4, 8, 20])
    [(path, pictures)] = clips.items()
    assert line["clip"] == path and line["clip_time"] == pytest.approx(BEFORE)
    first, last = round(RATE * (5 - BEFORE)), round(RATE * (5 + AFTER))
    assert len(pictures) == last - first + 1
    assert [level for level, _ in pictures] == pytest.approx(range(first, last + 1), abs=2)
    np.testing.assert_allclose([seconds for _, seconds in pictures], np.arange(last - first + 1) / RATE, atol=1e-5)


def test_what_is_there_all_the_time_appears_once(record):
    lines, clips = record(200, dict.fromkeys(range(200), (0,)))
    assert [line["frame"] for line in lines] == [0] and len(clips) == 1
    assert len(next(iter(clips.values()))) == RATE * AFTER + 1


def test_a_class_that_was_away_appears_again_in_a_new_clip(record):
    lines, clips = record(220, {10: (0,), 20: (0,), 60: (0,), 150: (0,)})
    assert [line["frame"] for line in lines] == [10, 60, 150]
    assert len(clips) == 2 and lines[0]["clip"] == lines[1]["clip"] != lines[2]["clip"]  # the first goes on


def test_a_class_that_was_away_for_exactly_as_long_appears_again(record):
    lines, _ = record(60, {10: (0,), 40: (0,), 59: (0,)})
    assert [line["frame"] for line in lines] == [10, 40] and lines[1]["time"] - lines[0]["time"] == AWAY


def test_a_track_that_is_only_carried_is_not_seen(tmp_path):
    """It neither begins a clip nor keeps its class from appearing anew."""
    events = Events(str(tmp_path), 64, 48, RATE, ("car",))
    for index in range(72):
        one = frame(index, *[0] * (5 <= index <= 60 or index == 70))
        carried = np.full(len(one.detections), index not in (10, 70))
        ids = np.full(len(one.detections), 7)
        one.tracks = Shown(one.detections, ids, carried, [], [], one.image)
        events.add(one)
    events.close()
    lines = [json.loads(line) for line in (tmp_path / NAME).read_text("utf-8").splitlines()]
    assert [(line["frame"], line["track"]) for line in lines] == [(10, 7), (70, 7)]


def test_the_seconds_before_have_the_colors_of_the_film(tmp_path):
    events = Events(str(tmp_path), 64, 48, RATE, ("car",))
    for index in range(20):
        one = frame(index, *[0] * (index >= 10))
        one.image[:] = (200, 30, 60)
        events.add(one)
    events.close()
    with video.VideoReader(next(tmp_path.glob("*.mp4"))) as reader:
        means = np.array([image.mean(axis=(0, 1)) for image, _ in reader])
    np.testing.assert_allclose(means, np.broadcast_to((200, 30, 60), (20, 3)), atol=12)


def test_two_classes_are_in_one_clip(record):
    lines, clips = record(120, {30: (0,), 40: (1, 0)})
    assert [(line["class"], line["frame"]) for line in lines] == [("car", 30), ("bus/tram", 40)]
    [pictures] = clips.values()
    assert len(pictures) == 40 + RATE * AFTER + 1


def test_the_end_of_the_film_ends_the_clip(record):
    _, clips = record(35, {30: (1,)})
    [(path, pictures)] = clips.items()
    assert path.endswith("_bus_tram.mp4") and len(pictures) == 35


def test_a_clip_has_an_end_however_much_appears(record, monkeypatch):
    monkeypatch.setattr("film.events.LONGEST", 8.0)
    lines, clips = record(200, dict.fromkeys(range(0, 200, 40), (0,)))
    assert len(lines) == 5 and max(map(len, clips.values())) <= 8 * RATE + 2


@pytest.mark.parametrize("seconds", [4.0, 20.0, 120.0])
def test_what_was_before_an_outage_is_not_in_the_clip(record, seconds):
    """The picture would stand still for that long, and end the clip at its most seconds."""
    [line], clips = record(200, dict.fromkeys(range(50, 150), (0,)), outage=(50, seconds))
    [(path, pictures)] = clips.items()
    assert (line["clip"], line["clip_time"]) == (path, 0)
    assert [level for level, _ in pictures] == pytest.approx(range(50, 51 + round(RATE * AFTER)), abs=2)
    np.testing.assert_allclose([time for _, time in pictures], np.arange(len(pictures)) / RATE, atol=1e-5)


def test_a_short_outage_is_in_the_clip(record):
    [line], clips = record(200, dict.fromkeys(range(50, 150), (0,)), outage=(50, 1.0))
    assert line["clip_time"] == pytest.approx(BEFORE) and len(*clips.values()) == RATE * (BEFORE - 1 + AFTER) + 1


@pytest.mark.parametrize(
    ("seconds", "frames"), [(2.0, [30 + 31]), (4.0, [51, 50]), (20.0, [51, 50]), (120.0, [51, 50])]
)
def test_an_outage_after_which_the_clip_is_over_ends_it(record, seconds, frames):
    """The class is there from frame 30 on, the camera away from frame 51 on for longer than the clip would last."""
    lines, clips = record(101, dict.fromkeys(range(30, 101), (0,)), outage=(51, seconds))
    assert [line["frame"] for line in lines] == [30, 51][: len(frames)]
    assert [len(clips[line["clip"]]) for line in lines] == frames


def test_pictures_that_come_seldom_are_no_outages(tmp_path):
    """A film with a picture every ten seconds."""
    events = Events(str(tmp_path), 64, 48, Fraction(1, 10), ("car",))
    for index in range(8):
        one = frame(index, 0)
        one.time = 10.0 * index
        events.add(one)
    events.close()
    assert len(list(tmp_path.glob("*.mp4"))) == 2  # each as long as a clip may be


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--events .*file"):
        Events(str(tmp_path / "file"), 64, 48, RATE, ("car",))
