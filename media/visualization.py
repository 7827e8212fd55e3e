"""Pictures for people: boxes with labels drawn into photographs."""

import functools
import itertools
import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from media import lettering, marks
from media.class_colors import Color, class_colors
from structures import Detections, Sample

SHOW_THRESHOLD = 0.5  # default for the lowest score that is shown to people
MOST_SHOWN = 50  # default for the most boxes of a picture that are drawn: more hide it

# Sizes as parts of the square root of the image's area: 2 and 21 pixels at 1280 × 720.
LINE_PART, FONT_PART = 1 / 400, 1 / 46
LATER_PLACE = 0.15  # for each place that a label is not put in, as much of it may lie on other boxes


def draw_detections(
    image: np.ndarray,
    detections: Detections,
    class_names: Sequence[str],
    *,
    gt: Sample | None = None,
    legend: Sequence[tuple[str, Color | None]] = (),
) -> np.ndarray:
    """A copy of an image with a box and a label, 'car 0.93', for each detection; the best are on top.

    image: uint8 RGB [H,W,3] of any size.
    detections: their labels index class_names.
    gt: a sample whose ground truth is drawn below them in dashed white.
    legend: lines of text in the upper left corner, (text, a color that is shown before it or None).
    """
    words = [
        (class_names[label], f"{score:.2f}") for label, score in zip(detections.labels, detections.scores, strict=True)
    ]
    return _draw(image, detections.boxes_px, detections.labels, words, class_names, gt, legend=legend)


def draw_tracks(
    image: np.ndarray,
    detections: Detections,
    ids: Sequence[int],
    trails: Sequence[np.ndarray],
    class_names: Sequence[str],
    carried: Sequence[bool],
    places: Sequence[tuple[np.ndarray, str]] = (),
    legend: Sequence[tuple[str, Color | None]] = (),
) -> np.ndarray:
    """A copy of an image with a box, a label, 'car 12 0.93', and a trail, which widens to its end, for each track.

    image, detections, class_names, legend: as of `draw_detections`. ids: [N]. trails: N arrays [K,2] of pixels (x, y),
    from the oldest on. carried: [N]: the score of a track that was not detected is of another frame, and left out.
    places: lines and zones with a text each, as (points [2,2] or [N,2] in pixels, text).
    """
    words = [
        (class_names[label], str(key), *([] if guessed else [f"{score:.2f}"]))
        for label, key, score, guessed in zip(detections.labels, ids, detections.scores, carried, strict=True)
    ]
    return _draw(
        image, detections.boxes_px, detections.labels, words, class_names, trails=trails, places=places, legend=legend
    )


def draw_objects(
    image: np.ndarray, boxes_px: ArrayLike, labels: Sequence[int], class_names: Sequence[str]
) -> np.ndarray:
    """A copy of an image with a box and the name of its class for each object.

    image: uint8 RGB [H,W,3] of any size; boxes_px: [N,4] (xmin, ymin, xmax, ymax) in its pixels; labels: [N], indices
    into class_names.
    """
    return _draw(image, boxes_px, labels, [(class_names[label],) for label in labels], class_names)


def _draw(image, boxes_px, labels, words, class_names, gt=None, trails=(), places=(), legend=()):
    """A copy of an image with boxes; words: for each the parts of its label. The first boxes are on top.

    trails: for none of the boxes, or for each a way [K,2], drawn below all boxes, as `places` are.
    """
    canvas = np.array(image, order="C")
    line, font = sizes(canvas)
    for points, _ in places:
        (marks.draw_line if len(points) == 2 else marks.draw_zone)(canvas, points, line)
    if gt is not None:
        for box in gt.boxes_px:
            draw_dashed(canvas, box, line)
    colors = class_colors(class_names)
    for trail, label in zip(trails, labels, strict=bool(trails)):
        _draw_trail(canvas, trail, line, colors[label])
    for box, label in zip(boxes_px[::-1], labels[::-1], strict=True):
        draw_box(canvas, box, line, colors[label])
    tabs = _Tabs(canvas, line)
    panel = _legend(legend, font)[: len(canvas), : canvas.shape[1]]
    tabs.keep_free(panel.shape[1], len(panel))
    strips = [_strip(points, font) for points, _ in places if len(points) == 2]
    tabs.avoid(np.concatenate([np.zeros((0, 4)), *strips]))
    for points, text in places:
        for box in _spots(points, font):
            if tabs.draw(box, (text,), font, marks.COLOR):
                break
    tabs.avoid(boxes_px)  # from here on: the texts of places stay where they are while objects pass
    for box, label, text in zip(boxes_px, labels, words, strict=True):
        tabs.draw(box, text, font, colors[label])
    below = canvas[: len(panel), : panel.shape[1]]
    below[:] = np.maximum(below // 3, panel)
    return canvas


def _spots(points, size):
    """Boxes beside which the text of a place may stand, the best first: a line's first end, its other end, all of it.

    size: of the letters in pixels; an end is taken for so wide that a text beside it leaves the line visible.
    """
    whole = np.concatenate([points.min(axis=0), points.max(axis=0)])
    if len(points) > 2:
        return [whole]
    across, down = np.abs(points[1] - points[0])
    # A steep line's text begins right of it or ends left of it: the box of an end has its sides exchanged
    half = np.array([size / 2 if across > down else -size / 2, size / 2])
    return [*(np.concatenate([end - half, end + half]) for end in points), whole]


def _strip(points, size):
    """Boxes [N,4], `size` pixels wide and high, along a line [2,2]: so many that a text on a few costs much."""
    centers = np.linspace(*points, math.ceil(4 * math.dist(*points) / size) + 1)
    return np.concatenate([centers - size / 2, centers + size / 2], axis=1)


def sizes(image: np.ndarray) -> tuple[int, int]:
    """Pixels of lines and of letters that suit an image [H,W,3]."""
    scale = np.sqrt(image.shape[0] * image.shape[1])
    return max(2, round(scale * LINE_PART)), max(lettering.SMALLEST_FONT, round(scale * FONT_PART))


def _legend(lines, size):
    """Lines of (text, color or None), in letters of `size` pixels, on black: uint8 RGB [H,W,3]."""
    rows = [lettering.tab(text, size, (0, 0, 0)) for text, _ in lines]
    height, left = max(map(len, rows), default=0), 0
    if any(color is not None for _, color in lines):
        left = height
    panel = np.zeros((height * len(rows), max((row.shape[1] for row in rows), default=0) + left, 3), np.uint8)
    for index, (row, (_, color)) in enumerate(zip(rows, lines, strict=True)):
        strip = panel[index * height : (index + 1) * height]
        strip[:, (0 if color is None else left) :][:, : row.shape[1]] = row
        if color is not None:
            strip[height // 4 : height - height // 4, height // 4 : height - height // 4] = color
    return panel


def _draw_trail(canvas, trail, line, color):
    """Draw a way [K,2] in pixels, from a thin start to an end that is as wide as a box's line."""
    points = np.rint(np.asarray(trail) * 16).astype(np.int32)  # sixteenths of a pixel
    for width, start, end in _trail_widths(len(points) - 1, line):
        cv2.polylines(canvas, [points[start : end + 1]], False, color, width, cv2.LINE_AA, 4)


@functools.lru_cache(maxsize=512)
def _trail_widths(parts, line):
    """[(width, first, end)]: which of the straight parts of a way are so many pixels wide."""
    widths = np.maximum(1, np.rint(line * np.arange(1, parts + 1) / max(parts, 1)))
    ends = np.searchsorted(widths, np.arange(1, line + 2)).tolist()
    return [(width, *between) for width, between in enumerate(itertools.pairwise(ends), 1) if between[0] < between[1]]


def crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The part of an image inside a box (xmin, ymin, xmax, ymax), continuous edges in pixels: at least one pixel."""
    height, width = image.shape[:2]
    x0, y0 = (int(min(max(edge, 0), side - 1)) for edge, side in zip(box[:2], (width, height), strict=True))
    x1, y1 = (math.ceil(min(edge, side)) for edge, side in zip(box[2:], (width, height), strict=True))
    return image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]


def _edges(canvas, box, width):
    """Slices (rows, columns) of the four sides of a box: strips `width` thick along the inside of its edges.

    The box is clipped to the image first. Order: top, bottom, left, right.
    """
    height_px, width_px = canvas.shape[:2]
    limit = (width_px, height_px, width_px, height_px)
    x0, y0, x1, y1 = (int(edge) for edge in np.rint(np.clip(box, 0, limit)))
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    across, down = min(width, x1 - x0), min(width, y1 - y0)
    return (
        (slice(y0, y0 + down), slice(x0, x1)),
        (slice(y1 - down, y1), slice(x0, x1)),
        (slice(y0, y1), slice(x0, x0 + across)),
        (slice(y0, y1), slice(x1 - across, x1)),
    )


def draw_box(canvas: np.ndarray, box: np.ndarray, line: int, color: Color) -> None:
    """Draw the outline of a box, `line` pixels wide, with a dark seam inside that shows on backgrounds of its color.

    canvas: uint8 RGB [H,W,3], changed in place; box: (xmin, ymin, xmax, ymax) in pixels.
    """
    seam = max(1, line // 3)
    for rows, columns in _edges(canvas, box, line + seam):
        canvas[rows, columns] //= 2
    for rows, columns in _edges(canvas, box, line):
        canvas[rows, columns] = color


def draw_dashed(canvas: np.ndarray, box: np.ndarray, line: int) -> None:
    """Draw a thin outline of black and white dashes, which shows on any background; arguments as of `draw_box`."""
    dash = 4 * line
    for side, (rows, columns) in enumerate(_edges(canvas, box, max(1, line // 2))):
        strip, horizontal = canvas[rows, columns], side < 2
        along = np.arange(strip.shape[1 if horizontal else 0]) // dash % 2 == 0
        shade = np.where(along, 255, 0).astype(np.uint8)[:, None]
        strip[:] = shade[None] if horizontal else shade[:, None]


class _Tabs:
    """Draws the labels of one image on filled tabs that do not overlap."""

    def __init__(self, canvas, line):
        self._canvas, self._line = canvas, line
        self._boxes = np.zeros((0, 4))
        self._taken = np.zeros((0, 4), int)

    def avoid(self, boxes):
        """Cover boxes [N,4] of other objects only where no better place is free."""
        self._boxes = np.asarray(boxes, np.float64).reshape(-1, 4)

    def keep_free(self, width, height):
        """Put no tab into the upper left corner."""
        if width and height:
            self._taken = np.append(self._taken, [[0, 0, width, height]], axis=0)

    def draw(self, box, words, font_size, color):
        """Draw a tab with `words` in a free place next to the box, or with the first word if there is less space.

        Draws nothing, and returns False, if other labels leave no space (the color still shows the class) or the image
        is too small.
        """
        parts = [lettering.tab(word, font_size, color) for word in words]
        while parts:
            height, width = len(parts[0]), sum(part.shape[1] for part in parts)
            place = self._place(box, width, height)
            if place is not None:
                break
            parts.pop()
        if parts:
            x, y = place
            self._taken = np.append(self._taken, [[x, y, x + width, y + height]], axis=0)
            for part in parts:
                self._canvas[y : y + height, x : x + part.shape[1]] = part
                x += part.shape[1]
        return bool(parts)

    def _place(self, box, width, height):
        """(x, y) of the best place where a tab covers no other, or None.

        The first is best, above the box, then below it, then inside; less good is one on other boxes.
        """
        bottom, right = self._canvas.shape[:2]
        if width > right or 3 * height > bottom:
            return None
        x0, y0, x1, y1 = (int(edge) for edge in np.rint(np.clip(box, 0, (right, bottom, right, bottom))))
        left, flush = min(x0, right - width), min(max(x1 - width, 0), right - width)
        rows = (y0 - height, y1, y0 + self._line, y1 - self._line - height)
        places = np.array([(x, y) for y in rows for x in (left, flush) if 0 <= y <= bottom - height])
        if not len(places):
            return None
        free = ~(_shared(places, width, height, self._taken) > 0).any(axis=1)
        if not free.any():
            return None
        others = self._boxes[(self._boxes != box).any(axis=1)]
        covered = _shared(places, width, height, others).sum(axis=1) / (width * height)
        cost = covered + LATER_PLACE * np.arange(len(places))
        return tuple(places[np.where(free, cost, np.inf).argmin()].tolist())


def _shared(places, width, height, boxes):
    """float [P,N]: pixels of a tab at each of places [P,2] (x, y) that lie in each of boxes [N,4]."""
    low = np.maximum(places[:, None], boxes[None, :, :2])
    high = np.minimum(places[:, None] + (width, height), boxes[None, :, 2:])
    return np.maximum(high - low, 0).prod(axis=2)
