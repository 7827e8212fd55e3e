"""Geometry of axis-aligned boxes in NumPy.

Boxes are [N,4] (xmin, ymin, xmax, ymax) unless a name ends in `_cxcywh`: (center x, center y, width, height).
All functions work on fractions and on pixels, but `inclusive_iou` needs pixels.
"""

from typing import NamedTuple

import numpy as np

_TINY = {np.dtype(kind): np.finfo(kind).tiny for kind in (np.float16, np.float32, np.float64)}  # finfo itself is slow


class Columns(NamedTuple):
    """Boxes [M,4] as contiguous columns, for overlaps with many other boxes in turn.

    left, top, right, bottom: edges, each [M]; of inverted boxes, right is left and bottom is top.
    area: [M].
    """

    left: np.ndarray
    top: np.ndarray
    right: np.ndarray
    bottom: np.ndarray
    area: np.ndarray


def columns(boxes: np.ndarray) -> Columns:
    """Boxes [M,4] -> Columns."""
    left, top, right, bottom = np.ascontiguousarray(boxes.T)
    right, bottom = np.maximum(right, left), np.maximum(bottom, top)
    return Columns(left, top, right, bottom, (right - left) * (bottom - top))


def to_cxcywh(boxes: np.ndarray) -> np.ndarray:
    """[N,4] (xmin, ymin, xmax, ymax) -> [N,4] (cx, cy, w, h)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def from_cxcywh(boxes_cxcywh: np.ndarray) -> np.ndarray:
    """[N,4] (cx, cy, w, h) -> [N,4] (xmin, ymin, xmax, ymax)."""
    center, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return np.concatenate([center - half, center + half], axis=-1)


def clip(boxes: np.ndarray, width: float = 1.0, height: float = 1.0) -> np.ndarray:
    """Boxes [N,4], clipped to the window (0, 0, width, height)."""
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def area(boxes: np.ndarray) -> np.ndarray:
    """Areas [N] of boxes [N,4]; 0 for empty and inverted boxes."""
    size = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return size[..., 0] * size[..., 1]


def intersection(a: np.ndarray, b: np.ndarray | Columns) -> np.ndarray:
    """Areas [N,M] of the overlaps of a [N,4] and b, [M,4] or Columns; boxes that only touch overlap by 0.

    It works on whole columns in place: with 8,732 anchors as b, this is the most expensive part of matching.
    """
    b = b if isinstance(b, Columns) else columns(b)
    # What is left of b between the edges of a, which is never below 0. NumPy clips faster than it compares
    left, top, right, bottom = a[:, 0:1], a[:, 1:2], a[:, 2:3], a[:, 3:4]
    width = b.right.clip(left, right)
    width -= b.left.clip(left, right)
    height = b.bottom.clip(top, bottom)
    height -= b.top.clip(top, bottom)
    width *= height
    return width


def iou(a: np.ndarray, b: np.ndarray | Columns) -> np.ndarray:
    """Intersection over union [N,M] of a [N,4] and b, [M,4] or Columns; in 0..1.

    Edges are continuous (no +1). Two boxes without area have IoU 0. Integers are converted to float64.
    """
    a = _floating(a)
    b = b if isinstance(b, Columns) else columns(_floating(b))
    common = intersection(a, b)
    union = area(a)[:, None] + b.area
    union -= common
    common /= union.clip(_TINY[union.dtype], out=union)  # 0 / 0 becomes 0
    return common


def paired_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union [...] of boxes [...,4] whose shapes broadcast, pair by pair; in 0..1, as of `iou`."""
    a, b = _floating(a), _floating(b)
    size = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.prod(np.maximum(size, 0), axis=-1)
    union = area(a) + area(b) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _floating(boxes):
    return boxes if boxes.dtype.kind == "f" else boxes.astype(np.float64)


def inclusive_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes in inclusive pixels, where a box is xmax − xmin + 1 wide, as in VOC's devkit and comp4 files.

    a, b: float64 [...,4] whose shapes broadcast: [N,4] and [N,4] give [N], pair by pair; [N,1,4] and [M,4] give [N,M].
    """
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., 2:], b[..., 2:])
    common = np.prod(np.maximum(high - low + 1, 0), axis=-1)
    union = np.prod(a[..., 2:] - a[..., :2] + 1, axis=-1) + np.prod(b[..., 2:] - b[..., :2] + 1, axis=-1) - common
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float, top_k: int | None = None) -> np.ndarray:
    """Greedy non-maximum suppression: keep the best box, drop those that overlap it too much, repeat.

    boxes: [N,4]; scores: [N]. A box is dropped if its IoU with a kept box is above iou_threshold. With top_k, only the
    top_k best boxes are considered. Of equal scores the lower index goes first.
    Returns the kept indices, int64, best first.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")[:top_k]
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        order = rest[iou(boxes[best : best + 1], boxes[rest])[0] <= iou_threshold]
    return np.array(kept, np.int64)
