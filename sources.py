"""Data sets in every supported format -> lists of samples; the format is detected, or named by --source.

A format is a module, or an object such as per_picture.PerPicture, with
    fits(data)                  whether a path looks like a data set in this format; reads very little
    split_names(data)           the splits that it has, a list
    class_names(data, splits)   the classes that the data set names, a tuple
    find(data, splits)          a list of NamedTuples with .id, .image_path and .where of each picture; opens no picture
    load(data, splits, class_names, **options)    a list of Sample, in the same order; options: as in `load` below
    survey(data, names)         the listing.Split of each split, with what is missing or listed twice
    reader(data)                callable, what `find` or `survey` found -> annotations.Annotated; can be pickled
    format_name                 for messages
    first_pixel                 what it calls the first row and column of pixels, 0 or 1
    write_fixed(copy)           writes a fixed_copy.FixedCopy: the annotations and lists of a corrected copy
and, if it has them,
    fits_below(data)            the same as `fits`, in a folder below, where no format fits
    parts(data)                 the names of the folders in DATA that hold its splits; [] if DATA does itself
    whole(data)                 the folder of a data set of which a folder has only the annotations; None for others
and an entry in SOURCES. Its docstring says what DATA and SPLITS mean. `annotations.make_samples` does what all formats
share, and gives `load` its options.

A format of the user's own needs no entry: --source NAME loads source_NAME.py from the current folder, a module with
`split_names`, `class_names`, `find` and `load`. It is program code, which runs; so it is loaded only if it is named,
and from nowhere else. docs/formats.md has an example.
"""

import argparse
import collections
import dataclasses
import functools
import importlib.util
import itertools
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import source_pascal_voc
from formats import annotations, bdd100k, coco, csv_table, fixed_copy, folders, foreign, kitti, labelme, listing, yolo
from settings import training_settings
from structures import Sample, UserError
from system import folder_tree, wording

SOURCES: dict[str, Any] = {
    "voc": source_pascal_voc.FORMAT,
    "coco": coco,
    "yolo": yolo,
    "csv": csv_table,
    "bdd100k": bdd100k,
    "kitti": kitti.FORMAT,
    "labelme": labelme.FORMAT,
}
CHOICES = ("auto", *SOURCES)
SOURCE_HELP = (
    f"format of --data: {', '.join(SOURCES)}, or NAME of your own source_NAME.py in the current folder "
    "(default: auto, detected)"
)
FUNCTIONS = ("split_names", "class_names", "find", "load")  # that a format of the user's own needs
MISSING_ANNOTATIONS = training_settings.CHOICES["missing_annotations"]
VALIDATION = ("val", "valid", "validation", "dev")  # parts of names
MOST_FILES = 2000  # that a message about a folder counts
MOST_FOLDERS = 5  # that a message names
LEVELS, MOST_SEARCHED = 2, 10  # of folders in folders in which a data set is looked for, for a message; folders of each
RESULTS = "detections.json"  # of infer.py; tables beside it are no data set, other formats may be one


WITHIN_HELP = "refuse a data set that names pictures or annotations outside of --data, as one from a stranger may"


def source_name(text: str) -> str:
    """An argument type: one of CHOICES, or NAME of a file source_NAME.py in the current folder."""
    if text not in CHOICES and not (re.fullmatch(r"\w+", text) and os.path.isfile(_own_path(text))):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither {', '.join(CHOICES)} nor the name of a file {_own_path(text)} in this folder"
        )
    return text


def _own_path(name):
    return f"source_{name}.py"


@functools.cache
def _module(name):
    """The module of a format. Raises UserError if it is one of the user's own that is missing or incomplete."""
    if name in SOURCES:
        return SOURCES[name]
    path = _own_path(name)
    if not os.path.isfile(path):
        raise UserError(f"--source {name}: there is no {path} in this folder; start the program in the folder with it")
    spec = importlib.util.spec_from_file_location(f"source_{name}", os.path.abspath(path))
    assert spec and spec.loader  # it is a .py file
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path}: cannot be loaded: {type(error).__name__}: {wording.reason(error)}") from error
    if missing := [function for function in FUNCTIONS if not hasattr(module, function)]:
        raise UserError(f"{path}: has no function {missing[0]!r}; a format needs {', '.join(FUNCTIONS)}")
    return module


def choose(data: str | os.PathLike, source: str = "auto") -> str:
    """The format of a data set, a key of SOURCES or the user's own: `source`, or the one that fits if that is 'auto'.

    Raises UserError if there is no such path, or not exactly one format fits.
    """
    if not os.path.exists(data):
        raise UserError(f"--data {data}: no such file or folder")
    if source != "auto":
        return source
    found = _fitting(data)
    if not found:
        raise UserError(f"--data {data}: no data set found in it: {_contents(data)}")
    if several := _several(data, found):
        raise UserError(
            f"--data {data}: it holds several data sets: {_list(data, several)}; give one of them (--source takes all "
            "of one format together)"
        )
    if len(found) > 1:
        raise UserError(f"--data {data}: it may be {' or '.join(found)}; choose one with --source")
    if home := _whole(data, found[0]):
        raise UserError(f"--data {data}: not a data set by itself: {_mean(home, found[0])}")
    return found[0]


def fitting(data: str | os.PathLike) -> list[str]:
    """The names in SOURCES of the formats in which a path holds a data set."""
    return [name for name, module in SOURCES.items() if module.fits(data)]


def _fitting(data):
    """`fitting`, or the formats whose files are in a folder of a path that fits none."""
    below = (name for name, module in SOURCES.items() if hasattr(module, "fits_below") and module.fits_below(data))
    return fitting(data) or list(below)


def _several(data, found):
    """{folder in DATA: its formats} if folders of different formats lie there; {} if it is one data set, or may be.

    found: the formats that DATA fits. Folders of one format are those of its splits or years.
    """
    if not any(map(_may_be_apart, folder_tree.visible_folders(data))):
        return {}  # before `parts`, which looks into all folders again
    parts = [SOURCES[name].parts(data) if hasattr(SOURCES[name], "parts") else [] for name in found]
    if not all(parts) or not any(map(_may_be_apart, itertools.chain(*parts))):
        return {}
    below = _fitting_below(data)
    return below if below and not set.intersection(*map(set, below.values())) else {}


def _may_be_apart(name):
    """Whether a folder of that name may be a data set by itself, and not a split or year of one."""
    return not (folders.is_split_name(name) or folders.YEAR.fullmatch(name))


def _fitting_below(data):
    """{folder in DATA that is a data set: the formats that fit}, without the tables that infer.py wrote."""
    return _fitting_of(data, folder_tree.visible_folders(data))


def _fitting_of(data, names):
    """The same of some folders below DATA, by their paths there."""
    found = {}
    for name in names:
        path = os.path.join(data, name)
        has_results = os.path.isfile(os.path.join(path, RESULTS))
        if formats := [one for one in _fitting(path) if not (has_results and one == "csv")]:
            found[name] = formats
    return found


def _nearest_below(data):
    """The same of the highest level of folders that has data sets: an archive may hold its own name twice."""
    level, found = folder_tree.visible_folders(data), _fitting_below(data)
    for _ in range(LEVELS):
        if found:
            break
        level = [
            os.path.join(one, name) for one in level for name in folder_tree.visible_folders(os.path.join(data, one))
        ]
        if len(level) > MOST_SEARCHED:  # each is read whole where it is no data set
            break
        found = _fitting_of(data, level)
    return found


def _list(data, formats_of):
    """'mine/a (voc), mine/b (coco)' of {folder in DATA: its formats}."""
    shown = [f"{os.path.join(data, name)} ({' or '.join(formats)})" for name, formats in formats_of.items()]
    more = f" and {len(shown) - MOST_FOLDERS} more" if len(shown) > MOST_FOLDERS else ""
    return ", ".join(shown[:MOST_FOLDERS]) + more


def _contents(data):
    """What a path without a data set holds, and what to do, for a message."""
    known = os.path.isfile(data) and foreign.explained(data)
    if found := known or _around(os.path.abspath(data)):
        return found
    if os.path.isfile(data):
        return f"it is a file; give a folder, or a file of the formats {', '.join(SOURCES)} (docs/formats.md)"
    below = folder_tree.visible_folders(data)
    if found := _nearest_below(data):
        listed = _list(data, found)
        return f"do you mean {listed}?" if len(found) == 1 else f"it holds several: {listed}; give one of them"
    suffixes: collections.Counter = collections.Counter()
    for _, names in folder_tree.walk(data):
        suffixes.update(os.path.splitext(name)[1].lower() or "no suffix" for name in names)
        if suffixes.total() > MOST_FILES:
            break
    if not suffixes:
        return "it holds no files"
    counted = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(5))
    inside = f"the folders {', '.join(below[:5])} and " if below else ""
    missing = f"no annotations where the formats {', '.join(SOURCES)} keep them"
    why = foreign.explained_folder(data) or missing
    return f"it holds {inside}{counted}, but {why}; docs/formats.md shows each layout"


def _around(path):
    """'do you mean …?' if a path is a part of a data set: its folder of pictures, annotations or lists, or a file."""
    folder = os.path.dirname(path) if os.path.isfile(path) else path
    for home in (*([folder] if folder != path else []), *folders.above(folder)):
        if home != os.path.dirname(home) and (found := _fitting(home)):
            return _mean(_whole(home, found[0]) or home, found[0])
    return ""


def _whole(data, name):
    """The folder of a data set of which a folder has only the annotations; None for any other. name: of the format."""
    module = SOURCES[name]
    return module.whole(data) if hasattr(module, "whole") else None


def _mean(home, name):
    """The end of a message about a part of a data set. home: a folder that holds it; name: its format."""
    if name == "yolo":
        home = yolo.named_above(home) or home
    return f"it is only a part of one; do you mean {home} ({name})?"


def split_names(data: str | os.PathLike, source: str = "auto") -> list[str]:
    """The splits of a data set, as the other functions take them."""
    return _module(choose(data, source)).split_names(data)


def usual_training(data: str | os.PathLike, source: str = "auto") -> str | None:
    """The splits to train on if none are named: VOC2007's and VOC2012's trainval, 'train', or the only split.

    None if the data set has other splits, or only one that is for validation or a test.
    """
    usual = source_pascal_voc.usual_training(data)
    if usual:
        return usual
    names = split_names(data, source)
    if len(names) == 1 and not any(folders.synonym(other, names) for other in ("val", "test")):
        return names[0]
    return folders.synonym("train", names)


def usual_validation(data: str | os.PathLike, train: str, source: str = "auto") -> str | None:
    """The splits to validate on beside those of --train: 'val' or 'valid' for 'train', '2007:val' for '2007:train'.

    None if the data set has none, or trains on them: a `trainval` holds them.
    """
    names, chosen = split_names(data, source), [split.strip() for split in train.split(",")]
    if any("trainval" in split.lower() for split in chosen):
        return None
    found = []
    for split in chosen:
        swapped = [re.sub(r"(?<![a-z])train(ing)?(?![a-z])", word, split, flags=re.IGNORECASE) for word in VALIDATION]
        known = (folders.synonym(name, names) for name in [*(name for name in swapped if name != split), "val"])
        found += [next((name for name in known if name and name not in chosen), None)]
    return ",".join(dict.fromkeys(filter(None, found))) or None


def class_names(data: str | os.PathLike, splits: str, source: str = "auto") -> tuple[str, ...]:
    """The classes that a data set names: in its list of classes, or else in the annotations of some splits."""
    return _module(choose(data, source)).class_names(data, splits)


def find(data: str | os.PathLike, splits: str, source: str = "auto") -> list[Any]:
    """A list with .id, .image_path and .where of each picture of some splits, in the order of `load`."""
    return _module(choose(data, source)).find(data, splits)


def load(
    data: str | os.PathLike,
    splits: str,
    class_names: Sequence[str],
    *,
    source: str = "auto",
    other_classes: str = "error",
    difficult: str = "use",
    missing_annotations: str = "error",
    progress: bool = False,
) -> list[Sample]:
    """The samples of some splits. The options are those of source_pascal_voc.load.

    Raises UserError that names file and entry for anything missing or malformed, ImageError for a picture whose
    header cannot be read.
    """
    return _module(choose(data, source)).load(
        data,
        splits,
        class_names,
        other_classes=other_classes,
        difficult=difficult,
        missing_annotations=missing_annotations,
        progress=progress,
    )


def check_within(data: str | os.PathLike, splits: str, source: str = "auto") -> None:
    """Raise UserError if some splits name a picture, list or file of annotations outside of a data set's folder.

    A link is what it leads to. The folder of a file is the one it lies in, or above `annotations`. Opens no picture;
    one that is missing is no matter of this function.
    """
    root = os.path.realpath(data if os.path.isdir(data) else os.path.dirname(os.path.abspath(data)))
    if not os.path.isdir(data) and os.path.basename(root) in folders.ANNOTATIONS:
        root = os.path.dirname(root)
    for split in survey(data, splits, source):
        own = split.where if split.where != split.name else None  # as of a format of the user's own, in words
        named = (str(one.entry.where).rpartition(", line ")[0] for one in split.pictures)  # of lists of YOLO's
        for path in dict.fromkeys((own, split.list_path, *named)):
            if path and os.path.exists(path) and os.path.commonpath([root, os.path.realpath(path)]) != root:
                raise UserError(f"{path}: leads out of {root}, which --within-data refuses")
        for one in split.pictures:
            # `place` is the path without a/.., which check_dataset.py opens; where a is a link, that is another file
            paths = one.entry.image_path, one.place, getattr(one.entry, "annotation_path", None)
            for path in dict.fromkeys(paths):
                if not isinstance(path, str | os.PathLike) or path == one.entry.where:  # in words, in one's own format
                    continue
                if os.path.commonpath([root, os.path.realpath(path)]) != root:
                    raise UserError(f"{one.entry.where}: names {path}, outside of {root}, which --within-data refuses")


def drawn_sizes(data: str | os.PathLike, splits: str, entries: list, source: str = "auto") -> list:
    """The annotations.Size of each picture of `find` as its boxes were drawn on it; None for one that is not known.

    Pictures that were resized after annotation are said. Nothing is wrong with pictures that have no annotations.
    """
    try:
        read = reader(data, splits, source)
    except UserError:
        return [None] * len(entries)
    return annotations.drawn_sizes(entries, read, progress=True)


def survey(data: str | os.PathLike, splits: str | None = None, source: str = "auto") -> list[listing.Split]:
    """What some splits list, all of them for None. Raises UserError if one does not exist."""
    module = _module(choose(data, source))
    names = listing.check_names(splits, module.split_names(data), data)
    if hasattr(module, "survey"):
        return module.survey(data, names)
    return [listing.of_entries(name, data, _with_own_file(module.find(data, name)), name) for name in names]


def _with_own_file(entries):
    """The entries of a format of the user's own, which need not have a file of annotations for each picture."""
    return [annotations.Entry(one.id, one.image_path, one.where, one.where) for one in entries]


def reader(data: str | os.PathLike, splits: str, source: str = "auto") -> Callable[[Any], annotations.Annotated]:
    """Callable, what `find` or `survey` found of some splits -> annotations.Annotated; it can be pickled.

    A format of the user's own need not have one: its samples say the same, with one exception: boxes are clipped.
    """
    module = _module(choose(data, source))
    if hasattr(module, "reader"):
        return module.reader(data)
    names, found = module.class_names(data, splits), {}
    for name in map(str.strip, splits.split(",")):
        for sample in module.load(data, name, names):
            found[os.path.normpath(sample.image_path)] = _as_annotated(sample, names)
    return functools.partial(_look_up, found)


def _look_up(found, entry):
    return found[os.path.normpath(entry.image_path)]


def _as_annotated(sample, names):
    edges = sample.boxes.astype(np.float64) * ((sample.width, sample.height) * 2)
    crowd = np.zeros(len(edges), bool) if sample.crowd is None else sample.crowd
    area = [None] * len(edges) if sample.area is None else sample.area.tolist()
    columns = zip(sample.labels, edges.tolist(), sample.difficult.tolist(), crowd.tolist(), area, strict=True)
    return annotations.Annotated(
        [
            annotations.Written(names[label], tuple(box), sample.image_path, difficult, is_crowd, size)
            for label, box, difficult, is_crowd, size in columns
        ]
    )


def check_fixable(source: str) -> None:
    """Raise UserError if data sets of a format cannot be written by check_dataset.py --fix."""
    if not hasattr(_module(source), "write_fixed"):
        raise UserError(
            f"--fix: {_own_path(source)} has no function 'write_fixed'; give it one, or convert the data set with "
            "convert_dataset.py first"
        )


def write_fixed(copy: fixed_copy.FixedCopy, source: str) -> None:
    """Write the annotations and lists of a corrected copy. source: the format. Raises OSError."""
    _module(source).write_fixed(copy)


def first_pixel(data: str | os.PathLike, source: str = "auto") -> int:
    """What the format of a data set calls the first row and column of pixels, 0 or 1."""
    return getattr(_module(choose(data, source)), "first_pixel", 0)


def make_samples(
    data: str | os.PathLike, entries: list, read: Callable, class_names: Sequence[str], source: str, **options: Any
) -> list[Sample]:
    """The samples of entries of `find`, with the warnings and errors of `load`. source: the format.

    read: callable, entry -> annotations.Annotated, such as that of `reader`.
    """
    name = getattr(_module(source), "format_name", source)
    more = {"first_pixel": first_pixel(data, source), "format_name": name}
    return annotations.make_samples(entries, read, class_names, **more, **options)


def numbered_names(data: str | os.PathLike, splits: str, source: str = "auto") -> tuple[str, ...]:
    """The classes by the number that the data set gives them, for results that hold numbers."""
    name = choose(data, source)
    return yolo.numbered_names(data) if name == "yolo" else class_names(data, splits, name)


def without_crowds(samples: list[Sample]) -> list[Sample]:
    """Samples for training, without crowd regions: such a region is not an object to learn."""
    return [
        sample if sample.crowd is None else dataclasses.replace(_only(sample, ~sample.crowd), crowd=None)
        for sample in samples
    ]


def without_difficult(samples: list[Sample]) -> list[Sample]:
    """Samples without difficult objects, as `load` returns them with difficult='ignore'."""
    return [_only(sample, ~sample.difficult) if sample.difficult.any() else sample for sample in samples]


def _only(sample, keep):
    """A Sample with some of its objects. keep: bool [N]."""
    crowd = None if sample.crowd is None else sample.crowd[keep]
    return dataclasses.replace(
        sample,
        boxes=sample.boxes[keep],
        labels=sample.labels[keep],
        difficult=sample.difficult[keep],
        crowd=crowd if crowd is not None and crowd.any() else None,
        area=None if sample.area is None else sample.area[keep],
    )
