"""Records as a folder in COCO's format."""

import json
import os

from system import files

LOST: tuple = ()
CLASS_LIST = None
NAME_FAULTS = ("not UTF-8 text",)
NO_SPLITS = ()


def image_place(_, record):
    """Where a picture belongs below the folder."""
    return f"images/{record.file_name}"


def holds(_):
    """Whether the format has a place for an Item."""
    return True


def write(folder, parts, class_names):
    """Write annotations/instances_SPLIT.json. A picture has one id in all splits; "truncated" is an addition."""
    categories = [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)]
    paths = dict.fromkeys(record.image_path for part in parts for record in part.records)
    numbers = {path: number for number, path in enumerate(paths, start=1)}
    first = 1
    for part in parts:
        written, described = [], []
        for record in part.records:
            number = numbers[record.image_path]
            described.append(
                {"id": number, "file_name": record.file_name, "width": record.width, "height": record.height}
            )
            written += [_annotation(first + len(written) + at, number, item) for at, item in enumerate(record.items)]
        first += len(written)
        content = {"images": described, "annotations": written, "categories": categories}
        path = os.path.join(folder, "annotations", f"instances_{part.split}.json")
        files.write(path, json.dumps(content, ensure_ascii=False) + "\n", durable=False)


def _annotation(number, image, item):
    xmin, ymin, xmax, ymax = item.edges_px
    values = {
        "id": number,
        "image_id": image,
        "category_id": item.label + 1,
        "bbox": [xmin, ymin, xmax - xmin, ymax - ymin],
        "area": item.box_area if item.area is None else item.area,
        "iscrowd": int(item.crowd),
    }
    if item.difficult and not item.crowd:
        values["ignore"] = 1
    return values | ({"truncated": 1} if item.truncated else {})
