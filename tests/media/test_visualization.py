"""Drawn boxes and labels: which pixels change."""

import warnings

import cv2
import numpy as np
import pytest

from gray_canvas import GRAY, canvas
from media import charts, lettering, marks, score_plots, track_chart, visualization
from media.class_colors import class_colors
from structures import Detections, Sample

NAMES = ("car", "bus", "person", "zebra crossing")


def detected(boxes, labels=None, scores=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    scores = np.linspace(0.99, 0.5, len(boxes)) if scores is None else scores
    labels = [0] * len(boxes) if labels is None else labels
    return Detections(boxes, np.array(scores, np.float32), np.array(labels, np.int32))


def inked(image):
    """bool [H,W]: pixels that differ from the gray canvas."""
    return (image != GRAY).any(axis=2)


def test_the_image_is_not_changed():
    image = canvas(320, 240)
    before = image.copy()
    drawn = visualization.draw_detections(image, detected([50, 60, 200, 200]), NAMES)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8 and drawn is not image
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(visualization.draw_detections(image, Detections.empty(), NAMES), before)


def test_read_only_and_reversed_images_are_drawn_on():
    image = canvas(320, 240)
    found = detected([50, 60, 200, 200])
    expected = visualization.draw_detections(image, found, NAMES)
    image.flags.writeable = False
    np.testing.assert_array_equal(visualization.draw_detections(image[:, :, ::-1], found, NAMES), expected)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (1280, 720), (4000, 3000), (720, 1280)])
def test_a_box_is_an_outline_in_its_color_with_a_label_above(width, height):
    box = np.array([0.25, 0.3, 0.8, 0.9]) * ([width, height] * 2)
    drawn = visualization.draw_detections(canvas(width, height), detected(box), NAMES)
    color = class_colors(NAMES)[0]
    x0, y0, x1, y1 = np.rint(box).astype(int)
    middle = (x0 + x1) // 2, (y0 + y1) // 2
    for x, y in ((middle[0], y0), (middle[0], y1 - 1), (x0, middle[1]), (x1 - 1, middle[1])):
        assert tuple(drawn[y, x]) == color
    ink = inked(drawn)
    assert not ink[y1:].any() and not ink[:, x1:].any() and not ink[:, :x0].any()
    line = np.argmin(ink[y0:y1, middle[0]])
    assert 2 <= line <= max(4, height / 100)
    assert not ink[y0 + line : y1 - line, x0 + line : x1 - line].any()  # the object stays visible
    label = ink[:y0]
    rows, columns = np.flatnonzero(label.any(axis=1)), np.flatnonzero(label.any(axis=0))
    assert 11 <= len(rows) <= height / 10 and rows[-1] == y0 - 1
    assert len(columns) < width / 3


def test_label_text_is_legible():
    """Black on a light tab, white on a dark one, at full contrast somewhere in each letter's stem."""
    drawn = visualization.draw_detections(
        canvas(640, 480), detected([[50, 100, 200, 300], [350, 100, 600, 300]], [0, 15]), [f"c{i}" for i in range(16)]
    )
    for x, label in ((50, 0), (350, 15)):
        color = class_colors([f"c{i}" for i in range(16)])[label]
        luma = np.dot(color, (0.299, 0.587, 0.114))
        tab = drawn[100 - 12 : 100, x : x + 60]
        assert (tab == (0 if luma >= 120 else 255)).all(axis=2).any()
        assert (tab == color).all(axis=2).any()


CORNERS = [[0, 0, 60, 60], [260, 0, 320, 60], [0, 180, 60, 240], [260, 180, 320, 240]]


@pytest.mark.parametrize("box", [*CORNERS, [0, 0, 320, 240], [-50, -50, 900, 900], [100, 0, 110, 240]])
def test_labels_stay_inside_the_image(box):
    drawn = visualization.draw_detections(canvas(320, 240), detected(box, [3]), NAMES)
    color = class_colors(NAMES)[3]
    tab = lettering.tab("zebra crossing", lettering.SMALLEST_FONT, color)
    x, y = cv2.minMaxLoc(cv2.matchTemplate(drawn, tab, cv2.TM_SQDIFF))[2]
    np.testing.assert_array_equal(drawn[y : y + tab.shape[0], x : x + tab.shape[1]], tab)  # complete


def test_labels_do_not_cover_each_other():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 250, (40, 2))
    boxes = np.concatenate([low, low + rng.uniform(10, 70, (40, 2))], axis=1)
    tabs = visualization._Tabs(canvas(320, 240), 2)
    for box in boxes:
        tabs.draw(box, ("car", "0.50"), 11, (255, 0, 0))
    taken = tabs._taken
    assert len(taken) > 10
    cover = np.zeros((240, 320), int)
    for x0, y0, x1, y1 in taken:
        cover[y0:y1, x0:x1] += 1
    assert cover.max() == 1 and cover.sum() == ((taken[:, 2:] - taken[:, :2]).prod(axis=1)).sum()


def test_a_label_moves_off_other_boxes():
    """The place above the first box is on the second one; below it is free."""
    own, other = [100, 120, 160, 160], [90, 60, 200, 118]
    drawn = visualization.draw_detections(canvas(320, 240), detected([own, other]), NAMES)
    label = lettering.tab("car", lettering.SMALLEST_FONT, class_colors(NAMES)[0])
    x, y = cv2.minMaxLoc(cv2.matchTemplate(drawn[110:], label, cv2.TM_SQDIFF))[2]
    assert (x, y + 110) == (100, 160)
    alone = visualization.draw_detections(canvas(320, 240), detected([own]), NAMES)
    x, y = cv2.minMaxLoc(cv2.matchTemplate(alone, label, cv2.TM_SQDIFF))[2]
    assert (x, y) == (100, 120 - len(label))


LINES = [
    *(((64, 432), (576, 240)), ((0, 300), (640, 300)), ((600, 60), (20, 470))),
    *(((320, 470), (320, 9)), ((5, 5), (600, 400)), ((200, 200), (210, 230))),
]


@pytest.mark.parametrize("with_legend", [False, True])
@pytest.mark.parametrize("ends", LINES)
def test_the_text_of_a_line_stands_at_its_first_end(ends, with_legend):
    """Of several slanting lines it says which one it counts; where there is room, it does not cover the line."""
    image, points = canvas(640, 480), np.array(ends, float)
    legend = [("0:01 of 2:30", None)] * with_legend

    text, font = "gate: 10 in, 3 out", visualization.sizes(image)[1]
    drawn = visualization.draw_tracks(image, Detections.empty(), [], [], NAMES, [], [(points, text)], legend)
    tab = lettering.tab(text, font, marks.COLOR)
    low = np.array(cv2.minMaxLoc(cv2.matchTemplate(drawn, tab, cv2.TM_SQDIFF))[2])
    high = low + tab.shape[1::-1]
    np.testing.assert_array_equal(drawn[low[1] : high[1], low[0] : high[0]], tab)
    end = points[1] if with_legend and ends[0] == (5, 5) else points[0]  # the legend is over the first one
    assert (np.maximum(low - end, end - high) <= 2 * font).all()
    along = np.linspace(*points, 300)
    assert ends[0] == (5, 5) or not ((along >= low) & (along <= high)).all(axis=1).any()


@pytest.mark.parametrize("size", [(320, 240), (3840, 2160)])
def test_the_legend_lies_on_top_and_labels_avoid_it(size):
    lines = [("0:01.5", None), ("car 1, 3 so far", (255, 0, 0))]
    box = [4, 30, size[0] // 2, size[1] // 2]  # its label would be above it, under the legend
    drawn = visualization.draw_detections(canvas(*size), detected(box), NAMES, legend=lines)
    panel = visualization._legend(lines, visualization.sizes(drawn)[1])
    top = drawn[: len(panel), : panel.shape[1]]
    assert (top[panel > 0] >= panel[panel > 0]).all() and (top[panel == 255] == 255).all()
    assert (top[:, :, 2].astype(int) - panel[:, :, 2]).max() <= 255 // 3  # dark below its letters
    assert (panel == (255, 0, 0)).all(axis=2).any()
    label = lettering.tab("car", visualization.sizes(drawn)[1], class_colors(NAMES)[0])
    x, y = cv2.minMaxLoc(cv2.matchTemplate(drawn, label, cv2.TM_SQDIFF))[2]
    assert (drawn[y : y + len(label), x : x + label.shape[1]] == label).all()  # elsewhere, and complete


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 5000), (5000, 2), (7, 7), (30, 30), (60, 40)])
def test_images_of_any_size(width, height):
    boxes = [[0, 0, width, height], [width / 2, height / 2, width, height], [width, height, width, height]]
    truth = Sample("a", "", np.float32([[0, 0, 1, 1]]), np.int32([0]), np.array([False]), width, height)
    drawn = visualization.draw_detections(canvas(width, height), detected(boxes, [0, 1, 3]), NAMES, gt=truth)
    assert drawn.shape == (height, width, 3)


def test_the_best_detection_lies_on_top():
    same = [[50, 60, 200, 200]] * 2
    drawn = visualization.draw_detections(canvas(320, 240), detected(same, [1, 2]), NAMES)
    assert tuple(drawn[130, 50]) == class_colors(NAMES)[1]


def test_ground_truth_is_dashed_white():
    boxes = np.float32([[0.25, 0.25, 0.75, 0.75]])
    truth = Sample("a", "", boxes, np.int32([0]), np.array([False]), 320, 240)
    drawn = visualization.draw_detections(canvas(320, 240), Detections.empty(), NAMES, gt=truth)
    edge = drawn[60, 80:240]
    assert set(map(tuple, edge.tolist())) == {(255, 255, 255), (0, 0, 0)}
    assert 0.3 < (edge == 255).all(axis=1).mean() < 0.7
    assert not inked(drawn)[64:176, 84:236].any()


ODD_NAMES = ("a\nb", "\r", "\x85", "\ud800", "$x_{$", "\u2028", "ok", "", "x" * 100_000)


def test_names_that_cannot_be_drawn_are_drawn_otherwise(tmp_path):
    labels = np.arange(len(ODD_NAMES))
    boxes = np.tile(np.float32([10, 40, 100, 100]), (len(labels), 1))
    drawn = visualization.draw_objects(np.zeros((200, 300, 3), np.uint8), boxes, labels, ODD_NAMES)
    assert drawn.any()
    assert [lettering.drawable(name) for name in ODD_NAMES[:4]] == ["a\N{REPLACEMENT CHARACTER}b", *["\ufffd"] * 3]
    curve = np.float32([0, 0.5, 1])
    for name in ODD_NAMES[:-1]:
        charts.plot_precision_recall(tmp_path / "a.png", [(name, curve, curve)], name)
        charts.plot_precision_recall(tmp_path / "a.png", [(name, curve, curve)] * 2, name)
    score_plots.plot_matrix(tmp_path / "a.png", list(ODD_NAMES), np.eye(len(ODD_NAMES), dtype=int), "$x_{$")
    for title in (*ODD_NAMES, "bad\udcff.mp4"):  # the names of videos
        track_chart.plot_tracks(tmp_path / "b.png", title, {"$x_{$": [(0, 1)]}, ODD_NAMES, 2)


def test_letters_that_the_font_lacks_give_no_warnings(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        track_chart.plot_tracks(tmp_path / "a.png", "\u65e5\u672c.mp4", {"\u8eca": [(0, 1)]}, ["\u8eca"], 2)
    assert (tmp_path / "a.png").exists()
