"""What the sources of samples share: names and class lists, sizes, and objects as written -> a Sample."""

import os
from typing import NamedTuple

import numpy as np

from structures import Sample, UserError
from system import cli, wording


class Written(NamedTuple):
    """One object as it is written.

    edges_px: (xmin, ymin, xmax, ymax), continuous edges in pixels, not yet clipped; where: file and entry, for
    messages; difficult, crowd, area: as in Sample.
    """

    name: str
    edges_px: tuple
    where: str
    difficult: bool = False
    crowd: bool = False
    area: float | None = None


class Size(NamedTuple):
    """Pixels of a picture as it is decoded, and whether EXIF orientation is applied to it."""

    width: int
    height: int
    exif: bool


def size_as_stated(header, stated):
    """Size of a picture whose annotation states (width, height), or (None, None).

    header: (width, height, orientation) as stored, of `images.header`. Annotations carry wrong sizes, so the file
    decides. The picture is turned by EXIF only if the stated size is the turned one's. Where turning leaves the size as
    it is (orientations 2..4, squares) that cannot tell, and it is turned: tools show it so, and so does detection.
    """
    turned = size_as_shown(header)
    return turned if tuple(stated) == turned[:2] else Size(*header[:2], False)


def size_as_shown(header):
    """Size of a picture, turned by EXIF as viewers and labelling tools show it; for formats that state no size."""
    width, height, orientation = header
    return Size(height, width, True) if orientation >= 5 else Size(width, height, orientation != 1)


class SampleMaker:
    """Makes samples of one data set, and keeps count of the boxes that have no area inside their picture.

    class_names: the list that labels index; other_classes: 'error', or 'ignore' to drop objects of other classes;
    difficult: 'use', or 'ignore' to drop difficult objects.
    """

    def __init__(self, class_names, other_classes, difficult):
        self._label_of = {name: label for label, name in enumerate(class_names)}
        self._ignore_others, self._ignore_difficult = other_classes == "ignore", difficult == "ignore"
        self._dropped, self._pictures, self._first = 0, 0, None

    def make(self, image_id, image_path, size, objects):
        """A Sample from a Size and the Written objects. Raises UserError for a class that is not in the list."""
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
            id=image_id,
            image_path=image_path,
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
            "ignore, or name all classes with --classes"
        )

    def warn_of_dropped(self):
        """One line on stderr if boxes were dropped, which names the first."""
        if self._dropped:
            cli.warn(
                f"dropped {self._dropped} boxes that are empty, inverted or outside the picture, of "
                f"{self._pictures} pictures, the first is {self._first}"
            )


class Ids:
    """The ids of a data set's pictures, of which no two may be equal: pictures and results are matched by them."""

    def __init__(self):
        self._path_of = {}

    def add(self, image_path, where):
        """The id of a picture that `where` (file and entry) names. Raises UserError if there is one of that id."""
        image_id = wording.stem(image_path)
        if image_id in self._path_of:
            other = self._path_of[image_id]
            what = "is listed twice" if other == image_path else f"has the name of {other}"
            raise UserError(f"{where}: {image_path} {what}; pictures are told apart by name, without folder and suffix")
        self._path_of[image_id] = image_path
        return image_id


def find_split_files(data, splits, paths_of, pattern):
    """[(file, split)] of DATA, one such file or a folder with one for each split, and SPLITS, names with commas.

    data: a Path; paths_of: callable, folder -> {split: path}; pattern: what such a file is called, with {} for the
    split. Raises UserError for a split that is not there or named twice.
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
            raise UserError(f"--data {data}: it has no {pattern.format(name)}; there are the splits {known}")
        if name in names[:at]:
            raise UserError(f"{found[name]}: the split {name} is asked for twice; name it once")
    return [(found[name], name) for name in names]


def find_folder(folders, names):
    """The first of `folders` that holds the first of `names`, relative paths; folders[0] if none does."""
    name = next(iter(names), None)
    if name is None:
        return folders[0]
    return next((folder for folder in folders if os.path.isfile(os.path.join(folder, name))), folders[0])


def check_class_names(names, where):
    """Class names, a tuple. Raises UserError for none, an empty or repeated one, one with a slash, 'background'."""
    if not names:
        raise UserError(f"{where}: there are no class names; give names,separated,by,commas or one a line")
    if "" in names:
        raise UserError(f"{where}: a name is empty; remove it or the comma beside it")
    for at, name in enumerate(names):
        if name in names[:at]:
            raise UserError(f"{where}: {name!r} stands there twice; remove one")
        if name.lower() == "background":
            raise UserError(f"{where}: leave out {name!r}; the network adds it by itself")
        if "/" in name or "\\" in name:  # result files are named after classes
            raise UserError(f"{where}: {name!r} holds a slash; rename that class")
    return tuple(names)
