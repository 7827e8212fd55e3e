"""Data sets with an XML file for each picture, as Pascal VOC has -> lists of samples.

    Annotations/ID.xml    JPEGImages/ID.jpg    ImageSets/Main/SPLIT.txt

DATA is one such folder, with splits named like 'trainval', or a VOCdevkit with several (VOC2007/, VOC2012/), with
splits named like '2007:trainval'. SPLITS names several, separated by commas. The layout and the 1-based, inclusive
coordinates are those of the VOC2007 development kit (http://host.robots.ox.ac.uk/pascal/VOC/voc2007/). The other
folders in which tools write such files, also without lists, are those of `folders.Layout`.
"""

import dataclasses
import math
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.parsers import expat

from formats import annotations, class_lists, fixed_copy, folders, per_picture
from structures import Sample, UserError
from system import files, wording

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
ROOT_TAG = re.compile(r"<(\w+:)?annotation[\s>/]")
DECLARED = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([\w.-]+)[\"']")
# Chinese tools declare gb2312 and use letters of its extension
WIDER = {"gb2312": "gb18030", "gbk": "gb18030"}


class AnnotatedObject(NamedTuple):
    """One <object> as annotated.

    name: its class.
    xmin, ymin, xmax, ymax: pixels, 1-based, inclusive, not clipped.
    difficult, truncated: its flags.
    shape: 'box'; 'rotated' or 'polygon' if the file has such a shape and no box: the corners are those around it.
    crowd: whether it is a region of many; such a flag is an addition of convert_dataset.py.
    """

    name: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    difficult: bool
    truncated: bool
    shape: str = "box"
    crowd: bool = False

    @property
    def edges_px(self) -> tuple[float, float, float, float]:
        """Continuous edges (xmin, ymin, xmax, ymax) in pixels from 0, not clipped; see `annotations.from_inclusive`."""
        return annotations.from_inclusive(self[1:5])


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
    missing_annotations: str = "error",
    progress: bool = False,
) -> list[Sample]:
    """The samples of some splits, in the order of their lists.

    data: a VOCdevkit or another folder with XML files.
    splits: '2007:trainval,2012:trainval' or 'trainval'.
    class_names: the list that labels index.
    other_classes: 'error', or 'ignore' to drop objects whose class is not in class_names.
    difficult: 'use', or 'ignore' to drop difficult objects (for training; the metric needs them).
    missing_annotations: 'error', or 'background' to take pictures without an annotation file as without objects.
    progress: show a bar.
    Boxes are clipped to the picture; those without area inside it are dropped, and one line on stderr says how many.
    Pictures without objects are kept.
    Raises UserError that names file and object for anything missing or malformed, ImageError for a picture whose
    header cannot be read.
    """
    return FORMAT.load(
        data,
        splits,
        class_names,
        other_classes=other_classes,
        difficult=difficult,
        missing_annotations=missing_annotations,
        progress=progress,
    )


def fits(data: str | os.PathLike) -> bool:
    """Whether a path looks like a data set in this layout."""
    return FORMAT.fits(data)


def class_names(data: str | os.PathLike, splits: str) -> tuple[str, ...]:
    """The classes of the objects in some splits, in alphabetical order; of a VOCdevkit without others the 20 of VOC.

    Raises UserError if there are no objects.
    """
    return FORMAT.class_names(data, splits)


def find(data: str | os.PathLike, splits: str) -> list[annotations.Entry]:
    """The Entry of each picture of some splits, in the order of `load`; opens no picture and no annotation.

    data, splits: as for `load`. Raises UserError if something is missing, empty or listed twice.
    """
    return FORMAT.find(data, splits)


def split_names(data: str | os.PathLike) -> list[str]:
    """The splits of a data set, as `find` takes them, sorted; without Pascal VOC's lists of single classes."""
    return FORMAT.split_names(data)


def parse_annotation(path: str | os.PathLike) -> Annotation:
    """Read one XML file -> Annotation.

    Only direct children are read: the <part>s of a VOC person have names and boxes too. A DOCTYPE is refused, and
    entities with it, which can use up all memory or read other files.
    Raises UserError that names the file and the object.
    """
    root = read_xml(path)
    size = root.find("size")
    width, height = (None, None) if size is None else (_pixels(size.findtext(name)) for name in ("width", "height"))
    objects = [_object(path, number, node) for number, node in enumerate(root.findall("object"), start=1)]
    return Annotation(width, height, objects)


def read_xml(path: str | os.PathLike) -> ElementTree.Element:
    """The root of an annotation's XML, without namespaces. Raises UserError, MissingAnnotation if there is no file."""
    data = annotations.read_bytes(path)
    try:
        root = _parse(path, data)
    except (expat.ExpatError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path}: not valid XML ({error}); {_remedy(data)}") from None
    if root.tag.startswith("{"):
        for node in root.iter():
            node.tag = node.tag.rpartition("}")[2]
    if root.tag != "annotation":
        raise UserError(f"{path}: <{root.tag}> instead of <annotation>; is it a Pascal VOC annotation?")
    return root


def _remedy(data):
    """What to do with XML that cannot be read."""
    try:
        files.decode(data)
    except UnicodeDecodeError as error:
        cut = error.end == len(data) or 0 in data  # a file that was written to a part, or zeros of a disk
        if not cut and not DECLARED.match(data.lstrip()[:200]):
            return "it declares no encoding and is not UTF-8: save it as UTF-8"
    return "correct or remove the file"


def _parse(path, data):
    """The root of XML in any encoding that Python knows; expat by itself knows none with several bytes a letter."""
    try:
        _refuse_doctype(path, data)
        return ElementTree.fromstring(data)
    except (expat.ExpatError, ElementTree.ParseError, ValueError, LookupError):
        declared = DECLARED.match(data[:200].lstrip())
        if declared is None or declared[1].lower().replace(b"-", b"") in (b"utf8", b"utf16"):
            raise
    encoding = declared[1].decode().lower()
    text = data.lstrip()[declared.end() :].partition(b">")[2].decode(WIDER.get(encoding, encoding))
    _refuse_doctype(path, text.encode())
    return ElementTree.fromstring(text)


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
    corners, shape = _corners(path, f"object {number} ({name})", node)
    xmin, ymin, xmax, ymax = corners
    difficult, truncated, crowd = (_flag(node, flag) for flag in ("difficult", "truncated", "iscrowd"))
    return AnnotatedObject(name, xmin, ymin, xmax, ymax, difficult or crowd, truncated, shape, crowd)


def _corners(path, what, node):
    """(xmin, ymin, xmax, ymax) of an <object>, and the shape that they are around. what: the object, for messages."""
    bndbox = node.find("bndbox")  # tag by tag: a path 'bndbox/xmin' takes three times as long
    if bndbox is not None and (bndbox.find("xmin") is not None or _points(bndbox) is None):
        return [_number(path, what, bndbox, corner) for corner in CORNERS], "box"
    rotated = node.find("robndbox")
    if rotated is not None:  # roLabelImg: center, sides and an angle in radians
        cx, cy, width, height, angle = (_number(path, what, rotated, tag) for tag in ("cx", "cy", "w", "h", "angle"))
        across, down = abs(math.cos(angle)), abs(math.sin(angle))
        half_x, half_y = (width * across + height * down) / 2, (width * down + height * across) / 2
        return [cx - half_x, cy - half_y, cx + half_x, cy + half_y], "rotated"
    for part in (node.find("polygon"), bndbox):
        points = None if part is None else _points(part)
        if points is not None:
            xs, ys = points
            return [min(xs), min(ys), max(xs), max(ys)], "polygon"
    raise UserError(f"{path}: {what} has no <bndbox>; correct the file")


def _number(path, what, node, tag):
    text = node.findtext(tag)
    try:
        value = float(text)
    except (TypeError, ValueError):  # TypeError: no such tag
        value = math.nan
    if not abs(value) <= annotations.LARGEST:
        found = "is missing" if text is None else f"is {wording.shorten(text.strip())}, not a number"
        raise UserError(f"{path}: <{tag}> of {what} {found}; correct the file")
    return value


def _points(node):
    """(xs, ys) of a polygon: <x1>, <y1>, <x2>, … or <pt> with <x> and <y>; None if it has no such points."""
    xs, ys = (
        annotations.numbers(child.text for child in node.iter() if re.fullmatch(f"{axis}\\d*", child.tag))
        for axis in "xy"
    )
    return (xs, ys) if xs and ys and len(xs) == len(ys) > 1 else None


def _flag(node, name):
    """Whether a flag is set: 1, or 'true' from some tools, which write 'Unspecified' or nothing for unset ones."""
    return (node.findtext(name) or "").strip().lower() in ("1", "true")


def _pixels(text):
    """A side of <size> in pixels, or None if it is missing or no positive number."""
    try:
        side = int(float(text))
    except (TypeError, ValueError, OverflowError):
        return None
    return side if 0 < side <= annotations.LARGEST else None


def _read(entry):
    """The Annotated of an Entry."""
    annotation = parse_annotation(entry.annotation_path)
    written = []
    for number, item in enumerate(annotation.objects, start=1):
        one = annotations.Written(item.name, item.edges_px, f"{entry.annotation_path}: object {number}", item.difficult)
        written.append(one._replace(crowd=item.crowd, shape=item.shape, truncated=item.truncated))
    return annotations.Annotated(written, annotation.stated_size)


def _edited(_, path, edit):
    """The XML of an annotation after an Edit; everything else in it stays."""
    root: Any = read_xml(path)
    if edit.scale:
        for name, value in zip(("width", "height"), edit.size, strict=True):
            root.find("size").find(name).text = str(value)
    for node, box in zip(root.findall("object"), edit.boxes, strict=True):
        if box is None:
            root.remove(node)
        elif box != fixed_copy.KEEP:
            _set_box(node, annotations.to_inclusive(box))
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _set_box(node, corners):
    """Give an <object> a <bndbox>, in place of a rotated box or polygon too."""
    for shape in ("robndbox", "polygon"):
        if node.find("bndbox") is None and node.find(shape) is not None:
            node.remove(node.find(shape))
    box = node.find("bndbox")
    if box is None or box.find("xmin") is None:
        box = ElementTree.SubElement(node, "bndbox") if box is None else box
        box[:] = [ElementTree.Element(corner) for corner in CORNERS]
    for corner, value in zip(CORNERS, corners, strict=True):
        box.find(corner).text = wording.number(value)


class _PascalVOC(per_picture.PerPicture):
    """The format, with the 20 classes of a VOCdevkit."""

    def class_names(self, data, splits):
        names = sorted(annotations.count_names(self.find(data, splits), _read))
        years = [split.strip().partition(":") for split in splits.split(",")]
        is_devkit = all(colon and os.path.isdir(os.path.join(data, f"VOC{year}")) for year, colon, _ in years)
        if is_devkit and names and set(names) <= set(CLASSES):
            return CLASSES
        return class_lists.names_of_data(names, data, splits)


def _looks(path):
    """Whether an XML file is an annotation, by its first tag; damaged ones are taken for one."""
    text = folders.beginning(path)
    return ROOT_TAG.search(text) is not None or not re.search(r"<\w", text)


FORMAT = _PascalVOC(
    "Pascal VOC's XML", folders.Kind(".xml", _looks, ("Annotations", "JPEGImages")), _read, _edited, first_pixel=1
)
