"""Records as a folder in the layout of YOLO (Ultralytics)."""

import json
import os

from formats import yolo
from system import files

LOST = {
    "crowd": ("crowd region", "left out, since it would be learned as an object"),
    "difficult": ("difficult object", "written like the others"),
    "truncated": ("truncated object", "written like the others"),
    "area": ("outline", "its area is left out"),
}
CLASS_LIST = None


def image_place(split, record):
    """Where a picture belongs below the folder."""
    return f"images/{split}/{record.file_name}"


def write(folder, parts, class_names):
    """Write labels/SPLIT and data.yaml. A picture without objects gets an empty file of labels."""
    for part in parts:
        for record in part.records:
            path = os.path.join(folder, "labels", part.split, f"{record.name}.txt")
            lines = [_line(record, item) for item in record.items if not item.crowd]
            files.write(path, "".join(f"{line}\n" for line in lines), durable=False)
    names = [f"  {number}: {json.dumps(name, ensure_ascii=False)}" for number, name in enumerate(class_names)]
    splits = [f"{json.dumps(part.split)}: {json.dumps('images/' + part.split)}" for part in parts]
    lines = ["path: .", *splits, "names:", *names]
    files.write(os.path.join(folder, "data.yaml"), "".join(f"{line}\n" for line in lines), durable=False)


def _line(record, item):
    return " ".join([str(item.label), *map(repr, yolo.fractions(item.edges_px, record.width, record.height))])
