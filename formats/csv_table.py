"""Data sets in CSV tables -> lists of samples.

    DATA/SPLIT.csv                      a line for each object: image,xmin,ymin,xmax,ymax,class
    DATA/SPLIT/_annotations.csv         the same (Roboflow)

DATA may also be a .csv file; SPLIT then only helps to find the pictures. `image` is relative to the table's folder, or
to SPLIT, images/SPLIT or images in it. A first line with these column names (also filename, x1, y1, x2, y2, label) may
change their order and add other columns. Edges are continuous, in pixels: the leftmost column of pixels extends from
0 to 1, so xmin and ymin are one less than in VOC, xmax and ymax the same. A line with only an image is a picture
without objects. EXIF orientation is applied, as labeling tools do.
"""

import csv
import math
import os
import pathlib
from typing import NamedTuple

from formats import annotations, class_lists
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
    """One picture of a split.

    id: the stem of its file name.
    image_path: the picture.
    objects: list of Written.
    """

    id: str
    image_path: str
    objects: list


def fits(data):
    """Whether a path looks like a data set in this format."""
    data = pathlib.Path(data)
    if data.is_file():
        return data.suffix.lower() == ".csv"
    return any(map(_is_table, _split_paths(data).values()))


def class_names(data, splits):
    """The classes of the objects in some splits, a tuple in alphabetical order. Raises UserError if there are none."""
    names = {one.name for entry in find(data, splits) for one in entry.objects}
    if not names:
        raise UserError(f"--data {data}: {splits} has no objects; list the classes with --classes")
    return class_lists.check_names(sorted(names), f"--data {data}")


def load(data, splits, class_names, *, other_classes="error", difficult="use", progress=False):
    """The samples of some splits. Arguments as for source_pascal_voc.load; DATA and SPLITS are described above.

    Pictures come in the order of their first lines. Raises UserError that names file and line for anything missing or
    malformed, ImageError for a picture whose header cannot be read.
    """

    def read(entry):
        return annotations.size_as_shown(images.header(entry.image_path)), entry.objects

    return annotations.make_samples(
        find(data, splits), read, class_names, other_classes=other_classes, difficult=difficult, progress=progress
    )


def find(data, splits):
    """The Entry of each picture of some splits, in the order of `load`; opens no picture. Raises UserError."""
    entries, ids = [], annotations.Ids()
    for path, split in annotations.find_split_files(pathlib.Path(data), splits, _split_paths, "{}.csv"):
        listed = {}  # {image as written: (its first line, objects)}
        for where, image, one in _rows(path):
            _, objects = listed.setdefault(image, (where, []))
            if one is not None:
                objects.append(one)
        if not listed:
            raise UserError(f"{path}: the table is empty; choose another split or list pictures in it")
        folder = annotations.find_folder(_picture_folders(path, split), listed)
        for image, (where, objects) in listed.items():
            image_path = os.path.join(folder, image)
            annotations.require_picture(image_path, where)
            entries.append(Entry(ids.add(image_path, where), image_path, objects))
    return entries


def _split_paths(folder):
    """{split: path} of the tables of a folder."""
    found = {path.parent.name: path for path in sorted(folder.glob(f"*/{ROBOFLOW}"))}
    return {**found, **{path.stem: path for path in sorted(folder.glob("*.csv"))}}


def _is_table(path):
    """Whether the first line of a file looks like this format: its column names, or an object."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        row = [cell.strip() for cell in file.readline().split(",")]
    try:
        return _header(row) is not None or _parse(path, row, range(len(COLUMNS)))[1] is not None
    except UserError:
        return False


def _picture_folders(path, split):
    """Where the pictures of a table may be, the most likely first."""
    return [path.parent, path.parent / split, path.parent / "images" / split, path.parent / "images"]


def _rows(path):
    """Yield (where, image, object) of each line. object: Written, or None for a picture without objects."""
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
            where = f"{path}, line {reader.line_num}"
            yield where, *_parse(where, row, columns)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV ({error}); correct the line") from None


def _header(row):
    """The position of each of COLUMNS in a line of column names; None for any other line."""
    names = [SYNONYMS.get(cell.lower(), cell.lower()) for cell in row]
    return [names.index(name) for name in COLUMNS] if set(COLUMNS) <= set(names) else None


def _parse(where, row, columns):
    """One line -> (image, Written or None). columns: the position of each of COLUMNS."""
    image, *corners, name = (row[at] if at < len(row) else "" for at in columns)
    if not image:
        raise UserError(f"{where}: the image is missing; correct the line")
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
