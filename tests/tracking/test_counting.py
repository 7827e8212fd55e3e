"""Lines and zones: crossings by a slow twin, by hand where tracks tremble, turn round, vanish or stand on the edge."""

import gc
import weakref

import numpy as np
import pytest

from tracking import counting, records
from tracking.places import Place
from tracking.tracker import Sighting, Track

NAMES = ("car", "bus")
LINE = Place("gate", np.array([[100.0, 200], [300, 200]]), "")  # in is down
ZONE = Place("yard", np.array([[100.0, 100], [300, 100], [300, 300], [100, 300]]), "")
SIDE = 40  # of the boxes: a track is past an edge after 4 pixels


def new_track(key=1, label=0):
    return Track(key, {label: 1.0}, 1.0, 0.0, 0.0, np.zeros(4))


def follow(place, *paths, class_names=NAMES):
    """What is counted of tracks that go through points (x, y), None where they are not seen, ten a second."""
    counts = counting.Counting([place])
    tracks = [new_track(key + 1, key % 2) for key in range(len(paths))]
    drawn = []
    for frame in range(max(map(len, paths))):
        there = [
            (track, path[frame])
            for track, path in zip(tracks, paths, strict=True)
            if frame < len(path) and path[frame] is not None
        ]
        boxes = np.array([[x - SIDE / 2, y - SIDE, x + SIDE / 2, y] for _, (x, y) in there], np.float32).reshape(-1, 4)
        drawn.append(counts.add(frame, frame / 10, [track for track, _ in there], boxes)[0])
    result = counts.to_json(class_names)
    return (result["lines"] or result["zones"])[0], drawn


def way(*corners, step=7.0):
    """Points along straight lines between corners, about `step` apart."""
    points = [np.array(corners[0], float)]
    for corner in corners[1:]:
        count = max(1, round(np.linalg.norm(np.array(corner) - points[-1]) / step))
        points += list(np.linspace(points[-1], corner, count + 1)[1:])
    return points


def numbers(result):
    return sum(result["in"].values()), sum(result["out"].values())


def test_a_step_crosses_where_the_segments_meet():
    """By a twin that asks on which sides of each segment the other's ends are."""

    def side(a, b, p):
        return np.sign(np.linalg.det(np.array([b - a, p - a])))

    def slow(start, end, before, after):
        meet = side(start, end, before) != side(start, end, after) and side(before, after, start) != side(
            before, after, end
        )
        return int(side(start, end, after)) if meet else 0

    rng, found = np.random.default_rng(0), []
    for _ in range(2000):
        points = rng.uniform(0, 100, (4, 2))
        found.append(counting.crossing(*points))
        assert found[-1] == slow(*points)
    assert {-1, 0, 1} == set(found)
    down = counting.crossing(np.array([0.0, 5]), np.array([10.0, 5]), np.array([5.0, 0]), np.array([5.0, 9]))
    assert down == 1  # y points down: below a line that goes right is its right side


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (way((200, 100), (200, 300)), (1, 0)),
        (way((200, 300), (200, 100)), (0, 1)),
        (way((200, 100), (200, 300), (250, 100)), (1, 1)),
        (way((50, 100), (50, 300)), (0, 0)),  # beside the line
        (way((50, 300), (50, 100), (200, 150), (200, 300)), (1, 0)),  # round its end, then across
        (way((200, 100), (200, 202), (200, 100)), (0, 0)),  # turns round before it is past the line
        (way((200, 100), (200, 202)), (1, 0)),  # ends beyond it
        (way((200, 203), (200, 203)), (0, 0)),
        ([(200, 100), (200, 300)], (1, 0)),  # in one step
        ([(200, 190), *[None] * 15, (200, 240)], (1, 0)),  # while nobody saw it
    ],
)
def test_crossings(path, expected):
    result, drawn = follow(LINE, path)
    assert numbers(result) == expected
    assert drawn[-1].entered <= expected[0] and drawn[-1].left <= expected[1] and drawn[-1].inside is None


def test_a_trembling_track_crosses_once():
    rng = np.random.default_rng(1)
    slow = np.array(way((200, 150), (200, 250), step=0.1)) + rng.normal(0, 1.2, (1001, 2))
    ys = slow[:, 1]
    assert ((ys[:-1] < 200) != (ys[1:] < 200)).sum() > 3  # the points go to and fro
    result, _ = follow(LINE, slow)
    assert numbers(result) == (1, 0)
    standing = np.array([200, 200]) + rng.normal(0, 1.2, (300, 2))  # at a stop line
    result, drawn = follow(LINE, [*way((200, 150), (200, 200)), *standing, *way((200, 200), (200, 260))])
    assert numbers(result) == (1, 0) and max(one.entered + one.left for one in drawn) == 1


def test_crossings_have_class_time_and_frame():
    result, drawn = follow(LINE, way((150, 100), (150, 300)), way((250, 300), (250, 100)), way((280, 100), (280, 300)))
    assert (result["in"], result["out"]) == ({"car": 2}, {"bus": 1})
    first = result["crossings"][0]
    assert {name: first[name] for name in ("track", "class", "direction")} == {
        "track": 1,
        "class": "car",
        "direction": "in",
    }
    assert first["frame"] == 15 and first["time"] == 1.5  # the first frame in which it is on the line's other side
    assert result["points"] == [[100, 200], [300, 200]] and result["name"] == "gate"
    assert (drawn[-1].entered, drawn[-1].left) == (2, 1)


def test_a_track_that_changes_its_class_is_counted_as_what_it_is_at_the_end():
    counts, track = counting.Counting([LINE]), new_track()
    for frame, y in enumerate((150, 250)):
        counts.add(frame, frame / 10, [track], np.array([[180, y - 40, 220, y]], np.float32))
    track.votes[1] = 5.0
    assert counts.to_json(NAMES)["lines"][0]["in"] == {"bus": 1}


def test_crossings_are_in_the_order_of_their_frames():
    """Also that of a track which stays near the line, and counts only when it is past it."""
    first = [(150, 190)] * 10 + [(150, 202)] * 50 + [(150, 260)]
    second = [(250, 150)] * 30 + [(250, 250)] * 2
    result, _ = follow(LINE, first, second)
    assert [(one["track"], one["frame"]) for one in result["crossings"]] == [(1, 10), (2, 30)]


def visits(result):
    return [
        (one["track"], one["first_frame"], one["last_frame"], one["came_in"], one["went_out"])
        for one in result["visits"]
    ]


def test_a_visit_through_a_zone():
    path = [(200, y) for y in range(50, 351, 10)]  # inside from 100 to 300: frames 5 to 25
    result, drawn = follow(ZONE, path)
    assert visits(result) == [(1, 5, 26, True, True)]
    assert numbers(result) == (1, 1) and result["seen"] == {"car": 1} and result["most_at_once"] == 1
    assert result["dwell"]["car"] == {"visits": 1, "mean": 2.1, "median": 2.1, "longest": 2.1}
    assert [one.inside for one in drawn] == [int(6 <= frame <= 25) for frame in range(31)]  # once it is past the edge


def test_a_visit_ends_where_a_slow_track_is_outside_at_first():
    """Not where it is past the edge, which is when the visit counts as over."""
    result, _ = follow(ZONE, [(200, y) for y in range(150, 89, -1)])
    assert visits(result) == [(1, 0, 51, False, True)]


def test_visits_that_begin_or_end_inside():
    result, _ = follow(ZONE, [(200, 200)] * 11, [(200, 50), *[(200, 150)] * 5])
    assert visits(result) == [(1, 0, 10, False, False), (2, 1, 5, True, False)]
    assert numbers(result) == (1, 0) and result["most_at_once"] == 2
    assert result["dwell"]["car"]["longest"] == 1.0 and result["seen"] == {"car": 1, "bus": 1}


def test_who_trembles_at_the_edge_of_a_zone_stays_where_it_was():
    rng = np.random.default_rng(2)
    edge = list(np.array([200, 100]) + rng.normal(0, 1.2, (200, 2)))
    result, _ = follow(ZONE, [(200, 60), *edge, (200, 60)], [(200, 150), *edge, (200, 150)])
    assert visits(result) == [(2, 0, 201, False, False)]


def test_a_second_visit_is_of_the_same_track():
    result, _ = follow(ZONE, way((200, 50), (200, 200), (200, 50), (200, 200), (400, 200)))
    assert numbers(result) == (2, 2) and result["seen"] == {"car": 1}
    assert [one["track"] for one in result["visits"]] == [1, 1] and result["dwell"]["car"]["visits"] == 2


def test_a_gap_does_not_end_a_visit():
    result, drawn = follow(ZONE, [(200, 150), *[None] * 10, (210, 160)])
    assert visits(result) == [(1, 0, 11, False, False)]
    assert [one.inside for one in drawn] == [1, *[0] * 10, 1]  # what is drawn is who is seen


def test_visits_by_a_slow_twin():
    """Wide steps, so that nobody is near an edge: each run of points inside is a visit."""
    rng, total = np.random.default_rng(3), 0
    for _ in range(30):
        points = rng.uniform(0, 400, (40, 2))
        points = points[(np.abs(points[:, :, None] - (100, 300)) > 8).all(axis=(1, 2))]
        inside = ((points > 100) & (points < 300)).all(axis=1)
        expected, start = [], None
        for frame, here in enumerate([*inside, False]):
            if here and start is None:
                start = frame
            elif not here and start is not None:
                over = frame < len(inside)
                expected.append((1, start, frame if over else frame - 1, start > 0, over))
                start = None
        result, _ = follow(ZONE, list(points))
        assert visits(result) == expected
        total += len(expected)
    assert total > 50


def test_memory_of_tracks_that_are_over_is_freed():
    counts = counting.Counting([LINE, ZONE])
    for frame in range(400):
        counts.add(frame, frame, [new_track(frame)], np.array([[180, 150, 220, 190]], np.float32))
    line, zone = counts._counters
    held = (counts._seen, line._points, line._open, zone._known, zone._inside, zone._turned)
    assert max(map(len, held)) <= counting.LOST + 1


def test_of_a_track_that_is_over_only_what_is_written_stays():
    """Its colors and boxes took 4 kB for each object of a camera."""
    counts, kept, tracks = counting.Counting([LINE, ZONE]), records.Records(NAMES), []
    for frame, y in enumerate(np.linspace(110, 290, 20)):
        one = tracks[-1]() if frame % 4 else new_track(frame // 4 + 1)  # each goes on where another one ended
        tracks.append(weakref.ref(one))
        box = np.array([180, y - 40, 220, y], np.float32)
        one.open = [Sighting(one, frame / 10, box, 1.0, True)]
        counts.add(frame, frame / 10, [one], box[None])
        kept.add(frame, frame / 10, np.zeros((400, 400, 3), np.uint8), one.open)
    one.votes[1] = 5.0
    del one
    counts.add(20, 60.0, [], np.zeros((0, 4)))
    gc.collect()
    assert not any(ref() for ref in tracks)
    assert [(one["id"], one["class"]) for one in kept.to_json()] == [*((key, "car") for key in range(1, 5)), (5, "bus")]
    result = counts.to_json(NAMES)
    assert len(result["zones"][0]["visits"]) == 5 and result["zones"][0]["visits"][-1]["class"] == "bus"
