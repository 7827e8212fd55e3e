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
import functools
import itertools
import json
import operator
import os
import pathlib
import re
from typing import NamedTuple

import numpy as np

from formats import annotations, class_lists, fixed_copy, folders, foreign, listing
from structures import UserError
from system import cli, files, folder_tree, memory, wording

format_name = "COCO"
PREFIX, ROBOFLOW = "instances_", "_annotations.coco.json"
OTHER_PREFIXES = ("captions_", "person_keypoints_", "panoptic_", "stuff_", "image_info_")  # of COCO's other tasks
LISTS = ("images", "annotations", "categories")  # that every file has
NUMBERS, LARGEST = frozenset((int, float)), annotations.LARGEST
IDS = frozenset((int, str))  # types of ids; not of booleans
LONGEST_ID = 100  # digits of an id as text; Python makes no number of thousands
POLYGONS = re.compile(rb'"segmentation"\s*:\s*\[\s*(?:\[[-+0-9.eE,\s]*\][\s,]*)*\]')


class Entry(NamedTuple):
    """One picture of a split.

    id: see `annotations.with_ids`.
    image_path: the picture.
    where: file and entry, for messages.
    number: its id in the JSON.
    stated: (width, height) as the JSON states them, not checked.
    objects: which of its file's objects it has, a slice.
    file: the File that lists it.
    """

    id: str
    image_path: str
    where: str
    number: int | str
    stated: tuple
    objects: slice
    file: "File"

    def __reduce__(self):
        """What another process is sent: without the objects of other images."""
        part = self.file.part(self.objects)
        return Entry, (*self[:-2], slice(0, self.objects.stop - self.objects.start), part)


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


def parts(data):
    """The names of the folders that hold the splits of a data set; [] if it does itself."""
    return listing.parts(data, _split_paths)


def split_names(data):
    """The splits of a data set, sorted; of a file, the one."""
    data = pathlib.Path(data)
    return [data.stem.removeprefix(PREFIX)] if data.is_file() else sorted(_split_paths(data))


@memory.collector_paused()
def class_names(data, splits):
    """The categories of some splits, a tuple in the order of their ids. Raises UserError as `load` does.

    Without Roboflow's category 0, the name of the whole data set, and without a background that no object has.
    """
    found, used = {}, set()
    for path, _ in _find_files(data, splits):
        content = files.read_json(path, shorten=_without_polygons)
        categories = _categories(path, content)
        _ids(path, content, "annotations", "annotation")
        numbers = [one.get("category_id") for one in content["annotations"]]
        used |= {number for one in numbers if (number := _meant(one, categories)) is not None}
        written = [category.get("supercategory") for category in content["categories"]]
        above = {one for one in written if isinstance(one, str)}
        for number, name in categories.items():
            unused = number not in used and ((number == 0 and name in above) or class_lists.is_background(name))
            found[name] = found.get(name, False) or not unused
    if left_out := [name for name, wanted in found.items() if not wanted]:
        cli.warn_once(f"--data {data}: category {left_out[0]!r} has no objects and is left out")
    return class_lists.names_of_data([name for name, wanted in found.items() if wanted], data, splits)


def result_ids(data, splits):
    """The ResultIds of some splits. Raises UserError if an id means two things."""
    entries, numbers, categories = find(data, splits), {}, {}  # numbers: where each image id is
    for entry in entries:
        path = entry.where.rpartition(": ")[0]
        if entry.number in numbers:
            raise UserError(f"{path}: image {entry.number} is in another split too; choose one split")
        numbers[entry.number] = path
        for number, name in entry.file.names.items():
            if (other := categories.setdefault(name, number)) != number:
                raise UserError(f"{path}: category {name!r} has the ids {other} and {number}; results need one id")
    return ResultIds({entry.id: entry.number for entry in entries}, categories)


def load(data, splits, class_names, **options):
    """The samples of some splits. DATA and SPLITS are described above; options: as for source_pascal_voc.load.

    Raises UserError that names file and entry for anything missing or malformed, ImageError for a picture whose
    header cannot be read.
    """
    return annotations.make_samples(find(data, splits), _annotated, class_names, format_name=format_name, **options)


@memory.collector_paused()
def find(data, splits, check=True):
    """The Entry of each picture of some splits, in the order of `load`; opens no picture. Raises UserError.

    check: refuse pictures that are missing or listed twice.
    """
    entries = []
    for path, split in _find_files(data, splits):
        entries += _entries(path, _read(path), split, split_names(data), check)
    return annotations.with_ids(entries, os.fspath(data), check)


def survey(data, names):
    """The listing.Split of each of some splits."""
    return listing.of_split_files(data, names, find, _find_files)


def reader(data):
    """Callable, Entry -> annotations.Annotated."""
    return _described


def _split_paths(data):
    """{split: path} of the JSON files of a folder."""
    found = {}
    for name in folder_tree.visible_folders(data):
        inside = folder_tree.visible(data / name, ".json") if name != "annotations" else []
        if ROBOFLOW in inside:
            found[name] = data / name / ROBOFLOW
        elif len(inside) == 1 and _looks(data / name / inside[0]):
            found[name] = data / name / inside[0]
    for name in folder_tree.visible(data, ".json"):
        if _looks(data / name):
            found[name.removesuffix(".json").removeprefix(PREFIX)] = data / name
    named = folder_tree.visible(data / "annotations", ".json")
    if any(name.startswith(PREFIX) for name in named):
        named = [name for name in named if not name.startswith(OTHER_PREFIXES)]
    # A list of categories may lie beside, and a damaged file is one all the same, but not another tool's own
    looks = [name for name in named if _looks(data / "annotations" / name)]
    named = looks or [name for name in named if not foreign.explained(data / "annotations" / name)]
    for name in sorted(named, key=lambda name: name.startswith(PREFIX)):  # instances_ replaces another of its split
        found[name.removesuffix(".json").removeprefix(PREFIX)] = data / "annotations" / name
    return found


def _looks(path):
    """Whether a JSON file has COCO's lists, by its beginning and its end."""
    text = folders.beginning(path) + folders.ending(path)
    is_datumaros = '"images"' not in text and re.search(r'"items"\s*:\s*\[', text)  # a category may be called so
    return sum(f'"{name}"' in text for name in LISTS) >= 2 and not is_datumaros


def _find_files(data, splits):
    """[(JSON file, split)] of DATA and SPLITS."""
    return annotations.find_split_files(pathlib.Path(data), splits, _split_paths, f"annotations/{PREFIX}{{}}.json")


def _read(path):
    """The JSON of a file, without polygons, if every object has a box. Raises UserError."""
    content = files.read_json(path, shorten=_without_polygons)
    objects = content.get("annotations")
    if isinstance(objects, list) and {dict}.issuperset(map(type, objects)) and not all(map(_bbox, objects)):
        return files.read_json(path)
    return content


_bbox = operator.methodcaller("get", "bbox")


def _without_polygons(content):
    """The bytes of a JSON file without polygons, nine tenths of most files, which take most of the time to read."""
    if b'\\"segmentation"' in content:  # the end of a text
        return content
    return POLYGONS.sub(b'"segmentation":0', content)


def _entries(path, content, split, splits, check):
    """The Entry of each image, in the order of image ids."""
    described = dict(zip(_ids(path, content, "images", "image"), content["images"], strict=True))
    for number, image in described.items():
        if not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise UserError(f"{path}: image {number} has no file_name; correct the file")
    described = _by_id(described)
    file, starts = _sorted_file(path, content, described)
    finder = folders.Finder(_picture_folders(path, split), {other for other in splits if other != split}, check)
    entries = []
    for (number, image), (start, end) in zip(described.items(), itertools.pairwise(starts), strict=True):
        where = f"{path}: image {number}"
        stated = _side(image.get("width")), _side(image.get("height"))
        image_path = finder.find(image["file_name"], where)
        entries.append(Entry("", image_path, where, number, stated, slice(start, end), file))
    return entries


def _sorted_file(path, content, described):
    """(File, where each image's objects start among its objects, and their number). described: {id: image}."""
    _ids(path, content, "annotations", "annotation")
    numbers = [one.get("image_id") for one in content["annotations"]]
    if not IDS.issuperset(map(type, numbers)) or not described.keys() >= set(numbers):
        written, numbers = numbers, [_meant(number, described) for number in numbers]
        if None in numbers:
            index = numbers.index(None)
            where, shown = _where(path, index, content["annotations"][index]), wording.shorten(written[index])
            raise UserError(
                f"{where}: image_id {shown} is not the id of any image in the file; correct it or remove the annotation"
            )
    if not described:
        raise UserError(f"{path}: the file lists no images; choose another split")
    rank_of = {number: rank for rank, number in enumerate(described)}
    ranks = np.array([rank_of[number] for number in numbers], np.int64)
    starts = np.cumsum([0, *np.bincount(ranks, minlength=len(described))])
    order = np.argsort(ranks, kind="stable").tolist()
    objects = [content["annotations"][position] for position in order]
    return File(path, objects, order, _categories(path, content)), starts.tolist()


def _picture_folders(path, split):
    """Where the pictures of a JSON file may be, the most likely first; the last one holds the others."""
    base = path.parent.parent if path.parent.name == "annotations" else path.parent
    found = [base / split, base / "images" / split, base / "images", base / "data"]
    return [*found, *folders.of_split([base, base / "images"], split), base]


def _side(value):
    """A side that an image states, or None if it is no positive number."""
    return round(value) if _is_number(value) and value >= 1 else None


def _categories(path, content):
    """{category id: name}, in the order of ids."""
    names = {}
    for number, category in zip(_ids(path, content, "categories", "category"), content["categories"], strict=True):
        if not isinstance(category.get("name"), str) or not category["name"].strip():
            raise UserError(f"{path}: category {number} has no name; correct the file")
        names[number] = category["name"].strip()
    return _by_id(names)


def _by_id(values):
    """A dict in the order of its keys, which are ids: numbers first, then texts."""
    return dict(sorted(values.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _ids(path, content, key, kind):
    """The ids of a list of objects; None for an annotation without one. Raises UserError unless they differ."""
    entries = content.get(key)
    if not isinstance(entries, list):
        raise UserError(f"{path}: has no list {key!r}; is it a COCO instances file?")
    if set(map(type, entries)) <= {dict}:
        ids = [entry.get("id") for entry in entries]
        if IDS.issuperset(map(type, ids)) and len(set(ids)) == len(ids):
            return ids
    return _ids_one_by_one(path, entries, key, kind)


def _ids_one_by_one(path, entries, key, kind):
    """`_ids` of a list that may be wrong."""
    seen, ids = set(), []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: {key}[{index}] is {wording.shorten(entry)}, not an object; correct the file")
        number = _id(entry.get("id"))
        if number is None and ("id" in entry or kind != "annotation"):
            raise UserError(f"{path}: {key}[{index}] has no id; correct the file")
        if number is not None and number in seen:
            where = f"{path}: {kind} {number}: {key}[{index}]"
            raise UserError(f"{where} has the same id; give each {kind} its own")
        seen.add(number)
        ids.append(number)
    return ids


def _id(value):
    """The value if it can be an id, otherwise None. Booleans and floats cannot: as dict keys, True and 1.0 equal 1."""
    return value if type(value) in IDS else None


def _meant(value, known):
    """The id among `known` that an annotation means, None if there is none: some tools write '7' or 7.0 for 7."""
    if (number := _id(value)) in known:
        return number
    if type(value) is float and value.is_integer():
        others = int(value), str(int(value))
    elif type(value) is str and value.isdecimal() and len(value) <= LONGEST_ID:
        others = (int(value),)
    else:
        others = (str(value),) if type(value) is int else ()
    return next((one for one in others if one in known), None)


def _where(path, index, one):
    """File and entry of an annotation, for messages."""
    number = _id(one.get("id"))
    return f"{path}: annotations[{index}]" if number is None else f"{path}: annotation {number}"


def _annotated(entry):
    """The Annotated of an Entry, its objects in columns."""
    return annotations.Annotated(entry.file.columns(entry.objects), entry.stated)


def _described(entry):
    """The Annotated of an Entry, each object with all that the file says of it."""
    return annotations.Annotated(entry.file.written(entry.objects), entry.stated)


class File:
    """The objects of one JSON file, those of an image together.

    path: of the file.
    objects: its annotations, image by image, with ids, not checked further.
    order: their positions in the file.
    names: {category id: name}.
    """

    def __init__(self, path, objects, order, names):
        self.path, self.names, self._objects, self._order = path, names, objects, order

    def part(self, which):
        """A File with a slice of the objects."""
        return File(self.path, self._objects[which], self._order[which], self.names)

    def columns(self, which):
        """The annotations.Columns of a slice of the objects. Raises UserError that names the first that is wrong."""
        if not self._plain:
            return annotations.columns(self.written(which))
        names, edges, difficult, crowd, area = self._plain
        return annotations.Columns(
            names[which],
            edges[which],
            lambda index: self._where(which.start + index),
            difficult[which],
            crowd[which],
            area[which],
        )

    def written(self, which):
        """The annotations.Written of a slice of the objects. Raises UserError that names the first that is wrong."""
        objects = enumerate(self._objects[which], start=which.start)
        return [_written(self._where(index), one, self.names) for index, one in objects]

    def _where(self, index):
        return _where(self.path, self._order[index], self._objects[index])

    @functools.cached_property
    def _plain(self):
        """(names, edges, difficult, crowd, area) of all objects as `_written` has them, or None.

        None if an object is wrong, or lacks its box or area, so that each must be looked at.
        """
        numbers, bboxes, areas = ([one.get(key) for one in self._objects] for key in ("category_id", "bbox", "area"))
        if not IDS.issuperset(map(type, numbers)) or not self.names.keys() >= set(numbers):
            return None
        if not {list}.issuperset(map(type, bboxes)) or not {4}.issuperset(map(len, bboxes)):
            return None
        sides = list(itertools.chain.from_iterable(bboxes))
        if not NUMBERS.issuperset(map(type, sides)) or not NUMBERS.issuperset(map(type, areas)):
            return None
        try:
            boxes, areas = np.array(sides, np.float64).reshape(-1, 4), np.array(areas, np.float64)
        except OverflowError:  # an integer of more than 308 digits
            return None
        if not (np.abs(boxes).sum(axis=1) < LARGEST).all() or not (np.abs(areas) < LARGEST).all():
            return None
        boxes[:, 2:] += boxes[:, :2]
        crowd = np.array([one.get("iscrowd") == 1 for one in self._objects], bool)
        difficult = crowd | np.array([bool(one.get("ignore")) for one in self._objects], bool)
        return [self.names[number] for number in numbers], boxes, difficult, crowd, areas


def _written(where, one, names):
    """The Written of one annotation. names: {category id: name}."""
    number = one.get("category_id")
    name = names.get(_meant(number, names))
    if name is None:
        raise UserError(
            f"{where}: category_id {wording.shorten(number)} is unknown; the ids are {', '.join(map(str, names))}"
        )
    bbox, shape = one.get("bbox"), "box"
    if not bbox and (around := _around(one.get("segmentation"))):
        bbox, shape = around, "polygon"
    if not bbox and isinstance(one.get("segmentation"), dict):
        raise UserError(
            f"{where}: has no bbox, and its mask is not read; add the bbox [x, y, width, height] of each mask, such as "
            "that of pycocotools.mask.toBbox"
        )
    if not isinstance(bbox, list) or len(bbox) != 4 or not _are_numbers(bbox):
        raise UserError(
            f"{where}: bbox {wording.shorten(bbox)} is not [x, y, width, height], four numbers; correct the file"
        )
    x, y, width, height = bbox
    crowd, area = one.get("iscrowd") == 1, one.get("area")
    if not _is_number(area):
        area = max(width, 0) * max(height, 0)
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
    """Whether all are numbers that make sense; the sum shows a NaN."""
    return NUMBERS.issuperset(map(type, values)) and sum(map(abs, values)) < LARGEST


def write_fixed(copy):
    """Write the JSON files of a fixed_copy.FixedCopy, which has a split for each."""
    for split in copy.splits:
        path, kept = split.listed.where, {one.listed.entry.number: one for one in split.pictures}
        content, at = files.read_json(path), collections.Counter()
        known = {one["id"] for one in content["images"]}
        content["images"] = [_edited_image(one, kept[one["id"]]) for one in content["images"] if one["id"] in kept]
        written = []
        for one in content["annotations"]:
            number = _meant(one["image_id"], known)
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
