"""Open Images' codes of classes, such as /m/01yrx, and the tables that name them, as class-descriptions-boxable.csv."""

import contextlib
import csv
import os
import re

from formats import folders
from system import files, folder_tree

CODE = re.compile(r"/[a-z]/\w+")
TABLE = "class-descriptions-boxable.csv"  # of Open Images; FiftyOne's is metadata/classes.csv
FOLDERS = ("", "metadata")


def is_code(name):
    """Whether a class is given as a code."""
    return CODE.fullmatch(name) is not None


def is_description(path):
    """Whether a table names codes: its first line, or the one after its columns' names, is a code and a name."""
    rows = _rows(files.split_lines(folders.beginning(path))[:2])
    return any(is_code(code) for code, _ in rows)


def descriptions(home):
    """The paths of the tables in the folder of a data set that name codes."""
    paths = (
        os.path.join(home, below, name) for below in FOLDERS for name in folder_tree.visible(os.path.join(home, below))
    )
    return [path for path in paths if path.lower().endswith(".csv") and is_description(path)]


def names(home):
    """{code: name} of the tables in the folder of a data set."""
    found = {}
    for path in descriptions(home):
        found |= dict(_rows(files.split_lines(files.read_text(path))))
    return found


def _rows(lines):
    """Yield the lines of two cells; up to one that is no CSV, as of a file of another kind."""
    with contextlib.suppress(csv.Error):
        yield from ([cell.strip() for cell in row] for row in csv.reader(lines) if len(row) == 2)
