"""What all formats share: objects and picture sizes as annotated -> Samples, their ids, and the splits of a data set.

Only this module compares the size that an annotation states with the picture's size, and decides whether coordinates
are pixels or fractions of the picture. It counts what a user should know and prints one line for each kind, with the
count and the first case.
"""

import collections
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from formats import class_lists, folders
from media import images
from structures import Sample, UserError
from system import cli, files, memory, wording

# A box reaches far out of its picture by this share of the picture's side; it is said if this share of the boxes does,
# and at least so many: a tool may let boxes of cut objects reach out
FAR, MANY_FAR, LEAST_FAR = 0.05, 0.2, 3
LARGEST_FILE = 400_000_000  # bytes of the annotations of one picture; labelme puts a copy of the picture into them
LARGEST = 1e9  # pixels, far beyond any picture: products of two still are numbers
LARGEST_FRACTION = 1.001  # of a picture's side: tools round
OUTSIDE_TOLERANCE = 1  # pixels: in annotations that count from 0 all boxes are off by one


class Written(NamedTuple):
    """One object as annotated.

    name: its class.
    edges_px: (xmin, ymin, xmax, ymax), continuous edges in pixels, not yet clipped.
    where: file and entry, for messages.
    difficult, crowd, area: as in Sample.
    shape: 'box'; 'rotated' or 'polygon' if edges_px is the box around such a shape.
    truncated: whether only a part of it is in the picture.
    """

    name: str
    edges_px: tuple
    where: str
    difficult: bool = False
    crowd: bool = False
    area: float | None = None
    shape: str = "box"
    truncated: bool = False


class Columns(NamedTuple):
    """The objects of one picture, N values each: what Written says of them, for formats that know it at once.

    names: list.
    edges_px: float64 [N,4].
    where: callable, position of an object -> file and entry.
    difficult: bool [N].
    crowd: bool [N], or None for none.
    area: float64 [N], or None.
    shapes: sequence, or None for boxes.
    """

    names: list
    edges_px: np.ndarray
    where: Callable[[int], str]
    difficult: np.ndarray
    crowd: np.ndarray | None = None
    area: np.ndarray | None = None
    shapes: Sequence | None = None

    def where_true(self, keep):
        """The objects that a bool [N] array selects."""
        at = np.flatnonzero(keep).tolist()
        return Columns(
            [self.names[index] for index in at],
            self.edges_px[keep],
            lambda index: self.where(at[index]),
            self.difficult[keep],
            None if self.crowd is None else self.crowd[keep],
            None if self.area is None else self.area[keep],
            None if self.shapes is None else [self.shapes[index] for index in at],
        )


def columns(objects):
    """A list of Written as Columns, which leave out what no Sample needs."""
    if not objects:
        return Columns([], np.zeros((0, 4)), [].__getitem__, np.zeros(0, bool))
    names, edges, wheres, difficult, crowd, area, shapes, _ = zip(*objects, strict=True)
    return Columns(
        list(names),
        np.array(edges, np.float64),
        wheres.__getitem__,
        np.array(difficult, bool),
        np.array(crowd, bool) if any(crowd) else None,
        None if None in area else np.array(area, np.float64),
        shapes,
    )


class Annotated(NamedTuple):
    """What the annotations say of one picture.

    objects: list of Written, or Columns.
    stated: (width, height) in pixels of the picture that they were drawn on, (None, None) if that is left out; None
        in a format that has no place for it.
    fractions: whether edges_px of the objects are fractions of the picture instead of pixels.
    left_out: file and entry of each shape that has no area by its kind, such as a line.
    """

    objects: list | Columns
    stated: tuple | None = None
    fractions: bool = False
    left_out: tuple = ()


class Entry(NamedTuple):
    """The files of one picture of a split, in a format that has a file of annotations for each.

    id: see `with_ids`.
    image_path: the picture.
    where: the list or folder that names it, for messages.
    annotation_path: its annotations; there may be no such file.
    """

    id: str
    image_path: str
    where: str
    annotation_path: str


class MissingAnnotation(UserError):
    """A picture without a file of annotations, in a format that has one for each picture."""

    def __init__(self, path):
        super().__init__(
            f"{path}: cannot read the annotation: no such file; add it, or take pictures without one as background "
            "with --missing-annotations background"
        )


class Size(NamedTuple):
    """The size of a picture as it is decoded.

    width, height: pixels.
    exif: whether EXIF orientation is applied.
    """

    width: int
    height: int
    exif: bool


def size_as_stated(header, stated):
    """The Size of a picture whose annotation states (width, height), or (None, None) if it states none.

    stated: None for a format without sizes, whose boxes are drawn on the picture as it is shown.
    header: (width, height, orientation) as stored, from `images.header`. The size comes from the file, because
    annotations often state a wrong one. EXIF orientation is applied if the stated size is the rotated one, or has its
    shape and not that of the stored one. Where rotation does not change the size (orientations 2 to 4, squares), it is
    always applied, as labeling tools and detection do.
    """
    turned, stored = size_as_shown(header), Size(*header[:2], False)
    if stated is None or turned[:2] == stored[:2]:
        return turned
    stated = tuple(stated)
    if stated in (turned[:2], stored[:2]):
        return turned if stated == turned[:2] else stored
    return turned if is_same_shape(turned, stated) and not is_same_shape(stored, stated) else stored


def size_as_shown(header):
    """The Size of a picture with EXIF applied, as viewers and labeling tools show it."""
    width, height, orientation = header
    return Size(height, width, True) if orientation >= 5 else Size(width, height, orientation != 1)


def is_same_shape(size, stated):
    """Whether a picture of `stated` (width, height) may have been resized to `size`, to whole pixels."""
    if None in (*size[:2], *stated) or min(stated) <= 0:
        return False
    low = max((side - 1) / from_side for side, from_side in zip(size[:2], stated, strict=True))
    high = min((side + 1) / from_side for side, from_side in zip(size[:2], stated, strict=True))
    return low <= high


def scale_to(size, stated, reach):
    """(x, y) factors for boxes that were drawn before their picture was resized; None if they must stay as they are.

    size, stated: (width, height) of the picture and as the annotation states it. reach: (xmax, ymax) of all its boxes.
    They are scaled if the stated size is another one of the picture's shape and the boxes fit it.
    """
    if tuple(stated) == tuple(size[:2]) or not is_same_shape(size, stated):
        return None
    if any(far > side + OUTSIDE_TOLERANCE for far, side in zip(reach, stated, strict=True)):
        return None
    return size[0] / stated[0], size[1] / stated[1]


def on_picture(annotated, size):
    """An Annotated with its boxes on the picture as it is, in pixels, and whether it was resized after annotation.

    size: Size of the picture. The boxes of a resized picture are scaled to it, those in fractions multiplied.
    """
    stated = annotated.stated
    if annotated.fractions:  # they fit a picture of any size
        factors, resized = size[:2], False
        stated = None if stated is None else size[:2]
    else:
        reach = [max((one.edges_px[side] for one in annotated.objects), default=0) for side in (2, 3)]
        factors = None if stated is None else scale_to(size, stated, reach)
        resized = factors is not None
    if factors is None:
        return annotated, False
    x, y = factors
    objects = [
        one._replace(
            edges_px=(one.edges_px[0] * x, one.edges_px[1] * y, one.edges_px[2] * x, one.edges_px[3] * y),
            area=None if one.area is None else one.area * x * y,
        )
        for one in annotated.objects
    ]
    return annotated._replace(objects=objects, stated=stated, fractions=False), resized


def from_inclusive(corners):
    """Corners (xmin, ymin, xmax, ymax) that count pixels from 1 and include the last -> continuous edges from 0.

    Equal corners are a click without a drag and become an empty box. Inverted corners stay inverted: swapped, they are
    the edges of the swapped corners. `to_inclusive` is the inverse.
    """
    x, y = _axis_from_inclusive(corners[0], corners[2]), _axis_from_inclusive(corners[1], corners[3])
    return x[0], y[0], x[1], y[1]


def _axis_from_inclusive(low, high):
    return (low - 1, high) if low < high else (low, high) if low == high else (low, high - 1)


def to_inclusive(edges):
    """The inverse of `from_inclusive`."""
    x, y = _axis_to_inclusive(edges[0], edges[2]), _axis_to_inclusive(edges[1], edges[3])
    return x[0], y[0], x[1], y[1]


def _axis_to_inclusive(low, high):
    return (low + 1, high) if low < high else (low, high) if low == high else (low, high + 1)


def are_fractions(corners):
    """Whether numbers that should be pixels (xmin, ymin, xmax, ymax) are fractions of the picture by their look."""
    return may_be_fractions(corners) and any(value % 1 for value in corners)


def may_be_fractions(corners):
    """Whether numbers (xmin, ymin, xmax, ymax) are fractions of the picture, or pixels of a box in its first pixel."""
    return all(1 - LARGEST_FRACTION <= value <= LARGEST_FRACTION for value in corners)


def all_fractions(boxes):
    """Whether the boxes of a whole file are fractions of their pictures: a file in pixels has some beyond the first.

    boxes: list of (xmin, ymin, xmax, ymax). Those of zeros say nothing: they may stand for no object.
    """
    return any(map(any, boxes)) and all(map(may_be_fractions, boxes))


# The warnings, one for each kind of case: text with a place for the number of cases, and what is counted
_NOTES = {
    "background": ("{} without an annotation file: taken as background", "picture"),
    "scaled": (
        "{} of another size than the annotation states, as if resized after annotation: their boxes are scaled",
        "picture",
    ),
    "unscaled": (
        "{} of another size than the annotation states, of another shape or with boxes that do not fit it: "
        "their boxes are left as they are",
        "picture",
    ),
    "rotated": ("{}: the upright box around each is taken", "rotated box"),
    "polygon": ("{}: the box around each is taken", "polygon"),
    "no-area": ("{} left out, as a line or a point has no area", "shape"),
    "reaching": (
        "{} reaching far out of the picture, and clipped: perhaps the four numbers of a box mean something else than "
        "in this format; check_dataset.py --draw shows them",
        "box",
    ),
    "fraction": ("{} within the first pixel of their picture, as if given in fractions of it", "box"),
}


class Notes:
    """Counts what the user should know about a data set; `warn` says it, one line for each kind."""

    def __init__(self):
        self._found = collections.defaultdict(lambda: [0, None])

    def add(self, kind, where, count=1):
        """Count a case. kind: a key of _NOTES; where: file and entry."""
        found = self._found[kind]
        found[0] += count
        found[1] = found[1] or where

    def count(self, kind):
        """How often a kind was added."""
        return self._found[kind][0] if kind in self._found else 0

    def warn(self):
        """Print a warning for each kind."""
        for kind, (text, what) in _NOTES.items():
            if kind in self._found:
                count, first = self._found[kind]
                cli.warn(f"{text.format(wording.plural(count, what))}; the first is {first}")


@memory.collector_paused()
def drawn_sizes(entries, read, progress=False):
    """The Size of each picture as its boxes were drawn on it, a list: what `make_samples` gives, without the boxes.

    entries, read: as for `make_samples`. A picture whose annotation cannot be read has its Size as viewers show it,
    one that cannot be read itself None. Pictures that were resized after annotation are said.
    """
    notes = Notes()
    with tqdm(entries, "annotations", unit="", leave=False, disable=not progress) as bar:
        sizes = [_drawn_size(entry, read, notes) for entry in bar]
    notes.warn()
    return sizes


def _drawn_size(entry, read, notes):
    try:
        header = images.header(entry.image_path)
    except images.ImageError:
        return None
    try:
        annotated = read(entry)
    except UserError:
        return size_as_shown(header)
    size = size_as_stated(header, annotated.stated)
    if annotated.objects:
        _scale_to_picture(entry, _in_columns(annotated), size, annotated.stated, notes)
    return size


def _in_columns(annotated):
    """The objects of an Annotated as Columns."""
    return annotated.objects if isinstance(annotated.objects, Columns) else columns(annotated.objects)


def _scale_to_picture(entry, objects, size, stated, notes):
    """`scale_to` for the Columns of an entry, which is noted; None also for a picture that has the stated size."""
    if stated is None or None in stated or tuple(stated) == size[:2]:
        return None
    factors = scale_to(size, stated, objects.edges_px[:, 2:].max(axis=0))
    where = "{}: states {}x{}, the picture has {}x{}".format(_file_of(entry, objects), *stated, *size[:2])
    notes.add("unscaled" if factors is None else "scaled", where)
    return factors


@memory.collector_paused()
def make_samples(
    entries,
    read,
    class_names,
    *,
    other_classes="error",
    difficult="use",
    missing_annotations="error",
    progress=False,
    first_pixel=0,
    format_name="this format",
):
    """The Sample of each entry of a data set, in order.

    entries: objects with .id and .image_path.
    read: callable, entry -> Annotated. It may raise MissingAnnotation.
    class_names, other_classes, difficult, missing_annotations, progress: as in source_pascal_voc.load.
    first_pixel: what the format calls the first row and column, 0 or 1; format_name: for a message.
    Boxes are clipped to the picture; those without area inside it are dropped, with one warning for all. Boxes of
    pictures that were resized after annotation are scaled to them (`scale_to`).
    Raises UserError for a class that is not in class_names unless other_classes is 'ignore', and if most boxes are
    fractions where pixels are needed.
    """
    maker = _SampleMaker(class_names, other_classes, difficult, missing_annotations, first_pixel)
    with tqdm(entries, "annotations", unit="", leave=False, disable=not progress) as bar:  # cleared before an error
        for entry in bar:
            maker.add(entry, read)
    maker.check_units(format_name)
    samples = maker.samples()
    maker.warn()
    return samples


class _Picture(NamedTuple):
    """A picture whose annotation was read. edges_px: of its objects, on the picture; factor: on their areas."""

    entry: Any
    size: Size
    objects: Columns
    edges_px: np.ndarray
    factor: float


class _SampleMaker:
    """Makes the samples of one data set and counts what it drops or changes.

    Pictures are added one by one, and what NumPy does is done for all of them at once: it is several times faster.
    """

    def __init__(self, class_names, other_classes, difficult, missing, first_pixel):
        self._label_of = {name: label for label, name in enumerate(class_names)}
        self._ignore_others, self._ignore_difficult = other_classes == "ignore", difficult == "ignore"
        self._missing_allowed, self._first_pixel = missing == "background", first_pixel
        self._pictures, self._in_pixels = [], []  # a _Picture of each entry; those whose edges should be pixels
        self._dropped, self._damaged, self._first = 0, 0, None
        self._notes = Notes()

    def add(self, entry, read):
        """Read an entry and the header of its picture."""
        annotated = self._read(entry, read)
        for where in annotated.left_out:
            self._notes.add("no-area", where)
        header = images.header(entry.image_path)
        size = size_as_stated(header, annotated.stated)
        everything = _in_columns(annotated)
        objects = self._wanted(everything)
        edges, factor = objects.edges_px, 1.0
        if annotated.fractions:
            edges, factor = edges * ((size.width, size.height) * 2), float(size.width * size.height)
        elif objects.names:
            # Also what is left out shows which size the boxes were drawn for
            factors = _scale_to_picture(entry, everything, size, annotated.stated, self._notes)
            if factors is not None:
                edges, factor = edges * (factors * 2), factors[0] * factors[1]
            self._in_pixels.append(objects)
        for index, shape in enumerate(objects.shapes or ()):
            if shape != "box":
                self._notes.add(shape, objects.where(index))
        self._pictures.append(_Picture(entry, size, objects, edges, factor))

    def _wanted(self, objects):
        """The objects of known classes, without difficult ones if these are to be ignored."""
        if not self._label_of.keys() >= set(objects.names):
            known = [self._is_known(name, index, objects) for index, name in enumerate(objects.names)]
            objects = objects.where_true(np.array(known, bool))
        if self._ignore_difficult and objects.difficult.any():
            objects = objects.where_true(~objects.difficult)
        return objects

    def _read(self, entry, read):
        try:
            return read(entry)
        except MissingAnnotation:
            if not self._missing_allowed:
                raise
        self._notes.add("background", entry.image_path)
        return Annotated([], (None, None))

    def _is_known(self, name, index, objects):
        if name in self._label_of:
            return True
        if self._ignore_others:
            return False
        hint = wording.nearest_hint(name, self._label_of)
        other = "rename the class" if class_lists.is_background(name) else "list all classes with --classes"
        raise UserError(
            f"{objects.where(index)}: class {name!r} is not in the class list{hint}; drop its objects with "
            f"--other-classes ignore, or {other}"
        )

    def check_units(self, format_name):
        """Note boxes that are fractions where pixels are needed. Raises UserError if most are."""
        if not self._in_pixels:
            return
        edges, first = np.concatenate([objects.edges_px for objects in self._in_pixels]), None
        starts = _starts(self._in_pixels)
        for index in np.flatnonzero(edges.max(axis=1) <= LARGEST_FRACTION).tolist():
            corners = (edges[index] + (self._first_pixel, self._first_pixel, 0, 0)).tolist()
            if are_fractions(corners):
                picture = int(np.searchsorted(starts, index, side="right")) - 1
                where = self._in_pixels[picture].where(index - int(starts[picture]))
                self._notes.add("fraction", where)
                first = first or f"{where}: " + ", ".join(f"{value:g}" for value in corners)
        if 2 * self._notes.count("fraction") > len(edges):
            raise UserError(
                f"{first}: the coordinates look like fractions of the picture, {format_name} wants pixels; "
                "multiply x by its width and y by its height"
            )

    def samples(self):
        """The Sample of each picture. Raises UserError if none has an annotation."""
        pictures = self._pictures
        if pictures and self._notes.count("background") == len(pictures):
            raise UserError("--missing-annotations background: no picture has an annotation; check --data")
        starts = _starts(picture.objects for picture in pictures)
        sizes = np.array([picture.size[:2] * 2 for picture in pictures], np.float64).reshape(-1, 4)
        edges = np.concatenate([np.zeros((0, 4)), *(picture.edges_px for picture in pictures)])
        fractions = edges / sizes.repeat(np.diff(starts), axis=0)
        boxes = fractions.clip(0, 1).astype(np.float32)
        names = itertools.chain.from_iterable(picture.objects.names for picture in pictures)
        labels = np.array([self._label_of[name] for name in names], np.int32)
        empty = ~(boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # also of NaN
        self._note_reaching(fractions, ~empty, starts)
        damaged = set((np.searchsorted(starts, np.flatnonzero(empty), side="right") - 1).tolist())
        made = []
        for index, (picture, (start, end)) in enumerate(
            zip(pictures, itertools.pairwise(starts.tolist()), strict=True)
        ):
            objects, kept = picture.objects, slice(start, end)
            if index in damaged:
                keep = ~empty[kept]
                self._note_dropped(objects, keep)
                objects, kept = objects.where_true(keep), start + np.flatnonzero(keep)
            made.append(self._sample(picture, objects, boxes[kept], labels[kept]))
        return made

    def _note_reaching(self, fractions, kept, starts):
        """Note boxes that reach far out of their pictures if they are many. fractions: of all boxes, [N,4].

        kept: those that have an area, bool [N]; starts: as of `_starts`.
        """
        far = np.flatnonzero(((fractions < -FAR) | (fractions > 1 + FAR)).any(axis=1) & kept)
        if len(far) >= max(LEAST_FAR, MANY_FAR * kept.sum()):
            picture = int(np.searchsorted(starts, far[0], side="right")) - 1
            where = self._pictures[picture].objects.where(int(far[0] - starts[picture]))
            self._notes.add("reaching", where, len(far))

    def _note_dropped(self, objects, keep):
        self._dropped += int((~keep).sum())
        self._damaged += 1
        self._first = self._first or objects.where(int(np.argmin(keep)))

    def _sample(self, picture, objects, boxes, labels):
        entry, size, crowd, area = picture.entry, picture.size, objects.crowd, objects.area
        if area is not None and picture.factor != 1:
            area = area * picture.factor
        return Sample(
            id=entry.id,
            image_path=entry.image_path,
            boxes=boxes,
            labels=labels,
            difficult=objects.difficult,
            width=size.width,
            height=size.height,
            exif=size.exif,
            crowd=crowd if crowd is not None and crowd.any() else None,
            area=area if objects.names else None,
        )

    def warn(self):
        """Print a warning for each kind of what was found."""
        self._notes.warn()
        if self._dropped:
            cli.warn(
                f"dropped {wording.plural(self._dropped, 'box')} that {'is' if self._dropped == 1 else 'are'} empty, "
                f"inverted or outside the picture, in {wording.plural(self._damaged, 'picture')}; the first is "
                f"{self._first}"
            )


def _starts(columns_of_each):
    """int [N+1]: where the objects of each of N pictures start among those of all, and their number."""
    return np.cumsum([0, *(len(objects.names) for objects in columns_of_each)])


def _file_of(entry, objects):
    """The file that annotates a picture, with its entry if it holds several, for messages."""
    return getattr(entry, "annotation_path", None) or objects.where(0)


def with_ids(entries, root, check=True):
    """NamedTuples with .id, .image_path and .where, with the ids set that results are matched by.

    An id is the picture's file name without suffix. Pictures that share it with another have their path below `root`
    (--data, or its folder if it is a file) without suffix instead, and those that share that too with it.
    Raises UserError if a picture is listed twice, unless `check` is False.
    """
    where_of = {}
    for entry in entries:
        path = os.path.normpath(entry.image_path)
        if check and path in where_of:
            what = "twice" if where_of[path] == entry.where else f"also in {where_of[path]}"
            raise UserError(f"{entry.where}: {path} is listed {what}; list each picture once")
        where_of[path] = entry.where
    root = root if os.path.isdir(root) else os.path.dirname(root)
    ids = _ids([entry.image_path for entry in entries], root)
    return [entry._replace(id=image_id) for entry, image_id in zip(entries, ids, strict=True)]


def _ids(paths, root):
    """The id of each picture, a list; as of `with_ids`."""
    ids = list(map(wording.stem, paths))
    shared = collections.Counter(ids)
    below = {at: os.path.relpath(paths[at], root) for at, stem in enumerate(ids) if shared[stem] > 1}
    short_of = {path: os.path.splitext(path)[0] for path in below.values()}
    alike = collections.Counter(short_of.values())
    for at, path in below.items():
        ids[at] = path if alike[short_of[path]] > 1 else short_of[path]
    return ids


def find_entries(data, splits, kind):
    """The Entry of each picture of some splits; opens no picture and no annotation.

    kind: folders.Kind of the annotations. Raises UserError if a split or picture is missing, or is listed twice.
    """
    layout, entries = folders.Layout(data, kind), []
    for name in map(str.strip, splits.split(",")):
        split = layout.split(name)
        if split is None:
            raise UserError(f"--data {data}: {no_split(name, layout.names)}")
        if not split.ids:
            raise UserError(f"{split.where}: the split is empty; choose another one or list pictures in it")
        if split.list_path is None and not split.pictures.path_of:
            raise UserError(
                f"--data {data}: annotations, but no pictures in {split.pictures.folder}{_unread_hint(split)}; give "
                "the folder that holds both"
            )
        _say_passed_over(split)
        for image_id in split.ids:
            if image_id not in split.pictures.path_of:
                suffix = "" if image_id.lower().endswith(images.SUFFIXES) else images.SUFFIXES[0]
                expected = os.path.join(split.pictures.folder, image_id + suffix)
                folders.require_picture(expected, split.where, "remove its line", index=split.pictures)
                raise UserError(
                    f"{split.where}: {expected}: is hidden or outside of {split.pictures.folder}; move it there, "
                    "under a name that does not begin with a dot, or remove its line"
                )
            path = split.pictures.path_of[image_id]
            entries.append(Entry("", path, split.where, split.annotation_path(image_id)))
    return with_ids(entries, data)


def _say_passed_over(split):
    """Say which pictures are left out, as a.png beside a.jpg: both have one id. A list says which is meant."""
    own = [path for path in split.pictures.passed_over if split.list_path is None and path.startswith(split.where)]
    if own:
        left_out = wording.plural(len(own), "picture")
        cli.warn_once(
            f"{left_out} left out, as another beside has the same name but for the suffix; the first is {own[0]}"
        )


def _unread_hint(split):
    """The end of a message about a folder without pictures, if it has some of kinds that are not read."""
    found = folders.Index(split.pictures.folder, images.UNREAD_SUFFIXES).path_of
    first = next(iter(found.values()), None)
    return f", only files like {os.path.basename(first)}{images.unread_suffix(first)}" if first else ""


def no_split(name, names):
    """The end of a message about a split that does not exist. names: the splits that do."""
    start = "".join(name.rpartition(":")[:2])  # a year is no typing error
    near = wording.nearest(name[len(start) :], [other[len(start) :] for other in names if other.startswith(start)])
    hint = f" (nearest: {start + near!r})" if near else ""
    return f"there is no split {name!r}{hint}; {_splits_hint(names)}"


def _splits_hint(names):
    if list(names) == [folders.ALL]:
        return (
            f"neither lists nor folders divide its pictures, so they are one split, {folders.ALL!r}; name that, which "
            "train.py --valid-share divides, or make folders train and val, or lists ImageSets/Main/train.txt and "
            "val.txt with one picture name per line"
        )
    names = sorted(names)
    if len(names) == 1 and not any(folders.synonym(other, names) for other in ("val", "test")):
        return f"the only split is {names[0]!r}, of which train.py --valid-share 0.2 takes a fifth for validation"
    return f"the splits are: {', '.join(names) or 'none'}"


def find_split_files(data, splits, paths_of, pattern):
    """[(file, split)] for a format that keeps each split in one file.

    data: a Path of one such file, or of a folder with one for each split.
    splits: names, separated by commas.
    paths_of: callable, folder -> {split: path}.
    pattern: the usual name of such a file, with {} for the split, for messages about a folder that has none.
    Raises UserError for a split that does not exist or is named twice.
    """
    names = [name.strip() for name in splits.split(",")]
    if data.is_file():
        if len(names) > 1:
            raise UserError(f"--data {data}: one file holds one split, not {splits}; give the folder")
        return [(data, names[0])]
    found, chosen = paths_of(data), []
    for name in names:
        known = folders.synonym(name, found)
        if known is None:
            missing = f"there is no {pattern.format(name)}, nor a file of another split; check --data and --source"
            raise UserError(f"--data {data}: {no_split(name, found) if found else missing}")
        if (found[known], known) in chosen:
            raise UserError(f"{found[known]}: the split {name} is named twice; name it once")
        chosen.append((found[known], known))
    return chosen


def count_names(entries, read):
    """Counter of the class names of all objects. read: as for `make_samples`; missing annotations have none."""
    counts = collections.Counter()
    for entry in entries:
        try:
            counts.update(one.name for one in read(entry).objects)
        except MissingAnnotation:
            continue
    return counts


def read_bytes(path):
    """The bytes of an annotation. Raises MissingAnnotation if there is no such file, UserError if it is unreadable."""
    try:
        return files.read_regular(path, LARGEST_FILE)
    except FileNotFoundError:
        raise MissingAnnotation(path) from None
    except OSError as error:
        raise UserError(f"{path}: cannot read the annotation: {wording.reason(error).lower()}") from None


def numbers(values: Any) -> list | None:
    """The values as floats if all are numbers up to LARGEST or texts of such, else None."""
    try:
        found = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if all(abs(value) <= LARGEST for value in found) else None
