"""What is to be written of a data set: its pictures with their objects, and the names that they get."""

import collections
import os
from typing import NamedTuple

import numpy as np

import sources
from formats import annotations
from media import images
from structures import UserError
from system import cli


class Item(NamedTuple):
    """An object. label: its class; edges_px: (xmin, ymin, xmax, ymax), floats, within the picture as a viewer shows it.

    area: square pixels of its outline, None without one. difficult, crowd, truncated: as in annotations.Written.
    """

    label: int
    edges_px: tuple
    difficult: bool
    crowd: bool
    truncated: bool
    area: float | None

    @property
    def box_area(self):
        """Square pixels of the box."""
        xmin, ymin, xmax, ymax = self.edges_px
        return (xmax - xmin) * (ymax - ymin)


class Record(NamedTuple):
    """A picture. image_path: the file; name: in what is written, without suffix, perhaps with folders ('a/b').

    width, height: pixels as a viewer shows it, with EXIF orientation applied. items: list of Item.
    """

    image_path: str
    name: str
    width: int
    height: int
    items: list

    @property
    def file_name(self):
        """Its name with the suffix of the file, or one that its kind of picture is found by."""
        return self.name + images.suffix_of(self.image_path)


class Part(NamedTuple):
    """A split to write: its name, which is a part of file names, and its Records."""

    split: str
    records: list


def gather(data, splits, class_names, source, **options):
    """The Parts of some splits, a list, and their Samples, {split: list}. source: the format.

    splits: list of names; options: as for sources.load. Boxes are those that train.py would learn: on the picture as
    it is, clipped to it, without empty ones; what that changes is said. Raises UserError as sources.load does.
    """
    parts, samples_of = [], {}
    for split in splits:
        read, kept = sources.reader(data, split, source), []

        def reading(entry, read=read, kept=kept):
            try:
                kept.append(read(entry))
            except annotations.MissingAnnotation:
                kept.append(annotations.Annotated([], (None, None)))
                raise  # which counts it
            return kept[-1]

        entries = sources.find(data, split, source)
        samples = sources.make_samples(data, entries, reading, class_names, source, **options)
        if not any(len(sample.boxes) for sample in samples):
            cli.warn(f"--data {data}: no picture of {split} has objects")
        pairs = zip(samples, kept, strict=True)
        records = [_record(sample, annotated, class_names, options["other_classes"]) for sample, annotated in pairs]
        parts.append(Part(split_name(split), records))
        samples_of[split] = samples
    return _named(parts), samples_of


def split_name(split):
    """A split's name as a part of file names: '2007_train' for '2007:train'."""
    return split.replace(":", "_").replace("/", "_")


def _record(sample, annotated, class_names, other_classes):
    """The Record of a Sample, without a name; its boxes are those of `annotated`, not rounded to float32."""
    labels = {name: label for label, name in enumerate(class_names)}
    size = annotations.Size(sample.width, sample.height, sample.exif)
    annotated, _ = annotations.on_picture(annotated, size)
    known = [one for one in annotated.objects if other_classes == "error" or one.name in labels]
    limit = (sample.width, sample.height) * 2
    edges = np.array([one.edges_px for one in known], np.float64).reshape(-1, 4).clip(0, limit)
    fractions = (edges / limit).astype(np.float32)  # as sources.load decides which boxes have an area
    has_area = (fractions[:, 2:] > fractions[:, :2]).all(axis=1)
    items = [
        _without_needless_area(Item(labels[one.name], tuple(box), one.difficult, one.crowd, one.truncated, one.area))
        for one, box, kept in zip(known, edges.tolist(), has_area, strict=True)
        if kept
    ]
    if len(items) != len(sample.boxes):
        raise AssertionError(f"{sample.image_path}: {len(items)} objects to write, {len(sample.boxes)} to learn")
    stored_width, stored_height, orientation = images.header(sample.image_path)
    if orientation == 1 or sample.exif:
        return Record(sample.image_path, "", sample.width, sample.height, items)
    items = [item._replace(edges_px=turned(item.edges_px, stored_width, stored_height, orientation)) for item in items]
    return Record(sample.image_path, "", stored_height, stored_width, items)


def _without_needless_area(item):
    """An Item without the area of its box, which a format may state."""
    same = item.area is not None and abs(item.area - item.box_area) <= 1e-3 * item.box_area
    return item._replace(area=None) if same else item


def turned(edges_px, width, height, orientation):
    """Edges on a picture as stored, of width × height -> edges on the picture with EXIF orientation 5 to 8 applied."""
    x0, y0, x1, y1 = edges_px
    if orientation in (6, 7):  # the stored top is on the right
        y0, y1 = height - y1, height - y0
    if orientation in (7, 8):  # the stored left is at the bottom
        x0, x1 = width - x1, width - x0
    return y0, x0, y1, x1


def _named(parts):
    """The Parts with names: the file's name where it is the only one, else with the folders below the common one."""
    paths = dict.fromkeys(record.image_path for part in parts for record in part.records)
    stem_of = {path: os.path.splitext(os.path.basename(path))[0] for path in paths}
    shared = collections.Counter(stem.lower() for stem in stem_of.values())
    common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths]) if paths else ""
    names, taken = {}, set()
    for path, stem in stem_of.items():
        if shared[stem.lower()] > 1:
            stem = os.path.splitext(os.path.relpath(os.path.abspath(path), common))[0].replace(os.sep, "/")
        if stem.lower() in taken:  # a.jpg and a.png
            stem += "_" + os.path.splitext(path)[1][1:]
        if stem.lower() in taken:
            raise UserError(f"{path}: its name differs from another picture's only in upper and lower case; rename one")
        taken.add(stem.lower())
        names[path] = stem
    return [
        part._replace(records=[record._replace(name=names[record.image_path]) for record in part.records])
        for part in parts
    ]
