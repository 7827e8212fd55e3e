"""The data set that pictures are from, as far as results need it: ids, class numbers, sizes."""

import functools

import sources


class DataSet:
    """A split of a data set. Each part is read when it is first used, so a format reads only what it needs.

    path, splits, source: as `data`, `splits` and `source` of `sources`.
    loading: how `samples` loads them, keywords of sources.load.
    All raise UserError for what is missing or malformed.
    """

    def __init__(self, path, splits, source="auto", **loading):
        self.path, self.splits = path, splits
        self._source, self._loading, self._samples = source, loading, {}

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
    def ids(self):
        """The ids of its pictures, a set."""
        return {entry.id for entry in sources.find(self.path, self.splits, self.format)}

    @functools.cached_property
    def coco_ids(self):
        """The ids of a COCO data set: ({picture's id: image id}, {class name: category id})."""
        return sources.SOURCES["coco"].result_ids(self.path, self.splits)

    def samples(self, class_names):
        """Dict id -> Sample, with labels that index class_names."""
        names = tuple(class_names)
        if names not in self._samples:
            loaded = sources.load(self.path, self.splits, names, source=self._source, **self._loading)
            self._samples[names] = {sample.id: sample for sample in loaded}
        return self._samples[names]
