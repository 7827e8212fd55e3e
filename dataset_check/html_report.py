"""A Report as one HTML page with pictures, which needs no other file."""

import collections
import pathlib

import cv2
import numpy as np

from dataset_check import anchor_advisor, reporting
from dataset_check.defects import DEFECTS
from media import html_page, images
from media.class_colors import class_colors
from system import files

THUMBNAIL = html_page.PICTURE
# So the page of the longest report stays below 10 MB
SHOWN_PICTURES, SHOWN_FILES, SAMPLES = 8, 50, 12
RED = (235, 40, 40)
MARGIN = 0.4  # how far boxes outside the picture are shown, as a fraction of its side


def write(path, report):
    """Write a Report as an HTML file."""
    name = pathlib.Path(report.scan.data).resolve().name
    parts = [
        f"<p>{html_page.escape(reporting.summary(report))}</p>",
        *_html_findings(report),
        "<h2>Objects</h2>" + html_page.table(reporting.class_rows(report)),
        *_html_histograms(report),
        *_html_anchors(report),
        *_html_samples(report),
        *_html_details(report),
    ]
    files.write(path, html_page.page(f"{name}: data set check", name, parts))


def _html_findings(report):
    """The table of defects; each row links to its pictures."""
    yield "<h2>Findings</h2>"
    if not report.findings:
        yield "<p class=good>No defects found.</p>"
        return
    yield "<table><tr><th class=n>number<th>defect<th>files<th>what train.py does<th>what --fix does"
    for kind, found in reporting.by_defect(report).items():
        defect = DEFECTS[kind]
        grave = " class=grave" if defect.grave else ""
        yield (
            f"<tr><td class=n>{sum(one.count for one in found):,}<td{grave}><a href='#{kind}'>{defect.title}</a>"
            f"<td>{len({one.path for one in found}):,}<td>{defect.training}<td>{defect.fix}"
        )
    yield "</table><p class=muted>Red: stops training or spoils its result.</p>"


def _html_details(report):
    """For each defect its first pictures and its files."""
    yield "<h2>Files</h2>"
    colors = _colors(report)
    for kind, found in reporting.by_defect(report).items():
        yield f"<h3 id='{kind}'>{DEFECTS[kind].title}</h3><div class=row>"
        for one in found[:SHOWN_PICTURES]:
            if one.picture is not None and one.picture.image_path is not None:
                yield _figure(report, one, colors)
        yield "</div><ul>"
        for one in found[:SHOWN_FILES]:
            yield f"<li>{html_page.escape(reporting.finding_line(report, one))}"
        yield "</ul>" + (f"<p>and {len(found) - SHOWN_FILES:,} more" if len(found) > SHOWN_FILES else "")


def _figure(report, finding, colors):
    """The picture of a finding, beside the one that it is a copy of."""
    pictures = [finding.picture] + ([finding.other] if finding.other else [])
    shown = [_html_thumbnail(one, finding.objects if one is finding.picture else (), colors) for one in pictures]
    return html_page.figure(
        shown, html_page.escape(reporting.short_path(report, finding.path)), pair=bool(finding.other)
    )


def _html_samples(report):
    """Some pictures at random, to check by eye that the boxes fit."""
    usable = [one for one in report.scan.pictures if one.readable and one.annotation.objects]
    if not usable:
        return
    chosen = np.random.default_rng(0).choice(len(usable), min(SAMPLES, len(usable)), replace=False)
    colors = _colors(report)
    yield "<h2>Pictures at random</h2><p class=muted>Check by eye that the boxes fit."
    for name in list(report.classes)[:20]:
        yield f"<span style='color: rgb{colors[name]}'>&#9632;</span> {html_page.escape(name)}"
    yield "<div class=row>"
    for index in sorted(chosen):
        one = usable[index]
        caption = html_page.escape(reporting.short_path(report, one.image_path))
        yield html_page.figure([_html_thumbnail(one, (), colors)], caption)
    yield "</div>"


def _colors(report):
    return dict(zip(report.classes, class_colors(report.classes), strict=True))


def _html_thumbnail(picture, marked, colors):
    return html_page.picture(thumbnail(picture, marked, colors))


def thumbnail(picture, marked=(), colors=None):
    """A small copy of a Picture with its boxes, uint8 RGB [H,W,3], or None if it cannot be read.

    marked: indices of the objects to draw in red.
    colors: {class: RGB} for the others.
    A gray margin shows boxes outside the picture.
    """
    longest = max(picture.width or 0, picture.height or 0)
    reduce = max(factor for factor in (1, 2, 4, 8) if factor == 1 or longest >= 2 * factor * THUMBNAIL)
    try:
        image = images.read(picture.image_path, exif=picture.exif, reduce=reduce, gray16=images.STRETCH)
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
    scale = min(THUMBNAIL / (outer[2:] - outer[:2]).max(), 4)  # enlarge very small pictures, but not much
    left, top, right, bottom = np.rint((outer - [0, 0, width, height]) * scale).astype(int)
    inner = tuple(max(1, round(side * scale)) for side in (width, height))
    small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    canvas = cv2.copyMakeBorder(small, -top, bottom, -left, right, cv2.BORDER_CONSTANT, value=(205, 205, 205))
    for index, (item, box) in enumerate(zip(objects, edges, strict=True)):
        color = RED if index in marked else (colors or {}).get(item.name, (0, 195, 255))
        _draw_box(canvas, (box * scale - (left, top, left, top)), color, 2 if index in marked else 1)
    return canvas


def _draw_box(canvas, box, color, thickness):
    """Draw a box, or a ring around a box that is too small to see."""
    limit = max(canvas.shape)
    x1, y1, x2, y2 = (int(edge) for edge in np.rint(box).clip(-limit, 2 * limit))
    if abs(x2 - x1) < 8 and abs(y2 - y1) < 8:
        cv2.circle(canvas, ((x1 + x2) // 2, (y1 + y2) // 2), 9, color, thickness, cv2.LINE_AA)
    else:
        cv2.rectangle(canvas, (x1, y1), (x2, y2), color, thickness)


def _html_histograms(report):
    """Charts of the sizes and shapes of objects, as the network sees them, and of pictures."""
    boxes = report.truth.boxes
    octaves = 2 ** np.arange(2, 10, 0.5)
    ratios = 2 ** np.arange(-3, 3.5, 0.5)
    yield "<h2>Sizes and shapes</h2><div class=row>"
    if len(boxes):
        width, height = ((boxes[:, 2:] - boxes[:, :2]) * report.preset.input_wh).T
        title = f"objects: √(width · height), pixels of the input of {reporting.input_text(report.preset)}"
        yield _svg_histogram(anchor_advisor.sides_px(report.preset, boxes), octaves, title)
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
    """An SVG bar chart of values; those beyond the edges count in the outermost bins."""
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
    """Tables of the objects that the anchors match, and of the proposed anchors."""
    if not report.shares:
        return
    yield f"<h2>Anchors</h2><p>The {html_page.escape(reporting.share_title(report))}:</p>" + html_page.table(
        reporting.share_rows(report)
    )
    yield (
        "<p class=muted>Every other object is still matched to one anchor, but training learns little from one. "
        "The size of an object is the square root of its area.</p>"
    )
    yield f"<p><b>{html_page.escape(reporting.advice_line(report))}</b></p>"
    if report.advice.worthwhile:
        rows = [["map", "smallest: now", "proposed", "largest: now", "proposed", "ratios: now", "proposed"]]
        for index, (cells_down, cells_across) in enumerate(report.preset.grids):
            cells = [
                str(getattr(preset, field)[index])
                for field in anchor_advisor.ANCHOR_FIELDS
                for preset in (report.preset, report.advice.preset)
            ]
            rows.append([f"{cells_across}×{cells_down}", *(cell.strip("(),") for cell in cells)])
        yield html_page.table(rows)
