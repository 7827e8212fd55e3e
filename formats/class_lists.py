"""Lists of class names: what they may contain, and how --classes gives one to a program with or without a model."""

import os
import pathlib
import re
import unicodedata

from structures import UserError
from system import files, wording

TWO_FORMS = "two forms of Unicode that look the same, as of é; write it in one"
# What ends a line for some program, such as U+2028, what XML does not allow, and halves of letters, which no file holds
UNFIT = re.compile("[\x00-\x08\x0a-\x1f\x85\u2028\u2029\ud800-\udfff\ufffe\uffff]")


class NoObjects(UserError):
    """Some splits have no objects that would name classes."""


def check_names(names, where):
    """A list of class names as a tuple. where: the file or flag that messages name.

    Raises UserError for an empty list, an empty or repeated name, also in another form of Unicode, one that is `unfit`,
    or 'background'.
    """
    if not names:
        raise UserError(f"{where}: there are no class names; give names,separated,by,commas or one per line")
    if "" in names:
        raise UserError(f"{where}: a name is empty; remove it or the extra comma")
    seen = {}
    for name in names:
        other = seen.get(one_form(name))
        if other == name:
            raise UserError(f"{where}: {name!r} is listed twice; remove one")
        if other is not None:
            raise UserError(f"{where}: {name!r} is listed in {TWO_FORMS}")
        if is_background(name):
            raise UserError(f"{where}: remove {name!r}; the network adds that class itself")
        if found := unfit(name):
            raise UserError(f"{where}: {name!r} contains {found}; rename that class")
        seen[one_form(name)] = name
    return tuple(names)


def names_of_data(names, data, splits):
    """The class names that a data set has, as a tuple. data, splits: --data and its splits, for messages.

    Raises UserError as check_names does; for 'background' it says how to train without that class.
    """
    if not names:
        raise NoObjects(f"--data {data}: {splits} has no objects; list the classes with --classes")
    for name in names:
        if is_background(name):
            others = ",".join(other for other in names if other != name)
            raise UserError(
                f"--data {data}: it has a class {name!r}, which the network adds by itself; leave its objects out with "
                f"--classes {wording.shorten(others)[1:-1]} --other-classes ignore, or rename the class in the data"
            )
    return check_names(names, f"--data {data}")


def one_form(name):
    """A name in one form of Unicode: an é of two letters, e and an accent, looks the same as that of one."""
    return unicodedata.normalize("NFC", name)


def is_background(name):
    """Whether a class is what the network calls background, also as __background__: none of the classes to detect."""
    return name.strip(" _").lower() == "background"


def unfit(name):
    """What keeps a name from being part of a file's name or a line of a list: 'a slash'; "" if nothing does."""
    if "/" in name or "\\" in name:
        return "a slash"
    found = UNFIT.search(name)
    return f"the character {found[0]!r}" if found else ""


def parse_classes(text, flag="--classes"):
    """Class names, a tuple, from a file with one name per line or from 'names,separated,by,commas'.

    Raises UserError as check_names does, and for a file that does not exist.
    """
    path = pathlib.Path(text)
    if os.path.isfile(text):  # pathlib's raises for a text longer than a file name may be
        names = [line for line in map(str.strip, files.split_lines(files.read_text(path))) if line]
    elif path.suffix == ".txt" or (os.sep in text and "," not in text):
        raise UserError(f"{flag} {text}: no such file")
    else:
        names = [name.strip() for name in text.split(",")]
    return check_names(names, f"{flag} {text}")


def find_labels(text, class_names, flag="--classes"):
    """--classes of a program that has a model: the labels of the names, a set; None if text is None.

    class_names: the model's, which labels index. Raises UserError as parse_classes does, and for a name that the
    model does not have.
    """
    if text is None:
        return None
    return labels_of(parse_classes(text, flag), class_names, flag)


def labels_of(wanted, class_names, flag="--classes"):
    """The labels of some names, a set; otherwise as `find_labels`."""
    if unknown := [name for name in wanted if name not in class_names]:
        raise UserError(f"{flag} {unknown[0]}: the model has {', '.join(class_names)}")
    return {class_names.index(name) for name in wanted}


def check_classes(text, class_names, flag="--classes"):
    """Raise the UserError of find_labels before the model is loaded, if class_names is known by then.

    class_names: the model's, or None if they are known only after loading it.
    """
    if class_names is not None:
        find_labels(text, class_names, flag)
    elif text is not None:
        parse_classes(text, flag)
