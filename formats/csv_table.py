"""Data sets in a table -> lists of samples.

    DATA/SPLIT.csv                      a line for each object: image,xmin,ymin,xmax,ymax,class
    DATA/SPLIT/_annotations.csv         the same (Roboflow)

DATA may be a .csv file itself; SPLIT then only helps to find the pictures. `image` counts from the table's folder, or
from SPLIT, images/SPLIT or images in it. A first line with these names (also filename, x1, y1, x2, y2, label) may put
the columns in another order and have more of them. Edges are continuous, in pixels: the left column of pixels reaches
from 0 to 1 (VOC's numbers minus one at the left and at the top). A line with an image alone, or with empty columns,
is a picture without objects. Pictures are turned by EXIF, as labelling tools show them.
"""

import csv
import math
import os
import pathlib
from typing import NamedTuple

from tqdm import tqdm

from formats import annotations
from media import images
from structures import UserError
from system import files, wording

ROBOFLOW = "_annotations.csv"
COLUMNS = ("image", "xmin", "ymin", "xmax", "ymax", "class")
SYNONYMS = {
    "filename": "image",
    "file": "image",
    "path": "image",
    "image_path": "image",
    "x1": "xmin",
    "y1": "ymin",
    "x2": "xmax",
    "y2": "ymax",
    "label": "class",
    "class_name": "class",
}


class Entry(NamedTuple):
    """One picture of a split and its Written objects."""

    id: str
    image_path: str
    objects: list


def fits(data):
    """Whether a path looks like a data set of this format."""
    data = pathlib.Path(data)
    if data.is_file():
        return data.suffix.lower() == ".csv"
    return any(map(_is_table, _split_paths(data).values()))


def class_names(data, splits):
    """The classes of the objects of some splits, by alphabet."""
    names = {one.name for entry in find(data, splits) for one in entry.objects}
    if not names:
        raise UserError(f"--data {data}: not a single object in {splits}; name the classes with --classes")
    return annotations.check_class_names(sorted(names), f"--data {data}")


def load(data, splits, class_names, *, other_classes="error", difficult="use", progress=False):
    """The samples of some splits, in the order of their first lines; see above and source_pascal_voc.load.

    Raises UserError that names file and line for anything missing or malformed, ImageError for a picture without a
    header.
    """
    maker = annotations.SampleMaker(class_names, other_classes, difficult)
    samples = []
    for entry in tqdm(find(data, splits), "annotations", unit="", leave=False, disable=not progress):
        size = annotations.size_as_shown(images.header(entry.image_path))
        samples.append(maker.make(entry.id, entry.image_path, size, entry.objects))
    maker.warn_of_dropped()
    return samples


def find(data, splits):
    """The Entry of each picture of some splits, in order; no picture is opened. Raises UserError."""
    entries, ids = [], annotations.Ids()
    for path, split in _find_files(data, splits):
        objects = {}  # by image as it is written
        lines = {}
        for number, image, one in _rows(path):
            objects.setdefault(image, []).extend([one] if one else [])
            lines.setdefault(image, f"{path}, line {number}")
        if not objects:
            raise UserError(f"{path}: the table is empty; choose another split or list pictures in it")
        folder = annotations.find_folder(_picture_folders(path, split), objects)
        for image, found in objects.items():
            image_path = os.path.join(folder, image)
            if not os.path.isfile(image_path):
                raise UserError(f"{lines[image]}: {image_path}: no such picture; add the file or remove the line")
            entries.append(Entry(ids.add(image_path, lines[image]), image_path, found))
    return entries


def _split_paths(folder):
    """{split: path} of the tables of a folder."""
    found = {path.parent.name: path for path in sorted(folder.glob(f"*/{ROBOFLOW}"))}
    return {**found, **{path.stem: path for path in sorted(folder.glob("*.csv"))}}


def _is_table(path):
    """Whether the first line has the columns of this format."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        row = [cell.strip() for cell in file.readline().split(",")]
    try:
        return _header(row) is not None or _parse(path, row, range(len(COLUMNS)))[1] is not None
    except UserError:
        return False


def _find_files(data, splits):
    """[(table, split)] of DATA and SPLIT."""
    return annotations.find_split_files(pathlib.Path(data), splits, _split_paths, "{}.csv")


def _picture_folders(path, split):
    """Where the pictures of a table may be, the likeliest first."""
    return [path.parent, path.parent / split, path.parent / "images" / split, path.parent / "images"]


def _rows(path):
    """Yield (line, image, Written, or None for a line without object)."""
    reader = csv.reader(files.read_text(path).splitlines(keepends=True))
    columns = None
    try:
        for row in reader:
            row = [cell.strip() for cell in row]
            if not any(row):
                continue
            if columns is None:
                columns = _header(row)
                if columns is not None:
                    continue
                columns = range(len(COLUMNS))
            yield reader.line_num, *_parse(f"{path}, line {reader.line_num}", row, columns)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not a line of a table ({error}); correct it") from None


def _header(row):
    """Where COLUMNS are in a line of names; None for a line of values."""
    names = [SYNONYMS.get(cell.lower(), cell.lower()) for cell in row]
    return [names.index(name) for name in COLUMNS] if set(COLUMNS) <= set(names) else None


def _parse(where, row, columns):
    """One line -> (image, Written or None)."""
    image, *corners, name = ([*row, *[""] * len(COLUMNS)][at] for at in columns)
    if not image:
        raise UserError(f"{where}: no image in it; correct the line")
    if not any((*corners, name)):
        return image, None
    try:
        edges = tuple(float(text) for text in corners)
    except ValueError:
        edges = (math.nan,)
    if not name or not all(math.isfinite(edge) for edge in edges):
        shown, wanted = wording.shorten(",".join(row)), ",".join(COLUMNS)
        raise UserError(f"{where}: {shown} is not {wanted!r}; correct the line, or name the columns in line 1")
    return image, annotations.Written(name, edges, where)
