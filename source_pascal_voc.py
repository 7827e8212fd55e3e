"""Data sets in the layout of Pascal VOC -> lists of samples.

    Annotations/ID.xml    JPEGImages/ID.jpg    ImageSets/Main/SPLIT.txt

Either one such folder, whose splits are named 'trainval', or a VOCdevkit of them (VOC2007/, VOC2012/), whose splits
are named '2007:trainval'. The layout and the 1-based, inclusive coordinates are those of the VOC2007 development
kit (http://host.robots.ox.ac.uk/pascal/VOC/voc2007/).
"""

import dataclasses
import math
import os
import pathlib
import re
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple
from xml.parsers import expat

from tqdm import tqdm

from formats import annotations
from media import images
from structures import UserError
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
PARTS = ("Annotations", "JPEGImages", "ImageSets/Main")


class AnnotatedObject(NamedTuple):
    """One <object> as it is written: pixels, 1-based, inclusive, not yet clipped."""

    name: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    difficult: bool
    truncated: bool

    @property
    def edges_px(self):
        """Continuous edges (xmin, ymin, xmax, ymax) in pixels from 0, not clipped."""
        return self.xmin - 1, self.ymin - 1, self.xmax, self.ymax

    @property
    def has_area(self):
        """Whether it is a box. A click without a drag leaves equal corners: inclusive, a pixel; nobody means that."""
        return self.xmax > self.xmin and self.ymax > self.ymin


@dataclasses.dataclass(frozen=True)
class Annotation:
    """One annotation file. width, height: what <size> says in pixels, or None; objects: AnnotatedObjects."""

    width: int | None
    height: int | None
    objects: list


class Entry(NamedTuple):
    """The files of one picture of a split."""

    id: str
    annotation_path: str
    image_path: str


def usual_training(data):
    """The splits that detectors are trained on by custom where data holds VOC2007 and VOC2012; elsewhere None."""
    both = all(os.path.isdir(os.path.join(data, f"VOC{year}")) for year in (2007, 2012))
    return "2007:trainval,2012:trainval" if both else None


def load(data, splits, class_names, *, other_classes="error", difficult="use", progress=False):
    """The samples of some splits, in the order of their lists.

    data: a VOCdevkit or one VOC-layout folder; splits: '2007:trainval,2012:trainval' or 'trainval'.
    other_classes: 'error', or 'ignore' to drop objects whose class is not in class_names. difficult: 'use',
    or 'ignore' to drop difficult objects (for training; the metric needs them). progress: show a bar.
    Boxes are clipped to the picture; those with nothing in it are dropped, and one line on stderr says how
    many. Pictures without objects are kept.
    Raises UserError for anything missing or malformed, and ImageError for a picture without a header.
    """
    maker = annotations.SampleMaker(class_names, other_classes, difficult)
    samples = []
    for entry in tqdm(find(data, splits), "annotations", unit="", leave=False, disable=not progress):
        annotation = parse_annotation(entry.annotation_path)
        size = annotations.size_as_stated(images.header(entry.image_path), (annotation.width, annotation.height))
        samples.append(maker.make(entry.id, entry.image_path, size, _written(entry, annotation)))
    maker.warn_of_dropped()
    return samples


def fits(data):
    """Whether a path looks like a data set of this layout."""
    folder = pathlib.Path(data)
    parts = (name for part in PARTS for name in (part, f"VOCdevkit/VOC*/{part}", f"VOC*/{part}"))
    return folder.is_dir() and any(next(folder.glob(name), None) for name in parts)


def class_names(data, splits):
    """The classes of a data set that names none: those of Pascal VOC."""
    return CLASSES


def find(data, splits):
    """The Entry of each picture of some splits, in the order of their lists; no file of them is opened.

    data, splits: as for `load`. Raises UserError if something is missing, empty or listed twice.
    """
    entries, list_of = [], {}
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
                    "add the file or remove the line (ids are written without extension)"
                )
            annotation_path = os.path.join(folder, "Annotations", image_id + ".xml")
            entries.append(Entry(image_id, annotation_path, image_of[image_id]))
    return entries


def split_names(data):
    """The splits of a data set, as `find` takes them, sorted; without Pascal VOC's lists of single classes."""
    data = pathlib.Path(data)
    years = [] if (data / "Annotations").is_dir() else _years(data)
    if not years:
        return _split_names(_folder(data, "") / "ImageSets" / "Main")
    lists = [(year, _folder(data, year) / "ImageSets" / "Main") for year in years]
    return [f"{year}:{name}" for year, path in lists for name in _split_names(path)]


def listed(data, split):
    """What one split lists: (folder, path of the list, ids, {stem: path of a picture}).

    Ids may repeat or name no picture; `find` refuses those. Raises UserError if there is no such split.
    """
    year, _, name = split.strip().rpartition(":")
    folder = _folder(pathlib.Path(data), year)
    path = _split_path(folder, name, year)
    image_of = _images_by_stem(folder / "JPEGImages")
    return folder, path, _ids(path, image_of), image_of


def parse_annotation(path):
    """Read one XML file -> Annotation.

    Only direct children count: the <part>s of a VOC person have names and boxes too. DOCTYPE is refused, and
    with it entities, which can be made to eat all memory or to read other files.
    Raises UserError naming the file and the object.
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
    width, height = (None, None) if size is None else map(_pixels, map(size.findtext, ("width", "height")))
    objects = [_object(path, number, node) for number, node in enumerate(root.findall("object"), start=1)]
    return Annotation(width, height, objects)


def _refuse_doctype(path, data):
    """UserError if the XML has a DOCTYPE, in whatever encoding: expat finds it, and stops before what follows."""

    def refuse(*_):
        raise UserError(f"{path}: XML with a DOCTYPE is refused; remove that declaration")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(data, True)


def _object(path, number, node):
    """<object> number `number` of a file -> AnnotatedObject."""
    name = (node.findtext("name") or "").strip()
    if not name:
        raise UserError(f"{path}: object {number} has no <name>; correct the file")
    bndbox, box = node.find("bndbox"), []  # tag by tag: a path 'bndbox/xmin' takes three times as long
    if bndbox is None:
        raise UserError(f"{path}: object {number} ({name}) has no <bndbox>; correct the file")
    for corner in ("xmin", "ymin", "xmax", "ymax"):
        text = bndbox.findtext(corner)
        try:
            value = float(text)
        except (TypeError, ValueError):  # TypeError: there is none
            value = math.nan
        if not math.isfinite(value):
            found = "is missing" if text is None else f"is {text.strip()!r}, not a number"
            raise UserError(f"{path}: <{corner}> of object {number} ({name}) {found}; correct the file")
        box.append(value)
    return AnnotatedObject(name, *box, _flag(node, "difficult"), _flag(node, "truncated"))


def _flag(node, name):
    """A flag is set by 1; tools also write 'true', and leave it out or write 'Unspecified' if it is not."""
    return (node.findtext(name) or "").strip().lower() in ("1", "true")


def _pixels(text):
    """A side of <size> in pixels, or None if the file does not tell."""
    try:
        side = int(float(text))
    except (TypeError, ValueError, OverflowError):
        return None
    return side if side > 0 else None


def _written(entry, annotation):
    """The objects of an Annotation as Written."""
    written = []
    for number, item in enumerate(annotation.objects, start=1):
        edges = item.edges_px if item.has_area else (0, 0, 0, 0)
        where = f"{entry.annotation_path}: object {number}"
        written.append(annotations.Written(item.name, edges, where, item.difficult))
    return written


def _folder(data, year):
    """The VOC-layout folder that --data and the year of a split ('' if it names none) mean."""
    if not data.is_dir():
        raise UserError(f"--data {data}: no such folder")
    years = _years(data)
    alone = (data / "Annotations").is_dir()
    if year and not (data / f"VOC{year}").is_dir():
        if years:
            raise UserError(f"--data {data}: it holds no VOC{year}; there are the years {', '.join(years)}")
        if alone:
            raise UserError(f"--data {data} is a single VOC-layout folder: name its splits without {year!r}")
    if not year and not alone and years:
        raise UserError(f"--data {data} holds several years: name the split with one, as in {years[0]}:trainval")
    folder = data / f"VOC{year}" if year and (years or not alone) else data
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        below = data / "VOCdevkit"
        remedy = f"is it {below}?" if below.is_dir() else f"a VOC-layout folder has {', '.join(PARTS)}"
        raise UserError(f"--data {data}: {folder / missing[0]} is missing; {remedy}")
    return folder


def _years(data):
    """The years of a VOCdevkit: '2007' for VOC2007."""
    return sorted(child.name[3:] for child in data.glob("VOC*") if (child / "Annotations").is_dir())


def _split_names(lists):
    """The splits of ImageSets/Main. Pascal VOC has a list for each class and split besides, such as car_train."""
    names = sorted(file.stem for file in lists.glob("*.txt"))
    beside = [name for name in names if "_" in name and name.rpartition("_")[2] in names]
    of_classes = {name for name in beside if _is_of_class(lists / f"{name}.txt")}
    return [name for name in names if name not in of_classes]


def _is_of_class(path):
    """Whether a list has a -1, 0 or 1 after each id, or nothing at all."""
    text = files.read_text(path).strip()
    return not text or re.search(r"\s(-1|0|1)\s*$", text.splitlines()[0]) is not None


def _split_path(folder, name, year):
    """ImageSets/Main/NAME.txt, or UserError with the splits that exist."""
    lists = folder / "ImageSets" / "Main"
    if name in {file.stem for file in lists.glob("*.txt")}:
        return lists / f"{name}.txt"
    prefix = f"{year}:" if year else ""
    known = ", ".join(prefix + split for split in _split_names(lists)) or "none"
    raise UserError(f"{lists}: it has no split {name!r}; there are: {known}")


def _images_by_stem(folder):
    """{stem: path} of the pictures in a folder, from one listing. Of a.jpg and a.png the first suffix counts."""
    found = {}
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
    """The ids that a split lists, one a line; ' -1', ' 0' or ' 1' after one, as in the lists of a class, goes.

    An id may hold spaces: a line that names a picture of `known` is taken whole.
    """
    lines = [line for line in map(str.strip, files.read_text(path).splitlines()) if line]
    return [line if line in known else re.sub(r"\s+(-1|0|1)$", "", line) for line in lines]
