"""Open Images' codes of classes, such as /m/01yrx, and the tables that name them, as class-descriptions-boxable.csv."""

import csv
import os
import re

from formats import folders
from system import files

CODE = re.compile(r"/[a-z]/\w+")
TABLE = "class-descriptions-boxable.csv"  # of Open Images; FiftyOne's is metadata/classes.csv
FOLDERS = ("", "metadata")


def is_code(name):
    """Whether a class is given as a code."""
    return CODE.fullmatch(name) is not None


def is_description(path):
    """Whether a table names codes: its first line, or the one after its columns' names, is a code and a name."""
    lines = files.split_lines(folders.beginning(path))[:2]
    return any(len(row) == 2 and is_code(row[0]) for row in csv.reader(lines))


def descriptions(home):
    """The paths of the tables in the folder of a data set that name codes."""
    paths = (os.path.join(home, below, name) for below in FOLDERS for name in files.visible(os.path.join(home, below)))
    return [path for path in paths if path.lower().endswith(".csv") and is_description(path)]


def names(home):
    """{code: name} of the tables in the folder of a data set."""
    found = {}
    for path in descriptions(home):
        rows = (row for row in csv.reader(files.split_lines(files.read_text(path))) if len(row) == 2)
        found |= {code.strip(): name.strip() for code, name in rows}
    return found
