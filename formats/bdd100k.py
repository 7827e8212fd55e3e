"""Data sets in BDD100K's format -> lists of samples (https://doc.bdd100k.com/format.html, labels of Scalabel).

    DATA/labels/det_20/det_SPLIT.json, DATA/labels/bdd100k_labels_images_SPLIT.json    a list of pictures
    DATA/labels/100k/SPLIT/ID.json                                                     a file for each picture
    DATA/images/100k/SPLIT/ID.jpg, DATA/images/SPLIT/ID.jpg                            pictures

The list may be the "frames" of an object, as Scalabel writes it. DATA may also be a JSON file with a list. Objects with
a `box2d` count: x1, y1, x2, y2 in pixels; those in newer files are inclusive, which adds nothing that matters, so all
are read as continuous edges. Lanes and drivable areas have no such box and are left out. An object with the attribute
`crowd` set is a crowd region.
"""

import json
import os
import pathlib

from formats import annotations, class_lists, fixed_copy, folders, listing
from media import images
from structures import UserError
from system import files, folder_tree, wording

format_name = "BDD100K"
CORNERS = ("x1", "y1", "x2", "y2")


class Entry(annotations.Entry):
    """One picture of a split; annotation_path is (where, list of its labels as in the JSON)."""


def fits(data):
    """Whether a path looks like a data set in this format."""
    data = pathlib.Path(data)
    return _looks(data) if data.is_file() else bool(_split_paths(data))


def split_names(data):
    """The splits of a data set, sorted."""
    data = pathlib.Path(data)
    return [_split_of(data)] if data.is_file() else sorted(_split_paths(data))


def class_names(data, splits):
    """The categories of the boxes in some splits, a tuple in alphabetical order. Raises UserError if there are none."""
    return class_lists.names_of_data(sorted(annotations.count_names(find(data, splits), _read)), data, splits)


def load(data, splits, class_names, **options):
    """The samples of some splits; options: as for source_pascal_voc.load. Raises UserError that names file and frame,
    ImageError for a picture whose header cannot be read.
    """
    return annotations.make_samples(find(data, splits), _read, class_names, format_name=format_name, **options)


def find(data, splits, check=True):
    """The Entry of each picture of some splits, in the order of `load`; opens no picture. Raises UserError.

    check: refuse pictures that are missing or listed twice.
    """
    entries, names = [], split_names(data)
    for path, split in _find_files(data, splits):
        finder = folders.Finder(_picture_folders(data, split), {other for other in names if other != split}, check)
        found = [Entry("", finder.find(name, where), where, labels) for where, name, labels in _frames(path)]
        if not found:
            raise UserError(f"{path}: it lists no pictures; choose another split")
        entries += found
    return annotations.with_ids(entries, os.fspath(data), check)


def _find_files(data, splits):
    """[(file or folder of files, split)] of DATA and SPLITS."""
    return annotations.find_split_files(pathlib.Path(data), splits, _split_paths, "labels/det_{}.json")


def survey(data, names):
    """The listing.Split of each of some splits."""
    return listing.of_split_files(data, names, find, _find_files)


def reader(data):
    """Callable, Entry -> annotations.Annotated."""
    return _read


def _looks(path):
    """Whether a JSON file holds labels of this format, by its beginning."""
    text = folders.beginning(path).lstrip()
    if not text.startswith(("[", "{")):
        return False
    if '"box2d"' in text or '"poly2d"' in text:
        return True
    return text.startswith("[") and '"name"' in text and ('"labels"' in text or '"attributes"' in text)


def _split_of(path):
    """'bdd100k_labels_images_train.json' -> 'train'."""
    return path.stem.rpartition("_")[2]


def _split_paths(data):
    """{split: a file with a list, or a folder with a file for each picture}."""
    found = {}
    for folder in (data, data / "labels", data / "labels" / "det_20", data / "labels" / "100k"):
        for name in folder_tree.visible(folder):
            path = folder / name
            if name.endswith(".json") and _split_of(path) in folders.SPLIT_NAMES and _looks(path):
                found.setdefault(_split_of(path), path)
            elif name in folders.SPLIT_NAMES and path.is_dir() and folder != data:
                inside = folder_tree.visible(path, ".json")
                if inside and _looks(path / inside[0]):
                    found.setdefault(name, path)
    return found


def _picture_folders(data, split):
    """Where the pictures of a split may be, the most likely first; the last one holds the others."""
    base = pathlib.Path(data)
    base = base.parent if base.is_file() else base
    base = base.parent.parent if base.name == "det_20" else base.parent if base.name == "labels" else base
    return [base / "images" / "100k" / split, base / "images" / split, base / split, base / "images", base]


def _frames(path):
    """Yield (where, name of the picture, list of labels) of a file with a list, or of the files of a folder."""
    if path.is_dir():
        for name in folder_tree.visible(path, ".json"):
            yield from _frames_of(path / name, [files.read_json(path / name)])
    else:
        yield from _frames_of(path, _listed(files.read_json(path, (list, dict))))


def _listed(content):
    """The list of frames in a file's JSON: all of it, or, as Scalabel writes now, its `frames`."""
    if isinstance(content, list):
        return content
    # `frames` of a file with one picture hold only objects
    return content["frames"] if isinstance(content.get("frames"), list) and "name" not in content else [content]


def _frames_of(path, frames):
    """`_frames` of a list."""
    for number, frame in enumerate(frames):
        where = f"{path}: frame {number}" if len(frames) > 1 else str(path)
        name = frame.get("name") if isinstance(frame, dict) else None
        if not isinstance(name, str) or not name:
            raise UserError(f"{where}: has no name; is it a file of BDD100K's labels?")
        labels = frame.get("labels")
        if labels is None and isinstance(frame.get("frames"), list):  # a file for each picture
            labels = [one for inner in frame["frames"] if isinstance(inner, dict) for one in inner.get("objects") or []]
        if not isinstance(labels or [], list):
            raise UserError(f"{where}: labels {wording.shorten(labels)} is not a list; correct the file")
        suffix = "" if name.lower().endswith(images.SUFFIXES) else images.SUFFIXES[0]
        yield where, name + suffix, labels or []


def _read(entry):
    """The Annotated of an Entry."""
    written = []
    for number, label in enumerate(entry.annotation_path, start=1):
        where = f"{entry.where}: label {number}"
        box = label.get("box2d") if isinstance(label, dict) else None
        if box is None:
            continue
        name, corners = (
            label.get("category"),
            annotations.numbers(map(box.get, CORNERS)) if isinstance(box, dict) else 0,
        )
        if not isinstance(name, str) or not name.strip() or not corners:
            raise UserError(f"{where}: {wording.shorten(label)} has no category or no box2d with x1, y1, x2, y2")
        attributes = label.get("attributes")
        attributes = attributes if isinstance(attributes, dict) else {}
        crowd, truncated = (attributes.get(key) is True for key in ("crowd", "truncated"))
        written.append(annotations.Written(name.strip(), tuple(corners), where, crowd, crowd, truncated=truncated))
    return annotations.Annotated(written)


def write_fixed(copy):
    """Write the JSON files of a fixed_copy.FixedCopy: the list of each split, or its files."""
    for split in copy.splits:
        kept, path = {one.listed.entry.where: one for one in split.pictures}, pathlib.Path(split.listed.where)
        if path.is_dir():
            for where, one in kept.items():
                frame = files.read_json(where)
                copy.write(where, json.dumps(_edited(frame, one), ensure_ascii=False))
            continue
        content = files.read_json(path, (list, dict))
        frames = _listed(content)
        places = [where for where, _, _ in _frames_of(path, frames)]
        written = [_edited(frame, kept[one]) for frame, one in zip(frames, places, strict=True) if one in kept]
        whole = (
            {**content, "frames": written} if isinstance(content, dict) and frames is content.get("frames") else written
        )
        copy.write(path, json.dumps(whole, ensure_ascii=False))


def _edited(frame, kept):
    """A frame after the Edit of its picture."""
    if kept.image_path != kept.listed.image_path:
        frame["name"] = os.path.splitext(frame["name"])[0] + kept.suffix
    if kept.edit is None:
        return frame
    boxes = iter(kept.edit.boxes)
    for holder, key in [(frame, "labels"), *((inner, "objects") for inner in frame.get("frames") or [])]:
        if isinstance(holder.get(key), list):
            holder[key] = [one for one in holder[key] if _edit_label(one, boxes)]
    return frame


def _edit_label(label, boxes):
    """Change a label in place; False if it is dropped. boxes: iterator over Edit.boxes, for labels with a box."""
    if not isinstance(label, dict) or label.get("box2d") is None:
        return True
    box = next(boxes)
    if box is not None and box != fixed_copy.KEEP:
        label["box2d"] |= dict(zip(CORNERS, box, strict=True))
    return box is not None
