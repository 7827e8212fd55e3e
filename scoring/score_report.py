"""Everything that average_precision.py finds out with VOC's rules beside AP: figures for --json, files for --plots.

The figures are added to those of average_precision.summarize; docs/scoring.md says what each means.
"""

import dataclasses
import os

from media import score_plots
from scoring import thresholds
from system import files

CURVES = "thresholds.json"


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
    """

    precision: float = 0.9
    recall: float = 0.9


def figures(scored, settings):
    """A dict of plain JSON types."""
    return {
        "thresholds": thresholds.operating_points(scored.curves, settings.precision, settings.recall, scored.floor),
        "calibration": thresholds.calibrations(scored.curves),
    }


def best_line(found):
    """One line that says which threshold to take. found: of `figures`."""
    best = found["thresholds"][thresholds.ALL]["best_f1"]
    if best is None:
        return "no detection hits an object, so there is no best threshold"
    return (
        f"best F1 over all classes: {best['f1']:.4f} at --threshold {best['threshold']:g} "
        f"(precision {best['precision']:.4f}, recall {best['recall']:.4f})"
    )


def write(folder, scored, found):
    """Draw the pictures and write the files into an existing folder. found: of `figures`."""
    _write_thresholds(folder, scored, found["thresholds"])
    overall = found["calibration"][thresholds.ALL]
    if overall:
        title = f"expected calibration error {overall['expected_error']:.3f}"
        score_plots.plot_reliability(os.path.join(folder, "calibration.png"), title, overall["bins"])


def _write_thresholds(folder, scored, points):
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
    files.write_json(
        os.path.join(folder, CURVES),
        {thresholds.ALL: curves.pop(thresholds.ALL), "per_class": curves},
    )


def _marks(points):
    """{words: threshold or None} of operating points."""
    words = {"best_f1": "best F1"}
    return {
        words.get(name, name.replace("_", " ")): None if one is None else one["threshold"]
        for name, one in points.items()
    }
