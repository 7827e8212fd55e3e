"""The data set that pictures are from, as far as results need it: ids, class numbers, sizes."""

import functools
import os

import config
import sources
from formats import division
from structures import UserError
from system import flag_rules
from system.wording import plural

VALID_OF = {  # for add_argument of --valid-of
    "metavar": "RUN",
    "help": "use only the pictures of --split that train.py --valid-share keeps for validation in this run",
}
OTHER_CLASSES = {  # for add_argument of --other-classes
    "choices": ("error", "ignore"),
    "default": "error",
    "help": "annotated objects of other classes: error stops, ignore leaves them out (default: error)",
}
MISSING_ANNOTATIONS = {  # for add_argument of --missing-annotations
    "choices": sources.MISSING_ANNOTATIONS,
    "default": "error",
    "help": "pictures without an annotation file: error stops, background takes them as pictures without objects "
    "(default: error)",
}


def check_flags(flags, choosing, reading):
    """Raise UserError if flags that need a data set are given without --data and --split, or one of these alone.

    flags: as parsed. choosing, reading: names of flags that choose its pictures and that say how they are read.
    """
    if bool(flags.data) != bool(flags.split):
        raise UserError("--data and --split: give both or neither")
    if not flags.data:
        flag_rules.refuse_given(flags, choosing, "chooses pictures of a data set; give --data and --split too")
        flag_rules.refuse_given(flags, reading, "says how to read a data set; give --data and --split too")


class DataSet:
    """A split of a data set. Each part is read when it is first used, so a format reads only what it needs.

    path, splits, source: as `data`, `splits` and `source` of `sources`.
    valid_of: a run, of whose --valid-share the pictures for validation are meant and no others; None for all.
    loading: how `samples` loads them, keywords of sources.load.
    All raise UserError for what is missing or malformed.
    """

    def __init__(self, path, splits, source="auto", valid_of=None, **loading):
        self.path, self.splits = path, splits
        self._source, self._loading, self._samples = source, loading, {}
        self._valid = None if valid_of is None else _valid_pictures(valid_of)

    @functools.cached_property
    def format(self):
        """The name in sources.SOURCES of its format."""
        return sources.choose(self.path, self._source)

    @functools.cached_property
    def class_names(self):
        """The classes that it names."""
        return sources.class_names(self.path, self.splits, self.format)

    @functools.cached_property
    def numbered_names(self):
        """The classes by class number of a YOLO data set, also those that are no class of a detector (background)."""
        return sources.numbered_names(self.path, self.splits, self.format)

    @functools.cached_property
    def entries(self):
        """What sources.find finds of its pictures, a list."""
        return self._chosen(sources.find(self.path, self.splits, self.format))

    @functools.cached_property
    def exif(self):
        """Whether EXIF orientation is applied to each of `entries`, a list: as for training, also where unknown.

        Says which pictures were resized after annotation.
        """
        sizes = sources.drawn_sizes(self.path, self.splits, self.entries, self.format)
        return [size is None or size.exif for size in sizes]

    def _chosen(self, pictures):
        """Those of some entries or samples that `valid_of` leaves."""
        if self._valid is None:
            return pictures
        chosen = [one for one in pictures if division.picture_name(one.image_path, self.path) in self._valid]
        if len(chosen) < len(self._valid):
            raise UserError(
                f"--valid-of: --split {self.splits} of {self.path} has only {len(chosen)} of the run's "
                f"{plural(len(self._valid), 'picture')} for validation; give the --data and --train of the run"
            )
        return chosen

    @functools.cached_property
    def ids(self):
        """The ids of its pictures, a set."""
        return {entry.id for entry in self.entries}

    @functools.cached_property
    def coco_ids(self):
        """The ids of a COCO data set: ({picture's id: image id}, {class name: category id})."""
        return sources.SOURCES["coco"].result_ids(self.path, self.splits)

    def samples(self, class_names):
        """Dict id -> Sample, with labels that index class_names."""
        names = tuple(class_names)
        if names not in self._samples:
            loaded = sources.load(self.path, self.splits, names, source=self._source, **self._loading)
            self._samples[names] = {sample.id: sample for sample in self._chosen(loaded)}
        return self._samples[names]


def spread(items, most):
    """At most so many of some items, at equal distances; all of them for None. items: a list that is not empty."""
    return items[:: -(-len(items) // most)] if most else items


def scored_samples(data_set, split, class_names, limit=None):
    """Dict id -> Sample of a DataSet's pictures, or of `limit` of them, spread over it; to give figures of mAP.

    split: as the user gave it. Raises UserError if they have no object that counts.
    """
    samples = dict(spread(list(data_set.samples(class_names).items()), limit))
    if all(sample.difficult.all() for sample in samples.values()):
        raise UserError(f"--split {split}: has no objects of the model's classes; give another, or raise --limit")
    return samples


def _valid_pictures(run):
    """The names of the pictures that the --valid-share of a run keeps for validation, a set."""
    found = division.read(os.path.join(run, config.DIVISION))
    if found is None:
        raise UserError(f"--valid-of {run}: not a run that was trained with --valid-share")
    return set(found.valid)
