"""Records as a folder in the layout of YOLO (Ultralytics)."""

import json
import os
import re

from formats import yolo
from system import files

LOST = (
    (lambda item: item.crowd, "crowd region", "left out, since it would be learned as an object"),
    # A crowd region is difficult too; it is left out, and that is all there is to say of it
    (lambda item: item.difficult and not item.crowd, "difficult object", "written like the others"),
    (lambda item: item.truncated, "truncated object", "written like the others"),
    (lambda item: item.area, "outline", "its area is left out"),
)
CLASS_LIST = None
NAME_FAULTS = ("hidden",)
NO_SPLITS = yolo.KEYS
UNPRINTABLE = re.compile("[\x7f-\x9f\ufeff\ud800-\udfff]")
# Readers look for labels by the last folder `images` of a picture's path, some whatever its capitals are: one more
# underscore makes it another folder, and no two folders the same
IMAGES = re.compile(r"(^|/)(images_*)(?=/)", re.IGNORECASE)


def image_place(split, record):
    """Where a picture belongs below the folder."""
    return f"images/{split}/{_plain(record.file_name)}"


def holds(item):
    """Whether the format has a place for an Item."""
    return not item.crowd


def write(folder, parts, class_names):
    """Write labels/SPLIT and data.yaml. A picture without objects gets an empty file of labels."""
    for part in parts:
        home = "images/labels" if part.split.lower() == "images" else f"labels/{part.split}"
        for record in part.records:
            path = os.path.join(folder, home, f"{_plain(record.name)}.txt")
            lines = [_line(record, item) for item in record.items if holds(item)]
            files.write(path, "".join(f"{line}\n" for line in lines), durable=False)
    names = [f"  {number}: {_quoted(name)}" for number, name in enumerate(class_names)]
    splits = [f"{_quoted(part.split)}: {_quoted('images/' + part.split)}" for part in parts]
    lines = ["path: .", *splits, "names:", *names]
    files.write(os.path.join(folder, "data.yaml"), "".join(f"{line}\n" for line in lines), durable=False)


def _quoted(text):
    """A text as YAML has it in quotes, where it takes some letters only by their numbers."""
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def _plain(name):
    """A picture's name without a folder `images` in it."""
    return IMAGES.sub(r"\1\2_", name)


def _line(record, item):
    return " ".join([str(item.label), *map(repr, yolo.fractions(item.edges_px, record.width, record.height))])
