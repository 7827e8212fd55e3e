"""What check_dataset.py found, for people: lines for the terminal, and one HTML page with pictures and nothing else."""

import collections
import dataclasses
import itertools
import os
import pathlib

import cv2
import numpy as np

import ssd_utils
from dataset_check import anchor_advisor, checks, scanning
from dataset_check.checks import DEFECTS
from media import html_page, images, visualization
from system import files

THUMBNAIL = html_page.PICTURE
# A page of the longest report stays below 10 MB
SHOWN_PICTURES, SHOWN_FILES, SAMPLES = 8, 50, 12
RED = (235, 40, 40)
MARGIN = 0.4  # of a picture's side that may be added to show boxes outside of it


@dataclasses.dataclass(frozen=True)
class Report:
    """All results of a check. classes: {class: {split: objects}}; shares: of anchor_advisor.matchable, or None."""

    scan: scanning.Scan
    findings: tuple
    preset: ssd_utils.SSDPreset
    classes: dict
    truth: checks.GroundTruth
    shares: dict | None = None
    advice: anchor_advisor.Advice | None = None
    advised_shares: dict | None = None


def make(scan, preset, class_names=None, near_duplicates=False):
    """Judge a Scan: Report. class_names: of --classes, or None for those of the data."""
    findings = checks.check(scan, preset, class_names, near_duplicates)
    truth = checks.ground_truth(scan, class_names)
    report = Report(scan, tuple(findings), preset, checks.count_objects(scan), truth)
    if not len(truth.boxes):
        return report
    advice = anchor_advisor.propose(preset, truth.boxes, truth.labels)
    before, after = (
        anchor_advisor.matchable(one, truth.boxes, truth.labels, truth.names) for one in (preset, advice.preset)
    )
    return dataclasses.replace(report, shares=before, advice=advice, advised_shares=after)


def by_defect(report):
    """{defect: its findings}, the gravest first."""
    return {kind: list(group) for kind, group in itertools.groupby(report.findings, key=lambda one: one.defect)}


def _short(report, path):
    """A path within the data set, without the data set's own."""
    relative = os.path.relpath(path, report.scan.data)
    return str(path) if relative.startswith("..") or relative == "." else relative


def summary(report):
    """One line: what was read."""
    objects = sum(len(one.annotation.objects) for one in report.scan.pictures if one.annotation)
    return (
        f"{report.scan.data}: {len(report.scan.pictures):,} pictures in {len(report.scan.splits)} splits, "
        f"{objects:,} objects of {len(report.classes)} classes"
    )


def text(report, files_shown=3):
    """The report for a terminal, as lines; '!' marks what stops a training or spoils its result."""
    lines = [summary(report), ""]
    for kind, found in by_defect(report).items():
        mark = "!" if DEFECTS[kind].grave else " "
        lines.append(f"{mark} {sum(one.count for one in found):>7,}  {DEFECTS[kind].title}")
        for one in found[:files_shown]:
            lines.append(f"            {_short(report, one.path)}" + (f": {one.detail}" if one.detail else ""))
        if len(found) > files_shown:
            lines.append(f"            and {len(found) - files_shown:,} more")
    if not report.findings:
        lines.append("no defects found")
    lines += ["", *_table_lines(_class_rows(report))]
    if report.shares:
        lines += ["", _share_title(report), *_table_lines(_share_rows(report)), "", advice_line(report)]
    return lines


def _table_lines(rows):
    """Rows of texts -> lines in columns; all but the first column to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join([row[0].ljust(widths[0]), *cells])


def _class_rows(report):
    names = [split.name for split in report.scan.splits]
    rows = [["objects", *names]]
    rows += [[name, *(f"{counts[split]:,}" for split in names)] for name, counts in report.classes.items()]
    pictures = [sum(split in one.splits for one in report.scan.pictures) for split in names]
    return [*rows, ["pictures", *(f"{count:,}" for count in pictures)]]


def _share_title(report):
    return (
        f"share of objects in {', '.join(report.truth.splits)} that an anchor of {report.preset.name} overlaps by "
        f"IoU {ssd_utils.MATCH_IOU:g}, by size in the {report.preset.input_size}-pixel input"
    )


def _share_rows(report):
    sizes = (anchor_advisor.ALL, *anchor_advisor.SIZE_LIMITS)
    limits = {anchor_advisor.ALL: "all sizes", "small": "below 32", "medium": "32 to 96", "large": "96 and more"}
    rows = [["class", *(limits[size] for size in sizes), "with advice"]]
    for name, of_size in report.shares.items():
        cells = [_share(*of_size[size]) for size in sizes]
        rows.append([name, *cells, _share(*report.advised_shares[name][anchor_advisor.ALL])])
    return rows


def _share(hits, total):
    return f"{hits / total:.1%} of {total:,}" if total else "–"


def advice_line(report):
    """What the anchor advisor found, one line."""
    advice = report.advice
    if not advice.worthwhile:
        return f"anchors: those of {report.preset.name} suit this data ({advice.before:.1%}); no better ones were found"
    more = advice.preset.num_anchors / report.preset.num_anchors - 1
    cost = f", {more:.0%} more anchors" if more > 0.005 else ""
    return (
        f"anchors: others would match {advice.after:.1%} instead of {advice.before:.1%}{cost}; "
        "--anchors FILE writes them for train.py --anchors FILE"
    )


def to_json(report):
    """The report as plain JSON types."""
    return {
        "data": report.scan.data,
        "pictures": len(report.scan.pictures),
        "splits": {split.name: len(split.ids) for split in report.scan.splits},
        "objects": report.classes,
        "findings": [
            {"defect": one.defect, "file": _short(report, one.path), "detail": one.detail, "count": one.count}
            for one in report.findings
        ],
        "preset": report.preset.name,
        "matchable": report.shares,
        "matchable_with_advice": report.advised_shares,
        "advice": report.advice
        and {name: getattr(report.advice.preset, name) for name in anchor_advisor.ANCHOR_FIELDS},
    }


def write_html(path, report):
    """Write the report as one HTML file that needs no other."""
    name = pathlib.Path(report.scan.data).resolve().name
    parts = [
        f"<p>{html_page.escape(summary(report))}</p>",
        *_html_findings(report),
        "<h2>Objects</h2>" + html_page.table(_class_rows(report)),
        *_html_histograms(report),
        *_html_anchors(report),
        *_html_samples(report),
        *_html_details(report),
    ]
    files.write(path, html_page.page(f"{name}: data set check", name, parts))


def _html_findings(report):
    """The table of what was found; each row leads to its pictures."""
    yield "<h2>Findings</h2>"
    if not report.findings:
        yield "<p class=good>No defects found.</p>"
        return
    yield "<table><tr><th class=n>number<th>what<th>files<th>train.py<th>--fix"
    for kind, found in by_defect(report).items():
        defect = DEFECTS[kind]
        grave = " class=grave" if defect.grave else ""
        yield (
            f"<tr><td class=n>{sum(one.count for one in found):,}<td{grave}><a href='#{kind}'>{defect.title}</a>"
            f"<td>{len({one.path for one in found}):,}<td>{defect.training}<td>{defect.fix}"
        )
    yield "</table><p class=muted>Red: stops a training or spoils its result.</p>"


def _html_details(report):
    """For each kind its first pictures and the list of its files."""
    yield "<h2>Files</h2>"
    colors = _colors(report)
    for kind, found in by_defect(report).items():
        yield f"<h3 id='{kind}'>{DEFECTS[kind].title}</h3><div class=row>"
        for one in found[:SHOWN_PICTURES]:
            if one.picture is not None and one.picture.image_path is not None:
                yield _figure(report, one, colors)
        yield "</div><ul>"
        for one in found[:SHOWN_FILES]:
            words = _short(report, one.path) + (f": {one.detail}" if one.detail else "")
            yield f"<li>{html_page.escape(words)}"
        yield "</ul>" + (f"<p>and {len(found) - SHOWN_FILES:,} more" if len(found) > SHOWN_FILES else "")


def _figure(report, finding, colors):
    pictures = [finding.picture] + ([finding.other] if finding.other else [])
    shown = [_html_thumbnail(one, finding.objects if one is finding.picture else (), colors) for one in pictures]
    return html_page.figure(shown, html_page.escape(_short(report, finding.path)), pair=bool(finding.other))


def _html_samples(report):
    """Some pictures at random, to see by eye whether the boxes fit."""
    usable = [one for one in report.scan.pictures if one.readable and one.annotation.objects]
    if not usable:
        return
    chosen = np.random.default_rng(0).choice(len(usable), min(SAMPLES, len(usable)), replace=False)
    colors = _colors(report)
    yield "<h2>Pictures at random</h2><p class=muted>Do the boxes fit?"
    for name in list(report.classes)[:20]:
        yield f"<span style='color: rgb{colors[name]}'>&#9632;</span> {html_page.escape(name)}"
    yield "<div class=row>"
    for index in sorted(chosen):
        one = usable[index]
        caption = html_page.escape(_short(report, one.image_path))
        yield html_page.figure([_html_thumbnail(one, (), colors)], caption)
    yield "</div>"


def _colors(report):
    return dict(zip(report.classes, visualization.class_colors(report.classes), strict=True))


def _html_thumbnail(picture, marked, colors):
    return html_page.picture(thumbnail(picture, marked, colors))


def thumbnail(picture, marked=(), colors=None):
    """A small copy of a Picture with its boxes, uint8 RGB [H,W,3], or None if it cannot be read.

    marked: indices of the objects to be drawn in red. Gray is added where boxes lie outside.
    """
    longest = max(picture.width or 0, picture.height or 0)
    reduce = max(factor for factor in (1, 2, 4, 8) if factor == 1 or longest >= 2 * factor * THUMBNAIL)
    try:
        with scanning.decoder_messages():
            image = images.read(picture.image_path, exif=picture.exif, reduce=reduce)
    except images.ImageError:
        return None
    objects = picture.annotation.objects if picture.annotation else []
    width, height = picture.size
    edges = np.array([item.edges_px for item in objects]).reshape(-1, 4)
    outer = np.array([0, 0, width, height], np.float64)
    if len(edges):
        low = np.minimum(edges.reshape(-1, 2).min(axis=0), 0).clip((-MARGIN * width, -MARGIN * height))
        high = np.maximum(edges.reshape(-1, 2).max(axis=0), outer[2:])
        outer = np.concatenate([low, high.clip(max=((1 + MARGIN) * width, (1 + MARGIN) * height))])
    scale = min(THUMBNAIL / (outer[2:] - outer[:2]).max(), 4)  # a picture of a few pixels is enlarged, but not much
    left, top, right, bottom = np.rint((outer - [0, 0, width, height]) * scale).astype(int)
    inner = tuple(max(1, round(side * scale)) for side in (width, height))
    small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    canvas = cv2.copyMakeBorder(small, -top, bottom, -left, right, cv2.BORDER_CONSTANT, value=(205, 205, 205))
    for index, (item, box) in enumerate(zip(objects, edges, strict=True)):
        color = RED if index in marked else (colors or {}).get(item.name, (0, 195, 255))
        _draw_box(canvas, (box * scale - (left, top, left, top)), color, 2 if index in marked else 1)
    return canvas


def _draw_box(canvas, box, color, thickness):
    """A box of any sort, or a ring round one too small to be seen."""
    limit = max(canvas.shape)
    x1, y1, x2, y2 = (int(edge) for edge in np.rint(box).clip(-limit, 2 * limit))
    if abs(x2 - x1) < 8 and abs(y2 - y1) < 8:
        cv2.circle(canvas, ((x1 + x2) // 2, (y1 + y2) // 2), 9, color, thickness, cv2.LINE_AA)
    else:
        cv2.rectangle(canvas, (x1, y1), (x2, y2), color, thickness)


def _html_histograms(report):
    """Sizes and shapes of objects, as the network sees them, and of pictures, as charts."""
    boxes, side = report.truth.boxes, report.preset.input_size
    octaves = 2 ** np.arange(2, 10, 0.5)
    ratios = 2 ** np.arange(-3, 3.5, 0.5)
    yield "<h2>Sizes and shapes</h2><div class=row>"
    if len(boxes):
        width, height = ((boxes[:, 2:] - boxes[:, :2]) * side).T
        title = f"objects: √(width · height), pixels of the {side}-pixel input"
        yield _svg_histogram(np.sqrt(width * height), octaves, title)
        yield _svg_histogram(width / height, ratios, "objects: width / height in the input")
    sizes = np.array([one.size for one in report.scan.pictures if one.readable], np.float64).reshape(-1, 2)
    if len(sizes):
        yield _svg_histogram(sizes.max(axis=1), 2 ** np.arange(5, 13.5, 0.5), "pictures: longer side, pixels")
        yield _svg_histogram(sizes[:, 0] / sizes[:, 1], ratios, "pictures: width / height")
    yield "</div>"
    if len(sizes):
        common = collections.Counter(one.size for one in report.scan.pictures if one.readable).most_common(4)
        listed = ", ".join(f"{width}×{height} ({count:,})" for (width, height), count in common)
        yield f"<p class=muted>Most common sizes: {listed}</p>"


def _svg_histogram(values, edges, title):
    """An SVG bar chart; values beyond the edges count in the outermost bins."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    width, height, step = 540, 170, 520 / len(counts)
    bars = []
    for index, count in enumerate(counts):
        tall = count / max(counts.max(), 1) * 95
        x = 10 + index * step
        bars.append(f"<rect x={x:.1f} y={135 - tall:.1f} width={step - 2:.1f} height={tall:.1f} fill='#3b7dd8'/>")
        if count:
            bars.append(f"<text x={x + step / 2 - 1:.1f} y={131 - tall:.1f} text-anchor=middle>{count:,}</text>")
        if index % 2 == 0:
            label = f"{edges[index]:.0f}" if edges[index] >= 1 else f"1/{1 / edges[index]:.0f}"
            bars.append(f"<text x={x:.1f} y=150 text-anchor=middle>{label}</text>")
    return (
        f"<svg width={width} height={height} viewBox='0 0 {width} {height}'>"
        f"<text x=10 y=12 style='font-weight: 600'>{html_page.escape(title)}</text>{''.join(bars)}</svg>"
    )


def _html_anchors(report):
    """Which objects the anchors match, and the advice."""
    if not report.shares:
        return
    yield f"<h2>Anchors</h2><p>The {html_page.escape(_share_title(report))}:</p>" + html_page.table(_share_rows(report))
    yield (
        "<p class=muted>Matching gives every other object one anchor of its own, but little can be learned from one. "
        "Sizes are sides of squares of the box's area.</p>"
    )
    yield f"<p><b>{html_page.escape(advice_line(report))}</b></p>"
    if report.advice.worthwhile:
        rows = [["map", "smallest: now", "advised", "largest: now", "advised", "ratios: now", "advised"]]
        for index, side in enumerate(report.preset.feature_maps):
            cells = [
                str(getattr(preset, field)[index])
                for field in anchor_advisor.ANCHOR_FIELDS
                for preset in (report.preset, report.advice.preset)
            ]
            rows.append([f"{side}×{side}", *(cell.strip("(),") for cell in cells)])
        yield html_page.table(rows)
