"""Data sets in KITTI's format for objects in a plane -> lists of samples (https://www.cvlibs.net/datasets/kitti/).

    DATA/training/image_2/ID.png    DATA/training/label_2/ID.txt

or the other folders that `folders.Layout` knows, such as images/ and labels/, with lists or without. A line holds
`type truncated occluded alpha left top right bottom` and numbers in three dimensions, which are not used. Edges are
pixels from 0, continuous. Regions called DontCare are no objects: they become crowd regions of no class, that is, they
are left out.
"""

from formats import annotations, fixed_copy, folders, per_picture
from structures import UserError
from system import files, wording

NUMBERS = (15, 14, 7)  # that follow a type: with the score of a detection, without it, without three dimensions
DONT_CARE = "DontCare"


def _looks(path):
    """Whether a text file holds labels, by its first line."""
    first = next((line for line in files.split_lines(folders.beginning(path)) if line.strip()), "")
    return _parse_line(first) is not None


def _read(entry):
    """The Annotated of an Entry."""
    written = []
    annotations.read_bytes(entry.annotation_path)  # raises MissingAnnotation
    for number, line in files.read_lines(entry.annotation_path):
        where = f"{entry.annotation_path}, line {number}"
        parsed = _parse_line(line)
        if parsed is None:
            raise UserError(
                f"{where}: {wording.shorten(line)} is not 'type truncated occluded alpha left top right bottom …'; "
                "correct it"
            )
        name, edges, truncated = parsed
        if name != DONT_CARE:
            written.append(annotations.Written(name, edges, where, truncated=truncated > 0))
    return annotations.Annotated(written)


def _parse_line(line):
    """A line -> (type, (left, top, right, bottom), truncated from 0 to 1), None if it is no label.

    A type may hold spaces.
    """
    words = line.split()
    for columns in NUMBERS:
        values = annotations.numbers(words[-columns:]) if len(words) > columns else None
        if values is not None and not any(map(_is_number, (words[0], words[-columns - 1]))):
            return " ".join(words[:-columns]), tuple(values[3:7]), values[0]
    return None


def _is_number(word):
    return annotations.numbers([word]) is not None


def _edited(content, path, edit):
    """The text of a label file after an Edit. Sizes in three dimensions and DontCare regions stay."""
    boxes, lines = iter(edit.boxes), []
    for line in files.split_lines(files.decode(content)):
        parsed = None if line.lstrip().startswith("#") else _parse_line(line)
        box = next(boxes) if parsed and parsed[0] != DONT_CARE else fixed_copy.KEEP
        if box == fixed_copy.KEEP:
            lines.append(line)
        elif box is not None:
            columns = next(one for one in NUMBERS if annotations.numbers(line.split()[-one:]) is not None)
            words = line.split()
            words[len(words) - columns + 3 : len(words) - columns + 7] = map(wording.number, box)
            lines.append(" ".join(words))
    return "".join(f"{line}\n" for line in lines)


FORMAT = per_picture.PerPicture("KITTI", folders.Kind(".txt", _looks), _read, _edited)
