"""Lines and zones drawn into a picture, and people made unrecognizable in it."""

import math

import cv2
import numpy as np

COLOR = (255, 255, 255)  # of lines and zones, which no class has
FILL = 0.18  # how much of a zone's inside is white
SUBPIXEL = 4  # bits of a pixel in coordinates
MOSAIC = 6  # tiles along the longer side of what is hidden
WIDER = 0.1  # by how much of a box what is hidden is larger, on each side


def draw_line(canvas: np.ndarray, points: np.ndarray, width: int) -> None:
    """Draw a line with an arrow across it, to the right of its way from the first to the second end.

    canvas: uint8 RGB [H,W,3], changed in place; points: float [2,2] (x, y) in pixels; width: pixels.
    """
    start, end = points
    middle, along = (start + end) / 2, (end - start) / max(math.dist(start, end), 1e-9)
    right = np.array([-along[1], along[0]])  # y points down
    tip = middle + 9 * width * right
    barbs = [tip - 4 * width * (right + side * along) for side in (-1, 1)]
    _strokes(canvas, [(start, end), (middle, tip), (barbs[0], tip), (barbs[1], tip)], width)


def draw_zone(canvas: np.ndarray, points: np.ndarray, width: int) -> None:
    """Draw the outline of a polygon, and its inside a little lighter; arguments as of `draw_line`, points [N,2]."""
    corners = np.rint(points * 2**SUBPIXEL).astype(np.int32)
    x, y, across, down = cv2.boundingRect(np.rint(points).astype(np.int32))
    part = canvas[max(y, 0) : y + down, max(x, 0) : x + across]
    if part.size:
        inside = np.zeros(part.shape[:2], np.uint8)
        shift = np.array([max(x, 0), max(y, 0)], np.int32) * 2**SUBPIXEL
        cv2.fillPoly(inside, [corners - shift], 255, cv2.LINE_8, SUBPIXEL)
        lighter = cv2.addWeighted(part, 1 - FILL, np.full_like(part, 255), FILL, 0)
        part[inside > 0] = lighter[inside > 0]
    _strokes(canvas, list(zip(points, np.roll(points, -1, axis=0), strict=True)), width)


def _strokes(canvas, strokes, width):
    """White strokes with a dark seam, which show on any background."""
    for color, thickness in (((0, 0, 0), width + 2 * max(1, width // 3)), (COLOR, width)):
        for one, other in strokes:
            ends = (np.rint(point * 2**SUBPIXEL).astype(int).tolist() for point in (one, other))
            cv2.line(canvas, *ends, color, thickness, cv2.LINE_AA, SUBPIXEL)


def hide(image: np.ndarray, boxes_px: np.ndarray) -> np.ndarray:
    """A copy of an image in which boxes, and a little around them, are a few large tiles.

    image: uint8 RGB [H,W,3]; boxes_px: [N,4] (xmin, ymin, xmax, ymax). What a tile shows is the mean of its pixels in
    the plain image, so nothing finer can be computed back.
    """
    hidden = image.copy()
    height, width = image.shape[:2]
    for x0, y0, x1, y1 in np.asarray(boxes_px, np.float64).reshape(-1, 4):
        dx, dy = WIDER * (x1 - x0), WIDER * (y1 - y0)
        left, right = max(math.floor(x0 - dx), 0), min(math.ceil(x1 + dx), width)
        top, bottom = max(math.floor(y0 - dy), 0), min(math.ceil(y1 + dy), height)
        if left < right and top < bottom:
            part = hidden[top:bottom, left:right]
            tile = max(part.shape[:2]) / MOSAIC
            tiles = [max(1, round(side / tile)) for side in part.shape[1::-1]]
            small = cv2.resize(part, tiles, interpolation=cv2.INTER_AREA)
            part[:] = cv2.resize(small, part.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return hidden
