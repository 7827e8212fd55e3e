"""The error report for people and programs: errors.json, charts of each class, and a page of the worst cases.

Everything is in one folder; the page opens without a server, and its small pictures are inside it.
"""

import os

import cv2
import numpy as np

from media import charts, html_page, images, visualization
from scoring import error_report
from system import file_names, files
from system.wording import plural

SHOWN, LISTED = 8, 50  # worst cases of each kind on the page, and in errors.json
PAGE, DATA = "errors.html", "errors.json"
MARKED, PARTNER = (235, 40, 40), (40, 190, 70)  # red: what the case is about; green: what it overlaps
CONTEXT = 2.2  # side of the window of a case, in sides of the boxes marked in it
SMALLEST_WINDOW = 64  # pixels; smaller ones are only a blur
TITLES = {
    "localization": ("Localization", "on an object of this class, but overlapping it too little"),
    "duplicate": ("Duplicates", "on an object that a detection of higher score has claimed"),
    "confusion": ("Confusion", "on an object of another class"),
    "background": ("Background", f"overlapping no annotated object by {error_report.BACKGROUND_IOU:g} or more"),
    "missed": ("Missed objects", "hit by no detection, whatever its score; the largest first"),
}


def write(folder, ground_truth, detections, curves, class_names, iou_threshold):
    """Write errors.json, errors_CLASS.png and errors.html into an existing folder, and return the path of the page.

    ground_truth, detections, class_names, iou_threshold: as for average_precision.precision_recall; curves: what it
    returned. A picture that cannot be read is shown as missing.
    """
    all_errors = error_report.analyze(ground_truth, curves, iou_threshold)
    data = error_report.to_json(all_errors, ground_truth, detections, class_names, iou_threshold, LISTED)
    files.write_json(os.path.join(folder, DATA), data)
    names = dict(zip(class_names, file_names.safe_names(class_names), strict=True))
    shown = [one for one in all_errors if len(one.kinds) or len(one.fates)]
    parts = [*_summary(shown, names, iou_threshold)]
    for errors in shown:
        safe = names[errors.curve.name]
        _plot(os.path.join(folder, f"errors_{safe}.png"), errors, ground_truth, class_names)
        cases = error_report.worst_cases(errors, ground_truth, detections, class_names, SHOWN)
        parts += [*_class_part(errors, cases, safe, folder, ground_truth)]
    path = os.path.join(folder, PAGE)
    files.write(path, html_page.page("Detection errors", "Detection errors", parts))
    return path


def _plot(path, errors, ground_truth, class_names):
    curve = errors.curve
    charts.plot_errors(
        path,
        f"{curve.name}: {plural(curve.positives, 'object')}, {plural(len(errors.kinds), 'detection')}",
        true_scores=curve.scores[curve.true],
        false_scores=curve.scores[curve.false],
        kinds=error_report.false_positives(errors),
        confused=error_report.confused_with(errors, ground_truth, class_names),
        sizes=error_report.by_size(errors),
    )


def _summary(all_errors, names, iou_threshold):
    """Definitions of the kinds, and a row per class. names: {class: its part of file names}."""
    low = f"{error_report.BACKGROUND_IOU:g}"
    yield (
        "<p>A detection hits the object of its class that it overlaps most if their IoU is at least "
        f"{iou_threshold:g} and no detection of higher score has claimed it. Any other is a false positive, of the "
        "first kind that applies: <b>duplicate</b>, the object is claimed; <b>localization</b>, it overlaps an object "
        f"of its class by {low} or more; <b>confusion</b>, one of another class by {low} or more; <b>background</b>. "
        "An object is <b>missed</b> if no detection hits it. Detections that hit a difficult object are ignored; "
        "objects of classes that are not scored are left out.</p>"
        "<p class=muted>Kinds after Hoiem, Chodpathumwan and Dai, Diagnosing Error in Object Detectors, ECCV 2012. "
        "The numbers count the best detections of each class, as many as it has objects (a perfect detector has no "
        "false positive among them); numbers in brackets count all detections, most of which have low scores.</p>"
    )
    rows = [["class", "objects", "AP VOC07", "hits", *error_report.KINDS, "missed"]]
    for errors in all_errors:
        curve = errors.curve
        kinds = [f"{top:,} ({count:,})" for top, count in error_report.false_positives(errors).values()]
        hits = f"{int((curve.true & errors.top).sum()):,} ({int(curve.true.sum()):,})"
        ap = "n/a" if curve.voc07 is None else f"{curve.voc07:.3f}"
        missed = int((errors.fates == error_report.NOT_HIT).sum())
        rows.append([curve.name, f"{curve.positives:,}", ap, hits, *kinds, f"{missed:,}"])
    yield html_page.table(rows)
    classes = [one.curve.name for one in all_errors]
    links = (f"<a href='#class-{names[name]}'>{html_page.escape(name)}</a>" for name in classes)
    yield f"<p>Worst cases of {' · '.join(links)}</p>"
    yield legend()


def legend():
    """What the colors of `draw` mean, as HTML."""
    return (
        f"<p><span style='color: rgb{MARKED}'>&#9632;</span> the false positive, or the missed object &nbsp; "
        f"<span style='color: rgb{PARTNER}'>&#9632;</span> what it overlaps &nbsp; dashed: all annotated objects</p>"
    )


def _class_part(errors, cases, safe, folder, ground_truth):
    """Charts and worst cases of one class. safe: its part of file names."""
    name = html_page.escape(errors.curve.name)
    yield f"<h2 id='class-{safe}'>{name}</h2>{html_page.chart(f'errors_{safe}.png', f'errors of {errors.curve.name}')}"
    curve = f"precision_recall_{safe}.png"
    if os.path.exists(os.path.join(folder, curve)):
        yield f"<p><a href='{curve}'>precision and recall</a></p>"
    for kind, some in cases.items():
        title, meaning = TITLES[kind]
        if some:
            yield f"<h3>{name}: {title}</h3><p class=muted>{meaning}</p><div class=row>"
            for case in some:
                yield case_figure(case, ground_truth)
            yield "</div>"


def case_figure(case, ground_truth):
    """A Case as HTML: its surroundings and what they show."""
    return html_page.figure([html_page.picture(draw(case, ground_truth[case.id]))], _caption(case))


def _caption(case):
    words = [] if case.score is None else [f"score {case.score:.2f}"]
    if case.kind == error_report.MISSED:
        width, height = case.box_px[2:] - case.box_px[:2]
        words.append(f"{width:.0f}×{height:.0f} pixels")
        seen = f"overlapped most by {case.partner} {case.partner_score or 0:.2f}"
        words.append(f"{seen}, IoU {case.overlap:.2f}" if case.partner else "no detection there")
    elif case.partner:
        words.append(f"IoU {case.overlap:.2f} with {case.partner}")
    return f"{html_page.escape(', '.join(words))}<br>{html_page.escape(case.id)}"


def draw(case, sample):
    """The surroundings of a Case as a small picture, uint8 RGB [H,W,3]; None if the picture cannot be read."""
    try:
        image = images.read(sample.image_path, exif=sample.exif, gray16=images.STRETCH)
    except images.ImageError:
        return None
    marked = [case.box_px] if case.partner_px is None else [case.box_px, case.partner_px]
    left, top, right, bottom = _window(np.array(marked, np.float64), image.shape[1], image.shape[0])
    scale = html_page.PICTURE / max(right - left, bottom - top)
    size = tuple(max(1, round(side * scale)) for side in (right - left, bottom - top))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    canvas = cv2.resize(image[top:bottom, left:right], size, interpolation=method)

    def place(box_px):
        return (np.asarray(box_px, np.float64) - (left, top, left, top)) * scale

    for box_px in sample.boxes_px:
        visualization.draw_dashed(canvas, place(box_px), 2)
    for box_px, color in list(zip(marked, (MARKED, PARTNER), strict=False))[::-1]:
        visualization.draw_box(canvas, place(box_px), 2, color)
    return canvas


def _window(boxes_px, width, height):
    """(left, top, right, bottom) whole pixels of the part of a picture around boxes [N,4]."""
    low, high = boxes_px[:, :2].min(axis=0), boxes_px[:, 2:].max(axis=0)
    side = max(CONTEXT * (high - low).max(), SMALLEST_WINDOW)
    edges = []
    for center, length in zip((low + high) / 2, (width, height), strict=True):
        start = round(float(np.clip(center - side / 2, 0, max(length - side, 0))))
        start = min(start, length - 1)
        edges.append((start, min(length, max(start + 1, round(start + side)))))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom
