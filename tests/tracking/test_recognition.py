"""Objects that were hidden for seconds: which are known again, and which are not."""

import types

import numpy as np
import pytest

from structures import Detections
from tracking import recognition
from tracking.counting import Counting
from tracking.places import Place
from tracking.recognition import Limits, Lost, alike, describe, known_again, mixed
from tracking.tracker import Tracker, held_back

RED, GREEN, BLUE = (200, 20, 20), (20, 200, 20), (20, 20, 200)
WIDTH, HEIGHT = 320, 240


def picture(*objects):
    """A gray picture with (box, color of the upper half, of the lower half)."""
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    for (x0, y0, x1, y1), upper, lower in objects:
        image[y0 : (y0 + y1) // 2, x0:x1] = upper
        image[(y0 + y1) // 2 : y1, x0:x1] = lower
    return image


# What it looks like


def test_the_same_object_elsewhere_looks_the_same():
    boxes = np.array([(20, 30, 60, 110), (200, 100, 280, 180)])
    one, other = describe(picture((boxes[0], RED, GREEN), (boxes[1], RED, GREEN)), boxes)
    assert alike(one, one) == pytest.approx(1) and alike(one, other) == pytest.approx(1)
    upside_down, other = describe(picture((boxes[0], GREEN, RED), (boxes[1], RED, BLUE)), boxes)
    assert alike(one, upside_down) == 0
    assert alike(one, other) == pytest.approx(0.5)


def test_shares_of_colors_count_and_small_changes_of_light_do_not():
    box = (20, 20, 120, 220)
    half, darker = picture((box, RED, BLUE)), picture((box, (194, 16, 16), (16, 16, 194)))
    half[:, :70] = GREEN
    plain, split, dark = (describe(image, np.array([box]))[0] for image in (picture((box, RED, BLUE)), half, darker))
    assert alike(plain, split) == pytest.approx(np.sqrt(0.5), abs=0.02)
    assert alike(plain, dark) == pytest.approx(1)


def test_what_shows_too_little_has_no_look():
    cut = [(0, 50, 40, 90), (50, 1, 90, 40), (280, 50, WIDTH, 90), (50, 200, 90, HEIGHT - 1)]
    small = [(50, 50, 51, 90), (50, 50, 90, 53), (50, 50, 50, 50)]
    everywhere = picture()
    everywhere[::2] = RED
    assert not describe(everywhere, np.array([*cut, *small], float)).any()
    night = np.random.default_rng(0).integers(0, 60, (HEIGHT, WIDTH, 3), np.uint8)
    assert not describe(night, np.array([(50, 50, 90, 150)])).any()
    assert describe(picture(), np.zeros((0, 4))).shape == (0, 2 * recognition.LEVELS**3)


def test_the_look_of_a_track_follows_what_is_seen():
    red, green = describe(picture(((20, 20, 60, 60), RED, BLUE), ((80, 20, 120, 60), GREEN, BLUE)), BOXES[:2])
    assert mixed(None, red) is red and mixed(red, np.zeros_like(red)) is red and mixed(None, np.zeros_like(red)) is None
    look = red
    for _ in range(40):
        look = mixed(look, green)
        assert alike(look, look) == pytest.approx(1, abs=1e-5)
    assert alike(look, green) > 0.99


BOXES = np.array([(20, 20, 60, 60), (80, 20, 120, 60)])


# Whether it is the same


def track(box, time, color=RED, label=0):
    look = describe(picture(((20, 20, 60, 60), color, BLUE)), BOXES[:1])[0]
    return types.SimpleNamespace(box=np.array(box, float), born=time, seen=time, look=look, label=label)


@pytest.mark.parametrize(
    ("box", "seconds", "changes", "again"),
    [
        ((100, 100, 140, 140), 2.0, {}, True),
        ((130, 100, 170, 140), 2.0, {}, True),  # within reach
        ((100, 160, 140, 200), 2.0, {}, False),  # too far
        ((160, 100, 200, 140), 2.0, {}, True),  # on its way
        ((200, 100, 240, 140), 2.0, {}, False),  # where it would be after 2 seconds, which is too far to tell
        ((62, 100, 102, 140), 2.0, {}, True),  # back a little
        ((20, 100, 60, 140), 2.0, {}, False),
        ((98, 90, 148, 140), 2.0, {}, True),  # larger
        ((90, 80, 160, 150), 2.0, {}, False),  # too large
        ((100, 110, 120, 130), 2.0, {}, False),  # too small
        ((100, 100, 140, 140), 3.5, {}, False),  # too late
        ((100, 100, 140, 140), 0.0, {}, False),  # at the same time
        ((100, 100, 140, 140), 2.0, {"color": GREEN}, False),
        ((100, 100, 140, 140), 2.0, {"label": 1}, False),
    ],
)
def test_time_place_size_class_and_colors_must_fit(box, seconds, changes, again):
    lost = Lost(track((100, 100, 140, 140), 10.0), np.array([50.0, 0.0]))
    assert known_again([track(box, 10.0 + seconds, **changes)], [lost], Limits()) == [lost if again else None]


def test_without_a_look_nothing_is_known_again():
    new, old = track((100, 100, 140, 140), 11.0), track((100, 100, 140, 140), 10.0)
    for one in (new, old):
        one.look, look = None, one.look
        assert known_again([new], [Lost(old, np.zeros(2))], Limits()) == [None]
        one.look = look


def test_the_most_similar_and_nearest_are_taken():
    """Whatever their order: two that look the same and were hidden together do not exchange their identities."""
    old = [Lost(track((x, 100, x + 40, 180), 10.0), np.zeros(2)) for x in (100, 150)]
    new = [track((x, 100, x + 40, 180), 11.0) for x in (104, 152)]
    assert known_again(new, old, Limits()) == known_again(new, old[::-1], Limits()) == old
    assert known_again(new[::-1], old, Limits()) == old[::-1]
    mixture = picture(((20, 20, 60, 60), RED, BLUE))
    mixture[20:60, 24:28] = GREEN
    new[0].look = old[1].track.look = describe(mixture, BOXES[:1])[0]
    assert 0.93 < alike(new[0].look, new[1].look) < 0.95
    assert known_again(new[:1], old, Limits()) == old[1:]  # not the nearest
    assert known_again([], old, Limits()) == [] and known_again(new, [], Limits()) == [None, None]


# In a film


def film(hidden, colors=(RED, RED), turns=()):
    """(time, Detections, picture) of an object that moves by 2 pixels in a frame of 1/25 s, 100 frames.

    hidden: frames in which it is not seen; colors: of its upper half, before and after; turns: frames in which it
    stands still.
    """
    for index in range(100):
        x = 20 + 2 * (index - sum(one <= index for one in turns))
        seen = [((x, 60, x + 30, 120), colors[index >= hidden[0]], BLUE)] if index not in hidden else []
        boxes = np.array([one for one, _, _ in seen], np.float32).reshape(-1, 4)
        yield (
            index / 25,
            Detections(boxes, np.full(len(seen), 0.9, np.float32), np.zeros(len(seen), np.int32)),
            picture(*seen),
        )


def follow(frames, known=True, hold=12):
    """The Sightings of each frame that process_video.py shows."""
    tracker = Tracker()
    found = ((None, tracker.update(time, seen, image if known else None)) for time, seen, image in frames)
    return [sightings for _, sightings in held_back(found, hold, guess=not hold)]


def identities(shown):
    return {one.track.id for sightings in shown for one in sightings}


@pytest.mark.parametrize("hold", [12, 0])
@pytest.mark.parametrize("last", [48, 59, 79])  # hidden for 0.8 s, and longer than a track is kept
def test_an_object_that_was_hidden_keeps_its_identity(last, hold):
    hidden = range(30, last)
    shown = follow(film(hidden), hold=hold)
    assert identities(shown) == {1}
    tracks = {id(one.track) for sightings in shown for one in sightings}
    assert len(tracks) == 1  # what is counted and recorded of it is of one object
    seen = [index for index, sightings in enumerate(shown) if any(not one.carried for one in sightings)]
    # A live picture does not wait for the second frame in which a track is seen; one that is kept needs no second one
    first = last if hold or last == 48 else last + 1
    assert seen == [*range(30), *range(first, 100)]
    assert max(len(sightings) for sightings in shown) == 1  # never twice in one frame
    if last > 55:
        assert identities(follow(film(hidden), known=False)) == {1, 2}


def test_another_object_gets_another_identity():
    assert identities(follow(film(range(30, 70), (RED, GREEN)))) == {1, 2}
    assert identities(follow(film(range(20, 90)))) == {1}
    assert identities(follow(film(range(20, 95)))) == {1, 2}  # more than 3 s later


def test_one_lost_object_is_only_one_of_two_new_ones():
    """Two of the same look where one was lost: the second is new."""
    frames = []
    for time, found, image in film(range(30, 60)):
        if time >= 60 / 25:
            again = found.boxes_px + np.float32((0, 70, 0, 70))
            boxes = np.concatenate([found.boxes_px, again])
            image = picture(*((box.astype(int), RED, BLUE) for box in boxes))
            found = Detections(boxes, np.full(2, 0.9, np.float32), np.zeros(2, np.int32))
        frames.append((time, found, image))
    shown = follow(frames)
    assert identities(shown) == {1, 2} and len(shown[-1]) == 2


def test_who_crosses_a_line_while_hidden_is_counted():
    counting = Counting([Place("line", np.array([(120.0, 240.0), (120.0, 0.0)]), "--line")])
    for index, sightings in enumerate(follow(film(range(30, 70)))):
        boxes = np.array([one.box for one in sightings]).reshape(-1, 4)
        counting.add(index, index / 25, [one.track for one in sightings], boxes)
    (line,) = counting.to_json(["car"])["lines"]
    assert sum(line["in"].values()) + sum(line["out"].values()) == 1


def test_the_gap_of_one_that_is_known_again_soon_is_filled():
    """It stood still where motion led on; what is hidden by --blur must not show in between."""
    shown = follow(film(range(40, 50), turns=range(38, 50)))
    assert identities(shown) == {1} and all(len(sightings) == 1 for sightings in shown)
    assert [sightings[0].carried for sightings in shown] == [40 <= index < 50 for index in range(100)]


def walking(least):
    """(time, Detections, picture) of one that walks behind another, of the same size and another color.

    least: IoU with the one in front from which on it is not seen.
    """
    for index in range(100):
        behind, front = ((x, 60, x + 40, 140) for x in (30 + 2 * index, 140))
        shared = max(0, 40 - abs(behind[0] - front[0]))
        seen = [behind] if shared / (80 - shared) <= least else []
        boxes = np.array([*seen, front], np.float32)
        scores, labels = np.full(len(boxes), 0.9, np.float32), np.zeros(len(boxes), np.int32)
        yield index / 25, Detections(boxes, scores, labels), picture((behind, RED, BLUE), (front, GREEN, BLUE))


def test_one_that_walks_behind_another_is_known_again():
    for least in (0, 0.1):
        shown = follow(walking(least))
        assert identities(shown) == {1, 2}
        assert {one.track.id for one in shown[-1]} == {one.track.id for one in shown[0]}


def test_what_left_through_the_edge_is_not_what_comes_in_there():
    def leaving():
        for index in range(100):
            x = 200 + 4 * index if index < 40 else 560 - 4 * index
            box = np.array([(x, 60, x + 60, 120)], np.float32)
            whole = box[0, 2] <= WIDTH - 4  # what is cut off is not detected
            found = Detections(box, np.full(1, 0.9, np.float32), np.zeros(1, np.int32))
            yield index / 25, found.where(np.array([whole])), picture(((x, 60, x + 60, 120), RED, BLUE))

    assert identities(follow(leaving())) == {1, 2}
