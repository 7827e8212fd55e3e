"""COCO's list of results: a JSON list with {"image_id", "category_id", "bbox", "score"} for each detection.

bbox is [x, y, width, height], continuous, in pixels (https://cocodataset.org/#format-results). A float32 that is
written and read again is the same float32.
"""

import json
import os

from results import result_files
from results.result_files import Results, field
from structures import UserError
from system import atomic
from system.wording import shorten

FLAG = "--coco-results"
NAME = "coco_results.json"
HELP = f"{NAME} for COCO's tools"
LOOKS = "a COCO results list"
_encode = json.JSONEncoder(allow_nan=False).encode


def owns(name):
    """Whether a file of that name in a folder of results belongs to this format."""
    return name == NAME


def picture_key(file, data):
    """The picture's id in the data set; unless that is one of COCO, a number if it is one."""
    key = result_files.picture_id(file, data)
    return int(key) if key.isdecimal() and not _is_coco(data) else key


def _is_coco(data):
    return data is not None and data.format == "coco"


def open_writer(folder, origin):
    """A Writer of FOLDER/coco_results.json. Without a COCO data set a category's id is `category_id` of the label."""
    path = os.path.join(folder, NAME)
    if not _is_coco(origin.data):
        return Writer(path, [category_id(label) for label in origin.class_numbers], data=origin.data)
    image_ids, category_ids = origin.data.coco_ids
    if unknown := [name for name in origin.class_names if name not in category_ids]:
        raise UserError(f"{path}: the data set has no category {unknown[0]!r}, so its detections would have no id")
    return Writer(path, [category_ids[name] for name in origin.class_names], image_ids, origin.data)


def category_id(label):
    """The id of a class in results that are not of a COCO data set. label: in the model's list of classes."""
    return label + 1


class Writer(result_files.Writer):
    """Writes a COCO results list.

    categories: the id of each label. data: the data set detected on, or None; image_ids: {its picture's id: image id}
    if it is one of COCO, or None: then an image's id is its `picture_key`.
    """

    def __init__(self, path, categories, image_ids=None, data=None):
        self._data, self._image_ids, self._categories = data, image_ids, categories
        self._separator = "[\n"
        self._file = atomic.PendingFile(path)

    def add(self, file, width, height, detections):
        self.add_lists(file, *result_files.as_lists(detections))

    def add_lists(self, file, labels, scores, boxes):
        """The same for detections as `result_files.as_lists` gives them."""
        key = picture_key(file, self._data)
        number = self._image_ids[key] if self._image_ids else key
        entries = []
        for label, score, box in zip(labels, scores, boxes, strict=True):
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            entries.append({"image_id": number, "category_id": self._categories[label], "bbox": bbox, "score": score})
        if entries:  # a line a picture
            self._file.write(self._separator + _encode(entries)[1:-1])
            self._separator = ",\n"
        self.begun = True

    def close(self):
        self._file.write(("[" if self._separator == "[\n" else "") + "\n]\n")
        self._file.commit()

    def discard(self):
        self._file.discard()


def fits(path):
    """Whether a path is a JSON file whose outermost value is a list."""
    return result_files.json_begins(path, b"[")


def read(path, class_names=None, data=None):
    """Read a COCO results list into Results.

    class_names: the classes wanted, in this order, others are skipped; None takes those of the data set.
    data: the COCO data set whose ids the list names.
    Raises UserError, naming the entry, for whatever is malformed or of an id that the data set does not have.
    """
    if not _is_coco(data):
        raise UserError(f"{path}: a COCO results list names ids; give the COCO data set they are from as --data")
    names = tuple(data.class_names if class_names is None else class_names)
    image_ids, category_ids = data.coco_ids
    stem_of = {number: key for key, number in image_ids.items()}
    name_of = {number: name for name, number in category_ids.items()}
    label_of = {name: label for label, name in enumerate(names)}
    rows = {}
    for index, entry in enumerate(result_files.parse_json(path, list)):
        where = f"{path}: [{index}]"
        image, category = _known(entry, "image_id", stem_of, where), _known(entry, "category_id", name_of, where)
        score, box = _score_and_edges(entry, where)
        if category in label_of:
            rows.setdefault(image, []).append((label_of[category], score, *box))
    return Results(names, {image: result_files.from_rows(found) for image, found in rows.items()})


def _known(entry, name, known, where):
    """What an id of an entry means."""
    number = field(entry, name, (int, str), where)
    if number not in known:
        raise UserError(f"{where}: {name} {shorten(number)} is not in the data set")
    return known[number]


def _score_and_edges(entry, where):
    """Score and (xmin, ymin, xmax, ymax) of an entry."""
    score, (x, y, width, height) = result_files.score_and_box(entry, "bbox", where)
    if width < 0 or height < 0:
        bbox = shorten(entry["bbox"])
        raise UserError(f"{where}: bbox {bbox} has a negative size, [x, y, width, height] is needed")
    return score, (x, y, x + width, y + height)
