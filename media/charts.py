"""Charts by Matplotlib: precision against recall, kinds of errors, learning curves, the learning-rate test."""

import warnings
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from media.lettering import drawable
from system import files
from system.file_names import Path
from system.wording import plural

CLOSE = 8  # largest loss / smallest: below that, a scale of 1, 2, 3, 5, 10 has too few ticks


def in_plot(text: str) -> str:
    """A text for Matplotlib, `drawable`, in which a $ begins no formula."""
    return drawable(text).replace("$", r"\$")


def plot_precision_recall(path: Path, lines: Sequence[tuple[str, ArrayLike, ArrayLike]], title: str) -> None:
    """Write a PNG of precision against recall.

    lines: list of (label, recall [N], precision [N]), both in 0..1, recall rising; N may be 0. A single line is drawn
        with its monotone envelope, the curve that AP measures; several get a legend.
    """
    single = len(lines) == 1
    figure = make_figure(6.4 if single else 9.0, 4.8 if single else 6.0)
    if single:  # computing the margins costs as much as drawing, and there is one such picture for each class
        figure.set_layout_engine("none")
    margins = {"left": 0.1, "right": 0.97, "bottom": 0.12, "top": 0.92} if single else {}
    axes = figure.subplots(gridspec_kw=margins)
    for index, (label, recall, precision) in enumerate(lines):
        envelope, color = envelope_steps(recall, precision), _line_color(index)
        if single:
            axes.plot(recall, precision, color=color, linewidth=0.8, alpha=0.6, label="measured")
            axes.fill_between(*envelope, color=color, alpha=0.12, linewidth=0)
        style = ("-", "--", ":")[index // 10 % 3]
        name = "monotone envelope" if single else in_plot(label)
        axes.plot(*envelope, style, color=color, linewidth=1.6, label=name)
    set_title(axes, title)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.03))
    axes.grid(alpha=0.3)
    if lines:
        place = {"loc": "lower left"} if single else {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        columns = 1 + (len(lines) - 1) // 30
        axes.legend(fontsize="small", frameon=single, ncols=columns, **place)
    save_figure(figure, path)


def envelope_steps(recall: ArrayLike, precision: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The monotone envelope of a curve, recall [N] rising and precision [N], as a step line (x [2N+2], y [2N+2]).

    It is level up to each recall, 0 after the last: the area under it is AP.
    """
    envelope = np.maximum.accumulate(np.asarray(precision)[::-1])[::-1]
    edges = np.repeat(np.concatenate([[0.0], recall]), 2)
    return edges, np.concatenate([np.repeat(np.append(envelope, 0.0), 2)[:1], np.repeat(envelope, 2), [0.0]])


def plot_errors(
    path: Path,
    title: str,
    *,
    true_scores: ArrayLike,
    false_scores: ArrayLike,
    kinds: dict[str, tuple[int, int]],
    confused: dict[str, tuple[int, int]],
    sizes: dict[str, tuple[int, int, int]],
) -> None:
    """Write a PNG of a class's errors: scores, kinds of false positives, confusions, objects found by size.

    "The best" are as many detections as there are objects.

    true_scores, false_scores: [N] in 0..1.
    kinds, confused: {name: (among the best, all)}.
    sizes: {name: (objects hit by the best, hit by others, missed)}.
    """
    figure = make_figure(11.0, 7.6)
    figure.set_layout_engine("none")  # computing the margins costs as much as drawing; these hold names of 20 letters
    figure.suptitle(in_plot(title))
    margins = {"left": 0.1, "right": 0.98, "bottom": 0.11, "top": 0.9, "wspace": 0.38, "hspace": 0.36}
    (scores, objects), (kind_axes, confused_axes) = figure.subplots(2, 2, gridspec_kw=margins)
    _plot_scores(scores, {"false positives": (false_scores, "C3"), "hits": (true_scores, "C2")})
    _plot_sizes(objects, sizes)
    _plot_shares(kind_axes, kinds, "false positives by kind")
    _plot_shares(confused_axes, confused, "confused with")
    save_figure(figure, path)


def _plot_scores(axes, groups, bins=25):
    """Overlaid histograms. groups: {label: (scores [N] in 0..1, color)}."""
    highest, floor = 1, 0.7  # of the log scale: a single detection is visible
    set_title(axes, "scores")
    axes.set(xlabel="score", ylabel="detections (log scale)", xlim=(0, 1), yscale="log")
    for label, (values, color) in groups.items():
        counts, edges = np.histogram(values, bins, range=(0, 1))
        label = f"{label} ({len(values):,})"
        axes.stairs(np.maximum(counts, floor), edges, baseline=floor, fill=True, color=color, alpha=0.55, label=label)
        highest = max(highest, counts.max())
    axes.minorticks_off()  # ten for each power of ten, each as dear as a line
    axes.set_ylim(floor, 8 * highest)  # room for the legend
    axes.legend(fontsize="small")


def _plot_sizes(axes, sizes):
    """Stacked columns: how many objects of each size were found."""
    labels = ("hit by the best", "hit by others", "missed")
    bottom = np.zeros(len(sizes), int)
    for index, (label, color) in enumerate(zip(labels, ("C2", "C8", "C3"), strict=True)):
        counts = np.array([one[index] for one in sizes.values()])
        axes.bar(list(sizes), counts, bottom=bottom, color=color, alpha=0.8, label=f"{label} ({counts.sum():,})")
        bottom += counts
    for x, (_, _, missed) in enumerate(sizes.values()):
        if bottom[x]:
            axes.annotate(f"{missed / bottom[x]:.0%} missed", (x, bottom[x]), ha="center", va="bottom", fontsize=7)
    set_title(axes, "objects by size")
    axes.set(xlabel="√(width · height), pixels of the picture", ylabel="objects")
    axes.set_ylim(0, 1.3 * max(bottom.max(), 1))  # room for the legend
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize="small", ncols=3, loc="upper center", columnspacing=0.8, handlelength=1.2)


def _plot_shares(axes, counts, title, most=10):
    """Bars of {name: (among the best, all)}, at most the first `most`, with their numbers."""
    names = list(counts)[:most][::-1]
    best, total = (np.array([counts[name][index] for name in names], int) for index in (0, 1))
    rows = np.arange(len(names))
    axes.barh(rows, total - best, left=best, color="C7", alpha=0.5, label="others")
    axes.barh(rows, best, color="C1", label="among the best, as many as objects")
    axes.set_yticks(rows, [short_name(name) for name in names])
    for y, (some, count) in enumerate(zip(best, total, strict=True)):
        axes.annotate(f" {some:,} of {count:,}", (count, y), va="center", fontsize=8)
    set_title(axes, title)
    axes.set(xlabel="false positives", xlim=(0, 1.3 * max(total.max(initial=0), 1)))
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
    axes.set_ylim(min(-0.6, len(names) - 4.6), len(names) - 0.4)  # so that a single bar does not fill the plot
    if names:
        axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
    else:
        axes.annotate("none", (0.5, 0.5), xycoords="axes fraction", ha="center")


def short_name(name: str) -> str:
    """A name of at most 20 letters beside an axis, as `in_plot`; longer ones are cut."""
    return in_plot(name if len(name) <= 20 else f"{name[:19]}…")


def plot_learning_curves(path: Path, rows: Sequence[dict], losses: Sequence[dict] = ()) -> None:
    """Write a PNG of losses and mean AP against the optimizer step.

    rows: list of dicts as in metrics.csv: epoch, step, loss, confidence, localization, and valid_loss, voc07, area,
        voc07_CLASS, train_voc07, which are None if the epoch was not validated.
    losses: list of dicts with step, loss, confidence and localization, the means of some steps up to that one. They are
        drawn where they are more than the rows.
    """
    figure = make_figure(8.0, 8.0)
    above, below = figure.subplots(2, 1, sharex=True)
    points = losses if len(losses) > len(rows) else rows
    for index, name in enumerate(("loss", "confidence", "localization")):
        _plot_column(above, points, name, label=name, color=_line_color(index), linewidth=2 if index == 0 else 1.3)
    _plot_column(above, rows, "valid_loss", label="validation loss", color=_line_color(3), linewidth=2)
    above.set(title="loss", ylabel="loss per matched anchor (log scale)")
    _scale_losses(above)
    per_class = sorted({name for row in rows for name in row if name.startswith("voc07_")})
    for name in per_class:
        _plot_column(below, rows, name, color="0.7", linewidth=0.8)
    if per_class:
        below.plot([], [], color="0.7", linewidth=0.8, label="VOC07, single classes")
    _plot_column(below, rows, "voc07", label="mean VOC07 (11 points)", color=_line_color(0), linewidth=2)
    _plot_column(below, rows, "area", label="mean area under the curve", color=_line_color(1), linewidth=2)
    _plot_column(
        below, rows, "train_voc07", label="mean VOC07 of training pictures", color=_line_color(2), linewidth=1.3
    )
    epochs = f" ({plural(rows[-1]['epoch'], 'epoch')})" if rows else ""
    below.set(title="validation", ylabel="AP at IoU 0.5", ylim=(0, 1), xlabel="optimizer steps" + epochs)
    below.set_xlim(left=0)
    below.xaxis.get_major_locator().set_params(integer=True)
    below.xaxis.set_major_formatter("{x:,.0f}")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize="small")
    save_figure(figure, path)


def _scale_losses(axes):
    """Give losses a log scale, with ticks that are plain numbers: 2, 3, 5, 10, or all round ones if they differ little.

    A log scale by itself writes 3 × 10⁰, and nothing but that between 3 and 9.
    """
    values = np.concatenate([line.get_ydata() for line in axes.lines]) if axes.lines else np.zeros(0)
    values = values[values > 0]
    if not len(values):  # a log scale needs a number above 0
        return
    from matplotlib import ticker

    axes.set_yscale("log")
    low, high = values.min() / 1.1, values.max() * 1.1
    axes.set_ylim(low, high)
    ticks: ticker.Locator = ticker.LogLocator(subs=(1, 2, 3, 5) if high / low < 100 else (1, 2, 5), numticks=20)
    if high / low < CLOSE:
        ticks = ticker.MaxNLocator(8, steps=[1, 2, 5, 10])
    axes.yaxis.set_major_locator(ticker.FixedLocator([tick for tick in ticks.tick_values(low, high) if tick > 0]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(ticker.NullLocator())


def plot_rate_test(
    path: Path,
    rates: Sequence[float],
    losses: Sequence[float],
    smooth: Sequence[float] | None,
    proposed: float | None,
) -> None:
    """Write a PNG of the loss at rising learning rates.

    losses, smooth: at each of the rates; smooth is None where they are too few for a curve, and only the losses are
    drawn. proposed: the rate to train with, or None.
    """
    figure = make_figure(8.0, 5.0)
    axes = figure.subplots()
    axes.plot(rates, losses, ".", color="0.6", label="loss after a step with this rate")
    if smooth is not None:
        axes.plot(rates, smooth, color=_line_color(0), linewidth=2, label="smoothed")
    if proposed is not None:
        axes.axvline(proposed, color=_line_color(3), label=f"proposed: {proposed:g}")
    if losses:
        # The losses after the blow-up may be thousands of times higher, and would make the curve flat
        axes.set_ylim(0.9 * min(losses), min(1.2 * max(losses), 8 * min(losses if smooth is None else smooth)))
    else:  # a log scale needs limits
        axes.set(xlim=(1e-6, 1), ylim=(1, 10))
    axes.set(title="learning-rate range test", xlabel="learning rate", xscale="log", yscale="log")
    axes.set_ylabel("loss per matched anchor (log scale)")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small", loc="upper left")
    save_figure(figure, path)


def _plot_column(axes, rows, name, **style):
    """Plot one column against the step, without the rows in which it is empty."""
    points = [(float(row["step"]), float(row[name])) for row in rows if row.get(name) not in (None, "")]
    if points:
        axes.plot(*zip(*points, strict=True), marker="o" if len(points) < 40 else None, markersize=3, **style)


def make_figure(width, height):
    """A figure of width × height inches, created without pyplot's global state; `save_figure` writes it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def set_title(axes, text, **style):
    """Put a title, `in_plot`, at a fixed height: to look for a free one costs a twentieth of the chart."""
    axes.set_title(in_plot(text), y=1.0, **style)


def save_figure(figure, path):
    """Write a figure as a PNG. In half the time of its savefig, which draws everything twice."""
    with warnings.catch_warnings():  # of each letter of a name in a script that the font lacks; it is drawn as a box
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.canvas.draw()
    pixels = cv2.cvtColor(np.asarray(figure.canvas.buffer_rgba()), cv2.COLOR_RGBA2BGR)
    files.write(path, cv2.imencode(".png", pixels)[1].tobytes(), durable=False)


def _line_color(index):
    return f"C{index % 10}"  # matplotlib's ten default colors, for a white background
