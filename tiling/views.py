"""Training pictures in tiles: which objects a tile shows, and which tile of a picture an epoch shows."""

from typing import NamedTuple

import numpy as np

import boxes as box_geometry
from tiling.tiles import Cut

# Of an object's area, below which it is no object of a tile. SSD's own crops keep what has its center inside, which is
# at least a quarter. With less, a tile would teach that a bumper is a car; the next tile or the picture shows more
LEAST_SHARE = 0.3
_SALT = 7  # so that the order of tiles draws other numbers than the augmentation


class View(NamedTuple):
    """What is shown of a picture: all of it, or one tile.

    number: 0 for all of it, else of the tile, by row from 1 on.
    edges_px: (xmin, ymin, xmax, ymax) in the picture.
    boxes: float32 [M,4], the objects in it, clipped, as fractions of it.
    kept: int64 [M], their indices among the picture's objects, rising.
    """

    number: int
    edges_px: tuple[int, int, int, int]
    boxes: np.ndarray
    kept: np.ndarray


def whole(size: tuple[int, int], boxes: np.ndarray) -> View:
    """The View of all of a picture. size: (width, height) in pixels; boxes: float32 [N,4] as fractions of it."""
    return View(0, (0, 0, *size), boxes, np.arange(len(boxes)))


def in_epoch(cut: Cut, size: tuple[int, int], boxes: np.ndarray, seed: int, index: int, epoch: int) -> View:
    """The View of a picture in an epoch, which depends on nothing but the arguments.

    A picture with V views that show an object is shown in each of them once in epochs 0 to V - 1, in a random order,
    then again in another. Others teach nothing: the loss of an image without positives is 0. A picture without objects
    is shown whole.

    size: (width, height) in pixels; boxes: float32 [N,4] as fractions of the picture; seed: of the training; index: of
    the picture.
    """
    edges = cut.edges_px(size)
    boxes_px, inside = _inside(edges, size, boxes)
    numbers = np.flatnonzero(inside.any(axis=1)) if len(boxes) else np.zeros(1, np.int64)
    again, place = divmod(epoch, len(numbers))
    number = int(np.random.default_rng([seed, index, again, _SALT]).permutation(numbers)[place])
    if number == 0:
        return whole(size, boxes)
    kept, (x0, y0, x1, y1) = np.flatnonzero(inside[number]), edges[number].tolist()
    return View(number, (x0, y0, x1, y1), _fractions(edges[number], boxes_px[kept]), kept)


def largest(cut: Cut, size: tuple[int, int], boxes: np.ndarray) -> np.ndarray:
    """float32 [N,4]: each object where it is largest, as fractions of the whole picture or of a tile that shows it.

    The arguments are those of `in_epoch`.
    """
    edges = cut.edges_px(size)
    boxes_px, inside = _inside(edges, size, boxes)
    clipped = np.stack([boxes, *(_fractions(tile, boxes_px) for tile in edges[1:])])  # [T,N,4]
    best = np.where(inside, box_geometry.area(clipped), -1).argmax(axis=0)
    return clipped[best, np.arange(len(boxes))]


def _inside(edges, size, boxes):
    """(boxes in pixels, float64 [N,4]; bool [T,N], which objects are in which view: all in the whole picture)."""
    boxes_px = boxes.astype(np.float64) * (*size, *size)
    areas = box_geometry.area(boxes_px)
    shared = box_geometry.intersection(edges.astype(np.float64), boxes_px)
    inside = (shared >= LEAST_SHARE * areas) & (areas > 0)
    inside[0] = True
    return boxes_px, inside


def _fractions(tile, boxes_px):
    """Boxes [N,4] in pixels of the picture -> float32 [N,4] as fractions of a tile, clipped to it."""
    start, sides = tile[[0, 1, 0, 1]], np.tile(tile[2:] - tile[:2], 2)
    return box_geometry.clip((boxes_px - start) / sides).astype(np.float32)
