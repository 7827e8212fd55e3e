"""Everything that average_precision.py finds out by VOC's rules beside AP: figures for --json, files for --plots.

The figures are added to those of average_precision.summarize; docs/scoring.md says what each means.
"""

import dataclasses
import os

from media import score_plots
from scoring import confusion, score_cuts, thresholds, tide
from scoring.score_threshold import ScoreThreshold
from system import files

CURVES = "thresholds.json"
LISTED = 50  # pictures of each cell of the confusion matrix in the JSON
FALLBACK = 0.5  # threshold of the confusion matrix where there is no best one


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
    """Detections and what the metric says of them.

    ground_truth: {id: Sample}; detections: {id: Detections}; class_names: of their labels.
    curves: the average_precision.ClassCurves of these.
    iou: smallest overlap of a hit.
    floor: the detections were cut at this score; 0 if that is not known.
    """

    ground_truth: dict
    detections: dict
    class_names: tuple
    curves: list
    iou: float
    floor: float = 0.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the user chose.

    precision, recall: for which thresholds are wanted beside the best F1.
    cuts: scores at which AP is given.
    confusion: threshold of the confusion matrix; None for that of best F1 over all classes.
    """

    precision: float = 0.9
    recall: float = 0.9
    cuts: tuple = score_cuts.CUTS
    confusion: ScoreThreshold | None = None


def figures(scored, settings):
    """(a dict of plain JSON types, the confusion.Confusion)."""
    points = thresholds.operating_points(scored.curves, settings.precision, settings.recall, scored.floor)
    limits = _limits(points, scored.class_names, settings.confusion)
    matrix = confusion.confuse(scored.ground_truth, scored.curves, limits, scored.iou)
    found = {
        "thresholds": points,
        "calibration": thresholds.calibrations(scored.curves),
        "confusion": confusion.to_json(matrix, scored.ground_truth, scored.class_names, LISTED),
        "score_cuts": score_cuts.table(scored.curves, settings.cuts),
        "error_costs": tide.costs(scored.ground_truth, scored.detections, len(scored.class_names), scored.iou),
    }
    return found, matrix


def _limits(points, class_names, chosen):
    """The threshold of each class for the confusion matrix."""
    over_all = points[thresholds.ALL]["best_f1"]
    every = over_all["threshold"] if over_all else FALLBACK
    if chosen is not None and chosen.is_best:
        best = [points["per_class"][name]["best_f1"] for name in class_names]
        return [one["threshold"] if one else every for one in best]
    each = every if chosen is None else chosen.for_classes(class_names, every)
    return list(each) if isinstance(each, tuple) else [each] * len(class_names)


def best_line(found):
    """One line that says which threshold to take. found: of `figures`."""
    best = found["thresholds"][thresholds.ALL]["best_f1"]
    if best is None:
        return "no detection hits an object, so there is no best threshold"
    return (
        f"best F1 over all classes: {best['f1']:.4f} at --threshold {best['threshold']:g} "
        f"(precision {best['precision']:.4f}, recall {best['recall']:.4f})"
    )


def draw(folder, scored, found, matrix):
    """Draw the pictures and write the files into an existing folder. found, matrix: of `figures`."""

    def path(name):
        return os.path.join(folder, name)

    _draw_thresholds(folder, scored, found["thresholds"])
    overall = found["calibration"][thresholds.ALL]
    if overall:
        title = f"expected calibration error {overall['expected_error']:.3f}"
        score_plots.plot_reliability(path("calibration.png"), title, overall["bins"])
    names = [*scored.class_names, confusion.BACKGROUND]
    score_plots.plot_matrix(path("confusion.png"), names, matrix.counts, f"detections {above(matrix)}")
    _draw_cuts(path("score_cuts.png"), scored.curves, found["score_cuts"])
    costs = found["error_costs"]
    if costs["ap"] is not None:
        gains = {kind: (one["gain"], one["count"]) for kind, one in costs["errors"].items()}
        score_plots.plot_gains(path("error_costs.png"), f"AP now {costs['ap']:.3f}", gains)


def above(matrix):
    """'that score above 0.4', for a Confusion."""
    limits = sorted(set(matrix.thresholds.tolist()))
    return f"that score above {limits[0]:g}" + (f" to {limits[-1]:g}, by class" if len(limits) > 1 else "")


def _draw_thresholds(folder, scored, points):
    swept = {thresholds.ALL: thresholds.sweep(scored.curves)}
    swept |= {curve.name: thresholds.sweep([curve]) for curve in scored.curves if curve.positives}
    curves = {name: thresholds.on_grid(one) for name, one in swept.items()}
    names = list(curves)
    all_points = [points[thresholds.ALL], *(points["per_class"][name] for name in names[1:])]
    panels = {
        "all classes" if index == 0 else name: (curves[name], _marks(all_points[index]))
        for index, name in enumerate(names)
    }
    score_plots.plot_thresholds(os.path.join(folder, "thresholds.png"), panels)
    written = {thresholds.ALL: curves.pop(thresholds.ALL), "per_class": curves}
    files.write_json(os.path.join(folder, CURVES), written)


def _marks(points):
    """{words: threshold or None} of operating points."""
    return {words(name): None if one is None else one["threshold"] for name, one in points.items()}


def words(name):
    """'best F1' for the key best_f1 of operating points, 'precision 0.9' for precision_0.9."""
    return "best F1" if name == "best_f1" else name.replace("_", " ")


def _draw_cuts(path, curves, rows):
    panels = {}
    for curve in (one for one in curves if one.positives):
        kept = [(row, score_cuts.cut(curve, row["score"])) for row in rows]
        panels[curve.name] = [
            (f"> {row['score']:g}: VOC07 {one.voc07:.3f}", one.recall, one.precision) for row, one in kept
        ]
    if panels:
        score_plots.plot_score_cuts(path, panels)
