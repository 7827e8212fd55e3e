"""Write Parts in a format: pictures, annotations, and what the format has no place for, with counts."""

import os
import re
import shutil

import numpy as np
from tqdm import tqdm

import sources
from conversion import coco_writer, csv_writer, voc_writer, yolo_writer
from structures import UserError
from system import atomic, files, folder_tree, wording, write_errors

# A writer has write(folder, parts, class_names); image_place(split, record); holds(item), whether it has a place for an
# Item at all; LOST, for each thing that it has no place for (whether an Item has it, what such an Item is called, what
# becomes of it); CLASS_LIST, the file of class names that it adds, or None; NAME_FAULTS, the keys of FAULTS that make a
# picture one that its files cannot name, or that its readers pass over; NO_SPLITS, names that no split can have
WRITERS = {"voc": voc_writer, "coco": coco_writer, "yolo": yolo_writer, "csv": csv_writer}

NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
FAULTS = {  # what the name of a picture may be: callable, its name in what is written, without suffix -> whether it is
    "not UTF-8 text": lambda name: name != name.encode("utf-8", "replace").decode("utf-8"),
    "of several lines": lambda name: len(name.splitlines()) > 1,
    "with a character that XML does not allow": lambda name: NOT_IN_XML.search(name) is not None,
    "with spaces at an end": lambda name: name != name.strip(),
    "hidden": lambda name: any(map(folder_tree.is_hidden, name.split("/"))),
}


def write(parts, class_names, target, to, link=False, progress=False):
    """Write Parts to a folder, which appears when it is complete. to: a key of WRITERS.

    link: make symbolic links to the pictures instead of copies. Raises UserError if the folder cannot be written, or
    the format has no place for the name of a picture.
    """
    writer = WRITERS[to]
    _check_names(parts, writer, to)
    try:
        with atomic.pending_folder(target) as folder:
            for part in parts:
                bar = tqdm(part.records, part.split, unit="img", leave=False, disable=not progress)
                for record in bar:
                    path = os.path.join(folder, writer.image_place(part.split, record))
                    if not os.path.lexists(path):
                        _place(record.image_path, path, link)
            writer.write(folder, parts, class_names)
            if writer.CLASS_LIST:
                lines = "".join(f"{name}\n" for name in class_names)
                files.write(os.path.join(folder, writer.CLASS_LIST), lines, durable=False)
            _check(parts, folder, writer, to)
    except OSError as error:
        raise UserError(f"--output {write_errors.unwritable(target, error)}") from None


def _check_names(parts, writer, to):
    """Raise UserError for a split or picture whose name readers would take for another one."""
    for part in parts:
        if part.split in writer.NO_SPLITS:
            raise UserError(f"--to {to}: the split {part.split!r} has a name with another meaning there; rename it")
    for record in (record for part in parts for record in part.records):
        for fault in writer.NAME_FAULTS:
            if FAULTS[fault](record.name):
                raise UserError(f"{record.image_path}: its name is {fault}, which {to} cannot hold; rename it")


def _place(image_path, path, link):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if link:
        os.symlink(os.path.abspath(image_path), path)
    else:
        shutil.copyfile(image_path, path)


def _check(parts, folder, writer, to):
    """Read what was written: each list must name its pictures, and no others, with as many objects as they have."""
    for part in parts:
        held = {
            os.path.join(folder, writer.image_place(part.split, record)): sum(map(writer.holds, record.items))
            for record in part.records
        }
        read = sources.reader(folder, part.split, to)
        found = {
            os.path.normpath(entry.image_path): len(read(entry).objects)
            for entry in sources.find(folder, part.split, to)
        }
        if other := sorted(found.keys() ^ held.keys()):
            raise AssertionError(f"{to}: {part.split} names other pictures than it should: {other[:2]}")
        for path, count in held.items():
            if found[path] != count:
                raise AssertionError(f"{to}: {path} has {found[path]} objects, not {count}")


def count_objects(parts, to):
    """The number of objects of Parts that a format has a place for."""
    return sum(sum(map(WRITERS[to].holds, record.items)) for part in parts for record in part.records)


def losses(parts, class_names, to):
    """What a format has no place for, a list of lines with counts."""
    writer, lines = WRITERS[to], []
    records = {record.image_path: record for part in parts for record in part.records}
    items = [item for record in records.values() for item in record.items]
    for has, what, becomes in writer.LOST:
        if lost := sum(map(bool, map(has, items))):
            lines.append(f"{to} has no place for {wording.plural(lost, what)}: {becomes}")
    labels = np.unique([item.label for item in items if writer.holds(item)])
    if writer.CLASS_LIST and len(labels) < len(class_names):
        count = wording.plural(len(class_names) - len(labels), "class")
        lines.append(
            f"{to} has no place for {count} without objects: give programs --classes with the file {writer.CLASS_LIST}"
        )
    return lines
