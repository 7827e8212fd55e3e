"""A table for spreadsheets, detections.csv: a line for each detection, the best of a picture first.

Columns: file, width and height of the picture in pixels, class, score, and xmin, ymin, xmax, ymax, continuous edges in
pixels with two decimals.
"""

import csv
import os

from results import result_files
from results.result_files import LARGEST, Results
from structures import UserError
from system import atomic, files
from system.wording import shorten

FLAG = "--csv"
NAME = "detections.csv"
HELP = f"{NAME}, a table for spreadsheets"
LOOKS = f"a {NAME}"
COLUMNS = ("file", "width", "height", "class", "score", "xmin", "ymin", "xmax", "ymax")


def owns(name):
    """Whether a file of that name in a folder of results belongs to this format."""
    return name == NAME


def picture_key(file, data):
    """The name in a picture's lines."""
    return file


def open_writer(folder, origin):
    """A Writer of FOLDER/detections.csv."""
    return Writer(os.path.join(folder, NAME), origin.class_names)


class Writer(result_files.Writer):
    """Writes a table."""

    def __init__(self, path, class_names):
        self._class_names = class_names
        self._file = atomic.PendingFile(path)
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(COLUMNS)

    def add(self, file, width, height, detections):
        for row in detections.rows(self._class_names):
            self._rows.writerow([file, width, height, *row.values()])
        self.begun = True

    def close(self):
        self._file.commit()

    def discard(self):
        self._file.discard()


def fits(path):
    """Whether a path is a file that begins with the table's columns."""
    if not os.path.isfile(path):
        return False
    with files.open_text(path, errors="replace") as file:
        return file.readline().strip() == ",".join(COLUMNS)


def read(path, class_names=None, data=None):
    """Read a table into Results.

    class_names: the classes wanted, in this order, others are skipped; None takes those in the table, in the order of
    the alphabet. Raises UserError, naming the line, for whatever is malformed.
    """
    rows = _rows(path)
    names = tuple(sorted({row["class"] for _, row, _ in rows}) if class_names is None else class_names)
    label_of, found, sizes, file_of = {name: label for label, name in enumerate(names)}, {}, {}, {}
    for where, row, (width, height, *numbers) in rows:
        file, name = row["file"], row["class"]
        key = result_files.picture_id(file, data)
        if (other := file_of.setdefault(key, file)) != file:
            raise UserError(f"{where} ({file}) has the same stem as {other}: images are matched by stem")
        sizes[key] = (int(width), int(height))
        found.setdefault(key, [])
        if name in label_of:
            found[key].append((label_of[name], *numbers))
    detections = {key: result_files.from_rows(rows) for key, rows in found.items()}
    return Results(names, detections, sizes, all_classes=class_names is not None)


def _rows(path):
    """(where, {column: cell}, numbers) of each line, as of `_numbers`."""
    with files.open_text(path, errors="surrogateescape", newline="") as file:
        lines = csv.DictReader(file)
        try:
            return [(where := f"{path}, line {lines.line_num}", row, _numbers(where, row)) for row in lines]
        except csv.Error as error:
            raise UserError(f"{path}, line {lines.line_num}: not a CSV table ({error}); correct it") from None


def _numbers(where, row):
    """Width, height, score and edges of a line."""
    try:
        numbers = [float(row[name]) for name in COLUMNS if name not in ("file", "class")]
    except (ValueError, TypeError):
        numbers = []
    if not numbers or not row["file"] or not row["class"]:
        raise UserError(f"{where}: {shorten(list(row.values()))} is not {', '.join(COLUMNS)}")
    if not all(abs(number) <= LARGEST for number in numbers):
        raise UserError(f"{where}: {shorten(list(row.values()))} has an infinite number or NaN")
    xmin, ymin, xmax, ymax = numbers[-4:]
    if xmax < xmin or ymax < ymin:
        raise UserError(f"{where}: {shorten(list(row.values()))} is inverted, xmin, ymin, xmax, ymax are needed")
    return numbers
