"""Data sets in the layout of Pascal VOC -> lists of samples.

    Annotations/ID.xml    JPEGImages/ID.jpg    ImageSets/Main/SPLIT.txt

DATA is one such folder, with splits named like 'trainval', or a VOCdevkit with several (VOC2007/, VOC2012/), with
splits named like '2007:trainval'. SPLITS names several, separated by commas. The layout and the 1-based, inclusive
coordinates are those of the VOC2007 development kit (http://host.robots.ox.ac.uk/pascal/VOC/voc2007/).
"""

import dataclasses
import math
import os
import pathlib
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import NamedTuple
from xml.parsers import expat

from formats import annotations
from media import images
from structures import Sample, UserError
from system import files

# The order of the development kit, which every published result uses.
CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
CORNERS = ("xmin", "ymin", "xmax", "ymax")
PARTS = ("Annotations", "JPEGImages", "ImageSets/Main")


class AnnotatedObject(NamedTuple):
    """One <object> as annotated.

    name: its class.
    xmin, ymin, xmax, ymax: pixels, 1-based, inclusive, not clipped.
    difficult, truncated: its flags.
    """

    name: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    difficult: bool
    truncated: bool

    @property
    def edges_px(self) -> tuple[float, float, float, float]:
        """Continuous edges (xmin, ymin, xmax, ymax) in pixels from 0, not clipped."""
        return self.xmin - 1, self.ymin - 1, self.xmax, self.ymax

    @property
    def has_area(self) -> bool:
        """Whether it is more than a point or a line.

        Equal corners are a box one pixel wide, but nobody means that: a click without a drag leaves them.
        """
        return self.xmax > self.xmin and self.ymax > self.ymin


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One annotation file.

    width, height: pixels as <size> states them, or None.
    objects: list of AnnotatedObject.
    """

    width: int | None
    height: int | None
    objects: list[AnnotatedObject]

    @property
    def stated_size(self) -> tuple[int | None, int | None]:
        """(width, height) as <size> states them."""
        return self.width, self.height


class Listed(NamedTuple):
    """What one split lists.

    folder: the VOC-layout folder.
    path: the list, ImageSets/Main/SPLIT.txt.
    ids: as listed; they may repeat, or name no picture.
    image_of: {stem: path} of all pictures of the folder.
    """

    folder: pathlib.Path
    path: pathlib.Path
    ids: list[str]
    image_of: dict[str, str]


class Entry(NamedTuple):
    """The files of one picture of a split.

    id: as the split lists it, the stem of both files.
    annotation_path: the XML file; there may be no such file.
    image_path: the picture.
    """

    id: str
    annotation_path: str
    image_path: str


def usual_training(data: str | os.PathLike) -> str | None:
    """The splits that detectors are usually trained on if `data` has VOC2007 and VOC2012, otherwise None."""
    both = all(os.path.isdir(os.path.join(data, f"VOC{year}")) for year in (2007, 2012))
    return "2007:trainval,2012:trainval" if both else None


def load(
    data: str | os.PathLike,
    splits: str,
    class_names: Sequence[str],
    *,
    other_classes: str = "error",
    difficult: str = "use",
    progress: bool = False,
) -> list[Sample]:
    """The samples of some splits, in the order of their lists.

    data: a VOCdevkit or one VOC-layout folder.
    splits: '2007:trainval,2012:trainval' or 'trainval'.
    class_names: the list that labels index.
    other_classes: 'error', or 'ignore' to drop objects whose class is not in class_names.
    difficult: 'use', or 'ignore' to drop difficult objects (for training; the metric needs them).
    progress: show a bar.
    Boxes are clipped to the picture; those without area inside it are dropped, and one line on stderr says how many.
    Pictures without objects are kept.
    Raises UserError that names file and object for anything missing or malformed, ImageError for a picture whose
    header cannot be read.
    """

    def read(entry):
        annotation = parse_annotation(entry.annotation_path)
        size = annotations.size_as_stated(images.header(entry.image_path), annotation.stated_size)
        return size, _written(entry, annotation)

    return annotations.make_samples(
        find(data, splits), read, class_names, other_classes=other_classes, difficult=difficult, progress=progress
    )


def fits(data: str | os.PathLike) -> bool:
    """Whether a path looks like a data set in this layout."""
    folder = pathlib.Path(data)
    parts = (name for part in PARTS for name in (part, f"VOCdevkit/VOC*/{part}", f"VOC*/{part}"))
    return folder.is_dir() and any(next(folder.glob(name), None) for name in parts)


def class_names(data: str | os.PathLike, splits: str) -> tuple[str, ...]:
    """Pascal VOC's classes: this layout has no list of its own."""
    return CLASSES


def find(data: str | os.PathLike, splits: str) -> list[Entry]:
    """The Entry of each picture of some splits, in the order of `load`; opens no picture and no annotation.

    data, splits: as for `load`. Raises UserError if something is missing, empty or listed twice.
    """
    entries: list[Entry] = []
    list_of: dict[str, pathlib.Path] = {}
    for split in splits.split(","):
        folder, split_path, ids, image_of = listed(data, split)
        if not ids:
            raise UserError(f"{split_path}: the split is empty; choose another one or list image ids in it")
        for image_id in ids:
            if image_id in list_of:
                where = "twice" if list_of[image_id] == split_path else f"also in {list_of[image_id]}"
                raise UserError(f"{split_path}: {image_id} is listed {where}; list each image once")
            list_of[image_id] = split_path
            if image_id not in image_of:
                raise UserError(
                    f"{folder / 'JPEGImages' / image_id}.jpg: no such image, but {split_path} lists it; "
                    "add the file or remove the line (ids have no suffix)"
                )
            entries.append(Entry(image_id, annotation_path(folder, image_id), image_of[image_id]))
    return entries


def annotation_path(folder: str | os.PathLike, image_id: str) -> str:
    """Where the annotation of a picture belongs in a VOC-layout folder."""
    return os.path.join(folder, "Annotations", f"{image_id}.xml")


def split_names(data: str | os.PathLike) -> list[str]:
    """The splits of a data set, as `find` takes them, sorted; without Pascal VOC's lists of single classes."""
    data = pathlib.Path(data)
    years = [] if (data / "Annotations").is_dir() else _years(data)
    if not years:
        return _split_names(_folder(data, ""))
    return [f"{year}:{name}" for year in years for name in _split_names(_folder(data, year))]


def listed(data: str | os.PathLike, split: str) -> Listed:
    """What one split lists. Raises UserError if there is no such split."""
    year, _, name = split.strip().rpartition(":")
    folder = _folder(pathlib.Path(data), year)
    path = _split_path(folder, name, year)
    image_of = _images_by_stem(folder / "JPEGImages")
    return Listed(folder, path, _ids(path, image_of), image_of)


def parse_annotation(path: str | os.PathLike) -> Annotation:
    """Read one XML file -> Annotation.

    Only direct children are read: the <part>s of a VOC person have names and boxes too. A DOCTYPE is refused, and
    entities with it, which can use up all memory or read other files.
    Raises UserError that names the file and the object.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot read the annotation: {files.reason(error).lower()}") from None
    try:
        _refuse_doctype(path, data)
        root = ElementTree.fromstring(data)
    except (expat.ExpatError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path}: not valid XML ({error}); correct or remove the file") from None
    if root.tag != "annotation":
        raise UserError(f"{path}: <{root.tag}> instead of <annotation>; is it a Pascal VOC annotation?")
    size = root.find("size")
    width, height = (None, None) if size is None else (_pixels(size.findtext(name)) for name in ("width", "height"))
    objects = [_object(path, number, node) for number, node in enumerate(root.findall("object"), start=1)]
    return Annotation(width, height, objects)


def _refuse_doctype(path, data):
    """Raise UserError if the XML has a DOCTYPE, in any encoding: expat finds it, and stops before what follows."""

    def refuse(*_):
        raise UserError(f"{path}: XML with a DOCTYPE is refused; remove that declaration")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(data, True)


def _object(path, number, node):
    """The <object> with that number in a file -> AnnotatedObject."""
    name = (node.findtext("name") or "").strip()
    if not name:
        raise UserError(f"{path}: object {number} has no <name>; correct the file")
    bndbox, box = node.find("bndbox"), {}  # tag by tag: a path 'bndbox/xmin' takes three times as long
    if bndbox is None:
        raise UserError(f"{path}: object {number} ({name}) has no <bndbox>; correct the file")
    for corner in CORNERS:
        text = bndbox.findtext(corner)
        try:
            value = float(text)
        except (TypeError, ValueError):  # TypeError: no such tag
            value = math.nan
        if not math.isfinite(value):
            found = "is missing" if text is None else f"is {text.strip()!r}, not a number"
            raise UserError(f"{path}: <{corner}> of object {number} ({name}) {found}; correct the file")
        box[corner] = value
    return AnnotatedObject(name, **box, difficult=_flag(node, "difficult"), truncated=_flag(node, "truncated"))


def _flag(node, name):
    """Whether a flag is set: 1, or 'true' from some tools, which write 'Unspecified' or nothing for unset ones."""
    return (node.findtext(name) or "").strip().lower() in ("1", "true")


def _pixels(text):
    """A side of <size> in pixels, or None if it is missing or no positive number."""
    try:
        side = int(float(text))
    except (TypeError, ValueError, OverflowError):
        return None
    return side if side > 0 else None


def _written(entry, annotation):
    """The objects of an Annotation, a list of Written."""
    written = []
    for number, item in enumerate(annotation.objects, start=1):
        edges = item.edges_px if item.has_area else (0, 0, 0, 0)
        where = f"{entry.annotation_path}: object {number}"
        written.append(annotations.Written(item.name, edges, where, item.difficult))
    return written


def _folder(data, year):
    """The VOC-layout folder of --data and the year of a split, '' for none."""
    if not data.is_dir():
        raise UserError(f"--data {data}: no such folder")
    years = _years(data)
    alone = (data / "Annotations").is_dir()
    if year and not (data / f"VOC{year}").is_dir():
        if years:
            raise UserError(f"--data {data}: there is no VOC{year}; the years are {', '.join(years)}")
        if alone:
            raise UserError(f"--data {data} is a single VOC-layout folder; name its splits without {year!r}")
    if not year and not alone and years:
        raise UserError(f"--data {data} has several years; name the split with its year, as in {years[0]}:trainval")
    folder = data / f"VOC{year}" if year and (years or not alone) else data
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        below = data / "VOCdevkit"
        remedy = f"do you mean {below}?" if below.is_dir() else f"a VOC-layout folder has {', '.join(PARTS)}"
        raise UserError(f"--data {data}: {folder / missing[0]} is missing; {remedy}")
    return folder


def _years(data):
    """The years of a VOCdevkit: '2007' for VOC2007."""
    return sorted(child.name[3:] for child in data.glob("VOC*") if (child / "Annotations").is_dir())


def _lists(folder):
    """Where a VOC-layout folder has its lists of pictures."""
    return folder / "ImageSets" / "Main"


def _split_names(folder):
    """The splits of a VOC-layout folder, without Pascal VOC's lists for each class and split, such as car_train."""
    lists = _lists(folder)
    names = sorted(file.stem for file in lists.glob("*.txt"))
    beside = [name for name in names if "_" in name and name.rpartition("_")[2] in names]
    of_classes = {name for name in beside if _is_of_class(lists / f"{name}.txt")}
    return [name for name in names if name not in of_classes]


def _is_of_class(path):
    """Whether a list has -1, 0 or 1 after its first id, or is empty."""
    text = files.read_text(path).strip()
    return not text or re.search(r"\s(-1|0|1)\s*$", text.splitlines()[0]) is not None


def _split_path(folder, name, year):
    """ImageSets/Main/NAME.txt. Raises UserError, which lists the splits that exist, if there is none."""
    lists = _lists(folder)
    if name in {file.stem for file in lists.glob("*.txt")}:
        return lists / f"{name}.txt"
    prefix = f"{year}:" if year else ""
    known = ", ".join(prefix + split for split in _split_names(folder)) or "none"
    raise UserError(f"{lists}: there is no split {name!r}; the splits are: {known}")


def _images_by_stem(folder):
    """{stem: path} of the pictures in a folder. Of a.png and a.jpg it has the one whose suffix is first in SUFFIXES."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in images.SUFFIXES:
            found.setdefault(stem, []).append(name)
    rank = images.SUFFIXES.index
    return {
        stem: os.path.join(folder, min(names, key=lambda name: rank(os.path.splitext(name)[1].lower())))
        for stem, names in found.items()
    }


def _ids(path, known):
    """The ids that a split lists, one per line; the ' -1', ' 0' or ' 1' after them in lists of a class is removed.

    An id may contain spaces: a line that is the stem of a picture, one of `known`, is taken whole.
    """
    lines = [line for line in map(str.strip, files.read_text(path).splitlines()) if line]
    return [line if line in known else re.sub(r"\s+(-1|0|1)$", "", line) for line in lines]
