"""Know an object again that was hidden for seconds: by its colors, its size, and where it may have got to.

ByteTrack knows a track again where its motion leads, for a second. What was hidden for longer, or moved otherwise
meanwhile, would be counted as another object. DeepSORT (arXiv 1703.07402) tells such objects by a network's features;
here it is a histogram of colors, which costs less than a twentieth of a millisecond and needs no weights.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from tracking.assignment import assign

MIDDLE = 0.8  # share of a box's sides that is looked at: the edges show what is behind the object
SIDE = 24  # pixels that are taken of a half of it, across and down
LEVELS = 4  # of red, green and blue each
EDGE = 2.0  # pixels: a box that ends so close to the picture's edge may be cut off by it
PAUSE = 0.2  # seconds between two looks at an object, which changes little meanwhile
NEW = 0.25  # weight of a new look in the mean
PLAIN = 0.95  # share of pixels of one color from which on it tells nothing: of all that is dark at night, for example


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an object may be like when it is known again. The defaults were chosen on drives through the toy town.

    seconds: since it was seen last.
    alike: least similarity of its colors, 0 to 1.
    way: how far it may have gone on the way that it was on, in heights of its box: a speed that was seen for a moment
        says little.
    reach, reach_per_second: how far it may be from that way, in heights.
    growth, growth_per_second: factor that its height may have changed by, either way.
    """

    seconds: float = 3.0
    alike: float = 0.93
    way: float = 1.5
    reach: float = 0.5
    reach_per_second: float = 0.25
    growth: float = 1.25
    growth_per_second: float = 0.15


class Lost(NamedTuple):
    """A track that is not seen. velocity: of its box's center when it was seen last, pixels per second."""

    track: Any
    velocity: np.ndarray


def describe(image: np.ndarray, boxes_px: np.ndarray) -> np.ndarray:
    """The colors in boxes: float32 [N,2·LEVELS³], square roots of shares, of the upper and the lower half.

    All 0 of a box that tells too little: that the picture's edge may cut off, that is smaller than 2 × 4 pixels, or of
    one color. image: uint8 RGB [H,W,3]. boxes_px: [N,4] in pixels.
    """
    found = np.zeros((len(boxes_px), 2 * LEVELS**3), np.float32)
    centers, halves = (boxes_px[:, :2] + boxes_px[:, 2:]) / 2, MIDDLE * (boxes_px[:, 2:] - boxes_px[:, :2]) / 2
    parts = np.rint(np.concatenate([centers - halves, centers + halves], axis=1)).astype(int).tolist()
    for row in (~at_edge(boxes_px, image)).nonzero()[0]:
        left, top, right, bottom = parts[row]
        if right - left >= 2 and bottom - top >= 4:
            shares = _colors(image[top:bottom, left:right])
            if shares.mean(axis=0).max() < PLAIN:
                found[row] = np.sqrt(shares).ravel()
    return found


def _colors(part):
    """The share of pixels of each color, float64 [2,LEVELS³], in the upper and the lower half of a picture."""
    small = cv2.resize(part, (SIDE, 2 * SIDE), interpolation=cv2.INTER_NEAREST)
    red, green, blue = cv2.split(small // (256 // LEVELS))
    bins = (LEVELS * (LEVELS * red + green) + blue).astype(np.intp)
    bins[SIDE:] += LEVELS**3
    return np.bincount(bins.ravel(), minlength=2 * LEVELS**3).reshape(2, -1) / SIDE**2


def at_edge(boxes_px: np.ndarray, image: np.ndarray) -> np.ndarray:
    """bool [N]: whether boxes [N,4] end at the edge of a picture [H,W,3], or beyond."""
    height, width = image.shape[:2]
    inside = (boxes_px[:, :2] >= EDGE).all(axis=1) & (boxes_px[:, 2:] <= (width - EDGE, height - EDGE)).all(axis=1)
    return ~inside


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Similarity of two rows of `describe`, 0 to 1: the mean over both halves of Bhattacharyya's coefficient."""
    return float(one @ other) / 2


def mixed(look: np.ndarray | None, seen: np.ndarray) -> np.ndarray | None:
    """The look of a track after `seen`, a row of `describe`: a moving mean, of the length of such a row."""
    if not seen.any():
        return look
    if look is None:
        return seen
    mean = (1 - NEW) * look + NEW * seen
    return mean * np.sqrt(2 / (mean @ mean))


def known_again(tracks: Sequence[Any], lost: Sequence[Lost], limits: Limits) -> list[Lost | None]:
    """Which of the lost tracks each of the new ones is, or None: the pairs that look most alike and are nearest.

    Both are Tracks, of whose class and `look` this makes use; `box` and `born` are of where and when a new one began,
    `box` and `seen` of where and when a lost one ended.
    """
    gains = np.array([[_gain(one, other, limits) for other in lost] for one in tracks], float)
    found: list[Lost | None] = [None] * len(tracks)
    for row, column in zip(*assign(gains.reshape(len(tracks), len(lost))), strict=True):
        found[row] = lost[column]
    return found


def _gain(track, lost, limits):
    """How well a new track and a lost one fit, 0 to 2; 0 if they are not the same object."""
    other = lost.track
    if track.look is None or other.look is None or track.label != other.label:
        return 0.0
    passed = track.born - other.seen
    if not 0 < passed <= limits.seconds:
        return 0.0
    unlike, off = (1 - alike(track.look, other.look)) / (1 - limits.alike), _off(track.box, lost, passed, limits)
    return 2 - unlike - off if max(unlike, off) < 1 else 0.0


def _off(box, lost, passed, limits):
    """How far a box is from where a lost object may have got to in so many seconds, as a share of how far it may be.

    Infinite if it has another size.
    """
    start = lost.track.box
    heights = max(start[3] - start[1], 1e-3), max(box[3] - box[1], 1e-3)
    if max(heights) / min(heights) > limits.growth + limits.growth_per_second * passed:
        return np.inf
    center, way = (start[:2] + start[2:]) / 2, lost.velocity * passed
    way = way * min(1, limits.way * max(heights) / max(np.hypot(*way), 1e-9))
    ahead = (box[:2] + box[2:]) / 2 - center
    # It may have gone on, or stopped anywhere on its way
    part = np.clip(ahead @ way / max(way @ way, 1e-9), 0, 1)
    return np.hypot(*(ahead - part * way)) / ((limits.reach + limits.reach_per_second * passed) * max(heights))
