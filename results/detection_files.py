"""Detections on disk: the table of formats, and which one a path holds. How a format is made is in result_files.py."""

import os

from results import coco_list, comp4, csv_table, detections_json, yolo_text
from structures import UserError

# Writers are opened in this order and closed in reverse: detections.json is finished last and shows that all is there.
# A path has the first format that fits
FORMATS = {"json": detections_json, "voc": comp4, "coco": coco_list, "csv": csv_table, "yolo": yolo_text}


def choose(path):
    """The name in FORMATS of the results that a path holds. Raises UserError if no format fits."""
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file or folder")
    for name in sorted(FORMATS, key=lambda name: name != "voc"):  # of infer.py's folders comp4 files, then its JSON
        if FORMATS[name].fits(path):
            return name
    known = ", ".join(module.LOOKS for module in FORMATS.values())
    raise UserError(f"{path}: no results found; give one of: {known}")


def read(path, class_names=None, data=None):
    """Read results of any format, of this or another detector, into Results.

    class_names: the classes wanted, in this order, others are skipped; None takes all.
    data: the data set that the pictures are from, a data_set.DataSet, which COCO's and YOLO's results need.
    Raises UserError, naming the entry or line, for whatever is malformed.
    """
    return FORMATS[choose(path)].read(path, class_names, data)
