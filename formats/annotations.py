"""What all formats share: objects and picture sizes as annotated -> Samples, ids, and where files may be."""

import os
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from structures import Sample, UserError
from system import cli, wording


class Written(NamedTuple):
    """One object as annotated.

    name: its class.
    edges_px: (xmin, ymin, xmax, ymax), continuous edges in pixels, not yet clipped.
    where: file and entry, for messages.
    difficult, crowd, area: as in Sample.
    """

    name: str
    edges_px: tuple
    where: str
    difficult: bool = False
    crowd: bool = False
    area: float | None = None


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

    header: (width, height, orientation) as stored, from `images.header`. The size comes from the file, because
    annotations often state a wrong one. EXIF orientation is applied if the stated size is the rotated one. Where
    rotation does not change the size (orientations 2 to 4, squares), it is applied too, as labeling tools and detection
    do.
    """
    turned = size_as_shown(header)
    return turned if tuple(stated) == turned[:2] else Size(*header[:2], False)


def size_as_shown(header):
    """The Size of a picture with EXIF applied, as viewers and labeling tools show it; for formats without sizes."""
    width, height, orientation = header
    return Size(height, width, True) if orientation >= 5 else Size(width, height, orientation != 1)


def make_samples(entries, read, class_names, *, other_classes, difficult, progress):
    """The Sample of each entry of a data set, in order.

    entries: objects with .id and .image_path.
    read: callable, entry -> (Size, list of Written).
    class_names, other_classes, difficult, progress: as in source_pascal_voc.load.
    Boxes are clipped to the picture; those without area inside it are dropped, with one warning for all.
    Raises UserError for a class that is not in class_names unless other_classes is 'ignore'.
    """
    maker = _SampleMaker(class_names, other_classes, difficult)
    with tqdm(entries, "annotations", unit="", leave=False, disable=not progress) as bar:  # cleared before an error
        samples = [maker.make(entry, *read(entry)) for entry in bar]
    maker.warn_of_dropped()
    return samples


class _SampleMaker:
    """Makes the samples of one data set and counts the boxes that it drops."""

    def __init__(self, class_names, other_classes, difficult):
        self._label_of = {name: label for label, name in enumerate(class_names)}
        self._ignore_others, self._ignore_difficult = other_classes == "ignore", difficult == "ignore"
        self._dropped, self._pictures, self._first = 0, 0, None

    def make(self, entry, size, objects):
        """The Sample of an entry, from a Size and a list of Written."""
        objects = [one for one in objects if self._is_known(one) and not (one.difficult and self._ignore_difficult)]
        edges = np.array([one.edges_px for one in objects], np.float64).reshape(-1, 4)
        boxes = (edges / (size.width, size.height, size.width, size.height)).clip(0, 1).astype(np.float32)
        keep = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        if not keep.all():
            self._dropped += int((~keep).sum())
            self._pictures += 1
            self._first = self._first or objects[int(np.argmin(keep))].where
        crowd = np.array([one.crowd for one in objects], bool)[keep]
        areas = [one.area for one in objects]
        return Sample(
            id=entry.id,
            image_path=entry.image_path,
            boxes=boxes[keep],
            labels=np.array([self._label_of[one.name] for one in objects], np.int32)[keep],
            difficult=np.array([one.difficult for one in objects], bool)[keep],
            width=size.width,
            height=size.height,
            exif=size.exif,
            crowd=crowd if crowd.any() else None,
            area=np.array(areas, np.float64)[keep] if areas and None not in areas else None,
        )

    def _is_known(self, one):
        if one.name in self._label_of:
            return True
        if self._ignore_others:
            return False
        hint = wording.nearest_hint(one.name, self._label_of)
        raise UserError(
            f"{one.where}: class {one.name!r} is not in the class list{hint}; drop its objects with --other-classes "
            "ignore, or list all classes with --classes"
        )

    def warn_of_dropped(self):
        """Print one warning if boxes were dropped; it names the first."""
        if self._dropped:
            cli.warn(
                f"dropped {self._dropped} boxes that are empty, inverted or outside the picture, in "
                f"{self._pictures} pictures; the first is {self._first}"
            )


class Ids:
    """The ids of the pictures of a data set: file stems, all different, since results are matched by them."""

    def __init__(self):
        self._path_of = {}

    def add(self, image_path, where):
        """The id of a picture. where: the file and entry that name it, for messages.

        Raises UserError if an earlier picture has the same id.
        """
        image_id = wording.stem(image_path)
        if image_id in self._path_of:
            other = self._path_of[image_id]
            what = "is listed twice" if other == image_path else f"has the same name as {other}"
            raise UserError(f"{where}: {image_path} {what}; names without folder and suffix must all be different")
        self._path_of[image_id] = image_path
        return image_id


def find_split_files(data, splits, paths_of, pattern):
    """[(file, split)] for a format that keeps each split in one file.

    data: a Path of one such file, or of a folder with one for each split.
    splits: names, separated by commas.
    paths_of: callable, folder -> {split: path}.
    pattern: the usual name of such a file, with {} for the split, for messages.
    Raises UserError for a split that does not exist or is named twice.
    """
    names = [name.strip() for name in splits.split(",")]
    if data.is_file():
        if len(names) > 1:
            raise UserError(f"--data {data}: one file holds one split, not {splits}; give the folder")
        return [(data, names[0])]
    found = paths_of(data)
    for at, name in enumerate(names):
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            raise UserError(f"--data {data}: there is no {pattern.format(name)}; the splits are: {known}")
        if name in names[:at]:
            raise UserError(f"{found[name]}: the split {name} is named twice; name it once")
    return [(found[name], name) for name in names]


def require_picture(image_path, where):
    """Raise UserError if a picture that `where` (file and entry) names does not exist."""
    if not os.path.isfile(image_path):
        raise UserError(f"{where}: {image_path}: no such picture; add the file or remove the entry")


def find_folder(folders, names):
    """The first of `folders` that holds the first of `names`, relative paths; folders[0] if none does."""
    name = next(iter(names), None)
    if name is None:
        return folders[0]
    return next((folder for folder in folders if os.path.isfile(os.path.join(folder, name))), folders[0])
