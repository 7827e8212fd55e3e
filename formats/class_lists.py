"""What --classes says: a list of class names, for a program that trains, or that has a model with names of its own."""

import os
import pathlib

from formats import annotations
from structures import UserError
from system import files


def parse_classes(text):
    """Class names, a tuple, from a file with one name a line or from 'names,separated,by,commas'.

    Raises UserError for no name, an empty or repeated one, one with a slash, 'background' (the network's own), or a
    file that is missing.
    """
    path = pathlib.Path(text)
    if os.path.isfile(text):  # pathlib's raises for a text longer than a file name may be
        names = [line for line in map(str.strip, files.read_text(path).splitlines()) if line]
    elif path.suffix == ".txt" or (os.sep in text and "," not in text):
        raise UserError(f"--classes {text}: no such file")
    else:
        names = [name.strip() for name in text.split(",")]
    return annotations.check_class_names(names, f"--classes {text}")


def find_labels(text, class_names):
    """`--classes` of a program that has a model: a list as for parse_classes -> set of labels; None -> None.

    Raises UserError for a name that is not in class_names.
    """
    if text is None:
        return None
    wanted = parse_classes(text)
    if unknown := [name for name in wanted if name not in class_names]:
        raise UserError(f"--classes {unknown[0]}: the model has {', '.join(class_names)}")
    return {class_names.index(name) for name in wanted}


def check_classes(text, class_names):
    """Raises find_labels' UserError as far as it is known. class_names: the model's, None while that is not loaded."""
    if class_names is not None:
        find_labels(text, class_names)
    elif text is not None:
        parse_classes(text)
