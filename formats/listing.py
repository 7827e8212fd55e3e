"""A data set as its files list it, with what is missing or listed twice: what check_dataset.py goes through.

`sources.survey` returns it for every format. `find` of a format stops at the first picture that is missing; this does
not.
"""

import os
import pathlib
from typing import Any, NamedTuple

from media import images
from structures import UserError
from system import folder_tree


class Listed(NamedTuple):
    """A picture as a split lists it.

    id: tells it from the others of its split's home.
    image_path: the picture, None if there is no such file.
    place: where it is or should be, for messages; it ends in .* if any suffix would do.
    annotation_path: the file with its annotation, and the entry if that holds several; for messages.
    entry: what the format's reader takes.
    owner: the file that annotates all of a split; "" if the picture has one of its own, which all splits share.
    """

    id: str
    image_path: str | None
    place: str
    annotation_path: str
    entry: Any
    owner: str = ""


class Split(NamedTuple):
    """A split as it is listed.

    name: as `sources.find` takes it.
    home: the folder with its pictures and annotations.
    where: its list, table or JSON file, or the folder of its pictures; for messages.
    list_path: the list that a copy of the split needs; None if it has none of its own.
    pictures: list of Listed, in order; they may repeat.
    unlisted: paths of pictures in its folders that it does not list.
    """

    name: str
    home: str
    where: str
    list_path: str | None
    pictures: list
    unlisted: tuple = ()

    @property
    def ids(self):
        """The ids of its pictures, as listed: they may repeat."""
        return tuple(one.id for one in self.pictures)

    @property
    def listed_of(self):
        """{key: Listed} of its pictures, in order, each once. A key tells a picture from all others of the data set."""
        found = {}
        for one in self.pictures:
            found.setdefault((self.home, one.id, one.owner), one)
        return found


def of_entries(name, data, entries, where, owner="", list_path=None):
    """The Split of a format that names its pictures. entries: with .image_path, .where and perhaps .annotation_path.

    owner: as in Listed, for a file that annotates the whole split.
    """
    root = data if os.path.isdir(data) else os.path.dirname(data)
    pictures = []
    for entry in entries:
        path = os.path.normpath(entry.image_path)
        exists = os.path.isfile(path)
        annotation = entry.where if owner else entry.annotation_path
        pictures.append(
            Listed(os.path.relpath(path, root), path if exists else None, path, annotation, entry, str(owner))
        )
    return Split(name, os.fspath(root), str(where), list_path, pictures, tuple(_others(pictures)))


def parts(data, paths_of):
    """The names of the folders in DATA that have a file for a split each; [] if some file is elsewhere.

    paths_of: callable, folder -> {split: path}, of a format that keeps each split in one file.
    """
    data = pathlib.Path(data)
    places = [] if data.is_file() else [path.parent for path in paths_of(data).values()]
    beside = all(place.parent == data and place.name != "annotations" for place in places)
    return [place.name for place in places] if beside else []


def of_split_files(data, names, find, find_files):
    """The Split of each of some splits, in a format that keeps each split in one file.

    find: of the format, with `check`; find_files: callable, (data, split) -> [(file, split)].
    """
    return [
        of_entries(name, data, find(data, name, check=False), path, owner=path)
        for name in names
        for path, _ in find_files(data, name)
    ]


def _others(pictures):
    """The pictures beside those that are listed."""
    listed = {os.path.abspath(one.place) for one in pictures}
    for folder in sorted({os.path.dirname(one.place) for one in pictures}):
        for name in folder_tree.visible(folder):
            path = os.path.join(folder, name)
            if name.lower().endswith(images.SUFFIXES) and os.path.abspath(path) not in listed:
                yield path


def check_names(splits, known, data):
    """'train,val' -> ['train', 'val']; all of `known` for None. Raises UserError for a split that is named twice."""
    if splits is None:
        if not known:
            raise UserError(
                f"--data {data}: it has no splits; write ImageSets/Main/train.txt, one picture name per line"
            )
        return list(known)
    names = [name.strip() for name in splits.split(",")]
    if repeated := [name for at, name in enumerate(names) if name in names[:at]]:
        raise UserError(f"--split {splits}: {repeated[0]} is listed twice; remove one")
    return names
