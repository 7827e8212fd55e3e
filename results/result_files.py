"""What all formats of detections on disk share: what is written and read, writers, and checks of what a file says.

A format is a module of this package with
    FLAG                     infer.py's flag that asks for it; None: it is always written
    HELP                     what that flag writes, for --help
    LOOKS                    what its results look like on disk, for messages
    owns(name)               whether a file or folder of that name in a folder of results belongs to this format
    picture_key(file, data)  what a picture is called in it: two pictures with one key cannot be told apart
    open_writer(folder, origin)          a Writer of results in a folder
    fits(path)               whether a path holds such results; reads next to nothing
    read(path, class_names, data)        Results; class_names: the classes wanted, in this order, None for all
and a line in detection_files.FORMATS. `data` is the data set of the pictures, a data_set.DataSet, or None.
"""

import dataclasses
import json
import os
import sys

import numpy as np

from structures import Detections, UserError
from system import files
from system.wording import shorten, stem

LARGEST = sys.float_info.max


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """The detections that were read from disk.

    class_names: tuple, the list that labels index.
    detections: dict id (`picture_id`) -> Detections.
    sizes: dict id -> (width, height) in pixels.
    errors: dict id -> reason, the pictures that could not be read.
    threshold: the lowest score written, or None if the format does not record it.
    source: what made them and from which data, or None if the format does not record it.
    complete: whether every picture that was looked at is named, also those without detections.
    all_classes: whether class_names has the detector's classes, also those that were never detected.
    """

    class_names: tuple
    detections: dict
    sizes: dict = dataclasses.field(default_factory=dict)
    errors: dict = dataclasses.field(default_factory=dict)
    threshold: float | None = None
    source: "Source | None" = None
    complete: bool = False
    all_classes: bool = True


@dataclasses.dataclass(frozen=True)
class Source:
    """What made detections, as far as it is known.

    model: as the user named it.
    checkpoint: the name of the run's checkpoint, or None.
    precision: the data type that the network computed in, or None.
    data: the path of the data set that the pictures are from, absolute, or None.
    split: its split, or None.
    """

    model: str
    checkpoint: str | None = None
    precision: str | None = None
    data: str | None = None
    split: str | None = None

    def __str__(self) -> str:
        """'runs/mine (step-00000500, float32) on val of /mydata'."""
        details = ", ".join(filter(None, (self.checkpoint, self.precision)))
        where = f" on {self.split} of {self.data}" if self.data else ""
        return f"{self.model}{f' ({details})' if details else ''}{where}"


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """Where the detections that a Writer is given come from.

    source: what makes them.
    class_names: tuple, the list that labels index.
    class_numbers: of each class, its label in the model.
    threshold: the lowest score written.
    data: the data_set.DataSet that the pictures are from, or None.
    """

    source: Source
    class_names: tuple
    class_numbers: tuple
    threshold: float
    data: object = None


class Writer:
    """Writes detections picture by picture in constant memory. What it writes appears under its name at `close`.

    As a context manager it also keeps the pictures done so far after Ctrl-C, and after a UserError or an OSError once
    there are some; after any other exception it leaves nothing behind.
    begun: whether something was added; before that an error leaves an older file in its place.
    """

    begun = False

    def add(self, file, width, height, detections):
        """The Detections on one picture of `width` × `height` pixels, read from `file`."""
        raise NotImplementedError

    def error(self, file, reason):
        """A picture that could not be read, and why. Most formats have no place for it."""

    def close(self):
        """Finish the files and put them in their places."""
        raise NotImplementedError

    def discard(self):
        """Remove everything that was written."""
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        amid = self.begun and kind is not None and issubclass(kind, (UserError, OSError))
        if amid or kind is None or issubclass(kind, KeyboardInterrupt):
            try:
                self.close()
            except UserError:
                self.discard()
                raise
        else:
            self.discard()


def picture_id(file, data=None):
    """The id in a data set of the picture that results call `file`; without one, and for most, the file's stem.

    data: the data_set.DataSet, or None. Where pictures of one name are in several folders, ids are paths without
    suffix; with it where only that differs.
    """
    if data is not None:
        for path in (os.path.splitext(file)[0], file):
            if path in data.ids:
                return path
    return stem(file)


def as_lists(detections):
    """Labels, scores and boxes as Python numbers; a float32 becomes the float64 of the same value."""
    return (
        detections.labels.tolist(),
        np.asarray(detections.scores, np.float64).tolist(),
        np.asarray(detections.boxes_px, np.float64).reshape(-1, 4).tolist(),
    )


def from_rows(rows):
    """Detections of (label, score, xmin, ymin, xmax, ymax) rows."""
    table = np.array([row[1:] for row in rows], np.float64).reshape(-1, 5)
    return best_first(table[:, 1:], table[:, 0], np.array([row[0] for row in rows], np.int32))


def best_first(boxes_px, scores, labels):
    """Detections with falling scores; equal ones keep their order."""
    order = np.argsort(-scores, kind="stable")
    return Detections(_narrow(boxes_px[order]), _narrow(scores[order]), labels[order])


def _narrow(array):
    """float64 -> float32 where no digit is lost.

    Our own files are float32 throughout. Two scores of another detector may differ and still be equal as float32,
    and the metric depends on the order of scores.
    """
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    return narrow if np.array_equal(narrow, array) else array


def parse_json(path, kind):
    """The content of a JSON file whose top-level value is a dict or list, as `kind` says. Raises UserError."""
    try:
        data = json.loads(files.decode(files.read_regular(path)))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise UserError(f"{path}: not a complete JSON file ({error})") from None
    if not isinstance(data, kind):
        wanted = "an object" if kind is dict else "a list"
        raise UserError(f"{path}: not a detections file, the top-level value is not {wanted}")
    return data


def field(entry, name, kind, where):
    """entry[name], if it is of the type wanted. Raises UserError that begins with `where`."""
    if not isinstance(entry, dict) or name not in entry:
        raise UserError(f"{where} has no {name!r}")
    if not isinstance(entry[name], kind):
        raise UserError(f"{where}: {name!r} is {shorten(entry[name])}, of the wrong type")
    return entry[name]


def score_and_box(entry, box_name, where):
    """entry["score"], a finite number, and entry[box_name], a list of four. Raises UserError as `field` does."""
    score, box = field(entry, "score", (int, float), where), field(entry, box_name, list, where)
    if not abs(score) <= LARGEST:
        raise UserError(f"{where}: score {score} is not a finite number")
    if len(box) != 4 or not all(isinstance(edge, (int, float)) and abs(edge) <= LARGEST for edge in box):
        raise UserError(f"{where}: {box_name} {shorten(box)} is not four finite numbers")
    return score, box


def json_begins(path, bracket):
    """Whether a path is a file whose first byte, after blanks and a byte order mark, is `bracket`, b"{" or b"["."""
    if not os.path.isfile(path):
        return False
    with files.open_regular(path) as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(bracket)
