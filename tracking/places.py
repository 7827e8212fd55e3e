"""Lines and zones of a picture that tracks are counted at: what the user gives, and where that is in pixels.

Coordinates are fractions of the picture if all of them are from 0 to 1, and pixels otherwise.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from structures import UserError
from system import files

WANTED = (
    'is not {"NAME": [[x, y], [x, y], [x, y], …], …}, nor a list of such polygons, nor a labelme file with polygons'
)


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """A line, which has two ends, or a zone, a polygon of at least three corners.

    name: unique among the places of a call.
    points: float64 [N,2] (x, y), in fractions or pixels as given.
    source: what a message names.
    """

    name: str
    points: np.ndarray
    source: str

    @property
    def is_line(self) -> bool:
        """Whether it is a line."""
        return len(self.points) == 2

    def in_pixels(self, width: int, height: int) -> "Place":
        """The place in a picture of that size. Raises UserError if it reaches out of it."""
        fractions = self.points.max() <= 1
        points = self.points * (width, height) if fractions else self.points
        if (points > (width, height)).any():
            raise UserError(f"{self.source}: reaches out of the picture, which has {width}×{height} pixels")
        return dataclasses.replace(self, points=points)


def parse_line(text: str) -> Place:
    """An argument type: the Place of x1,y1,x2,y2 or NAME=x1,y1,x2,y2; its name is empty without NAME."""
    name, _, numbers = text.rpartition("=")
    try:
        points = _points(np.array([float(part) for part in numbers.split(",")]).reshape(2, 2))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not x1,y1,x2,y2 of two different points, in pixels or as fractions of the picture"
        ) from None
    if points.max() > 1 and ((points > 0) & (points < 1)).any():  # not so of zones, whose corners tools may clip
        raise argparse.ArgumentTypeError(
            f"{text!r} mixes pixels with fractions of the picture; give all four numbers as one of them"
        )
    return Place(name, points, f"--line {text}")


def read_zones(path: str) -> list[Place]:
    """The zones of a JSON file; those that have no name there have an empty one. Raises UserError.

    Read are {name: corners}, a list of corners [[x, y], …] for each zone, and labelme's files.
    """
    try:
        content = json.loads(files.read_text(path))
        zones = [
            Place(name, _points(corners), f"--zone {path}: {name or 'a zone'}") for name, corners in _each(content)
        ]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise UserError(f"--zone {path}: {WANTED}") from None
    if not zones or any(zone.is_line for zone in zones):
        raise UserError(f"--zone {path}: {WANTED}")
    return zones


def _each(content: Any) -> list[tuple[str, Any]]:
    """(name, corners) of each zone. Raises TypeError, KeyError, AttributeError."""
    if isinstance(content, list):
        return [("", corners) for corners in content]
    if "shapes" in content:
        shapes = [shape for shape in content["shapes"] if shape["shape_type"] == "polygon"]
        return [(str(shape["label"]), shape["points"]) for shape in shapes]
    return list(content.items())


def _points(values):
    """float64 [N,2] of at least two different points from 0 on. Raises ValueError, TypeError, OverflowError."""
    points = np.array(values, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 or not np.isfinite(points).all() or points.min() < 0:
        raise ValueError
    if len(np.unique(points, axis=0)) < len(points):
        points = points[:-1] if len(points) > 3 and (points[0] == points[-1]).all() else points
        if len(np.unique(points, axis=0)) < min(3, len(points)):
            raise ValueError
    return points


def named(places: Sequence[Place]) -> list[Place]:
    """The places with a name each: 'line 1' and 'zone 1' where there is none. Raises UserError if two have one name."""
    found, counts = list[Place](), {True: 0, False: 0}
    for place in places:
        counts[place.is_line] += 1
        name = place.name or f"{'line' if place.is_line else 'zone'} {counts[place.is_line]}"
        if name in [other.name for other in found]:
            raise UserError(f"{place.source}: a second place with the name {name!r}; give each its own")
        found.append(dataclasses.replace(place, name=name))
    return found
