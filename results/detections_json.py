"""The project's own format, detections.json. It alone records where detections are from and unreadable pictures.

Its layout is in docs/formats.md; boxes are continuous edges in pixels of the original image, with two decimals. Scores
have every digit: a float32 that is written and read again is the same float32.
"""

import dataclasses
import json
import os

import numpy as np

from results import result_files
from results.result_files import Results, Source, field
from structures import UserError
from system import atomic, files, schema
from system.wording import shorten

FLAG = None
HELP = "the detections"
NAME = "detections.json"
SIDES = schema.Limits(0, 1e9)  # of a picture, in pixels
LOOKS = f"a {NAME} or the folder that infer.py wrote it into"
START = b'{"model": '  # of our own files, since other programs also write files of that name


def owns(name):
    """Whether a file of that name in a folder of results belongs to this format."""
    return name == NAME


def picture_key(file, data):
    """The name of a picture's entry."""
    return file


def open_writer(folder, origin):
    """A Writer of FOLDER/detections.json."""
    path, threshold = os.path.join(folder, NAME), origin.threshold
    return Writer(path, class_names=origin.class_names, threshold=threshold, **dataclasses.asdict(origin.source))


class Writer(result_files.Writer):
    """Writes a detections JSON. threshold: the lowest score written; source: the fields of result_files.Source."""

    def __init__(self, path, *, class_names, threshold, **source):
        self._class_names = tuple(class_names)
        self._errors = []
        self._separator = "\n"
        self._file = atomic.PendingFile(path)
        known = {name: value for name, value in dataclasses.asdict(Source(**source)).items() if value is not None}
        head = {"model": str(known.pop("model")), **known}  # is_ours recognizes the beginning
        head |= {"class_names": self._class_names, "threshold": float(threshold)}
        self._file.write(json.dumps(head)[:-1] + ', "images": [')

    def add(self, file, width, height, detections):
        entry = {"file": str(file), "width": int(width), "height": int(height)}
        rows = (row.values() for row in detections.rows(self._class_names))
        entry["detections"] = [{"class": name, "score": score, "box": box} for name, score, *box in rows]
        self._file.write(self._separator + json.dumps(entry, allow_nan=False))
        self._separator, self.begun = ",\n", True

    def error(self, file, reason):
        self.begun = True
        self._errors.append({"file": str(file), "reason": str(reason)})

    def close(self):
        self._file.write('\n], "errors": ' + json.dumps(self._errors, indent=1) + "}\n")
        self._file.commit()

    def discard(self):
        self._file.discard()


def is_ours(path):
    """Whether there is a file that begins as the Writer's files do."""
    if not os.path.isfile(path):
        return False
    with files.open_regular(path) as file:
        return file.read(len(START)) == START


def fits(path):
    """Whether a path is a JSON file whose outermost value is an object, or a folder with such a detections.json."""
    return result_files.json_begins(_file(path), b"{")


def _file(path):
    """The JSON file that a path means: itself, or the detections.json in it."""
    return os.path.join(path, NAME) if os.path.isdir(path) else path


def read(path, class_names=None, data=None):
    """Read a detections JSON, of this or another detector, into Results. path: it, or its folder.

    class_names: the classes wanted, in this order, others in the file are skipped; None takes those of the file.
    Raises UserError, naming the entry, for whatever is malformed.
    """
    path = _file(path)
    content = result_files.parse_json(path, dict)
    if "voc07" in content:
        raise UserError(f"{path}: has the figures of average_precision.py --json; give the detections that it scored")
    if content.get("images") is None:
        raise UserError(f"{path}: not a detections file, it has no 'images'; give {LOOKS}")
    names = _class_names(content, class_names, path)
    label_of = {name: label for label, name in enumerate(names)}
    strict = class_names is None  # without a choice, every class in the file must be on its own list
    detections, sizes, file_of = {}, {}, {}
    for index, image in enumerate(field(content, "images", list, path)):
        where = f"{path}: images[{index}]"
        file = field(image, "file", str, where)
        where = f"{where} ({file})"
        key = result_files.picture_id(file, data)
        if key in file_of:
            raise UserError(f"{where} has the same stem as {file_of[key]}: images are matched by stem")
        file_of[key] = file
        detections[key] = _detections(field(image, "detections", list, where), label_of, strict, where)
        if "width" in image and "height" in image:
            size = {"width": image["width"], "height": image["height"]}
            schema.check(where, size, dict[str, int], own=SIDES)
            sizes[key] = image["width"], image["height"]
    errors = _errors(content, path, file_of, data)
    schema.check(path, {"threshold": content.get("threshold")}, dict[str, float | None])
    threshold = None if content.get("threshold") is None else float(content["threshold"])
    return Results(names, detections, sizes, errors, threshold, _source(content), complete=True)


def _source(content):
    """The Source that a file records, as far as it is text; None if it names no model."""
    known = {field.name: content.get(field.name) for field in dataclasses.fields(Source)}
    known = {name: value for name, value in known.items() if isinstance(value, str)}
    return Source(**known) if "model" in known else None


def _class_names(content, wanted, path):
    """The class list that labels will index: `wanted`, or the file's own if that is None."""
    if wanted is not None and "class_names" not in content:
        return tuple(wanted)
    names = field(content, "class_names", list, path)
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise UserError(f"{path}: 'class_names' {shorten(names)} must be distinct strings")
    if unknown := [name for name in wanted or () if name not in names]:
        known = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise UserError(
            f"{path}: has no class {unknown[0]!r}, only {known}; give results of a model with the same classes, or "
            "name classes that it has (--classes)"
        )
    return tuple(names if wanted is None else wanted)


def _errors(content, path, file_of, data):
    """{id: reason} of the pictures that could not be read. file_of: {id: file} of the others."""
    errors, file_of = {}, dict(file_of)
    for index, entry in enumerate(field(content, "errors", list, path) if "errors" in content else []):
        file = field(entry, "file", str, f"{path}: errors[{index}]")
        if (key := result_files.picture_id(file, data)) in file_of:
            raise UserError(f"{path}: errors[{index}] ({file}) has the same stem as {file_of[key]}")
        file_of[key], errors[key] = file, str(entry.get("reason", ""))
    return errors


def _detections(entries, label_of, strict, where):
    """The `detections` list of one image -> Detections."""
    for index, entry in enumerate(entries):
        _check(entry, label_of if strict else None, f"{where}: detections[{index}]")
    entries = [entry for entry in entries if entry["class"] in label_of]
    return result_files.best_first(
        np.array([entry["box"] for entry in entries], np.float64).reshape(-1, 4),
        np.array([entry["score"] for entry in entries], np.float64),
        np.array([label_of[entry["class"]] for entry in entries], np.int32),
    )


def _check(entry, label_of, where):
    """Raise UserError unless class, score and box of one detection make sense. label_of: the classes allowed."""
    name = field(entry, "class", str, where)
    if label_of is not None and name not in label_of:
        raise UserError(f"{where}: class {name!r} is not among the file's class_names")
    _, box = result_files.score_and_box(entry, "box", where)
    if box[2] < box[0] or box[3] < box[1]:
        raise UserError(f"{where}: box {shorten(box)} is inverted, [xmin, ymin, xmax, ymax] is needed")
