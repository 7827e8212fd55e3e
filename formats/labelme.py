"""Data sets that labelme wrote -> lists of samples (https://github.com/wkentaro/labelme).

    DATA/ID.json beside DATA/ID.jpg, or in the folders that `folders.Layout` knows

A JSON file holds `shapes` with a `label`, a `shape_type` and `points` in pixels, continuous. A rectangle is a box; of a
polygon, circle or mask the box around it is taken, points and lines are left out. `imageWidth` and `imageHeight` are
the size that they were drawn on. `flags` with `difficult` set make an object difficult.
"""

import json
import math

from formats import annotations, folders, per_picture
from structures import UserError
from system import files, wording

# Kinds of shapes, and what their box is called
SHAPES = {"rectangle": "box", "polygon": "polygon", "circle": "polygon", "mask": "polygon", "rotation": "rotated"}


def _looks(path):
    text = folders.beginning(path)
    return '"shapes"' in text and ('"shape_type"' in text or '"imagePath"' in text or '"version"' in text)


def _read(entry):
    """The Annotated of an Entry."""
    path = entry.annotation_path
    try:
        content = json.loads(files.decode(annotations.read_bytes(path)))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); correct or remove the file") from None
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise UserError(f"{path}: has no list 'shapes'; is it a file of labelme?")
    sides = [annotations.numbers([content.get(side)]) for side in ("imageWidth", "imageHeight")]
    stated = tuple(round(side[0]) if side and side[0] >= 1 else None for side in sides)
    written = [_written(f"{path}: shape {number}", shape) for number, shape in enumerate(shapes, start=1)]
    return annotations.Annotated([one for one in written if one is not None], stated)


def _written(where, shape):
    """The Written of a shape; None if it has no area by its kind."""
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
        raise UserError(f"{where}: has no label; correct the file")
    kind = shape.get("shape_type") or "polygon"
    points = shape.get("points")
    pairs = [annotations.numbers(point) for point in points] if isinstance(points, list) else [None]
    if not pairs or not all(pair is not None and len(pair) == 2 for pair in pairs):
        raise UserError(f"{where}: points {wording.shorten(points)} are not [[x, y], …]; correct the file")
    if kind not in SHAPES or len(pairs) < 2:  # point, line, linestrip
        return None
    xs, ys = zip(*pairs, strict=True)
    edges = min(xs), min(ys), max(xs), max(ys)
    if kind == "circle":  # its center and a point on it
        radius = math.dist(*pairs[:2])
        edges = xs[0] - radius, ys[0] - radius, xs[0] + radius, ys[0] + radius
    flags = shape.get("flags")
    difficult = isinstance(flags, dict) and flags.get("difficult") is True
    return annotations.Written(shape["label"].strip(), edges, where, difficult, shape=SHAPES[kind])


FORMAT = per_picture.PerPicture("labelme", folders.Kind(".json", _looks), _read)
