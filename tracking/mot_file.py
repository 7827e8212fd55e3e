"""Ground truth of tracks as the MOT Challenge has it: gt.txt, whose classes are named in a labels.txt beside it (CVAT).

A line is `frame,id,left,top,width,height,counts,class,visibility`: frames from 1, pixels, `counts` 0 for an object that
is not judged, and a class from 1, the line of labels.txt. Without labels.txt all objects are of one class. Edges are
written as continuous ones, from 0.
"""

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from structures import UserError
from system import files

NAME, LABELS = "gt.txt", "labels.txt"
LARGEST = 1e9  # of any number: a frame, an id, pixels


class Objects(NamedTuple):
    """The tracked objects of one frame: ids int64 [N], labels int64 [N], boxes_px float64 [N,4], counts bool [N]."""

    ids: np.ndarray
    labels: np.ndarray
    boxes_px: np.ndarray
    counts: np.ndarray

    def where(self, mask: np.ndarray) -> "Objects":
        """Those that a bool [N] selects."""
        return Objects(*(part[mask] for part in self))


class Truth(NamedTuple):
    """Ground truth. frames: {index from 0: Objects}; class_names: what labels index, or None if all are one class."""

    frames: dict[int, Objects]
    class_names: list[str] | None


def objects(ids: Sequence[int], labels: Sequence[int], boxes_px: Sequence, counts: Sequence[bool]) -> Objects:
    """Objects from lists."""
    boxes = np.array(boxes_px, np.float64).reshape(-1, 4)
    return Objects(np.array(ids, np.int64), np.array(labels, np.int64), boxes, np.array(counts, bool))


def labels_path(path: str) -> str:
    """The file of class names beside a gt.txt: drive.gt.txt -> drive.labels.txt, any other -> labels.txt."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f"{name.removesuffix(NAME)}{LABELS}" if name.endswith(NAME) else LABELS)


def write(path: str, frames: Iterable[Objects], class_names: Sequence[str]) -> None:
    """Write gt.txt and the names of its classes. Raises UserError if a file cannot be written."""
    lines = []
    for index, found in enumerate(frames):
        for key, label, (x0, y0, x1, y1), counts in zip(*(part.tolist() for part in found), strict=True):
            lines.append(f"{index + 1},{key},{x0:g},{y0:g},{x1 - x0:g},{y1 - y0:g},{counts:d},{label + 1},1\n")
    files.write(path, "".join(lines))
    files.write(labels_path(path), "".join(f"{name}\n" for name in class_names))


def read(path: str) -> Truth:
    """Read gt.txt, and labels.txt if it is there. Raises UserError if the file is damaged or empty."""
    names_path = labels_path(path)
    names = [text.strip() for _, text in files.read_lines(names_path)] if os.path.isfile(names_path) else None
    rows: dict[int, dict[int, tuple]] = {}
    for number, text in files.read_lines(path):
        where = f"{path}:{number}"
        frame, key, label, box, counts = _row(text, where)
        if names is not None and not 1 <= label <= len(names):
            raise UserError(f"{where}: class {label}, but {names_path} has {len(names)}; the first is 1")
        if key in rows.setdefault(frame - 1, {}):
            raise UserError(f"{where}: frame {frame} has object {key} already; an id may occur only once in a frame")
        rows[frame - 1][key] = (key, label - 1 if names else 0, box, counts)
    if not rows:
        raise UserError(f"{path}: has no objects; give the gt.txt of the video")
    return Truth({frame: objects(*zip(*one.values(), strict=True)) for frame, one in rows.items()}, names)


def _row(text, where):
    """(frame, id, class, box, whether it counts) of a line; six columns suffice."""
    try:
        values = [float(value) for value in text.split(",")]
        if len(values) < 6 or not np.abs(values).max() <= LARGEST or values[0] < 1 or min(values[4:6]) < 0:
            raise ValueError
    except ValueError:
        message = "is not frame,id,left,top,width,height,counts,class,visibility, with frames from 1"
        raise UserError(f"{where}: {text.strip()[:60]!r} {message}") from None
    frame, key, left, top, width, height, counts, label, *_ = [*values, *(1, 1)[len(values) - 6 :]]
    return int(frame), int(key), int(label), (left, top, left + width, top + height), counts != 0
