"""A corrected copy of a data set in its own format: what check_dataset.py --fix asks a format to write.

The pictures are copied by check_dataset.py itself. The format writes annotations, lists and descriptions in the same
folders, changes what an Edit says, and keeps everything else as it is.
"""

import dataclasses
import os
import shutil
from typing import NamedTuple

from formats import listing
from system import files

KEEP = "keep"


class Edit(NamedTuple):
    """What changes in the annotation of one picture.

    boxes: for each object that the format's reader gives, in order: KEEP, new edges (xmin, ymin, xmax, ymax) in
        pixels, or None to drop it.
    size: (width, height) of the picture.
    scale: (x, y) factors if the picture was resized after annotation: then the stated size and all that is drawn on it
        change too. Otherwise None.
    """

    boxes: list
    size: tuple
    scale: tuple | None = None


class Kept(NamedTuple):
    """A picture that stays in a split.

    listed: as it was found.
    edit: what changes in its annotation, None for nothing.
    suffix: that its file gets in the copy, with the dot; its own if that can be written.
    """

    listed: listing.Listed
    edit: Edit | None
    suffix: str

    @property
    def image_path(self):
        """The picture's path in the original, with the suffix of the copy."""
        return os.path.splitext(self.listed.image_path)[0] + self.suffix


class KeptSplit(NamedTuple):
    """A split of the copy. listed: as it was found; pictures: the Kept that stay, in order."""

    listed: listing.Split
    pictures: list


@dataclasses.dataclass(frozen=True)
class FixedCopy:
    """A copy to write.

    data: the original, as --data gives it.
    root: the folder of the original that has all of its files.
    target: the folder of the copy, which takes the place of `root`.
    splits: list of KeptSplit.
    """

    data: str
    root: str
    target: str
    splits: list

    def place(self, path):
        """Where a file or folder of the original belongs in the copy."""
        return os.path.join(self.target, os.path.relpath(path, self.root))

    def write(self, path, content):
        """Write a file in the place of one of the original. content: text or bytes."""
        files.write(self.place(path), content, durable=False)

    def keep(self, path):
        """Copy a file of the original as it is."""
        os.makedirs(os.path.dirname(self.place(path)), exist_ok=True)
        shutil.copyfile(path, self.place(path))

    def each(self):
        """The Kept of each picture, once."""
        seen = {}
        for split in self.splits:
            for one in split.pictures:
                seen.setdefault(one.listed.annotation_path, one)
        return list(seen.values())


def write_files(copy, edited):
    """Write the annotations of a format that has a file of them for each picture.

    edited: callable, (content as bytes, path of the file, Edit) -> the new content.
    """
    for one in copy.each():
        path = one.listed.annotation_path
        if not os.path.exists(path):  # background
            continue
        if one.edit is None:
            copy.keep(path)
        else:
            copy.write(path, edited(files.read_regular(path), path, one.edit))


def write_lists(copy):
    """Write the lists of splits that have one, an id a line."""
    for split in copy.splits:
        if split.listed.list_path is not None:
            copy.write(split.listed.list_path, "".join(f"{one.listed.id}\n" for one in split.pictures))
