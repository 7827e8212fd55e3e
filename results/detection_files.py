"""Detections on disk: the project's JSON, the comp4 text files of the VOC devkit, COCO's results list, YOLO's text.

The layout of `detections.json` is in docs/formats.md (boxes are continuous edges in pixels of the original
image). `comp4_det_test_CLASS.txt` holds `stem score xmin ymin xmax ymax` per line, in the devkit's 1-based
inclusive pixels, (xmin + 1, ymin + 1, xmax, ymax) of the continuous edges. A COCO results list holds
`{"image_id", "category_id", "bbox": [x, y, width, height], "score"}` for each detection, continuous, in pixels. YOLO's
`STEM.txt` holds `class cx cy width height confidence` per line, in fractions of the picture. All carry every digit:
a float32 that is written and read again is the same float32.
"""

import dataclasses
import glob
import json
import os
import sys

import numpy as np

import boxes as box_geometry
from structures import Detections, UserError
from system import files
from system.wording import shorten, stem

COMP4_PREFIX = "comp4_det_test_"
JSON_NAME, COCO_NAME, YOLO_FOLDER = "detections.json", "coco_results.json", "labels"
JSON_START = b'{"model": '
COMP4_SHIFT = np.array([1.0, 1.0, 0.0, 0.0])
LARGEST = sys.float_info.max


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """What a detections JSON or a comp4 folder says.

    class_names: tuple, the list that labels index; detections: dict file stem -> Detections; sizes: dict
    stem -> (width, height) in pixels; errors: dict stem -> reason, images that could not be read;
    threshold: the lowest score written; model: what made them. A comp4 folder has no sizes, errors,
    threshold (None) or model (None), and names only images with at least one detection, as a COCO results list does.
    """

    class_names: tuple
    detections: dict
    sizes: dict = dataclasses.field(default_factory=dict)
    errors: dict = dataclasses.field(default_factory=dict)
    threshold: float | None = None
    model: str | None = None
    complete: bool = False  # names every image that was looked at


def to_comp4_px(boxes_px):
    """[N,4] continuous edges in pixels -> float64 [N,4] in the devkit's 1-based inclusive pixels."""
    return np.asarray(boxes_px, np.float64).reshape(-1, 4) + COMP4_SHIFT


def from_comp4_px(comp4_px):
    """float64 [N,4] in the devkit's 1-based inclusive pixels -> [N,4] continuous edges in pixels."""
    return comp4_px - COMP4_SHIFT


def coco_id(file):
    """An image's id where no COCO data set gives one: its stem, a number if it is one."""
    key = stem(file)
    return int(key) if key.isdecimal() else key


def yolo_name(file):
    """'some/folder/a.jpg' -> 'some/folder/a.txt', the name of a picture's results in YOLO's form."""
    return os.path.splitext(file)[0] + ".txt"


class _Writer:
    """Context manager around `close` and `discard`: Ctrl-C keeps what is there, as does a user's error amid the work.

    begun: whether something was added; before that an error leaves an older file in its place.
    """

    begun = False

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        amid = self.begun and kind is not None and issubclass(kind, (UserError, OSError))
        if amid or kind is None or issubclass(kind, KeyboardInterrupt):
            try:
                self.close()
            except UserError:
                self.discard()
                raise
        else:
            self.discard()


class DetectionsWriter(_Writer):
    """Writes `detections.json` image by image in constant memory.

    The file appears under its name at `close`; as a context manager also after Ctrl-C, and after a UserError or an
    OSError once there are images, with those done so far, but not after another exception.
    """

    def __init__(self, path, *, model, class_names, threshold):
        self._class_names = tuple(class_names)
        self._errors = []
        self._separator = "\n"
        self._file = files.PendingFile(path)
        head = {"model": str(model), "class_names": self._class_names, "threshold": float(threshold)}
        self._file.write(json.dumps(head)[:-1] + ', "images": [')

    def add(self, file, width, height, detections):
        """The detections on one image of `width` × `height` pixels, read from `file`."""
        entry = {"file": str(file), "width": int(width), "height": int(height)}
        entry["detections"] = [
            {"class": self._class_names[label], "score": score, "box": box}
            for label, score, box in zip(*_as_lists(detections), strict=True)
        ]
        self._file.write(self._separator + json.dumps(entry, allow_nan=False))
        self._separator, self.begun = ",\n", True

    def error(self, file, reason):
        """An image that could not be read, and why."""
        self.begun = True
        self._errors.append({"file": str(file), "reason": str(reason)})

    def close(self):
        """Finish the file and put it in its place."""
        self._file.write('\n], "errors": ' + json.dumps(self._errors, indent=1) + "}\n")
        self._file.commit()

    def discard(self):
        """Leave nothing behind."""
        self._file.discard()


def _as_lists(detections):
    """Labels, scores and boxes as Python numbers; a float32 becomes the float64 of the same value."""
    return (
        detections.labels.tolist(),
        np.asarray(detections.scores, np.float64).tolist(),
        np.asarray(detections.boxes_px, np.float64).reshape(-1, 4).tolist(),
    )


class Comp4Writer(_Writer):
    """Writes one `comp4_det_test_CLASS.txt` per class into a folder, also for classes never detected.

    Opens, closes and fails as DetectionsWriter does.
    """

    def __init__(self, folder, class_names):
        for name in class_names:
            if not name or "/" in name or os.sep in name:
                raise UserError(f"class {name!r} cannot be part of a comp4 file name, rename it")
        self._files = []
        try:
            for name in class_names:
                self._files.append(files.PendingFile(os.path.join(folder, f"{COMP4_PREFIX}{name}.txt")))
        except UserError:
            self.discard()
            raise

    def add(self, file, detections):
        """The detections on the image of `file`, a name or a stem."""
        labels, scores, _ = _as_lists(detections)
        boxes = to_comp4_px(detections.boxes_px).tolist()
        for label, score, box in zip(labels, scores, boxes, strict=True):
            self._files[label].write(f"{stem(file)} {score!r} {' '.join(map(repr, box))}\n")
        self.begun = True

    def close(self):
        """Finish the files and put them in their places."""
        for file in self._files:
            file.commit()

    def discard(self):
        """Leave nothing behind."""
        for file in self._files:
            file.discard()


class CocoWriter(_Writer):
    """Writes a COCO results list in constant memory. Opens, closes and fails as DetectionsWriter does.

    category_ids: {class name: id}; image_ids: {stem: id}, of the COCO data set detected on, or None: then an image's id
    is that of `coco_id`.
    """

    def __init__(self, path, class_names, image_ids, category_ids):
        if unknown := [name for name in class_names if name not in category_ids]:
            raise UserError(f"{path}: the data set has no category {unknown[0]!r}, so its detections would have no id")
        self._image_ids, self._categories = image_ids, [category_ids[name] for name in class_names]
        self._separator = "[\n"
        self._file = files.PendingFile(path)

    def add(self, file, detections):
        """The detections on the image of `file`, a name or a stem."""
        number = self._image_ids[stem(file)] if self._image_ids else coco_id(file)
        for label, score, box in zip(*_as_lists(detections), strict=True):
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            entry = {"image_id": number, "category_id": self._categories[label], "bbox": bbox, "score": score}
            self._file.write(self._separator + json.dumps(entry, allow_nan=False))
            self._separator = ",\n"
        self.begun = True

    def close(self):
        """Finish the file and put it in its place."""
        self._file.write(("[" if self._separator == "[\n" else "") + "\n]\n")
        self._file.commit()

    def discard(self):
        """Leave nothing behind."""
        self._file.discard()


def write_yolo(folder, file, width, height, detections, numbers):
    """Write FOLDER/FILE.txt in YOLO's form. numbers: class number of each label; width, height: of the picture."""
    boxes = np.asarray(detections.boxes_px, np.float64).reshape(-1, 4) / (width, height, width, height)
    labels, scores, _ = _as_lists(detections)
    lines = [
        f"{numbers[label]} {' '.join(map(repr, box))} {score!r}\n"
        for label, score, box in zip(labels, scores, box_geometry.to_cxcywh(boxes).tolist(), strict=True)
    ]
    files.write(os.path.join(folder, yolo_name(file)), "".join(lines))


def kind(path):
    """What results a path holds: 'comp4', 'yolo', 'coco' or 'json' (which its reader may still refuse)."""
    if os.path.isdir(path):
        names = os.listdir(path)
        if any(name.startswith(COMP4_PREFIX) for name in names):
            return "comp4"
        return "yolo" if any(_yolo_files(path)) else "comp4"
    with open(path, "rb") as file:
        return "coco" if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") else "json"


def is_detections(path):
    """Whether there is a file that begins as DetectionsWriter's do. Other programs too write files of that name."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(JSON_START)) == JSON_START


def read_coco(path, class_names, image_ids, category_ids):
    """Read a COCO results list into Results. image_ids, category_ids: {stem: id}, {class name: id} of the data set.

    class_names: the classes wanted, in this order; others are passed over. Raises UserError, naming the entry, for
    whatever is malformed or of an id that the data set does not have.
    """
    stem_of = {number: key for key, number in image_ids.items()}
    name_of = {number: name for name, number in category_ids.items()}
    label_of = {name: label for label, name in enumerate(class_names)}
    entries = _parse_json(path, list)
    rows = {}
    for index, entry in enumerate(entries):
        where = f"{path}: [{index}]"
        image, category = (
            _known(entry, name, of, where) for name, of in (("image_id", stem_of), ("category_id", name_of))
        )
        _check_numbers(entry, where)
        if category in label_of:
            x, y, width, height = entry["bbox"]
            rows.setdefault(image, []).append((label_of[category], entry["score"], x, y, x + width, y + height))
    return Results(tuple(class_names), {image: _from_rows(found) for image, found in rows.items()})


def _known(entry, name, known, where):
    """What an id of an entry stands for."""
    number = _field(entry, name, (int, str), where)
    if number not in known:
        raise UserError(f"{where}: {name} {shorten(number)} is not in the data set")
    return known[number]


def _check_numbers(entry, where):
    """Score and bbox of an entry of a COCO results list make sense."""
    if not abs(score := _field(entry, "score", (int, float), where)) <= LARGEST:
        raise UserError(f"{where}: score {score} is not a finite number")
    bbox = _field(entry, "bbox", list, where)
    if len(bbox) != 4 or not all(isinstance(side, (int, float)) and abs(side) <= LARGEST for side in bbox):
        raise UserError(f"{where}: bbox {shorten(bbox)} is not four finite numbers")
    if bbox[2] < 0 or bbox[3] < 0:
        raise UserError(f"{where}: bbox {shorten(bbox)} has a negative size, [x, y, width, height] is needed")


def _from_rows(rows):
    """Detections of (label, score, xmin, ymin, xmax, ymax) rows."""
    table = np.array([row[1:] for row in rows], np.float64).reshape(-1, 5)
    return _best_first(table[:, 1:], table[:, 0], np.array([row[0] for row in rows], np.int32))


def read_yolo(folder, class_names, numbered_names, sizes):
    """Read a folder of YOLO's text files, also those in folders below it, one for a picture, into Results.

    class_names: the classes wanted, in this order; numbered_names: the class of each number; sizes: {stem: (width,
    height)} of the data set's pictures. Raises UserError, naming the line, for whatever is malformed or unknown.
    """
    label_of = {name: label for label, name in enumerate(class_names)}
    detections = {}
    for path in _yolo_files(folder):
        key = stem(path)
        if key not in sizes:
            raise UserError(f"{path}: the data set has no picture {key!r}; give the data set and split detected on")
        if key in detections:
            raise UserError(f"{path}: there is another {key}.txt; pictures are told apart by name, without folder")
        rows = []
        for number, line in enumerate(files.read_text(path).splitlines(), start=1):
            if not line.strip():
                continue
            label, *row = _yolo_row(f"{path}, line {number}", line, len(numbered_names))
            if numbered_names[label] in label_of:
                rows.append((label_of[numbered_names[label]], *row))
        found = _from_rows(rows)
        width, height = sizes[key]
        # To float32, of which every digit was written: fractions of fractions end a little beside it
        boxes_px = (found.boxes_px.astype(np.float64) * (width, height, width, height)).astype(np.float32)
        detections[key] = Detections(boxes_px, found.scores, found.labels)
    return Results(tuple(class_names), detections)


def _yolo_files(folder):
    """The text files of a folder and those below it."""
    for parent, names in files.walk(folder):
        yield from (os.path.join(parent, name) for name in names if name.endswith(".txt"))


def _yolo_row(where, line, classes):
    """'class cx cy width height confidence' -> (class number, confidence, xmin, ymin, xmax, ymax) in fractions."""
    try:
        number, cx, cy, width, height, score = map(float, line.split())
        label = int(number)
    except (ValueError, OverflowError):
        raise UserError(f"{where}: {shorten(line.strip())} is not 'class cx cy width height confidence'") from None
    if not abs(cx + cy + width + height + score) <= LARGEST or width < 0 or height < 0:
        raise UserError(f"{where}: {shorten(line.strip())} has an infinite number, NaN or a negative size")
    if label != number or not 0 <= label < classes:
        raise UserError(f"{where}: class {number:g} is unknown, there are {classes} from 0")
    return label, score, cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2


def read(path, class_names=None):
    """Read a detections JSON or a folder of comp4 files, of this or another detector, into Results.

    class_names: the classes wanted, in this order (others in the file are passed over); None takes those
    of the JSON, or of the folder's file names in alphabetical order.
    Raises UserError, naming the entry, for whatever is malformed.
    """
    if os.path.isdir(path):
        return _read_comp4(path, class_names)
    return _read_json(path, class_names)


def _read_json(path, class_names):
    data = _parse_json(path, dict)
    names = _json_classes(data, class_names, path)
    label_of = {name: label for label, name in enumerate(names)}
    strict = class_names is None  # without a choice, every class in the file must be on its own list
    detections, sizes, file_of = {}, {}, {}
    for index, image in enumerate(_field(data, "images", list, path)):
        where = f"{path}: images[{index}]"
        file = _field(image, "file", str, where)
        where = f"{where} ({file})"
        key = stem(file)
        if key in file_of:
            raise UserError(f"{where} has the same stem as {file_of[key]}: images are matched by stem")
        file_of[key] = file
        detections[key] = _json_detections(_field(image, "detections", list, where), label_of, strict, where)
        if "width" in image and "height" in image:
            sizes[key] = (_field(image, "width", int, where), _field(image, "height", int, where))
    errors = {}
    for index, entry in enumerate(_field(data, "errors", list, path) if "errors" in data else []):
        file = _field(entry, "file", str, f"{path}: errors[{index}]")
        if (key := stem(file)) in file_of:
            raise UserError(f"{path}: errors[{index}] ({file}) has the same stem as {file_of[key]}")
        file_of[key], errors[key] = file, str(entry.get("reason", ""))
    threshold = float(_field(data, "threshold", (int, float), path)) if "threshold" in data else None
    return Results(names, detections, sizes, errors, threshold, data.get("model"), complete=True)


def _json_classes(data, wanted, path):
    """The class list that labels will index: `wanted`, or the file's own if that is None."""
    if wanted is not None and "class_names" not in data:
        return tuple(wanted)
    names = _field(data, "class_names", list, path)
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise UserError(f"{path}: 'class_names' {shorten(names)} are not different texts")
    if unknown := [name for name in wanted or () if name not in names]:
        raise UserError(f"{path}: has no class {unknown[0]!r}, only {', '.join(names)}")
    return tuple(names if wanted is None else wanted)


def _parse_json(path, outermost):
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise UserError(f"{path}: not a complete JSON file ({error})") from None
    if not isinstance(data, outermost):
        wanted = "an object" if outermost is dict else "a list"
        raise UserError(f"{path}: not a detections file, the outermost value is not {wanted}")
    return data


def _field(entry, name, kind, where):
    """entry[name] of the kind wanted, or a UserError that says where it is not."""
    if not isinstance(entry, dict) or name not in entry:
        raise UserError(f"{where} has no {name!r}")
    if not isinstance(entry[name], kind):
        raise UserError(f"{where}: {name!r} is {shorten(entry[name])}, of the wrong type")
    return entry[name]


def _json_detections(entries, label_of, strict, where):
    """The `detections` list of one image -> Detections."""
    for index, entry in enumerate(entries):
        _check_json_detection(entry, label_of if strict else None, f"{where}: detections[{index}]")
    entries = [entry for entry in entries if entry["class"] in label_of]
    return _best_first(
        np.array([entry["box"] for entry in entries], np.float64).reshape(-1, 4),
        np.array([entry["score"] for entry in entries], np.float64),
        np.array([label_of[entry["class"]] for entry in entries], np.int32),
    )


def _check_json_detection(entry, label_of, where):
    """Class, score and box of one detection are there and make sense. label_of: the classes allowed."""
    name = _field(entry, "class", str, where)
    if label_of is not None and name not in label_of:
        raise UserError(f"{where}: class {name!r} is not among the file's class_names")
    score = _field(entry, "score", (int, float), where)
    box = _field(entry, "box", list, where)
    if not abs(score) <= LARGEST:
        raise UserError(f"{where}: score {score} is not a finite number")
    if len(box) != 4 or not all(isinstance(edge, (int, float)) and abs(edge) <= LARGEST for edge in box):
        raise UserError(f"{where}: box {shorten(box)} is not four finite numbers")
    if box[2] < box[0] or box[3] < box[1]:
        raise UserError(f"{where}: box {shorten(box)} is inverted, [xmin, ymin, xmax, ymax] is needed")


def comp4_classes(folder):
    """Class names of the comp4 files in a folder, alphabetically; UserError if there are none."""
    paths = glob.glob(os.path.join(glob.escape(folder), COMP4_PREFIX + "?*.txt"))
    if not paths:
        raise UserError(f"{folder}: no {COMP4_PREFIX}CLASS.txt in it; is it the folder of the results?")
    return tuple(sorted(stem(path)[len(COMP4_PREFIX) :] for path in paths))


def _read_comp4(folder, class_names):
    found = comp4_classes(folder)
    names = tuple(found if class_names is None else class_names)
    stems, rows, labels = [], [], []
    for label, name in enumerate(names):
        if name not in found:
            raise UserError(f"{folder}: no {COMP4_PREFIX}{name}.txt (an empty one means: nothing detected)")
        class_stems, class_rows = _read_comp4_file(os.path.join(folder, f"{COMP4_PREFIX}{name}.txt"))
        stems += class_stems
        rows.append(class_rows)
        labels.append(np.full(len(class_stems), label, np.int32))
    rows, labels = np.concatenate(rows), np.concatenate(labels)
    keys, image_of = np.unique(np.array(stems, object), return_inverse=True) if stems else ([], labels)
    order = np.argsort(image_of, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(image_of, minlength=len(keys)))[:-1]) if stems else []
    boxes_px = from_comp4_px(rows[:, 1:])
    detections = {
        key: _best_first(boxes_px[part], rows[part, 0], labels[part]) for key, part in zip(keys, parts, strict=True)
    }
    return Results(names, detections)


def _read_comp4_file(path):
    """-> list of stems, float64 [N,5] (score, xmin, ymin, xmax, ymax), in the file's pixels and order."""
    stems, rows = [], []
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for number, line in enumerate(file, start=1):
                if line.isspace():
                    continue
                try:
                    name, *numbers = line.rsplit(None, 5)  # from the right: a stem may hold blanks
                    score, xmin, ymin, xmax, ymax = map(float, numbers)
                except ValueError:
                    raise UserError(
                        f"{path}, line {number}: {shorten(line.strip())} is not 'stem score xmin ymin xmax ymax'"
                    ) from None
                if not abs(score + xmin + ymin + xmax + ymax) <= LARGEST:
                    raise UserError(f"{path}, line {number}: {shorten(line.strip())} has an infinite number or NaN")
                stems.append(name)
                rows.append((score, xmin, ymin, xmax, ymax))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return stems, np.array(rows, np.float64).reshape(-1, 5)


def _best_first(boxes_px, scores, labels):
    """Detections with falling scores; equal ones keep their order."""
    order = np.argsort(-scores, kind="stable")
    return Detections(_narrow(boxes_px[order]), _narrow(scores[order]), labels[order])


def _narrow(array):
    """float64 -> float32 where no digit is lost.

    Our own files are float32 throughout. Another detector's may tell scores apart that are equal as
    float32, and the order of scores is what the metric is made of.
    """
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    return narrow if np.array_equal(narrow, array) else array
