"""Small things are found in tiles of a picture: where the tiles are, and one list of what is found in all of them.

A picture is looked at as a whole and in overlapping tiles. What lies across the edge of a tile is cut there; it is
whole in the next tile, if it is smaller than the overlap, or else in the picture.
"""

import argparse
import dataclasses
import functools
import math
import re
from collections.abc import Sequence

import numpy as np

import boxes as box_geometry
from structures import Detections, UserError

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


@dataclasses.dataclass(frozen=True)
class Cut:
    """How pictures are cut into tiles.

    grid: (columns, rows) of every picture; None where `side` is given.
    side: pixels of a tile's sides, of which each picture has as many as it needs; None where `grid` is given.
    overlap: of a tile's side, that it shares with the next one, with `side` at least; from 0 on, below 1.
    """

    grid: tuple[int, int] | None = None
    side: int | None = None
    overlap: float = OVERLAP

    def edges_px(self, size: tuple[int, int]) -> np.ndarray:
        """int64 [T,4] (xmin, ymin, xmax, ymax): a picture of `size` (width, height), whole, then its tiles by row.

        A picture that is no larger than one tile of `side` has none. Raises UserError for more than MOST_TILES.
        """
        if self.side is None:
            return edges_px(self._layout, size)
        starts = [_starts(length, self.side, self.overlap) for length in size]
        count = len(starts[0]) * len(starts[1])
        if count > MOST_TILES:
            raise UserError(
                f"{size[0]}×{size[1]} pixels need {count} tiles of {self.side}, more than {MOST_TILES}, each of which "
                "takes the network's time; give a larger --tile-size"
            )
        tiles = [(x, y, min(x + self.side, size[0]), min(y + self.side, size[1])) for y in starts[1] for x in starts[0]]
        return np.array([(0, 0, *size), *(tiles if count > 1 else ())], np.int64)

    @functools.cached_property
    def _layout(self):
        assert self.grid
        return layout(*self.grid, self.overlap)


def choose(grid: tuple[int, int] | None, side: int | None, overlap: float) -> Cut | None:
    """The Cut of --tiles, --tile-size and --overlap; None for pictures as a whole only.

    Raises UserError for both, and for numbers without sense.
    """
    if grid and side is not None:
        raise UserError("--tiles and --tile-size: each says how pictures are cut; leave one of the two out")
    if side is not None and side < 1:
        raise UserError(f"tile_size {side}: give a whole number above 0, or None")
    if not 0 <= overlap < 1:
        raise UserError(f"overlap {overlap}: give a number from 0 on, below 1")
    return Cut(grid, side, overlap) if grid or side else None


def _starts(length, side, overlap):
    """Along one axis of `length` pixels: where tiles begin, evenly from its start to its end."""
    if length <= side:
        return [0]
    count = math.ceil((length - side) / (side * (1 - overlap)) - 1e-9) + 1
    if count > MOST_TILES:  # refused, so that nobody needs their places
        return range(count)
    return np.rint(np.linspace(0, length - side, count)).astype(int).tolist()


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
        # Of the two, the one that is cut must lie in the other; a whole one may well lie in a larger thing that is cut
        part = is_cut[row] & (shared > PART * areas[row]) | is_cut[rivals] & (shared > PART * areas[rivals])
        kept[row] = not (same | part).any()
    order = np.flatnonzero(kept)[np.argsort(-scores[kept], kind="stable")][:keep]
    return Detections(boxes_px[order].astype(np.float32), scores[order], labels[order])


def _cut(boxes_px, edges, size):
    """bool [N]: which boxes end at an edge of their tile that is not one of the picture."""
    near = CUT * np.tile(edges[:, 2:] - edges[:, :2], 2)
    inner = edges != (0, 0, *size)
    return (inner & (np.abs(boxes_px - edges) <= near)).any(axis=1)
