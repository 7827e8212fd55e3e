"""Formats with a file of annotations for each picture: all that they share.

Such a format says how its files look (`folders.Kind`) and how one is read; `PerPicture` makes of that the functions
that `sources.py` describes.
"""

import os

from formats import annotations, class_lists, fixed_copy, folders, listing
from structures import UserError
from system import folder_tree


class PerPicture:
    """A format, as an entry of `sources.SOURCES`.

    DATA is a folder in which `folders.Layout` finds pictures and annotations; SPLITS are those that it names.
    """

    def __init__(self, name, kind, read, edited, first_pixel=0):
        """name: for messages; kind: folders.Kind; read: callable, annotations.Entry -> annotations.Annotated.

        edited: as for fixed_copy.write_files. first_pixel: what the format calls the first row and column, 0 or 1.
        """
        self.format_name, self.first_pixel = name, first_pixel
        self._kind, self._read, self._edited = kind, read, edited

    def fits(self, data):
        """Whether a path looks like a data set in this format."""
        return os.path.isdir(data) and folders.Layout(data, self._kind).exists

    def split_names(self, data):
        """The splits of a data set, sorted; without Pascal VOC's lists of single classes."""
        _require_folder(data)
        return folders.Layout(data, self._kind).names

    def parts(self, data):
        """The names of the folders that hold the splits of a data set; [] if it does itself."""
        return folders.Layout(data, self._kind).parts

    def whole(self, data):
        """The folder of a data set of which a folder has only the annotations; None for any other."""
        return whole(data, self._kind)

    def survey(self, data, names):
        """The listing.Split of each of some splits."""
        _require_folder(data)
        return survey(data, names, self._kind)

    def reader(self, data):
        """Callable, annotations.Entry -> annotations.Annotated."""
        return self._read

    def write_fixed(self, copy):
        """Write the annotations and lists of a fixed_copy.FixedCopy."""
        fixed_copy.write_files(copy, self._edited)
        fixed_copy.write_lists(copy)

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
            format_name=self.format_name,
            **options,
        )


def whole(data, kind):
    """The folder of a data set of which a folder has only the annotations; None for any other. kind: folders.Kind."""
    if folders.holds_pictures(data) or _has_folder_of_annotations(data):
        return None
    homes = (home for home in folders.above(data) if folders.Layout(home, kind).exists)
    return next((home for home in homes if folders.holds_pictures(home)), None)


def _has_folder_of_annotations(data):
    """Whether a folder has one of annotations and is not called like one: only its pictures are missing."""
    if os.path.basename(os.path.abspath(data)).lower() in folders.ANNOTATIONS:
        return False
    return any(name.lower() in folders.ANNOTATIONS for name in folder_tree.visible_folders(data))


def survey(data, names, kind):
    """The listing.Split of each of some splits. kind: folders.Kind of the annotations."""
    layout, listed = folders.Layout(data, kind), {}  # ids that a split lists, of each home
    splits = []
    for name in names:
        split = layout.split(name)
        if split is None:
            raise UserError(f"--data {data}: {annotations.no_split(name, layout.names)}")
        splits.append(split)
        listed.setdefault(split.home, set()).update(split.ids)
    found = []
    for split in splits:
        # Of several splits of one home, the first has its unlisted pictures
        ids = listed.pop(split.home, split.pictures.path_of)
        first = ids is not split.pictures.path_of
        others = sorted((key, path) for key, path in split.pictures.path_of.items() if key not in ids)
        others += ((path, path) for path in split.pictures.passed_over if first)
        pictures = [_listed(split, image_id) for image_id in split.ids]
        found.append(
            listing.Split(
                split.name, split.home, split.where, split.list_path, pictures, tuple(path for _, path in others)
            )
        )
    return found


def _listed(split, image_id):
    """The listing.Listed of an id of a folders.Split."""
    image_path = split.pictures.path_of.get(image_id)
    place = image_path or os.path.join(split.pictures.folder, image_id + ".*")
    annotation_path = split.annotation_path(image_id)
    entry = annotations.Entry(image_id, image_path, split.where, annotation_path)
    return listing.Listed(image_id, image_path, place, annotation_path, entry)


def _require_folder(data):
    if not os.path.isdir(data):
        raise UserError(f"--data {data}: no such folder")
