"""Pictures of scores and thresholds: small multiples by class, reliability, matrices, bars."""

from collections.abc import Mapping, Sequence

import numpy as np

from media.visualization import make_figure
from system.files import Path

COLUMNS = 4  # panels in a row
MARKS = ("C3", "C4", "C5")  # colors of the lines that mark thresholds


def _grid(panels, width=3.2, height=2.6):
    """(figure, axes [panels]) of small pictures in rows; axes that are not needed are not drawn."""
    rows, columns = -(-panels // COLUMNS), min(panels, COLUMNS)
    figure = make_figure(max(width * columns, 4.6), height * rows + 0.4)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[panels:]:
        spare.remove()
    return figure, axes[:panels]


def plot_thresholds(path: Path, panels: Mapping[str, tuple[Mapping, Mapping]]) -> None:
    """Write a PNG of precision, recall and F1 against the threshold, a panel for each name.

    panels: {name: (curve, marks)}; curve: {"score", "precision", "recall", "f1"}, lists of equal length in 0..1 or
    None; marks: {what it is: threshold or None}, at most three, drawn as upright lines.
    """
    figure, all_axes = _grid(len(panels))
    for axes, (name, (curve, marks)) in zip(all_axes, panels.items(), strict=True):
        for index, column in enumerate(("precision", "recall", "f1")):
            label = "F1" if column == "f1" else column
            values = np.array(curve[column], float)  # None becomes NaN, which is not drawn
            axes.plot(curve["score"], values, color=f"C{index}", linewidth=1.8 if column == "f1" else 1.2, label=label)
        for color, (what, threshold) in zip(MARKS, marks.items(), strict=False):
            if threshold is not None:
                axes.axvline(threshold, color=color, linewidth=1, linestyle="--", label=what)
        best = next(iter(marks.values()), None)
        axes.set_title(name if best is None else f"{name}: best F1 above {best:.3g}", fontsize="medium")
        axes.set(xlim=(0, 1), ylim=(0, 1.03))
        axes.grid(alpha=0.3)
    for axes in all_axes[-COLUMNS:]:
        axes.set_xlabel("threshold")
    handles: dict = {}
    for axes in all_axes:
        handles |= {label: line for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, fontsize="small")
    figure.savefig(path)


def plot_reliability(path: Path, title: str, bins: Sequence[Mapping]) -> None:
    """Write a PNG of the share of hits against the score, above the number of detections.

    bins: as of scoring.thresholds.calibration: dicts of score, hits and detections.
    """
    figure = make_figure(5.2, 5.6)
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    curve.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="scores that are shares of hits")
    scores, hits = ([one[key] for one in bins] for key in ("score", "hits"))
    curve.plot(scores, hits, marker="o", color="C0", label="these detections")
    curve.set(title=title, ylabel="share of hits", xlim=(0, 1), ylim=(0, 1.03))
    curve.legend(fontsize="small", loc="upper left")
    counts.bar(scores, [one["detections"] for one in bins], width=0.06, color="C0", alpha=0.7)
    counts.set(xlabel="mean score, in ten bins", ylabel="detections", yscale="log")
    counts.minorticks_off()  # whose labels a log scale of few powers writes over each other
    for axes in (curve, counts):
        axes.grid(alpha=0.3)
    figure.savefig(path)
