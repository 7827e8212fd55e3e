"""Data sets of any format that the project knows -> lists of samples; the format is found out or named.

A format is a module with
    fits(data)                  whether a path looks like one of its data sets; reads next to nothing
    class_names(data, splits)   the classes that the data set names, a tuple
    find(data, splits)          a list with .id and .image_path of each picture; opens no picture
    load(data, splits, class_names, *, other_classes, difficult, progress)    a list of Sample, in the same order
and a line in SOURCES. How each reads DATA and SPLIT is in its first lines.
"""

import dataclasses
import os

import source_pascal_voc
from formats import coco, csv_table, yolo
from structures import UserError

SOURCES = {"voc": source_pascal_voc, "coco": coco, "yolo": yolo, "csv": csv_table}
CHOICES = ("auto", *SOURCES)


def choose(data, source="auto"):
    """The name in SOURCES of a data set's format. Raises UserError if none fits or several do."""
    if not os.path.exists(data):
        raise UserError(f"--data {data}: no such file or folder")
    if source != "auto":
        return source
    found = [name for name, module in SOURCES.items() if module.fits(data)]
    if not found:
        raise UserError(
            f"--data {data}: no data set is seen in it: neither Annotations/*.xml (VOC), annotations/*.json (COCO), a "
            ".yaml with 'names' (YOLO) nor SPLIT.csv"
        )
    if len(found) > 1:
        raise UserError(f"--data {data}: it may be {' or '.join(found)}; say which with --source")
    return found[0]


def class_names(data, splits, source="auto"):
    """The classes that a data set names; those of Pascal VOC in its layout, which names none."""
    return SOURCES[choose(data, source)].class_names(data, splits)


def find(data, splits, source="auto"):
    """A list with .id and .image_path of each picture of some splits."""
    return SOURCES[choose(data, source)].find(data, splits)


def load(data, splits, class_names, *, source="auto", other_classes="error", difficult="use", progress=False):
    """The samples of some splits. other_classes, difficult, progress: as in source_pascal_voc.load.

    Raises UserError that names file and entry for anything missing or malformed, ImageError for a picture without a
    header.
    """
    return SOURCES[choose(data, source)].load(
        data, splits, class_names, other_classes=other_classes, difficult=difficult, progress=progress
    )


def without_crowds(samples):
    """Samples for training: a region of uncounted objects is not an object."""
    return [sample if sample.crowd is None else _without_crowd(sample) for sample in samples]


def _without_crowd(sample):
    keep = ~sample.crowd
    area = None if sample.area is None else sample.area[keep]
    return dataclasses.replace(
        sample,
        boxes=sample.boxes[keep],
        labels=sample.labels[keep],
        difficult=sample.difficult[keep],
        crowd=None,
        area=area,
    )
