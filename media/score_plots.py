"""Pictures of scores and thresholds: small multiples by class, reliability, matrices, bars."""

from collections.abc import Mapping, Sequence

import numpy as np

from media.charts import envelope_steps, in_plot, make_figure, save_figure, set_title, short_name
from system.file_names import Path

COLUMNS = 4  # panels in a row
MARKS = ("C3", "C4", "C5")  # colors of the lines that mark thresholds
LEGEND_END = (0.55, 0.35)  # recall and precision, up to which a legend at the lower left reaches
MARKERS = "os^DvPX*"  # of sizes of batches, in their order


def _grid(panels, width=3.2, height=2.6):
    """(figure, axes [panels]) of small pictures in rows; axes that are not needed are not drawn."""
    rows, columns = -(-panels // COLUMNS), min(panels, COLUMNS)
    wide, high = max(width * columns, 4.6), height * rows + 0.9
    figure = make_figure(wide, high)
    figure.set_layout_engine("none")  # computing the margins costs as much as drawing
    margins = {"left": 0.55 / wide, "right": 1 - 0.15 / wide, "bottom": 0.85 / high, "top": 1 - 0.35 / high}
    grid = {**margins, "wspace": 0.22, "hspace": 0.34}
    axes = list(figure.subplots(rows, columns, squeeze=False, gridspec_kw=grid).flat)
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
        set_title(axes, name if best is None else f"{name}: best F1 above {best:.3g}", fontsize="medium")
        axes.set(xlim=(0, 1), ylim=(0, 1.03))
        axes.grid(alpha=0.3)
    for axes in all_axes[-COLUMNS:]:
        axes.set_xlabel("threshold")
    handles: dict = {}
    for axes in all_axes:
        handles |= {label: line for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=6, fontsize="small")
    save_figure(figure, path)


def plot_reliability(path: Path, title: str, bins: Sequence[Mapping]) -> None:
    """Write a PNG of the share of hits against the score, above the number of detections.

    bins: as of scoring.thresholds.calibration: dicts of score, hits and detections.
    """
    figure = make_figure(5.2, 5.6)
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    means = [one["score"] for one in bins]  # which may lie close together
    places = np.searchsorted(np.linspace(0, 1, 11)[1:-1], means) / 10 + 0.05
    curve.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="scores that are shares of hits")
    scores, hits = ([one[key] for one in bins] for key in ("score", "hits"))
    curve.plot(scores, hits, marker="o", color="C0", label="these detections")
    curve.set(title=in_plot(title), ylabel="share of hits", xlim=(0, 1), ylim=(0, 1.03))
    curve.legend(fontsize="small", loc="upper left")
    counts.bar(places, [one["detections"] for one in bins], width=0.09, color="C0", alpha=0.7)
    counts.set(xlabel="score, in ten bins (curve: at their means)", ylabel="detections", yscale="log")
    counts.minorticks_off()  # whose labels a log scale of few powers writes over each other
    for axes in (curve, counts):
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def plot_matrix(path: Path, names: Sequence[str], counts: np.ndarray, title: str) -> None:
    """Write a PNG of a confusion matrix, colored by the share of its row.

    names: of rows and columns, [C]; counts: int [C,C], objects × detections.
    """
    size = len(names)
    side = min(max(4.2, 0.42 * size + 2.4), 24.0)
    figure = make_figure(side + 0.8, side)
    axes = figure.subplots()
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(size), [short_name(name) for name in names], rotation=90)
    axes.set_yticks(range(size), [short_name(name) for name in names])
    axes.set(title=in_plot(title), xlabel="detected as (background: missed)", ylabel="object (background: none)")
    if size <= 40:
        for row, column in zip(*np.nonzero(counts), strict=True):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(image, label="share of the row")
    save_figure(figure, path)


def plot_score_cuts(path: Path, panels: Mapping[str, Sequence[tuple[str, np.ndarray, np.ndarray]]]) -> None:
    """Write a PNG of the monotone envelopes of precision-recall curves laid over each other, a panel for each class.

    panels: {class: [(label, recall [N], precision [N]), …]}, the longest curve first; it is drawn widest.
    """
    figure, all_axes = _grid(len(panels))
    for axes, (name, lines) in zip(all_axes, panels.items(), strict=True):
        for index, (label, recall, precision) in enumerate(lines):
            width = max(6.0 - 1.6 * index, 1.0)
            line = envelope_steps(recall, precision) if len(recall) else ([], [])
            axes.plot(*line, color=f"C{index}", linewidth=width, label=in_plot(label), alpha=0.85)
        set_title(axes, name, fontsize="medium")
        axes.set(xlim=(0, 1), ylim=(0, 1.03))
        _, recall, precision = lines[0]
        is_above = np.max(precision[recall > LEGEND_END[0]], initial=0) > LEGEND_END[1]
        axes.legend(fontsize="x-small", loc="lower left" if is_above else "upper right")
        axes.grid(alpha=0.3)
    for axes in all_axes[-COLUMNS:]:
        axes.set_xlabel("recall")
    for axes in all_axes[::COLUMNS]:
        axes.set_ylabel("precision")
    save_figure(figure, path)


def plot_gains(path: Path, title: str, gains: Mapping[str, tuple[float, int]]) -> None:
    """Write a PNG of bars: the AP that fixing each kind of error would gain. gains: {kind: (gain 0..1, count)}."""
    figure = make_figure(7.0, 0.42 * len(gains) + 1.2)
    axes = figure.subplots()
    names = list(gains)[::-1]
    values = [gains[name][0] for name in names]
    axes.barh(range(len(names)), values, color="C1")
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    for y, (name, value) in enumerate(zip(names, values, strict=True)):
        axes.annotate(f" {value:.3f}  ({gains[name][1]:,})", (max(value, 0), y), va="center", fontsize=8)
    axes.set(title=in_plot(title), xlabel="AP gained if these errors were fixed (and how many there are)")
    axes.set_xlim(0, 1.3 * max([*values, 0.01]))
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3, axis="x")
    save_figure(figure, path)


def plot_differences(path: Path, title: str, rows: Mapping[str, tuple[float, float, float]]) -> None:
    """Write a PNG of differences with their intervals, a line each. rows: {name: (difference, low, high)}."""
    figure = make_figure(7.0, 0.32 * len(rows) + 1.2)
    axes = figure.subplots()
    names = list(rows)[::-1]
    for y, name in enumerate(names):
        value, low, high = rows[name]
        color = "C2" if low > 0 else "C3" if high < 0 else "0.5"
        axes.plot([low, high], [y, y], color=color, linewidth=2)
        axes.plot([value], [y], marker="o", color=color)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(names)), [short_name(name) for name in names])
    axes.set(title=in_plot(title), xlabel="difference of AP, and its interval")
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.grid(alpha=0.3, axis="x")
    save_figure(figure, path)


def plot_speed(path: Path, title: str, models: Sequence[tuple[str, Mapping[int, float], float]]) -> None:
    """Write a PNG of accuracy against speed: a line for each model, with a mark for each size of batch.

    models: [(name, {size of batch: images/s}, AP in 0..1)].
    """
    figure = make_figure(9.0, 5.4)
    axes = figure.subplots()
    sizes = sorted({batch for _, rates, _ in models for batch in rates})
    for index, (name, rates, ap) in enumerate(models):
        color = f"C{index % 10}"
        label = name if len(name) <= 30 else f"…{name[-29:]}"  # of a path the end says most
        axes.plot(list(rates.values()), [ap] * len(rates), color=color, linewidth=1, label=in_plot(label))
        for batch, rate in rates.items():
            axes.plot([rate], [ap], marker=MARKERS[sizes.index(batch) % len(MARKERS)], color=color, markersize=8)
    for batch, marker in zip(sizes, MARKERS, strict=False):
        axes.plot([], [], marker=marker, color="0.4", linestyle="none", label=f"batch {batch}")
    axes.set(title=in_plot(title), xlabel="images a second", ylabel="mean AP (area)")
    low, high = axes.get_ylim()
    axes.set_ylim(max(0, low - 0.02), min(1, high + 0.02))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    if models:
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    save_figure(figure, path)
