"""report.html: all figures of one scoring on one page, in the look of errors.html, with its pictures beside it."""

import os

from media import html_page
from media.html_page import Html
from scoring import confusion, error_pages, score_report
from system import file_names, files
from system.wording import plural

PAGE = "report.html"
CELLS, SHOWN = 24, 3  # cells of the confusion matrix with pictures, and pictures of each
LARGE = 40  # a larger matrix is only drawn, and its fullest cells listed


def write(folder, scored, summary, found, matrix, *, by_group=None, errors_page=None):
    """Write report.html into the folder that `score_report.draw` has drawn into, and return its path.

    scored, found, matrix: as of score_report; summary: the figures of average_precision.summarize.
    by_group: {group: summary and found in one dict}, or None; errors_page: the name of errors.html beside it, or None.
    """
    parts = [
        _contents(by_group),
        *_figures(scored, summary, found),
        *_thresholds(found),
        *_cuts(found["score_cuts"]),
        *_confusion(scored, matrix),
        *_costs(found["error_costs"]),
    ]
    if by_group:
        parts += _groups(by_group)
    if errors_page:
        parts += _errors(scored, errors_page)
    path = os.path.join(folder, PAGE)
    files.write(path, html_page.page("Detection report", "Detection report", parts))
    return path


def _contents(by_group):
    titles = {"thresholds": "Thresholds", "cuts": "AP at scores", "confusion": "Confusion", "costs": "What errors cost"}
    titles |= {"groups": "Groups"} if by_group else {}
    links = [f"<a href='#{name}'>{title}</a>" for name, title in {**titles, "errors": "Errors"}.items()]
    return f"<p>{' · '.join(links)}</p>"


def number(value, digits=3):
    """A share as text; n/a for None."""
    return "n/a" if value is None else f"{value:.{digits}f}"


def _figures(scored, summary, found):
    rows = [["class", "objects", "detections", "AP VOC07", "AP area", "best F1", "at score", "calibration error"]]
    for name in (*scored.class_names, "mean"):
        mean = name == "mean"
        counts = [sum(summary[key].values()) if mean else summary[key][name] for key in ("ground_truth", "detections")]
        values = [summary[key]["mean"] if mean else summary[key]["per_class"][name] for key in ("voc07", "area")]
        best = (found["thresholds"]["all"] if mean else found["thresholds"]["per_class"][name])["best_f1"]
        calibrated = found["calibration"]["all"] if mean else found["calibration"]["per_class"][name]
        rows.append(
            [
                "mean; F1 and calibration over all" if mean else name,
                *(f"{count:,}" for count in counts),
                *map(number, values),
                number(best and best["f1"]),
                "n/a" if best is None else f"{best['threshold']:.3g}",
                number(calibrated and calibrated["expected_error"]),
            ]
        )
    yield f"<p>{plural(summary['images'], 'image')}; a hit overlaps its object by {summary['iou']:g} or more.</p>"
    yield html_page.table(rows)
    yield html_page.chart("precision_recall.png", "precision against recall")


def _thresholds(found):
    points = found["thresholds"]
    kinds = list(points["all"])
    yield (
        "<h2 id=thresholds>Thresholds</h2><p>Which score to run the detector at: precision is the share of hits among "
        "the detections above the threshold, recall the share of objects hit, F1 their harmonic mean. Each cell: the "
        "threshold, and the precision / recall that it gives.</p>"
    )
    rows = [["class", *(score_report.words(kind) for kind in kinds)]]
    for name, one in {"all classes": points["all"], **points["per_class"]}.items():
        rows.append([name, *("n/a" if one[kind] is None else _point(one[kind]) for kind in kinds)])
    yield html_page.table(rows)
    yield html_page.chart("thresholds.png", "precision, recall and F1 against the threshold")
    if found["calibration"]["all"]:
        yield (
            "<p>Calibration: if scores were probabilities, the curve would lie on the diagonal. Above it, detections "
            "are better than their scores; below, worse.</p>"
        )
        yield html_page.chart("calibration.png", "share of hits against the score")


def _point(point):
    return f"{point['threshold']:.3g}: {point['precision']:.2f} / {point['recall']:.2f}"


def _cuts(rows):
    yield (
        "<h2 id=cuts>AP at scores</h2><p>AP VOC07 where only the detections above a score are kept. A program that "
        "drops low scores cuts the curve short.</p>"
    )
    head = ["class", *(f"above {row['score']:g}" for row in rows)]
    names = list(rows[0]["voc07"]["per_class"])
    body = [[name, *(number(row["voc07"]["per_class"][name]) for row in rows)] for name in names]
    yield html_page.table([head, *body, ["mean", *(number(row["voc07"]["mean"]) for row in rows)]])
    if any(value is not None for value in rows[0]["voc07"]["per_class"].values()):
        yield html_page.chart("score_cuts.png", "precision-recall curves at several scores")


def _confusion(scored, matrix):
    names = [*scored.class_names, confusion.BACKGROUND]
    shown = list(confusion.cells(matrix, scored.class_names))[:CELLS]
    linked = {(row, column): f"cell-{index}" for index, (row, column, _) in enumerate(shown)}
    yield (
        f"<h2 id=confusion>Confusion</h2><p>Objects (rows) and the detections {score_report.above(matrix)} (columns). "
        "The diagonal holds the hits; the last row holds detections without an object of their own, also duplicates "
        "and badly placed ones; the last column holds missed objects. Numbers link to pictures.</p>"
    )
    if len(names) <= LARGE:
        rows: list = [["object", *names]]
        for index, name in enumerate(names):
            cells = [_cell(linked.get((name, names[k])), count) for k, count in enumerate(matrix.counts[index])]
            rows.append([name, *cells])
        yield html_page.table(rows)
    yield html_page.chart("confusion.png", "confusion matrix")
    yield error_pages.legend()
    ids = list(scored.ground_truth)
    for row, column, entries in shown:
        title = f"{row} taken for {column}" if confusion.BACKGROUND not in (row, column) else None
        title = title or (
            f"{row} missed" if column == confusion.BACKGROUND else f"{column} without an object of its own"
        )
        yield f"<h3 id={linked[row, column]}>{html_page.escape(title)} ({len(entries):,})</h3><div class=row>"
        for entry in entries[:SHOWN]:
            case = confusion.case(matrix, entry, scored.ground_truth, scored.detections, ids, scored.class_names)
            yield error_pages.case_figure(case, scored.ground_truth)
        yield "</div>"


def _cell(anchor, count):
    return Html(f"<a href='#{anchor}'>{count:,}</a>") if anchor else f"{count:,}" if count else "·"


def _costs(costs):
    yield (
        "<h2 id=costs>What errors cost</h2><p>The AP that would be gained if all errors of a kind were fixed, each "
        "kind on its own, after <a href='https://arxiv.org/abs/2008.08115'>TIDE</a>. Its AP is the mean precision at "
        f"101 recalls: {number(costs['ap'])} now.</p>"
    )
    rows = [["errors", "count", "AP gained"]]
    for kind, one in costs["errors"].items():
        rows.append([kind.replace("_", " "), f"{one['count']:,}", number(one["gain"])])
    yield html_page.table(rows)
    if costs["ap"] is not None:
        yield html_page.chart("error_costs.png", "AP gained by fixing each kind of error")


def _groups(by_group):
    yield "<h2 id=groups>Groups</h2><p>The figures of each group of pictures; all of them are in the JSON.</p>"
    kinds = [kind for kind in next(iter(by_group.values()))["error_costs"]["errors"] if kind.count("_") == 0]
    rows = [
        ["group", "images", "objects", "mean AP VOC07", "best F1", "at score", *(f"{kind} errors" for kind in kinds)]
    ]
    for name, one in by_group.items():
        best = one["thresholds"]["all"]["best_f1"]
        gains = [number(one["error_costs"]["errors"][kind]["gain"]) for kind in kinds]
        counts = [f"{one['images']:,}", f"{sum(one['ground_truth'].values()):,}", number(one["voc07"]["mean"])]
        at = ["n/a", "n/a"] if best is None else [number(best["f1"]), f"{best['threshold']:.3g}"]
        rows.append([name, *counts, *at, *gains])
    yield html_page.table(rows)
    yield "<p class=muted>Columns of errors: the AP that fixing them would gain.</p>"
    names = list(next(iter(by_group.values()))["voc07"]["per_class"])
    head = ["AP VOC07", *by_group]
    body = [[name, *(number(one["voc07"]["per_class"][name]) for one in by_group.values())] for name in names]
    yield html_page.table([head, *body])


def _errors(scored, errors_page):
    names = dict(zip(scored.class_names, file_names.safe_names(scored.class_names), strict=True))
    shown = [curve.name for curve in scored.curves if len(curve.scores) or curve.positives]  # as errors.html has them
    links = (f"<a href='{errors_page}#class-{names[name]}'>{html_page.escape(name)}</a>" for name in shown)
    yield (
        "<h2 id=errors>Errors</h2><p>Kinds of errors of each class, and the worst cases of each kind, with pictures: "
        f"{' · '.join(links)}</p>"
    )
    for name in shown:
        yield html_page.chart(f"errors_{names[name]}.png", f"errors of {name}")
