"""What a path without a data set holds instead, for a message: other tools' own files, and what to export from them."""

import itertools
import os
from typing import NamedTuple

from formats import csv_table, folders
from media import images
from system import folder_tree, wording

FILES_TRIED = 200  # of a folder that are looked into


class Foreign(NamedTuple):
    """Files that are not read. suffixes: of their names; signs: what their text has; what they are; what to do."""

    suffixes: tuple
    signs: tuple
    what: str
    remedy: str


KNOWN = (
    Foreign((".xml",), ("<annotations", "<image "), "CVAT's own XML", "export 'COCO 1.0' or 'Pascal VOC 1.1' there"),
    Foreign((".json",), ('"shape_attributes"',), "the VGG Image Annotator's own JSON", "export COCO there"),
    Foreign((".csv",), ("region_shape_attributes",), "the VGG Image Annotator's own table", "export COCO there"),
    Foreign(
        (".json",), ('"result"', '"from_name"'), "Label Studio's own JSON", "export COCO, YOLO or Pascal VOC there"
    ),
    Foreign((".json",), ('"result"', '"data"'), "Label Studio's own JSON", "export COCO, YOLO or Pascal VOC there"),
    Foreign(
        (".json",),
        ('"original_width"', '"annotator"'),
        "Label Studio's JSON-MIN",
        "export COCO, YOLO or Pascal VOC there",
    ),
    Foreign(
        (".csv", ".tsv"),
        ("original_width", "annotator"),
        "Label Studio's table",
        "export COCO, YOLO or Pascal VOC there",
    ),
    Foreign((".json",), ('"items"', '"label_id"'), "Datumaro's own JSON", "export COCO, YOLO or Pascal VOC instead"),
    Foreign((".json",), ('"assets"', '"regions"'), "VoTT's own JSON", "export CSV or Pascal VOC there"),
    Foreign((".json",), ('"coordinates"', '"label"'), "CreateML's JSON", "export COCO, YOLO or Pascal VOC instead"),
    Foreign((".json",), ('"exterior"', '"interior"'), "Supervisely's own JSON", "export COCO or Pascal VOC there"),
    Foreign(
        (".tfrecord", ".tfrecords", ".record"), (), "a file of TFRecords", "export COCO, YOLO or Pascal VOC instead"
    ),
    Foreign((".parquet", ".arrow"), (), "a table of Hugging Face", "write the pictures and a CSV table from it"),
    Foreign((".mat",), (), "a file of MATLAB", "write a CSV table from it"),
    Foreign((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"), (), "an archive", "unpack it and give the folder"),
)


def explained(path):
    """'a.json is …: do …' for a file that is known or might hold annotations; None for any other.

    path: a file.
    """
    suffix, name = os.path.splitext(path)[1].lower(), os.path.basename(path)
    kinds = [kind for kind in KNOWN if suffix in kind.suffixes]
    text = folders.beginning(path) + folders.ending(path) if any(kind.signs for kind in kinds) else ""
    for kind in kinds:
        if all(sign in text for sign in kind.signs):
            return f"{name} is {kind.what}, which is not read: {kind.remedy}"
    if suffix in csv_table.SUFFIXES and not csv_table.is_table(path):
        first = wording.shorten(csv_table.first_line(folders.beginning(path)))
        if names := csv_table.columns_lacking(path):
            return (
                f"{name} begins with {first}, which names no {names}: rename the columns that hold these, or add them"
            )
        return f"{name} begins with {first}: name its columns in line 1, {','.join(csv_table.COLUMNS)}, in any order"
    return None


def explained_folder(folder):
    """The same of the first files in a folder and below it, or how one of them begins; None if it holds no text."""
    paths = (os.path.join(parent, name) for parent, names in folder_tree.walk(folder) for name in names)
    tried = list(itertools.islice((path for path in paths if not path.lower().endswith(images.SUFFIXES)), FILES_TRIED))
    for path in tried:
        if found := explained(path):
            return found
    texts = [path for path in tried if path.lower().endswith(folders.NO_PICTURES)]
    if not texts:
        return None
    first = wording.shorten(csv_table.first_line(folders.beginning(texts[0])).strip())
    return f"{os.path.relpath(texts[0], folder)} begins with {first}, which fits no format that is read"
