"""Lines, zones and what is hidden: which pixels change."""

import cv2
import numpy as np
import pytest

from gray_canvas import GRAY, canvas
from media import lettering, marks, visualization
from structures import Detections


def test_a_line_has_an_arrow_to_its_right():
    drawn = canvas()
    marks.draw_line(drawn, np.array([[50.0, 100], [250, 100]]), 2)
    white = (drawn > 200).all(axis=2)
    assert white[99:101, 60:240].any(axis=0).all()
    assert white[105:118, 148:153].any() and not white[:95].any()  # y points down: right is below
    back = canvas()
    marks.draw_line(back, np.array([[250.0, 100], [50, 100]]), 2)
    assert (back > 200).all(axis=2)[85:95].any() and not (back > 200).all(axis=2)[106:].any()


def test_a_zone_is_lighter_inside():
    drawn = canvas()
    corners = np.array([[60.0, 60], [200, 60], [200, 180], [60, 180]])
    marks.draw_zone(drawn, corners, 2)
    inside, outside = drawn[80:160, 80:180], drawn[190:]
    assert (inside == round(GRAY + marks.FILL * (255 - GRAY))).all() and (outside == GRAY).all()
    assert (drawn[60, 70:190] > 200).all()
    for points in (corners + 200, corners - 100, corners * 100):  # partly or wholly outside
        marks.draw_zone(canvas(), points, 2)


def test_what_is_hidden_cannot_be_recognized():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (240, 320, 3), np.uint8)
    box = np.array([[100, 60, 160, 180]])
    hidden = marks.hide(image, box)
    part = hidden[60:180, 100:160]
    assert len(np.unique(part.reshape(-1, 3), axis=0)) <= marks.MOSAIC**2
    assert part.std() < image.std() / 4  # means of many pixels
    edge = [slice(60 - 13, 180 + 13), slice(100 - 7, 160 + 7)]
    rest = hidden.copy()
    rest[tuple(edge)] = image[tuple(edge)]
    assert (rest == image).all() and not np.shares_memory(hidden, image)


@pytest.mark.parametrize(
    "box", [[-20, -20, 10, 10], [310, 230, 400, 300], [5, 5, 5, 5], [400, 400, 500, 500], [0, 0, 1, 240]]
)
def test_boxes_at_the_edge_are_hidden_without_an_error(box):
    assert marks.hide(canvas(), np.array([box])).shape == (240, 320, 3)


def test_places_have_their_texts_where_they_stay():
    """Objects that pass do not move the text of a line, which is at its first end."""
    line = [(np.array([[60.0, 120], [260, 120]]), "gate: 1 in, 0 out")]
    text = lettering.tab(line[0][1], lettering.SMALLEST_FONT, marks.COLOR)
    found = set()
    for left in (-100, 40, 60, 100):
        box = Detections(
            np.array([[left, 90, left + 90, 150]], np.float32), np.array([0.9], np.float32), np.zeros(1, int)
        )
        drawn = visualization.draw_tracks(canvas(), box, [1], [np.zeros((0, 2))], ["car"], [False], line)
        start, top = cv2.minMaxLoc(cv2.matchTemplate(drawn, text, cv2.TM_SQDIFF))[2]
        assert (drawn[top : top + len(text), start : start + text.shape[1]] == text).all()
        found.add((start, top))
    ((start, top),) = found
    assert abs(top + len(text) - 120) <= len(text) and abs(start - 60) <= len(text)
