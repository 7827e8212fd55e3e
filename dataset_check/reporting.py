"""The report of check_dataset.py: all results, as lines for a terminal and as JSON. `html_report` makes pages of it."""

import dataclasses
import itertools
import math
import os

import ssd_utils
from dataset_check import anchor_advisor, checks, scanning
from dataset_check.defects import DEFECTS
from system import wording


@dataclasses.dataclass(frozen=True)
class Report:
    """All results of a check.

    scan: what was read.
    findings: Findings, the most serious first.
    preset: whose input size and anchors the data is compared with.
    classes: {class: {split: number of objects}}.
    truth: the boxes that training would use.
    shares: what the preset's anchors match (anchor_advisor.matchable), or None without boxes.
    advice: anchors that match more, or None without boxes.
    advised_shares: what those match, or None without boxes.
    """

    scan: scanning.Scan
    findings: tuple
    preset: ssd_utils.SSDPreset
    classes: dict
    truth: checks.GroundTruth
    shares: dict | None = None
    advice: anchor_advisor.Advice | None = None
    advised_shares: dict | None = None


def make(scan, preset, class_names=None, near_duplicates=False):
    """Check a Scan -> Report. class_names: of --classes, or None for those of the data."""
    findings = checks.check(scan, preset, class_names, near_duplicates)
    truth = checks.ground_truth(scan, findings, class_names)
    report = Report(scan, tuple(findings), preset, checks.count_objects(scan), truth)
    if not len(truth.boxes):
        return report
    advice = anchor_advisor.propose(preset, truth.boxes, truth.labels)
    before, after = (
        anchor_advisor.matchable(one, truth.boxes, truth.labels, truth.names) for one in (preset, advice.preset)
    )
    return dataclasses.replace(report, shares=before, advice=advice, advised_shares=after)


def by_defect(report):
    """{defect: its findings}, the most serious defect first."""
    return {kind: list(group) for kind, group in itertools.groupby(report.findings, key=lambda one: one.defect)}


def short_path(report, path):
    """A path relative to the data set."""
    relative = os.path.relpath(path, report.scan.data)
    return str(path) if relative.startswith("..") or relative == "." else relative


def finding_line(report, finding):
    """'Annotations/a.xml: detail' for a Finding."""
    return short_path(report, finding.path) + (f": {finding.detail}" if finding.detail else "")


def summary(report):
    """One line about what was read."""
    objects = [item.name for one in report.scan.pictures if one.annotation for item in one.annotation.objects]
    return (
        f"{report.scan.data} ({report.scan.format}): "
        f"{wording.plural(len({one.place for one in report.scan.pictures}), 'picture')} in "
        f"{wording.plural(len(report.scan.splits), 'split')}, {wording.plural(len(objects), 'object')} of "
        f"{wording.plural(len(set(objects)), 'class')}"
    )


def text(report, files_shown=3):
    """The report for a terminal, a list of lines; '!' marks defects that stop training or spoil its result."""
    lines = [summary(report), ""]
    for kind, found in by_defect(report).items():
        mark = "!" if DEFECTS[kind].grave else " "
        lines.append(f"{mark} {sum(one.count for one in found):>7,}  {DEFECTS[kind].title}")
        for one in found[:files_shown]:
            lines.append(f"            {finding_line(report, one)}")
        if len(found) > files_shown:
            lines.append(f"            and {len(found) - files_shown:,} more")
    if not report.findings:
        lines.append("no defects found")
    lines += ["", *_table_lines(class_rows(report))]
    if report.shares:
        lines += ["", share_title(report), *_table_lines(share_rows(report)), "", advice_line(report)]
    return lines


def _table_lines(rows):
    """Yield rows of texts as lines in columns; all columns but the first are aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join([row[0].ljust(widths[0]), *cells])


def class_rows(report):
    """A table of the objects of each class and split, and the pictures of each split: rows of texts."""
    names = [split.name for split in report.scan.splits]
    rows = [["objects", *names]]
    rows += [[name, *(f"{counts[split]:,}" for split in names)] for name, counts in report.classes.items()]
    pictures = [sum(split in one.splits for one in report.scan.pictures) for split in names]
    return [*rows, ["pictures", *(f"{count:,}" for count in pictures)]]


def input_text(preset):
    """The size of a preset's input, as "300×300"."""
    return "{}×{}".format(*preset.input_wh)


def share_title(report):
    """The title of `share_rows`."""
    return (
        f"share of objects in {', '.join(report.truth.splits)} that an anchor of {report.preset.name} overlaps by "
        f"IoU {ssd_utils.MATCH_IOU:g}, by size in the input of {input_text(report.preset)} pixels"
    )


def share_rows(report):
    """A table of the objects that the anchors match, by class and size, and the proposed ones: rows of texts."""
    rows = [
        ["class", "all sizes", *(_limits(*size) for size in anchor_advisor.SIZE_LIMITS.values()), "proposed anchors"]
    ]
    for name, of_size in report.shares.items():
        cells = [_share(*of_size[size]) for size in (anchor_advisor.ALL, *anchor_advisor.SIZE_LIMITS)]
        rows.append([name, *cells, _share(*report.advised_shares[name][anchor_advisor.ALL])])
    return rows


def _limits(low, high):
    if low == 0:
        return f"below {high}"
    return f"{low} to {high}" if math.isfinite(high) else f"{low} and more"


def _share(hits, total):
    return f"{hits / total:.1%} of {total:,}" if total else "–"


def advice_line(report):
    """One line about the anchors: whether others would match more objects."""
    advice = report.advice
    if not advice.worthwhile:
        return (
            f"anchors: those of {report.preset.name} match {advice.before:.1%} of the objects; the search found none "
            f"that match {100 * anchor_advisor.WORTHWHILE:g} points more"
        )
    more = advice.preset.num_anchors / report.preset.num_anchors - 1
    cost = f", {more:.0%} more anchors" if more > 0.005 else ""
    return (
        f"anchors: others would match {advice.after:.1%} instead of {advice.before:.1%}{cost}; "
        "write them with --anchors FILE, then train with train.py --anchors FILE"
    )


def to_json(report):
    """The report as a dict of plain JSON types."""
    return {
        "data": report.scan.data,
        "format": report.scan.format,
        "pictures": len(report.scan.pictures),
        "splits": {split.name: len(split.ids) for split in report.scan.splits},
        "objects": report.classes,
        "findings": [
            {"defect": one.defect, "file": short_path(report, one.path), "detail": one.detail, "count": one.count}
            for one in report.findings
        ],
        "preset": report.preset.name,
        "matchable": report.shares,
        "matchable_with_advice": report.advised_shares,
        "advice": report.advice
        and {name: getattr(report.advice.preset, name) for name in anchor_advisor.ANCHOR_FIELDS},
    }
