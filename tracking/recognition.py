"""Know an object again that was hidden for seconds: by its colors, its size, and where it may have got to.

ByteTrack knows a track again where its motion leads, for a second. What was hidden for longer, or moved otherwise
meanwhile, would be counted as another object. DeepSORT (arXiv 1703.07402) tells such objects by a network's features;
here it is a histogram of colors, which costs a twentieth of a millisecond and needs no weights.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np

MIDDLE = 0.8  # share of a box's sides that is looked at: the edges show what is behind the object
SIDE = 24  # pixels that are taken of a half of it, across and down
LEVELS = 4  # of red, green and blue each
EDGE = 2.0  # pixels: a box that ends so close to the picture's edge may be cut off by it


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an object may be like when it is known again. The defaults were chosen on drives through the toy town.

    seconds: since it was seen last.
    alike: least similarity of its colors, 0 to 1.
    reach, reach_per_second: how far it may be from the way that it was on, in heights of its box.
    growth, growth_per_second: factor that its height may have changed by, either way.
    """

    seconds: float = 3.0
    alike: float = 0.95
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

    All 0 of a box that the picture's edge may cut off, or that is smaller than 2 × 4 pixels: it shows too little.
    image: uint8 RGB [H,W,3]. boxes_px: [N,4] in pixels.
    """
    height, width = image.shape[:2]
    found = np.zeros((len(boxes_px), 2, LEVELS**3), np.float32)
    for histograms, box in zip(found, boxes_px, strict=True):
        if (box[:2] < EDGE).any() or box[2] > width - EDGE or box[3] > height - EDGE:
            continue
        center, half = (box[:2] + box[2:]) / 2, MIDDLE * (box[2:] - box[:2]) / 2
        (left, top), (right, bottom) = np.rint([center - half, center + half]).astype(int)
        if right - left < 2 or bottom - top < 4:
            continue
        middle = (top + bottom) // 2
        for histogram, part in zip(histograms, (image[top:middle], image[middle:bottom]), strict=True):
            small = cv2.resize(part[:, left:right], (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
            red, green, blue = cv2.split(small // (256 // LEVELS))
            bins = (LEVELS * (LEVELS * red + green) + blue).ravel()
            histogram[:] = np.sqrt(np.bincount(bins, minlength=LEVELS**3) / len(bins))
    return found.reshape(len(found), 2 * LEVELS**3)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Similarity of two rows of `describe`, 0 to 1: the mean over both halves of Bhattacharyya's coefficient."""
    return float(one @ other) / 2


def mixed(look: np.ndarray | None, seen: np.ndarray) -> np.ndarray | None:
    """The look of a track after `seen`, a row of `describe`: a moving mean, of the length of such a row."""
    if not seen.any():
        return look
    if look is None:
        return seen
    mean = 0.9 * look + 0.1 * seen
    return mean * np.sqrt(2 / (mean @ mean))


def known_again(track: Any, lost: Iterable[Lost], limits: Limits) -> Lost | None:
    """Which of the lost tracks a new one is: the one with the most similar colors, or None.

    Both are Tracks, of whose class and `look` this makes use; `box` and `born` are of where and when the new one
    began, `box` and `seen` of where and when the lost ones ended.
    """
    best, most = None, limits.alike
    for one in lost:
        other = one.track
        if track.look is None or other.look is None or track.label != other.label:
            continue
        passed = track.born - other.seen
        if 0 < passed <= limits.seconds and _could_be(track.box, one, passed, limits):
            similarity = alike(track.look, other.look)
            if similarity >= most:
                best, most = one, similarity
    return best


def _could_be(box, lost, passed, limits):
    """Whether an object can have got from where it was lost into a box in so many seconds, and have its size."""
    start = lost.track.box
    heights = max(start[3] - start[1], 1e-3), max(box[3] - box[1], 1e-3)
    ratio = max(heights) / min(heights)
    if ratio > limits.growth + limits.growth_per_second * passed:
        return False
    center, way = (start[:2] + start[2:]) / 2, lost.velocity * passed
    ahead = (box[:2] + box[2:]) / 2 - center
    # It may have gone on, or stopped anywhere on its way
    part = np.clip(ahead @ way / max(way @ way, 1e-9), 0, 1)
    distance = np.hypot(*(ahead - part * way))
    return bool(distance <= (limits.reach + limits.reach_per_second * passed) * max(heights))
