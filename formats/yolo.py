"""Data sets in the layout of Ultralytics' YOLO -> lists of samples (https://docs.ultralytics.com/datasets/detect/).

    DATA/data.yaml        path: . | train: images/train | val: images/val | names: [cat, dog] or {0: cat, 1: dog}
    .../images/train/ID.jpg
    .../labels/train/ID.txt        a line for each object: class cx cy width height, fractions of the picture

DATA is the YAML file or a folder with one; SPLIT is a key in it, such as 'train' or 'val'. `path` is relative to the
YAML file's folder. A split is a folder (with all folders in it, sorted by name), a text file with a picture per line,
or a list of these. The labels of a picture are in the folder `labels` next to its `images`, or next to the picture; a
picture without a label file has no objects. A line with the corners of a polygon gives the box around it. EXIF
orientation is applied, as YOLO does.
"""

import math
import os
import pathlib
import re
from typing import NamedTuple

import yaml

from formats import annotations, class_lists
from media import images
from structures import UserError
from system import files, wording

SUFFIXES = (".yaml", ".yml")
LARGEST = 2.0  # fractions may lie a little outside 0..1; numbers beyond this must be pixels


class Entry(NamedTuple):
    """The files of one picture.

    id: the stem of the picture's file name.
    image_path: the picture.
    label_path: its labels; there may be no such file.
    """

    id: str
    image_path: str
    label_path: str


def fits(data):
    """Whether a path looks like a data set of this layout."""
    data = pathlib.Path(data)
    return data.suffix.lower() in SUFFIXES if data.is_file() else bool(_descriptions(data))


def class_names(data, splits):
    """The names in the YAML file, a tuple in the order of class numbers. Raises UserError."""
    return _names(*_read_yaml(data))


def load(data, splits, class_names, *, other_classes="error", difficult="use", progress=False):
    """The samples of some splits. Arguments as for source_pascal_voc.load; DATA and SPLITS are described above.

    Raises UserError that names file and line for anything missing or malformed, ImageError for a picture whose
    header cannot be read.
    """
    path, description = _read_yaml(data)
    names, entries = _names(path, description), _entries(path, description, splits)
    if not any(os.path.isfile(entry.label_path) for entry in entries):
        raise UserError(f"{path}: no picture of {splits} has labels; the first file would be {entries[0].label_path}")

    def read(entry):
        size = annotations.size_as_shown(images.header(entry.image_path))
        return size, _written(entry.label_path, size, names)

    return annotations.make_samples(
        entries, read, class_names, other_classes=other_classes, difficult=difficult, progress=progress
    )


def find(data, splits):
    """The Entry of each picture of some splits, in the order of `load`; opens no picture. Raises UserError."""
    return _entries(*_read_yaml(data), splits)


def _entries(yaml_path, description, splits):
    root = _root(yaml_path, description)
    entries, ids = [], annotations.Ids()
    for split in map(str.strip, splits.split(",")):
        for where, image_path in _pictures(yaml_path, root, description, split):
            image_id = ids.add(image_path, where)
            entries.append(Entry(image_id, image_path, _label_path(image_path)))
    return entries


def _descriptions(folder):
    """The YAML files of a folder that name classes."""
    found = (path for path in sorted(folder.glob("*")) if path.suffix.lower() in SUFFIXES and path.is_file())
    return [path for path in found if re.search(rb"^names\s*:", path.read_bytes(), re.MULTILINE)]


def _yaml_path(data):
    """The YAML file of DATA. Raises UserError if there is none or several."""
    data = pathlib.Path(data)
    if data.is_file():
        return data
    found = _descriptions(data)
    if not found:
        raise UserError(f"--data {data}: there is no .yaml file with 'names' in it")
    if len(found) > 1 and data / "data.yaml" not in found:
        raise UserError(f"--data {data}: it has {found[0].name} and {found[1].name}; give the file")
    return data / "data.yaml" if data / "data.yaml" in found else found[0]


def _read_yaml(data):
    """(path of the YAML file of DATA, its mapping). Raises UserError."""
    path = _yaml_path(data)
    try:
        # BaseLoader makes strings, lists and mappings only: a class may be called 'no' or '1', and no code can run
        content = yaml.load(files.read_text(path), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())}); correct the file") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a mapping; 'train', 'val' and 'names' are needed")
    return path, content


def _names(path, description):
    """The class names of the YAML file at `path`, a tuple in the order of class numbers."""
    names = description.get("names")
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f"{path}: 'names' is neither a list of names nor a mapping of numbers to names")
    in_order = [names.get(str(number)) for number in range(len(names))]
    if None in in_order:
        raise UserError(f"{path}: 'names' has no {in_order.index(None)}; number the {len(names)} classes from 0")
    return class_lists.check_names(in_order, path)


def _root(path, description):
    """The folder that the splits of the YAML file at `path` are relative to."""
    root = path.parent / str(description.get("path") or ".")
    if not root.is_dir():
        raise UserError(f"{path}: 'path' means {root}: no such folder; correct it, or remove it to use {path.parent}")
    return root


def _pictures(yaml_path, root, description, split):
    """Yield (where it is listed, picture) of a split."""
    parts = description.get(split)
    if not parts:
        known = ", ".join(key for key in ("train", "val", "test") if description.get(key)) or "none"
        raise UserError(f"{yaml_path}: has no split {split!r}; the splits are: {known}")
    empty = True
    for part in [parts] if isinstance(parts, str) else parts:
        place = root / str(part)
        if not place.exists() and str(part).startswith("../"):  # Roboflow writes this for a folder here
            place = root / str(part)[3:]
        for where, picture in _listed(place) if place.is_file() else _in_folder(yaml_path, split, place):
            yield where, picture
            empty = False
    if empty:
        raise UserError(f"{yaml_path}: the split {split!r} is empty; choose another one or add pictures to it")


def _in_folder(yaml_path, split, folder):
    """Yield (where, picture) for a folder and the folders in it."""
    if not folder.is_dir():
        raise UserError(f"{yaml_path}: {split!r} means {folder}: no such folder or file; correct it")
    for parent, names in files.walk(folder):
        for name in names:
            if name.lower().endswith(images.SUFFIXES):
                yield yaml_path, os.path.join(parent, name)


def _listed(path):
    """Yield (where, picture) for a text file. Relative paths, also those with './', are relative to its folder."""
    for number, line in enumerate(files.read_text(path).splitlines(), start=1):
        if line.strip():
            where, picture = f"{path}, line {number}", os.path.normpath(path.parent / line.strip())
            annotations.require_picture(picture, where)
            yield where, picture


def _label_path(image_path):
    """Where the labels of a picture are, or would be if there were any."""
    beside = os.path.splitext(image_path)[0] + ".txt"
    # A relative path may begin with images/: with a / in front it is found too
    head, found, tail = f"{os.sep}{beside}".rpartition(f"{os.sep}images{os.sep}")
    apart = f"{head}{os.sep}labels{os.sep}{tail}"[1:]
    return apart if found and (os.path.isfile(apart) or not os.path.isfile(beside)) else beside


def _written(path, size, names):
    """The objects of a label file, a list of Written; [] if there is no such file."""
    if not os.path.isfile(path):
        return []
    written = []
    for number, line in enumerate(files.read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        label, values = _parse_line(where, line)
        if label >= len(names):
            raise UserError(
                f"{where}: class {label} is not in the YAML file, which has 0 to {len(names) - 1}; correct one"
            )
        if len(values) == 4:
            cx, cy, width, height = values
            xs, ys = (cx - width / 2, cx + width / 2), (cy - height / 2, cy + height / 2)
        else:
            xs, ys = (min(values[::2]), max(values[::2])), (min(values[1::2]), max(values[1::2]))
        edges = xs[0] * size.width, ys[0] * size.height, xs[1] * size.width, ys[1] * size.height
        written.append(annotations.Written(names[label], edges, where))
    return written


def _parse_line(where, line):
    """'class cx cy width height', or a class and the corners of a polygon -> (class number, list of fractions)."""
    first, *rest = line.split()
    try:
        label, values = float(first), [float(text) for text in rest]
    except ValueError:
        label, values = -1, []
    if label < 0 or not label.is_integer() or (len(values) != 4 and (len(values) < 6 or len(values) % 2)):
        raise UserError(f"{where}: {wording.shorten(line.strip())} is not 'class cx cy width height'; correct it")
    if not all(math.isfinite(value) and abs(value) <= LARGEST for value in values):
        raise UserError(f"{where}: {wording.shorten(line.strip())} must contain fractions of the picture; correct it")
    return int(label), values
