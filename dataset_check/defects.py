"""The kinds of defects that a data set may have, and the findings of a check."""

from typing import NamedTuple

from dataset_check import scanning


class Defect(NamedTuple):
    """A kind of defect.

    title: what it is, for reports.
    training: what train.py does about it.
    fix: what --fix does about it.
    grave: whether it stops training or spoils its result.
    fixed: whether it is gone after --fix.
    """

    title: str
    training: str
    fix: str
    grave: bool = False
    fixed: bool = True


# The most serious first: the order of every report.
DEFECTS = {
    "missing-picture": Defect("missing picture", "stops", "leaves it out", True),
    "missing-annotation": Defect("missing annotation", "stops", "leaves the picture out", True),
    "bad-annotation": Defect("unreadable annotation", "stops", "leaves the picture out", True),
    "empty-split": Defect("split without pictures", "stops", "keeps it", True, False),
    "listed-twice": Defect("picture listed twice", "stops", "lists it once", True),
    "unreadable": Defect("unreadable picture", "stops, or skips it and prints a message", "leaves it out", True),
    "truncated": Defect("truncated picture", "skips it and prints a message", "leaves it out", True),
    "damaged": Defect("damaged picture, partly filled in by the decoder", "learns from it", "leaves it out", True),
    "in-two-splits": Defect(
        "picture listed in two splits", "learns what it is tested on", "leaves it out of the training split", True
    ),
    "duplicate-across-splits": Defect(
        "same picture in two splits", "learns what it is tested on", "leaves it out of the training split", True
    ),
    "near-duplicate-across-splits": Defect(
        "almost the same picture in two splits", "learns what it is tested on", "keeps it", True, False
    ),
    "unknown-class": Defect(
        "class not in --classes", "stops, or drops it with --other-classes ignore", "keeps it", True, False
    ),
    "refused-class": Defect("class name that train.py does not take", "stops", "keeps it", True, False),
    "similar-class": Defect(
        "class name similar to another, misspelled?", "learns it as a class of its own", "keeps it", True, False
    ),
    "fractions": Defect(
        "boxes in fractions of the picture instead of pixels", "stops", "leaves a few such pictures out", True
    ),
    "resized": Defect(
        "picture resized after annotation", "scales its boxes", "scales its boxes and corrects the size", True
    ),
    "size": Defect(
        "picture of another size than its annotation states", "leaves its boxes as they are", "keeps it", True, False
    ),
    "few-levels": Defect(
        "16-bit picture with few gray levels",
        "sees them only with --gray16 stretch or LOW-HIGH",
        "keeps it",
        True,
        False,
    ),
    "inverted-box": Defect("inverted box", "drops it and prints a message", "swaps its corners"),
    "empty-box": Defect("empty box", "drops it and prints a message", "drops it"),
    "outside-box": Defect("box outside the picture", "drops it and prints a message", "drops it"),
    "reaching-box": Defect("box partly outside the picture", "clips it", "clips it"),
    "repeated-box": Defect("repeated box", "learns it twice", "drops the copy"),
    "duplicate": Defect("same picture twice in a split", "learns it twice", "keeps the one with more objects"),
    "near-duplicate": Defect("almost the same picture in a split", "learns from both", "keeps it", False, False),
    "exif": Defect(
        "picture rotated by EXIF",
        "rotates it if its boxes were drawn that way",
        "rotates the pixels or removes the tag",
    ),
    "shape": Defect("rotated box or polygon", "takes the box around it", "keeps it", False, False),
    "no-area": Defect(
        "annotation with lines or points, which have no area", "leaves these out", "keeps it", False, False
    ),
    "tiny-box": Defect("tiny box at the input size", "learns it, but hardly detects it", "keeps it", False, False),
    "rare-class": Defect("rare class", "learns it poorly", "keeps it", False, False),
    "no-objects": Defect("picture without objects", "learns it as background", "keeps it", False, False),
    "grayscale": Defect("gray picture", "learns from it", "keeps it", False, False),
    "unlisted": Defect("picture in no split", "ignores it", "leaves it out"),
}


class Finding(NamedTuple):
    """One file with a defect.

    defect: a key of DEFECTS.
    path: the file.
    detail: more about it, for reports, or "".
    picture: the scanning.Picture, or None if there is none.
    objects: indices of the objects that have the defect, in the picture's annotation.
    other: the Picture that it is a copy of, or None.
    """

    defect: str
    path: str
    detail: str
    picture: scanning.Picture | None = None
    objects: tuple = ()
    other: scanning.Picture | None = None

    @property
    def count(self):
        """The number of boxes that have the defect, or 1 if it is one of the file."""
        return len(self.objects) or 1
