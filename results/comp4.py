"""The text files that Pascal VOC's devkit scores, one for each class: comp4_det_test_CLASS.txt.

A line holds `stem score xmin ymin xmax ymax` in the devkit's 1-based inclusive pixels, (xmin + 1, ymin + 1, xmax, ymax)
of the continuous edges. Every digit is written: a float32 that is written and read again is the same float32.
"""

import glob
import os

import numpy as np

from results import result_files
from results.result_files import LARGEST, Results
from structures import UserError
from system import atomic, files
from system.wording import shorten, stem

PREFIX = "comp4_det_test_"
FLAG = "--voc-results"
HELP = f"{PREFIX}CLASS.txt for Pascal VOC's tools"
LOOKS = f"a folder with {PREFIX}CLASS.txt"
ROUNDING = 1e-6  # pixels: 0.1 is less than 1.1 - 1
SHIFT = np.array([1.0, 1.0, 0.0, 0.0])


def to_comp4_px(boxes_px):
    """[N,4] continuous edges in pixels -> float64 [N,4] in the devkit's 1-based inclusive pixels."""
    return np.asarray(boxes_px, np.float64).reshape(-1, 4) + SHIFT


def from_comp4_px(comp4_px):
    """float64 [N,4] in the devkit's 1-based inclusive pixels -> [N,4] continuous edges in pixels."""
    return comp4_px - SHIFT


def owns(name):
    """Whether a file of that name in a folder of results belongs to this format."""
    return name.startswith(PREFIX)


def picture_key(file, data):
    """The id, with which a picture's lines begin."""
    return result_files.picture_id(file, data)


def open_writer(folder, origin):
    """A Writer of a file for each class in a folder."""
    return Writer(folder, origin.class_names, origin.data)


class Writer(result_files.Writer):
    """Writes a file for each class into a folder, also for classes that are never detected.

    data: the data set that the pictures are from, or None.
    """

    def __init__(self, folder, class_names, data=None):
        self._data = data
        for name in class_names:
            if not name or "/" in name or os.sep in name:
                raise UserError(f"{FLAG}: class {name!r} cannot be part of a file name; rename it")
        self._files = []
        try:
            for name in class_names:
                self._files.append(atomic.PendingFile(_path(folder, name)))
        except UserError:
            self.discard()
            raise

    def add(self, file, width, height, detections):
        labels, scores, _ = result_files.as_lists(detections)
        boxes, key = to_comp4_px(detections.boxes_px).tolist(), picture_key(file, self._data)
        for label, score, box in zip(labels, scores, boxes, strict=True):
            self._files[label].write(f"{key} {score!r} {' '.join(map(repr, box))}\n")
        self.begun = True

    def close(self):
        for file in self._files:
            file.commit()

    def discard(self):
        for file in self._files:
            file.discard()


def fits(path):
    """Whether a path is a folder with such files."""
    return bool(_classes(path))


def read(path, class_names=None, data=None):
    """Read a folder of comp4 files, of this or another detector, into Results.

    class_names: the classes wanted, in this order, others are skipped; None takes all, in alphabetical order.
    Raises UserError, naming file and line, for whatever is missing or malformed.
    """
    found = _classes(path)
    names = found if class_names is None else tuple(class_names)
    stems, rows, labels = [], [np.zeros((0, 5))], [np.zeros(0, np.int32)]
    for label, name in enumerate(names):
        if name not in found:
            raise UserError(f"{path}: no {PREFIX}{name}.txt in it (if nothing was detected, add an empty file)")
        class_stems, class_rows = _read_class(_path(path, name))
        stems += class_stems
        rows.append(class_rows)
        labels.append(np.full(len(class_stems), label, np.int32))
    rows, labels = np.concatenate(rows), np.concatenate(labels)
    keys, image_of = np.unique(np.array(stems, object), return_inverse=True) if stems else ([], labels)
    order = np.argsort(image_of, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(image_of, minlength=len(keys)))[:-1]) if stems else []
    boxes_px = from_comp4_px(rows[:, 1:])
    detections = {
        key: result_files.best_first(boxes_px[part], rows[part, 0], labels[part])
        for key, part in zip(keys, parts, strict=True)
    }
    return Results(names, detections)


def _path(folder, name):
    return os.path.join(folder, f"{PREFIX}{name}.txt")


def _classes(folder):
    """Class names of the files in a folder, alphabetically."""
    paths = glob.glob(os.path.join(glob.escape(str(folder)), f"{PREFIX}?*.txt"))
    return tuple(sorted(stem(path)[len(PREFIX) :] for path in paths))


def _read_class(path):
    """-> list of stems, float64 [N,5] (score, xmin, ymin, xmax, ymax), in the file's pixels and order."""
    stems, rows = [], []
    try:
        with files.open_text(path, errors="surrogateescape") as file:
            for number, line in enumerate(file, start=1):
                if not line.isspace():
                    name, row = _parse_line(f"{path}, line {number}", line)
                    stems.append(name)
                    rows.append(row)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return stems, np.array(rows, np.float64).reshape(-1, 5)


def _parse_line(where, line):
    """'stem score xmin ymin xmax ymax' -> (stem, five numbers)."""
    try:
        name, *numbers = line.rsplit(None, 5)  # from the right: a stem may hold blanks
        score, xmin, ymin, xmax, ymax = map(float, numbers)
    except ValueError:
        raise UserError(f"{where}: {shorten(line.strip())} is not 'stem score xmin ymin xmax ymax'") from None
    if not abs(score + xmin + ymin + xmax + ymax) <= LARGEST:
        raise UserError(f"{where}: {shorten(line.strip())} has an infinite number or NaN")
    if min(xmax - xmin, ymax - ymin) < -1 - ROUNDING:  # -1 is that of a box without area
        raise UserError(f"{where}: {shorten(line.strip())} is inverted, 'stem score xmin ymin xmax ymax' is needed")
    return name, (score, xmin, ymin, xmax, ymax)
