"""Records as a folder in Pascal VOC's layout."""

import os
from xml.sax.saxutils import escape

import source_pascal_voc
from formats import annotations
from system import files, wording

LOST = {"area": ("outline", "its area is left out")}
CLASS_LIST = "classes.txt"


def image_place(_, record):
    """Where a picture belongs below the folder."""
    return f"JPEGImages/{record.file_name}"


def holds(_):
    """Whether the format has a place for an Item."""
    return True


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
    for item in record.items:
        lines += [
            "\t<object>",
            f"\t\t<name>{escape(class_names[item.label])}</name>",
            f"\t\t<truncated>{item.truncated:d}</truncated>",
            f"\t\t<difficult>{item.difficult:d}</difficult>",
            *(["\t\t<iscrowd>1</iscrowd>"] if item.crowd else []),
            f"\t\t<bndbox>{_corners(item)}</bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def _corners(item):
    corners = zip(source_pascal_voc.CORNERS, annotations.to_inclusive(item.edges_px), strict=True)
    return "".join(f"<{name}>{wording.number(value, 9)}</{name}>" for name, value in corners)
