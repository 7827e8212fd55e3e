"""Data sets in COCO's format -> lists of samples (https://cocodataset.org/#format-data, object detection).

    DATA/annotations/instances_SPLIT.json    pictures in DATA/SPLIT, DATA/images/SPLIT, DATA/images, DATA/data or DATA
    DATA/annotations/SPLIT.json, DATA/SPLIT.json            the same
    DATA/SPLIT/_annotations.coco.json        pictures next to it (Roboflow); also labels.json (FiftyOne) and others

DATA may also be a JSON file; SPLIT then only helps to find the pictures, in SPLIT, images/SPLIT or images next to the
file (or next to its folder `annotations`), or directly there. A file_name with other folders (Label Studio's
../../media/upload/4/a.jpg) means the picture that shares the longest end of it. SPLITS names several, as in
'train2017,val2017'. Boxes are x, y, width, height, continuous, in pixels; an object without one has the box around its
segmentation. Crowd regions become difficult objects with `Sample.crowd` set, and objects marked "ignore" become
difficult; "truncated" is an addition of convert_dataset.py. Samples come in the order of image ids, as in COCO's own
tools.
"""

import collections
import json
import os
import pathlib
from typing import NamedTuple

from formats import annotations, class_lists, fixed_copy, folders, listing
from structures import UserError
from system import cli, files, wording

PREFIX, ROBOFLOW = "instances_", "_annotations.coco.json"
LISTS = ("images", "annotations", "categories")  # that every file has
NUMBERS, LARGEST = frozenset((int, float)), 1e9


class Entry(NamedTuple):
    """One picture of a split.

    id: see `annotations.with_ids`.
    image_path: the picture.
    where: file and entry, for messages.
    number: its id in the JSON.
    stated: (width, height) as the JSON states them, not checked.
    objects: (where, annotation) pairs; where: file and entry, for messages; annotation: a dict, not checked.
    names: {category id: name} of its file.
    """

    id: str
    image_path: str
    where: str
    number: int | str
    stated: tuple
    objects: list
    names: dict


class ResultIds(NamedTuple):
    """The ids that a COCO results list uses.

    image_ids: {Entry.id: image id}.
    category_ids: {class name: category id}.
    """

    image_ids: dict
    category_ids: dict


def fits(data):
    """Whether a path looks like a data set in this format."""
    data = pathlib.Path(data)
    return data.suffix.lower() == ".json" if data.is_file() else bool(_split_paths(data))


def split_names(data):
    """The splits of a data set, sorted; of a file, the one."""
    data = pathlib.Path(data)
    return [data.stem.removeprefix(PREFIX)] if data.is_file() else sorted(_split_paths(data))


def class_names(data, splits):
    """The categories of some splits, a tuple in the order of their ids. Raises UserError as `load` does.

    Without Roboflow's category 0, the name of the whole data set, and without a background that no object has.
    """
    found, used = {}, set()
    for path, _ in _find_files(data, splits):
        content = files.read_json(path)
        categories = _categories(path, content)
        used |= {one.get("category_id") for _, _, one in _numbered(path, content, "annotations", "annotation")}
        above = {category.get("supercategory") for category in content["categories"]}
        for number, name in categories.items():
            unused = number not in used and ((number == 0 and name in above) or class_lists.is_background(name))
            found[name] = found.get(name, False) or not unused
    if left_out := [name for name, wanted in found.items() if not wanted]:
        cli.warn(f"--data {data}: category {left_out[0]!r} has no objects and is left out")
    return class_lists.names_of_data([name for name, wanted in found.items() if wanted], data, splits)


def result_ids(data, splits):
    """The ResultIds of some splits. Raises UserError if an id means two things."""
    entries, numbers, categories = find(data, splits), {}, {}  # numbers: where each image id is
    for entry in entries:
        path = entry.where.rpartition(": ")[0]
        if entry.number in numbers:
            raise UserError(f"{path}: image {entry.number} is in another split too; choose one split")
        numbers[entry.number] = path
        for number, name in entry.names.items():
            if (other := categories.setdefault(name, number)) != number:
                raise UserError(f"{path}: category {name!r} has the ids {other} and {number}; results need one id")
    return ResultIds({entry.id: entry.number for entry in entries}, categories)


def load(data, splits, class_names, **options):
    """The samples of some splits. DATA and SPLITS are described above; options: as for source_pascal_voc.load.

    Raises UserError that names file and entry for anything missing or malformed, ImageError for a picture whose
    header cannot be read.
    """
    return annotations.make_samples(find(data, splits), _annotated, class_names, format_name="COCO", **options)


def find(data, splits, check=True):
    """The Entry of each picture of some splits, in the order of `load`; opens no picture. Raises UserError.

    check: refuse pictures that are missing or listed twice.
    """
    entries = []
    for path, split in _find_files(data, splits):
        entries += _entries(path, files.read_json(path), split, split_names(data), check)
    return annotations.with_ids(entries, os.fspath(data), check)


def survey(data, names):
    """The listing.Split of each of some splits."""
    return listing.of_split_files(data, names, find, _find_files)


def reader(data):
    """Callable, Entry -> annotations.Annotated."""
    return _annotated


def _split_paths(data):
    """{split: path} of the JSON files of a folder."""
    found = {}
    for name in files.visible_folders(data):
        inside = files.visible(data / name, ".json") if name != "annotations" else []
        if ROBOFLOW in inside:
            found[name] = data / name / ROBOFLOW
        elif len(inside) == 1 and _looks(data / name / inside[0]):
            found[name] = data / name / inside[0]
    for name in files.visible(data, ".json"):
        if _looks(data / name):
            found[name.removesuffix(".json").removeprefix(PREFIX)] = data / name
    named = files.visible(data / "annotations", ".json")
    for name in sorted(named, key=lambda name: name.startswith(PREFIX)):  # instances_ replaces another of its split
        found[name.removesuffix(".json").removeprefix(PREFIX)] = data / "annotations" / name
    return found


def _looks(path):
    """Whether a JSON file has COCO's lists, by its beginning and its end."""
    text = folders.beginning(path) + folders.ending(path)
    return sum(f'"{name}"' in text for name in LISTS) >= 2


def _find_files(data, splits):
    """[(JSON file, split)] of DATA and SPLITS."""
    return annotations.find_split_files(pathlib.Path(data), splits, _split_paths, f"annotations/{PREFIX}{{}}.json")


def _entries(path, content, split, splits, check):
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
    names = _categories(path, content)
    finder = folders.Finder(_picture_folders(path, split), {other for other in splits if other != split}, check)
    entries = []
    for number, image in _by_id(described).items():
        where = f"{path}: image {number}"
        stated = _side(image.get("width")), _side(image.get("height"))
        image_path = finder.find(image["file_name"], where)
        entries.append(Entry("", image_path, where, number, stated, objects[number], names))
    return entries


def _picture_folders(path, split):
    """Where the pictures of a JSON file may be, the most likely first; the last one holds the others."""
    base = path.parent.parent if path.parent.name == "annotations" else path.parent
    return [base / split, base / "images" / split, base / "images", base / "data", base]


def _side(value):
    """A side that an image states, or None if it is no positive number."""
    return round(value) if _is_number(value) and value >= 1 else None


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


def _annotated(entry):
    """The Annotated of an Entry."""
    return annotations.Annotated([_written(where, one, entry.names) for where, one in entry.objects], entry.stated)


def _written(where, one, names):
    """The Written of one annotation. names: {category id: name}."""
    name = names.get(_id(one.get("category_id")))
    if name is None:
        raise UserError(
            f"{where}: category_id {wording.shorten(one.get('category_id'))} is unknown; the ids are "
            f"{', '.join(map(str, names))}"
        )
    bbox, shape = one.get("bbox"), "box"
    if not bbox and (around := _around(one.get("segmentation"))):
        bbox, shape = around, "polygon"
    if not isinstance(bbox, list) or len(bbox) != 4 or not _are_numbers(bbox):
        raise UserError(f"{where}: bbox {wording.shorten(bbox)} is not [x, y, width, height]; correct the file")
    x, y, width, height = bbox
    crowd = one.get("iscrowd") in (1, True)
    area = one["area"] if _is_number(one.get("area")) else max(width, 0) * max(height, 0)
    edges = x, y, x + width, y + height
    difficult, truncated = crowd or bool(one.get("ignore")), bool(one.get("truncated"))
    return annotations.Written(name, edges, where, difficult, crowd, area, shape, truncated)


def _around(segmentation):
    """[x, y, width, height] around the polygons of a segmentation, or None if it has none."""
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        return None
    values = annotations.numbers([value for polygon in segmentation for value in polygon])
    if not values or len(values) % 2:
        return None
    xs, ys = values[::2], values[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _is_number(value):
    return type(value) in NUMBERS and abs(value) < LARGEST


def _are_numbers(values):
    """Whether all are numbers that make sense; the slow part of a million annotations, so NaN shows in the sum."""
    return NUMBERS.issuperset(map(type, values)) and sum(map(abs, values)) < LARGEST


def write_fixed(copy):
    """Write the JSON files of a fixed_copy.FixedCopy, which has a split for each."""
    for split in copy.splits:
        path, kept = split.listed.where, {one.listed.entry.number: one for one in split.pictures}
        content, at = files.read_json(path), collections.Counter()
        content["images"] = [_edited_image(one, kept[one["id"]]) for one in content["images"] if one["id"] in kept]
        written = []
        for one in content["annotations"]:
            number = one["image_id"]
            if number in kept:
                edit = kept[number].edit
                written += [one] if edit is None else _edited(one, edit, edit.boxes[at[number]])
                at[number] += 1
        content["annotations"] = written
        copy.write(path, json.dumps(content, ensure_ascii=False))


def _edited_image(image, kept):
    if kept.suffix != os.path.splitext(image["file_name"])[1] and kept.image_path != kept.listed.image_path:
        image["file_name"] = os.path.splitext(image["file_name"])[0] + kept.suffix
    if kept.edit is not None and kept.edit.scale:
        image |= dict(zip(("width", "height"), kept.edit.size, strict=True))
    return image


def _edited(one, edit, box):
    """A list of one annotation after an Edit, of none if it is dropped. box: as in Edit.boxes."""
    if box is None:
        return []
    if edit.scale:
        x, y = edit.scale
        polygons = one.get("segmentation")
        if isinstance(polygons, list) and all(annotations.numbers(polygon) for polygon in polygons):
            one["segmentation"] = [
                [value * (y if at % 2 else x) for at, value in enumerate(polygon)] for polygon in polygons
            ]
        else:
            one.pop("segmentation", None)  # a mask of another size
        if _is_number(one.get("area")):
            one["area"] *= x * y
    if box != fixed_copy.KEEP:
        xmin, ymin, xmax, ymax = box
        one["bbox"] = [round(value, 3) for value in (xmin, ymin, xmax - xmin, ymax - ymin)]
    return [one]
