"""Small things are found in tiles of a picture: where the tiles are, and one list of what is found in all of them.

A picture is looked at as a whole and in overlapping tiles. What lies across the edge of a tile is cut there; it is
whole in the next tile, if it is smaller than the overlap, or else in the picture.
"""

import argparse
import re
from collections.abc import Sequence

import numpy as np

import boxes as box_geometry
from structures import Detections

CUT = 0.02  # of a tile's side: a box that comes as near to an edge inside the picture is taken to be cut there
PART = 0.6  # of a cut box that lies in another of its class: from here on it is a part of that one
OVERLAP = 0.2  # of a tile's side, by default
MOST_TILES = 256  # of a picture, each of which takes the network's time


def parse(text: str) -> tuple[int, int]:
    """An argument type: 3x2 -> (columns, rows), at least two tiles."""
    found = re.fullmatch(r"([1-9]\d?)[x×]([1-9]\d?)", text)
    if not found or found.group(1, 2) == ("1", "1"):
        raise argparse.ArgumentTypeError(f"{text!r} is not columns x rows, such as 3x2")
    if int(found[1]) * int(found[2]) > MOST_TILES:
        raise argparse.ArgumentTypeError(
            f"{text!r} is more than {MOST_TILES} tiles, each of which takes the network's time"
        )
    return int(found[1]), int(found[2])


def layout(columns: int, rows: int, overlap: float) -> np.ndarray:
    """float64 [1 + columns · rows, 4] (xmin, ymin, xmax, ymax) as fractions: the whole picture, then its tiles by row.

    overlap: of a tile's side, that it shares with the next one; from 0 on, below 1.
    """
    spans = []
    for count in (columns, rows):
        side = 1 / (count - (count - 1) * overlap)
        starts = np.arange(count) * side * (1 - overlap)
        spans.append(np.stack([starts, starts + side], axis=1))
    tiles = [(x0, y0, x1, y1) for y0, y1 in spans[1] for x0, x1 in spans[0]]
    return np.clip(np.array([(0, 0, 1, 1), *tiles], np.float64), 0, 1)


def edges_px(tiles: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """int64 [T,4]: tiles in whole pixels of a picture of `size` (width, height), at least one pixel each."""
    width, height = size
    edges = np.rint(tiles * (width, height, width, height)).astype(np.int64)
    edges[:, :2] = np.minimum(edges[:, :2], (width - 1, height - 1))
    edges[:, 2:] = np.maximum(edges[:, 2:], edges[:, :2] + 1)
    return edges


def merge(
    parts: Sequence[Detections], edges: np.ndarray, size: tuple[int, int], nms_iou: float, keep: int
) -> Detections:
    """What is found in all tiles, in pixels of the picture, best first.

    parts: of each tile, in its own pixels; edges: [T,4], of `edges_px`; size: (width, height) of the picture. Of two
    boxes of one class from different tiles one stays if their IoU is above `nms_iou`, or if one is cut and lies for the
    most part in the other: the one that is not cut, or else the one with the higher score. At most `keep` are returned.
    """
    tile = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    boxes_px = np.concatenate(
        [part.boxes_px + start for part, start in zip(parts, edges[:, [0, 1, 0, 1]], strict=True)]
    )
    scores, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "labels"))
    is_cut = _cut(boxes_px, edges[tile], size)
    areas = box_geometry.area(boxes_px)
    kept = np.zeros(len(tile), bool)
    for row in np.lexsort((-scores, is_cut)):
        rivals = np.flatnonzero(kept & (labels == labels[row]) & (tile != tile[row]))
        shared = box_geometry.intersection(boxes_px[row : row + 1], boxes_px[rivals])[0]
        same = shared > nms_iou * (areas[row] + areas[rivals] - shared)
        part = shared > PART * np.minimum(areas[row], areas[rivals]) if is_cut[row] else np.zeros(len(rivals), bool)
        kept[row] = not (same | part).any()
    order = np.flatnonzero(kept)[np.argsort(-scores[kept], kind="stable")][:keep]
    return Detections(boxes_px[order].astype(np.float32), scores[order], labels[order])


def _cut(boxes_px, edges, size):
    """bool [N]: which boxes end at an edge of their tile that is not one of the picture."""
    near = CUT * np.tile(edges[:, 2:] - edges[:, :2], 2)
    inner = edges != (0, 0, *size)
    return (inner & (np.abs(boxes_px - edges) <= near)).any(axis=1)
