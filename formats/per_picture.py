"""Formats with a file of annotations for each picture: all that they share.

Such a format says how its files look (`folders.Kind`) and how one is read; `PerPicture` makes of that the functions
that `sources.py` describes.
"""

import os

from formats import annotations, class_lists, folders
from structures import UserError


class PerPicture:
    """A format, as an entry of `sources.SOURCES`.

    DATA is a folder in which `folders.Layout` finds pictures and annotations; SPLITS are those that it names.
    """

    def __init__(self, name, kind, read, first_pixel=0):
        """name: for messages; kind: folders.Kind; read: callable, annotations.Entry -> annotations.Annotated.

        first_pixel: what the format calls the first row and column, 0 or 1.
        """
        self.name, self.first_pixel = name, first_pixel
        self._kind, self._read = kind, read

    def fits(self, data):
        """Whether a path looks like a data set in this format."""
        return os.path.isdir(data) and bool(self.split_names(data))

    def split_names(self, data):
        """The splits of a data set, sorted; without Pascal VOC's lists of single classes."""
        _require_folder(data)
        return folders.Layout(data, self._kind).names

    def read_splits(self, data, names=None):
        """The folders.Split of some splits, None for all. Raises UserError if one does not exist."""
        _require_folder(data)
        layout, found = folders.Layout(data, self._kind), []
        for name in layout.names if names is None else names:
            split = layout.split(name)
            if split is None:
                raise UserError(f"--data {data}: there is no split {name!r}; {annotations.splits_hint(layout.names)}")
            found.append(split)
        return found

    def class_names(self, data, splits):
        """The classes of the objects in some splits, a tuple in alphabetical order. Raises UserError if none."""
        names = sorted(annotations.count_names(self.find(data, splits), self._read))
        return class_lists.names_of_data(names, data, splits)

    def find(self, data, splits):
        """The annotations.Entry of each picture of some splits, in the order of `load`; opens no picture.

        Raises UserError if something is missing, empty or listed twice.
        """
        _require_folder(data)
        return annotations.find_entries(data, splits, self._kind)

    def load(self, data, splits, class_names, **options):
        """The samples of some splits; options: as for source_pascal_voc.load.

        Raises UserError that names file and entry, ImageError for a picture whose header cannot be read.
        """
        return annotations.make_samples(
            self.find(data, splits),
            self._read,
            class_names,
            first_pixel=self.first_pixel,
            format_name=self.name,
            **options,
        )


def _require_folder(data):
    if not os.path.isdir(data):
        raise UserError(f"--data {data}: no such folder")
