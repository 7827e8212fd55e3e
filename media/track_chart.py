"""A picture of when which tracks were in a video."""

from collections.abc import Mapping, Sequence

from media.charts import make_figure, save_figure, set_title, short_name
from media.class_colors import class_colors
from system.file_names import Path

MOST_ROWS = 400  # that are drawn at full height; more get thinner
LONGEST_TITLE = 80  # letters, which fit beside each other


def plot_tracks(
    path: Path, title: str, spans: Mapping[str, Sequence[tuple[float, float]]], class_names: Sequence[str], end: float
) -> None:
    """Write a PNG with a bar from its first to its last second for each track, in rows by class.

    spans: {class: [(first, last) in seconds]}; class_names: all of the model, which decide the colors; end: the
    seconds of the video. Tracks share a row where they do not overlap, so a class has as many rows as it has tracks
    at once.
    """
    rows = [(name, row) for name, each in spans.items() for row in lanes(each)]
    high = min(1.6 + 0.22 * max(len(rows), 3), 1.6 + 0.22 * MOST_ROWS)
    figure = make_figure(10.0, high)
    axes = figure.subplots()
    colors = {
        name: tuple(part / 255 for part in color)
        for name, color in zip(class_names, class_colors(class_names), strict=True)
    }
    for y, (name, row) in enumerate(rows):
        least = end / 500  # a track of a few frames is seen
        bars = [(first, max(last - first, least)) for first, last in row]
        axes.broken_barh(bars, (y - 0.4, 0.8), facecolors=[colors[name]], edgecolor="black", linewidth=0.4)
    names = list(dict.fromkeys(name for name, _ in rows))
    counts = [sum(name == other for other, _ in rows) for name in names]
    starts = [sum(counts[:index]) for index in range(len(names))]
    labels = [f"{short_name(name)} ({len(spans[name])})" for name in names]
    axes.set_yticks([start + (count - 1) / 2 for start, count in zip(starts, counts, strict=True)], labels)
    for start in starts[1:]:
        axes.axhline(start - 0.5, color="0.8", linewidth=0.8)
    if not rows:
        axes.annotate("no tracks", (0.5, 0.5), xycoords="axes fraction", ha="center")
    set_title(axes, title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1]}…")
    axes.set(xlabel="time (minutes:seconds)", xlim=(0, max(end, 1e-3)), ylim=(max(len(rows), 1) - 0.5, -0.5))
    axes.xaxis.set_major_formatter(lambda seconds, _: clock(seconds, end))
    axes.grid(axis="x", alpha=0.3)
    save_figure(figure, path)


def clock(seconds: float, end: float = 60.0) -> str:
    """Seconds as 1:05, or 0:01.5 in videos of less than ten."""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}" if end < 10 else f"{int(minutes)}:{int(rest):02d}"


def lanes(spans: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Spans (first, last) in as few rows as possible, so that none in a row overlaps another."""
    rows: list[list[tuple[float, float]]] = []
    for span in sorted(spans):
        free = next((row for row in rows if row[-1][1] < span[0]), None)
        if free is None:
            rows.append([span])
        else:
            free.append(span)
    return rows
