"""YOLO's text files, one for each picture: labels/STEM.txt.

A line holds `class cx cy width height confidence`, the class as a number, the box in fractions of the picture
(https://docs.ultralytics.com/modes/predict/). Every digit is written: a float32 that is written and read again is the
same float32.
"""

import os

import numpy as np

import boxes as box_geometry
from results import result_files
from results.result_files import LARGEST, Results
from structures import Detections, UserError
from system import files, folder_tree
from system.wording import shorten, stem

FLAG = "--yolo-results"
NAME = "labels"
HELP = f"{NAME}/PICTURE.txt in YOLO's format"
LOOKS = "a folder with YOLO's text files"


def owns(name):
    """Whether a folder of that name in a folder of results belongs to this format."""
    return name == NAME


def picture_key(file, data):
    """'some/folder/a.jpg' -> 'some/folder/a.txt', the name of a picture's file."""
    return os.path.splitext(file)[0] + ".txt"


def open_writer(folder, origin):
    """A Writer into FOLDER/labels. Without a YOLO data set a class's number is the model's label."""
    folder = os.path.join(folder, NAME)
    if origin.data is None or origin.data.format != "yolo":
        return Writer(folder, origin.class_numbers)
    numbered = origin.data.numbered_names
    if unknown := [name for name in origin.class_names if name not in numbered]:
        raise UserError(f"{FLAG}: {origin.data.path} has no class {unknown[0]!r}, so its detections have no number")
    return Writer(folder, [numbered.index(name) for name in origin.class_names])


class Writer(result_files.Writer):
    """Writes a text file for each picture into a folder, at once and whole: nothing is left to finish or to discard.

    numbers: class number of each label.
    """

    def __init__(self, folder, numbers):
        self._folder, self._numbers = folder, numbers

    def add(self, file, width, height, detections):
        boxes = np.asarray(detections.boxes_px, np.float64).reshape(-1, 4) / (width, height, width, height)
        labels, scores, _ = result_files.as_lists(detections)
        lines = [
            f"{self._numbers[label]} {' '.join(map(repr, box))} {score!r}\n"
            for label, score, box in zip(labels, scores, box_geometry.to_cxcywh(boxes).tolist(), strict=True)
        ]
        files.write(os.path.join(self._folder, picture_key(file, None)), "".join(lines))
        self.begun = True

    def close(self):
        pass

    def discard(self):
        pass


def fits(path):
    """Whether a path is a folder with text files, in it or below it."""
    return any(_paths(path))


def read(path, class_names=None, data=None):
    """Read a folder of YOLO's text files, also those in folders below it, one for a picture, into Results.

    class_names: the classes wanted, in this order, others are skipped; None takes those of the data set.
    data: the data set of the pictures. The class numbers are those of a YOLO data set, else positions in class_names.
    Raises UserError, naming the line, for whatever is malformed or unknown.
    """
    is_yolo = data.format == "yolo"
    if class_names is None and not is_yolo:
        raise UserError(
            f"--classes: YOLO's results have numbers for classes, and {data.path} is not a YOLO data set that names "
            "them; give the model's classes in its order"
        )
    numbered = data.numbered_names if is_yolo else class_names
    names = tuple(data.class_names if class_names is None else class_names)
    samples, detections = data.samples(names), {}
    for file in _paths(path):
        below = os.path.splitext(os.path.relpath(file, path))[0]
        key = below if below in samples else stem(file)
        if key not in samples:
            raise UserError(f"{file}: the data set has no picture {key!r}; give the data set and split that it is from")
        if key in detections:
            raise UserError(f"{file}: there is another {key}.txt; pictures are matched by name, without folder")
        detections[key] = _read_picture(file, numbered, names, (samples[key].width, samples[key].height))
    return Results(names, detections)


def _read_picture(path, numbered, names, size):
    """Detections of one file. numbered: the class of each number; size: (width, height) of the picture in pixels."""
    label_of = {name: label for label, name in enumerate(names)}
    rows = []
    for number, line in enumerate(files.split_lines(files.read_text(path)), start=1):
        if line.strip():
            label, *row = _parse_line(f"{path}, line {number}", line, len(numbered))
            if numbered[label] in label_of:
                rows.append((label_of[numbered[label]], *row))
    found = result_files.from_rows(rows)
    # The edges were float32 pixels: rounding to float32 removes the error of dividing and multiplying by the size
    boxes_px = (found.boxes_px.astype(np.float64) * (*size, *size)).astype(np.float32)
    return Detections(boxes_px, found.scores, found.labels)


def _paths(folder):
    """The text files of a folder and those below it."""
    for parent, names in folder_tree.walk(folder):
        yield from (os.path.join(parent, name) for name in names if name.endswith(".txt"))


def _parse_line(where, line, classes):
    """'class cx cy width height confidence' -> (class number, confidence, xmin, ymin, xmax, ymax) in fractions."""
    try:
        number, cx, cy, width, height, score = map(float, line.split())
        label = int(number)
    except (ValueError, OverflowError):
        raise UserError(f"{where}: {shorten(line.strip())} is not 'class cx cy width height confidence'") from None
    if not abs(cx + cy + width + height + score) <= LARGEST or width < 0 or height < 0:
        raise UserError(f"{where}: {shorten(line.strip())} has an infinite number, NaN or a negative size")
    if label != number or not 0 <= label < classes:
        raise UserError(f"{where}: class {number:g} is unknown, there are {classes} from 0")
    return label, score, cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2
