"""Records as CSV tables."""

import csv
import io
import os

from formats import csv_table
from system import files, wording

LOST: tuple = ()
CLASS_LIST = "classes.txt"
NAME_FAULTS = ("not UTF-8 text", "of several lines")
NO_SPLITS = ()
EXTRA = (*csv_table.FLAGS, "area")  # columns of a table that needs them


def image_place(_, record):
    """Where a picture belongs below the folder."""
    return f"images/{record.file_name}"


def holds(_):
    """Whether the format has a place for an Item."""
    return True


def write(folder, parts, class_names):
    """Write SPLIT.csv: a line for each object, or one with the image alone, and the size of the picture.

    Columns for flags and areas are written where an object has one.
    """
    for part in parts:
        items = [item for record in part.records for item in record.items]
        extra = [name for name in EXTRA if any(_EXTRA_OF[name](item) for item in items)]
        output = io.StringIO()
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow([*csv_table.COLUMNS, "width", "height", *extra])
        for record in part.records:
            place, size = image_place("", record), (record.width, record.height)
            for item in record.items:
                edges = [wording.number(edge, 9) for edge in item.edges_px]
                writer.writerow([place, *edges, class_names[item.label], *size, *(_cell(item, one) for one in extra)])
            if not record.items:
                writer.writerow([place, "", "", "", "", "", *size, *([""] * len(extra))])
        files.write(os.path.join(folder, f"{part.split}.csv"), output.getvalue(), durable=False)


_EXTRA_OF = {
    "difficult": lambda item: item.difficult,
    "iscrowd": lambda item: item.crowd,
    "truncated": lambda item: item.truncated,
    "area": lambda item: item.area,
}


def _cell(item, name):
    """A flag, or the area; where one object of a picture has an area, all need one."""
    if name != "area":
        return int(_EXTRA_OF[name](item))
    return repr(item.box_area if item.area is None else item.area)
