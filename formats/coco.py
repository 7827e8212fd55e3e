"""Data sets in COCO's format -> lists of samples (https://cocodataset.org/#format-data, object detection).

    DATA/annotations/instances_SPLIT.json    pictures in DATA/SPLIT, DATA/images/SPLIT, DATA/images or DATA
    DATA/annotations/SPLIT.json              the same
    DATA/SPLIT/_annotations.coco.json        pictures next to it (Roboflow)

DATA may also be a JSON file; SPLIT then only helps to find the pictures, in SPLIT, images/SPLIT or images next to the
file (or next to its folder `annotations`), or directly there. SPLITS names several, as in 'train2017,val2017'. Boxes
are x, y, width, height, continuous, in pixels. Crowd regions become difficult objects with `Sample.crowd` set, and
objects marked "ignore" become difficult. Samples come in the order of image ids, as in COCO's own tools.
"""

import math
import os
import pathlib
from typing import NamedTuple

from formats import annotations, class_lists
from media import images
from structures import UserError
from system import files, wording

PREFIX, ROBOFLOW = "instances_", "_annotations.coco.json"


class Entry(NamedTuple):
    """One picture of a split.

    id: the stem of its file name.
    image_path: the picture.
    number: its id in the JSON.
    stated: (width, height) as the JSON states them, not checked.
    objects: (where, annotation) pairs; where: file and entry, for messages; annotation: a dict, not checked.
    """

    id: str
    image_path: str
    number: int | str
    stated: tuple
    objects: list


class ResultIds(NamedTuple):
    """The ids that a COCO results list uses.

    image_ids: {stem of the file name: image id}.
    category_ids: {class name: category id}.
    """

    image_ids: dict
    category_ids: dict


def fits(data):
    """Whether a path looks like a data set in this format."""
    data = pathlib.Path(data)
    return data.suffix.lower() == ".json" if data.is_file() else bool(_split_paths(data))


def class_names(data, splits):
    """The categories of some splits, a tuple in the order of their ids. Raises UserError as `load` does."""
    found = [_categories(path, files.read_json(path)) for path, _ in _find_files(data, splits)]
    names = dict.fromkeys(name for categories in found for name in categories.values())  # each once, in order
    return class_lists.check_names(list(names), f"--data {data}")


def result_ids(data, splits):
    """The ResultIds of some splits. Raises UserError if an id means two things."""
    stems, categories = {}, {}  # stems by image id
    for path, content, entries in _read(data, splits):
        for entry in entries:
            if entry.number in stems:
                raise UserError(f"{path}: image {entry.number} is in another split too; choose one split")
            stems[entry.number] = entry.id
        for number, name in _categories(path, content).items():
            if (other := categories.setdefault(name, number)) != number:
                raise UserError(f"{path}: category {name!r} has the ids {other} and {number}; results need one id")
    return ResultIds({stem: number for number, stem in stems.items()}, categories)


def load(data, splits, class_names, *, other_classes="error", difficult="use", progress=False):
    """The samples of some splits. Arguments as for source_pascal_voc.load; DATA and SPLITS are described above.

    Raises UserError that names file and entry for anything missing or malformed, ImageError for a picture whose
    header cannot be read.
    """
    entries, names_of = [], {}  # {id: {category id: name}}
    for path, content, found in _read(data, splits):
        entries += found
        names_of |= dict.fromkeys((entry.id for entry in found), _categories(path, content))

    def read(entry):
        size = annotations.size_as_stated(images.header(entry.image_path), entry.stated)
        return size, [_written(where, one, names_of[entry.id]) for where, one in entry.objects]

    return annotations.make_samples(
        entries, read, class_names, other_classes=other_classes, difficult=difficult, progress=progress
    )


def find(data, splits):
    """The Entry of each picture of some splits, in the order of `load`; opens no picture. Raises UserError."""
    return [entry for _, _, entries in _read(data, splits) for entry in entries]


def _split_paths(data):
    """{split: path} of the JSON files of a folder."""
    found = {path.parent.name: path for path in sorted(data.glob(f"*/{ROBOFLOW}"))}
    for path in sorted((data / "annotations").glob("*.json")):
        found.setdefault(path.stem, path)
    for path in sorted((data / "annotations").glob(f"{PREFIX}*.json")):
        found[path.stem.removeprefix(PREFIX)] = path
        del found[path.stem]
    return found


def _find_files(data, splits):
    """[(JSON file, split)] of DATA and SPLITS."""
    return annotations.find_split_files(pathlib.Path(data), splits, _split_paths, f"annotations/{PREFIX}{{}}.json")


def _read(data, splits):
    """Yield (path, content, entries) of each split."""
    ids = annotations.Ids()
    for path, split in _find_files(data, splits):
        content = files.read_json(path)
        yield path, content, _entries(path, content, split, ids)


def _entries(path, content, split, ids):
    """The Entry of each image, in the order of image ids."""
    described = {}  # the image of each id
    for where, number, image in _numbered(path, content, "images", "image"):
        if not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise UserError(f"{where} has no file_name; correct the file")
        described[number] = image
    objects = {number: [] for number in described}
    for where, _, one in _numbered(path, content, "annotations", "annotation"):
        if _id(one.get("image_id")) not in objects:
            shown = wording.shorten(one.get("image_id"))
            raise UserError(f"{where}: image_id {shown} is not the id of any image in the file; correct it")
        objects[one["image_id"]].append((where, one))
    if not described:
        raise UserError(f"{path}: the file lists no images; choose another split")
    described = _by_id(described)
    folder = annotations.find_folder(_picture_folders(path, split), (one["file_name"] for one in described.values()))
    entries = []
    for number, image in described.items():
        image_path, where = os.path.join(folder, image["file_name"]), f"{path}: image {number}"
        annotations.require_picture(image_path, where)
        stated = image.get("width"), image.get("height")
        entries.append(Entry(ids.add(image_path, where), image_path, number, stated, objects[number]))
    return entries


def _picture_folders(path, split):
    """Where the pictures of a JSON file may be, the most likely first."""
    base = path.parent.parent if path.parent.name == "annotations" else path.parent
    return [base / split, base / "images" / split, base / "images", base]


def _categories(path, content):
    """{category id: name}, in the order of ids."""
    names = {}
    for where, number, category in _numbered(path, content, "categories", "category"):
        if not isinstance(category.get("name"), str) or not category["name"].strip():
            raise UserError(f"{where} has no name; correct the file")
        names[number] = category["name"].strip()
    return _by_id(names)


def _by_id(values):
    """A dict in the order of its keys, which are ids: numbers first, then texts."""
    return dict(sorted(values.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _numbered(path, content, key, kind):
    """Yield (where, id, entry) of a list of objects. Ids must differ; an annotation may have none (None)."""
    if not isinstance(content.get(key), list):
        raise UserError(f"{path}: has no list {key!r}; is it a COCO instances file?")
    seen = set()
    for index, entry in enumerate(content[key]):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: {key}[{index}] is {wording.shorten(entry)}, not an object; correct the file")
        number = _id(entry.get("id"))
        where = f"{path}: {key}[{index}]" if number is None else f"{path}: {kind} {number}"
        if number is None and ("id" in entry or kind != "annotation"):
            raise UserError(f"{where} has no id; correct the file")
        if number is not None and number in seen:
            raise UserError(f"{where}: {key}[{index}] has the same id; give each {kind} its own")
        seen.add(number)
        yield where, number, entry


def _id(value):
    """The value if it can be an id, otherwise None. Booleans and floats cannot: as dict keys, True and 1.0 equal 1."""
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _written(where, one, names):
    """The Written of one annotation. names: {category id: name}."""
    name = names.get(_id(one.get("category_id")))
    if name is None:
        raise UserError(
            f"{where}: category_id {wording.shorten(one.get('category_id'))} is unknown; the ids are "
            f"{', '.join(map(str, names))}"
        )
    bbox = one.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        raise UserError(f"{where}: bbox {wording.shorten(bbox)} is not [x, y, width, height]; correct the file")
    x, y, width, height = bbox
    crowd = one.get("iscrowd") in (1, True)
    area = one["area"] if _is_number(one.get("area")) else max(width, 0) * max(height, 0)
    edges = x, y, x + width, y + height
    return annotations.Written(name, edges, where, crowd or bool(one.get("ignore")), crowd, area)


def _is_number(value):
    return isinstance(value, (int, float)) and abs(value) < 1e9 and not math.isnan(value)
