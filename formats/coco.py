"""Data sets in COCO's format -> lists of samples (https://cocodataset.org/#format-data, object detection).

    DATA/annotations/instances_SPLIT.json    pictures in DATA/SPLIT, DATA/images/SPLIT, DATA/images or DATA
    DATA/annotations/SPLIT.json              the same
    DATA/SPLIT/_annotations.coco.json        pictures beside it (Roboflow)

DATA may be a JSON file itself; SPLIT then only helps to find the pictures, which are looked for in the folders SPLIT,
images/SPLIT and images beside the file (or beside its folder `annotations`) and there itself. Splits are named
'train2017,val2017'. Boxes are x, y, width, height, continuous, in pixels. Crowd regions become difficult objects with
`Sample.crowd` set, and those marked "ignore" difficult ones. Samples come by rising image id, as in COCO's own tools.
"""

import math
import os
import pathlib
from typing import NamedTuple

from tqdm import tqdm

from formats import annotations
from media import images
from structures import UserError
from system import files, wording

PREFIX, ROBOFLOW = "instances_", "_annotations.coco.json"


class Entry(NamedTuple):
    """One picture of a split. id: the stem of its file name; number: its id in the JSON; stated: (width, height)."""

    id: str
    image_path: str
    number: int | str
    stated: tuple
    objects: list  # (where, annotation as it is written)


class ResultIds(NamedTuple):
    """What a COCO results list calls things. image_ids: {stem: id}; category_ids: {class name: id}."""

    image_ids: dict
    category_ids: dict


def fits(data):
    """Whether a path looks like a data set of this format."""
    data = pathlib.Path(data)
    return data.suffix.lower() == ".json" if data.is_file() else bool(_split_paths(data))


def class_names(data, splits):
    """The categories of some splits, by rising id. Raises UserError as `load` does."""
    found = [_categories(path, files.read_json(path)) for path, _ in _find_files(data, splits)]
    names = dict.fromkeys(name for categories in found for name in categories.values())  # each once, in order
    return annotations.check_class_names(list(names), f"--data {data}")


def result_ids(data, splits):
    """ResultIds of some splits. Raises UserError where the same id means two things."""
    stems, categories = {}, {}  # stems by image id
    for path, content, entries in _read(data, splits):
        for entry in entries:
            if entry.number in stems:
                raise UserError(f"{path}: image {entry.number} is in another split too; take one split at a time")
            stems[entry.number] = entry.id
        for number, name in _categories(path, content).items():
            if (other := categories.setdefault(name, number)) != number:
                raise UserError(f"{path}: category {name!r} has the ids {other} and {number}; results need one")
    return ResultIds({stem: number for number, stem in stems.items()}, categories)


def load(data, splits, class_names, *, other_classes="error", difficult="use", progress=False):
    """The samples of some splits; see above and source_pascal_voc.load.

    Raises UserError that names file and entry for anything missing or malformed, ImageError for a picture without a
    header.
    """
    maker = annotations.SampleMaker(class_names, other_classes, difficult)
    samples = []
    for path, content, entries in _read(data, splits):
        names = _categories(path, content)
        for entry in tqdm(entries, "annotations", unit="", leave=False, disable=not progress):
            size = annotations.size_as_stated(images.header(entry.image_path), entry.stated)
            objects = [_written(where, one, names) for where, one in entry.objects]
            samples.append(maker.make(entry.id, entry.image_path, size, objects))
    maker.warn_of_dropped()
    return samples


def find(data, splits):
    """The Entry of each picture of some splits, in the order of `load`; no picture is opened."""
    return [entry for _, _, entries in _read(data, splits) for entry in entries]


def _split_paths(data):
    """{split: path} of the instances files of a folder."""
    found = {path.parent.name: path for path in sorted(data.glob(f"*/{ROBOFLOW}"))}
    for path in sorted((data / "annotations").glob("*.json")):
        found.setdefault(path.stem, path)
    for path in sorted((data / "annotations").glob(f"{PREFIX}*.json")):
        found[path.stem.removeprefix(PREFIX)] = path
        del found[path.stem]
    return found


def _find_files(data, splits):
    """[(JSON file, split)] of DATA and SPLIT."""
    return annotations.find_split_files(pathlib.Path(data), splits, _split_paths, f"annotations/{PREFIX}{{}}.json")


def _read(data, splits):
    """Yield (path, content, entries) of each split."""
    ids = annotations.Ids()
    for path, split in _find_files(data, splits):
        content = files.read_json(path)
        yield path, content, _entries(path, content, split, ids)


def _entries(path, content, split, ids):
    """The Entry of each image by rising id, with its annotations."""
    stated = {}
    for where, number, image in _numbered(path, content, "images", "image"):
        if not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise UserError(f"{where} has no file_name; correct the file")
        stated[number] = image
    objects = {number: [] for number in stated}
    for where, _, one in _numbered(path, content, "annotations", "annotation"):
        if _id(one.get("image_id")) not in objects:
            shown = wording.shorten(one.get("image_id"))
            raise UserError(f"{where}: image_id {shown} is no image of the file; correct it")
        objects[one["image_id"]].append((where, one))
    if not stated:
        raise UserError(f"{path}: no images in it; choose another split")
    order = sorted(stated, key=lambda number: (isinstance(number, str), number))
    folder = annotations.find_folder(_picture_folders(path, split), (stated[number]["file_name"] for number in order))
    entries = []
    for number in order:
        image, where = stated[number], f"{path}: image {number}"
        image_path = os.path.join(folder, image["file_name"])
        if not os.path.isfile(image_path):
            raise UserError(f"{where}: {image_path}: no such picture; add the file or remove the entry")
        size = image.get("width"), image.get("height")
        entries.append(Entry(ids.add(image_path, where), image_path, number, size, objects[number]))
    return entries


def _picture_folders(path, split):
    """Where the pictures of a JSON file may be, the likeliest first."""
    base = path.parent.parent if path.parent.name == "annotations" else path.parent
    return [base / split, base / "images" / split, base / "images", base]


def _categories(path, content):
    """{category id: name}, by rising id."""
    names = {}
    for where, number, category in _numbered(path, content, "categories", "category"):
        if not isinstance(category.get("name"), str) or not category["name"].strip():
            raise UserError(f"{where} has no name; correct the file")
        names[number] = category["name"].strip()
    return dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _numbered(path, content, key, kind):
    """Yield (where, id, entry) of a list of objects with different ids; annotations may go without."""
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
            raise UserError(f"{where}: its id is there twice, again at {key}[{index}]; give each its own")
        seen.add(number)
        yield where, number, entry


def _id(value):
    """An id, or None for what can be none (true and 1.0 are 1 to a dict)."""
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _written(where, one, names):
    """One annotation as Written."""
    name = names.get(_id(one.get("category_id")))
    if name is None:
        raise UserError(
            f"{where}: category_id {wording.shorten(one.get('category_id'))} is unknown; there are "
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
