"""Figures by group of pictures: a CSV table `picture,group` says which picture is of which (day, night, camera …)."""

import csv
import dataclasses
import io

import numpy as np

from structures import UserError
from system import cli, files
from system.wording import plural, shorten, stem

DELIMITERS = (",", ";", "\t")  # Excel writes semicolons in much of Europe


def read(path, ids):
    """{group: [ids]} of a table `picture,group` with that header, both in the order in which they first come.

    ids: of the pictures of the split. A picture is named by its id, its file or its file's stem; it may be in several
    groups. Rows of other pictures are passed over; pictures without a row are in no group, which is said. Raises
    UserError for a table of another form, or without any of the pictures.
    """
    known = {}
    for one in ids:
        known.setdefault(stem(one), []).append(one)
    found, grouped = {}, set()
    text = files.read_text(path)
    delimiter = max(DELIMITERS, key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV ({error}); correct the line") from None
    if not rows or [cell.strip().lower() for cell in rows[0]] != ["picture", "group"]:
        raise UserError(f"{path}: its first line is not 'picture,group'; add it above the rows")
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != 2 or not all(cell.strip() for cell in row):
            raise UserError(f"{path}, line {number}: {shorten(','.join(row))} is not 'picture,group'")
        picture, group = (cell.strip() for cell in row)
        key = _id(picture, ids, known, f"{path}, line {number}")
        if key is not None and key not in found.setdefault(group, {}):
            found[group][key] = None
            grouped.add(key)
    if not grouped:
        raise UserError(f"{path}: names none of the pictures of the split; give the table of this data set")
    left = [key for key in ids if key not in grouped]
    if left:
        cli.warn(f"{path}: {len(left)} of {plural(len(ids), 'picture')} in no group, first {left[0]!r}")
    return {group: list(keys) for group, keys in found.items() if keys}


def _id(picture, ids, known, where):
    without_suffix = picture.rpartition(".")[0]
    for name in (picture, without_suffix):
        if name in ids:
            return name
    same = known.get(stem(picture), [])
    if len(same) > 1:
        raise UserError(f"{where}: {picture!r} may be {same[0]!r} or {same[1]!r}; write the whole id")
    return same[0] if same else None


def part(scored, ids):
    """The score_report.Scored of some of the pictures, a list of ids."""
    place = {key: index for index, key in enumerate(scored.ground_truth)}
    ids = sorted(ids, key=place.__getitem__)
    new_index = np.full(len(place), -1)
    new_index[[place[key] for key in ids]] = np.arange(len(ids))
    ground_truth = {key: scored.ground_truth[key] for key in ids}
    counts = np.zeros(len(scored.class_names), np.int64)
    for sample in ground_truth.values():
        counts += np.bincount(sample.labels[~sample.difficult], minlength=len(counts))
    curves = []
    for curve, positives in zip(scored.curves, counts.tolist(), strict=True):
        kept = curve.where(new_index[curve.images] >= 0, positives)
        curves.append(dataclasses.replace(kept, images=new_index[kept.images]))
    detections = {key: scored.detections[key] for key in ids if key in scored.detections}
    return dataclasses.replace(scored, ground_truth=ground_truth, detections=detections, curves=curves)


def table(by_group):
    """The main figures of each group as text, a line each. by_group: {group: report}."""
    width = max(len(name) for name in ("group", *by_group))
    lines = [f"{'group':{width}}   images  objects  AP VOC07  AP area  best F1  at score"]
    for name, one in by_group.items():
        best = one["thresholds"]["all"]["best_f1"] or {"f1": None, "threshold": None}
        values = (one["voc07"]["mean"], one["area"]["mean"], best["f1"], best["threshold"])
        shown = ["n/a" if value is None else f"{value:.4f}" for value in values]
        objects = sum(one["ground_truth"].values())
        counts = f"{one['images']:7}  {objects:7}"
        lines.append(f"{name:{width}}  {counts}  {shown[0]:>8}  {shown[1]:>7}  {shown[2]:>7}  {shown[3]:>8}")
    return "\n".join(lines)
