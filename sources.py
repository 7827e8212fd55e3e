"""Data sets in every supported format -> lists of samples; the format is detected, or named by --source.

A format is a module with
    fits(data)                  whether a path looks like a data set in this format; reads very little
    class_names(data, splits)   the classes that the data set names, a tuple
    find(data, splits)          a list with .id and .image_path of each picture; opens no picture
    load(data, splits, class_names, *, other_classes, difficult, progress)    a list of Sample, in the same order
and an entry in SOURCES. Its docstring says what DATA and SPLITS mean.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import source_pascal_voc
from formats import coco, csv_table, yolo
from structures import Sample, UserError

SOURCES = {"voc": source_pascal_voc, "coco": coco, "yolo": yolo, "csv": csv_table}
CHOICES = ("auto", *SOURCES)


def choose(data: str | os.PathLike, source: str = "auto") -> str:
    """The format of a data set, a key of SOURCES: `source`, or the one that fits if that is 'auto'.

    Raises UserError if there is no such path, or not exactly one format fits.
    """
    if not os.path.exists(data):
        raise UserError(f"--data {data}: no such file or folder")
    if source != "auto":
        return source
    found = [name for name, module in SOURCES.items() if module.fits(data)]
    if not found:
        raise UserError(
            f"--data {data}: no data set found in it: neither Annotations/*.xml (VOC), annotations/*.json (COCO), a "
            ".yaml with 'names' (YOLO) nor SPLIT.csv"
        )
    if len(found) > 1:
        raise UserError(f"--data {data}: it may be {' or '.join(found)}; choose one with --source")
    return found[0]


def class_names(data: str | os.PathLike, splits: str, source: str = "auto") -> tuple[str, ...]:
    """The classes that a data set names; for Pascal VOC's layout, which names none, Pascal VOC's own."""
    return SOURCES[choose(data, source)].class_names(data, splits)


def find(data: str | os.PathLike, splits: str, source: str = "auto") -> list[Any]:
    """A list with .id and .image_path of each picture of some splits, in the order of `load`."""
    return SOURCES[choose(data, source)].find(data, splits)


def load(
    data: str | os.PathLike,
    splits: str,
    class_names: Sequence[str],
    *,
    source: str = "auto",
    other_classes: str = "error",
    difficult: str = "use",
    progress: bool = False,
) -> list[Sample]:
    """The samples of some splits. other_classes, difficult, progress: as in source_pascal_voc.load.

    Raises UserError that names file and entry for anything missing or malformed, ImageError for a picture whose
    header cannot be read.
    """
    return SOURCES[choose(data, source)].load(
        data, splits, class_names, other_classes=other_classes, difficult=difficult, progress=progress
    )


def without_crowds(samples: list[Sample]) -> list[Sample]:
    """Samples for training, without crowd regions: such a region is not an object to learn."""
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
