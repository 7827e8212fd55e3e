"""Records as a folder in Pascal VOC's layout."""

import os
from xml.sax.saxutils import escape

import source_pascal_voc
from formats import annotations
from system import files, wording

CLASS_LIST = "classes.txt"
NAME_FAULTS = (
    "not UTF-8 text",
    "of several lines",
    "with a character that XML does not allow",
    "with spaces at an end",
    "hidden",
)
NO_SPLITS = ()


def image_place(_, record):
    """Where a picture belongs below the folder."""
    return f"JPEGImages/{record.file_name}"


def holds(item):
    """Whether the format has a place for an Item.

    Its corners include the last pixel, so that those of a box of one pixel are equal; readers take that for a click
    without a drag, and what is thinner for a box that is upside down.
    """
    xmin, ymin, xmax, ymax = map(float, _corners(item))
    return xmin < xmax and ymin < ymax


LOST = (
    (lambda item: item.area, "outline", "its area is left out"),
    (
        lambda item: not holds(item),
        "thin box",
        "left out, since one of a pixel or less in width or height would be empty",
    ),
)


def write(folder, parts, class_names):
    """Write annotations and lists.

    A crowd region is a difficult object with <iscrowd>, which only this project reads.
    """
    for record in {record.name: record for part in parts for record in part.records}.values():
        path = os.path.join(folder, "Annotations", f"{record.name}.xml")
        files.write(path, _xml(record, class_names), durable=False)
    for part in parts:
        path = os.path.join(folder, "ImageSets", "Main", f"{part.split}.txt")
        files.write(path, "".join(f"{record.name}\n" for record in part.records), durable=False)


def _xml(record, class_names):
    where, name = os.path.split(image_place("", record))
    lines = [
        "<annotation>",
        f"\t<folder>{escape(where)}</folder>",
        f"\t<filename>{escape(name)}</filename>",
        f"\t<size><width>{record.width}</width><height>{record.height}</height><depth>3</depth></size>",
    ]
    for item in filter(holds, record.items):
        corners = zip(source_pascal_voc.CORNERS, _corners(item), strict=True)
        lines += [
            "\t<object>",
            f"\t\t<name>{escape(class_names[item.label])}</name>",
            f"\t\t<truncated>{item.truncated:d}</truncated>",
            f"\t\t<difficult>{item.difficult:d}</difficult>",
            *(["\t\t<iscrowd>1</iscrowd>"] if item.crowd else []),
            "\t\t<bndbox>" + "".join(f"<{name}>{value}</{name}>" for name, value in corners) + "</bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def _corners(item):
    """Its corners as text, xmin, ymin, xmax and ymax."""
    return [wording.number(value, 9) for value in annotations.to_inclusive(item.edges_px)]
