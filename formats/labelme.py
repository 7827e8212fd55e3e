"""Data sets that labelme wrote -> lists of samples (https://github.com/wkentaro/labelme).

    DATA/ID.json beside DATA/ID.jpg, or in the folders that `folders.Layout` knows

A JSON file holds `shapes` with a `label`, a `shape_type` and `points` in pixels, continuous. A rectangle is a box; of a
polygon, circle or mask the box around it is taken; points and lines are left out, with a warning. `imageWidth` and
`imageHeight` are the size that they were drawn on. The `flags` of a shape may set `difficult` and `truncated`.
"""

import json
import math

import numpy as np

from formats import annotations, fixed_copy, folders, per_picture
from structures import UserError
from system import files, wording

SIDES = ("imageWidth", "imageHeight")
# Kinds of shapes, and what their box is called
SHAPES = {"rectangle": "box", "polygon": "polygon", "circle": "polygon", "mask": "polygon", "rotation": "rotated"}


def _looks(path):
    text = folders.beginning(path) + folders.ending(path)  # the picture may come first, as text
    return '"shapes"' in text and ('"shape_type"' in text or '"imagePath"' in text or '"version"' in text)


def _read(entry):
    """The Annotated of an Entry."""
    path = entry.annotation_path
    content = _content(path, annotations.read_bytes(path))
    sides = [annotations.numbers([content.get(side)]) for side in SIDES]
    stated = tuple(round(side[0]) if side and side[0] >= 1 else None for side in sides)
    written = [one for _, one in _shapes(path, content)]
    left_out = tuple(f"{path}: shape {number}" for number, one in enumerate(written, start=1) if one is None)
    return annotations.Annotated([one for one in written if one is not None], stated, left_out=left_out)


def _content(path, data):
    """The object in a file of labelme, whose `shapes` is a list."""
    try:
        content = json.loads(files.decode(data))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); correct or remove the file") from None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise UserError(f"{path}: has no list 'shapes'; is it a file of labelme?")
    return content


def _shapes(path, content):
    """[(shape, its Written or None)] of a file."""
    shapes = enumerate(content["shapes"], start=1)
    return [(shape, _written(f"{path}: shape {number}", shape)) for number, shape in shapes]


def _written(where, shape):
    """The Written of a shape; None if it has no area by its kind."""
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
        raise UserError(f"{where}: has no label; correct the file")
    kind = shape.get("shape_type") or "polygon"
    if not isinstance(kind, str):
        raise UserError(f"{where}: shape_type {wording.shorten(kind)} is not a string; correct the file")
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
    flags = shape.get("flags") if isinstance(shape.get("flags"), dict) else {}
    difficult, truncated = (flags.get(name) is True for name in ("difficult", "truncated"))
    return annotations.Written(shape["label"].strip(), edges, where, difficult, shape=SHAPES[kind], truncated=truncated)


def _edited(data, path, edit):
    """The JSON of a file after an Edit. What is no box is scaled with its picture, and stays what it is if it fits."""
    content = _content(path, data)
    boxes, kept = iter(edit.boxes), []
    for shape, written in _shapes(path, content):
        box = fixed_copy.KEEP if written is None else next(boxes)
        if box is None:
            continue
        if edit.scale:
            _scale(shape, edit.scale)
        if box != fixed_copy.KEEP and not np.allclose(_written(path, shape).edges_px, box, atol=0.01):
            shape |= {"shape_type": "rectangle", "points": [list(box[:2]), list(box[2:])]}
        kept.append(shape)
    content["shapes"] = kept
    if edit.scale:
        content |= {**dict(zip(SIDES, edit.size, strict=True)), "imageData": None}  # a copy of the picture as it was
    return json.dumps(content, indent=2, ensure_ascii=False)


def _scale(shape, factors):
    """Scale a shape in place."""
    if shape.get("shape_type") == "mask":  # its pixels stay as they are: its box is left
        shape.pop("mask", None)
        shape["shape_type"] = "rectangle"
    pairs = [annotations.numbers(point) for point in shape["points"]]
    shape["points"] = [[x * factors[0], y * factors[1]] for x, y in pairs]


FORMAT = per_picture.PerPicture("labelme", folders.Kind(".json", _looks), _read, _edited)
