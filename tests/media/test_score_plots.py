"""What the charts of scores hold, read from their figures; how they look was judged by eye."""

import itertools

import numpy as np
import pytest

from media import score_plots


@pytest.fixture
def figures(monkeypatch):
    """The figures that were drawn, in place of files."""
    drawn = []
    monkeypatch.setattr(score_plots, "save_figure", lambda figure, path: drawn.append(figure))
    return drawn


def curve(recall, precision):
    return np.array(recall, float), np.array(precision, float)


def legend_is_over_a_curve(axes):
    axes.figure.canvas.draw()
    box = axes.get_legend().get_window_extent()
    points = np.concatenate(
        [axes.transData.transform(line.get_xydata()) for line in axes.lines if len(line.get_xdata())]
    )
    return box.count_contains(points) > 0


@pytest.mark.parametrize(
    "line", [curve([0.01, 0.05, 0.3, 0.7], [0.5, 0.3, 0.15, 0.02]), curve([0.1, 0.5, 0.99], [1, 0.98, 0.9])]
)
def test_the_legend_of_score_cuts_lies_where_the_curve_is_not(figures, line):
    cuts = [(f"> {score}: VOC07 0.123", *line) for score in (0.01, 0.1, 0.3, 0.5)]
    score_plots.plot_score_cuts("x.png", {"car": cuts})
    assert not legend_is_over_a_curve(figures[0].axes[0])


def test_a_cut_without_detections_is_still_named(figures):
    score_plots.plot_score_cuts("x.png", {"car": [("> 0.1", *curve([0.5], [1])), ("> 0.9", *curve([], []))]})
    assert [text.get_text() for text in figures[0].axes[0].get_legend().get_texts()] == ["> 0.1", "> 0.9"]


def test_bars_of_the_reliability_diagram_do_not_overlap(figures):
    """Mean scores may lie close together: 0.099 and 0.1001 are of two bins, and 0.1 is of the lower one."""
    bins = [{"score": score, "hits": 0.5, "detections": 9} for score in (0.1, 0.1001, 0.2999, 0.7, 1.0)]
    score_plots.plot_reliability("x.png", "title", bins)
    bars = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in figures[0].axes[1].patches)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(bars))
    assert [round((start + end) / 2, 3) for start, end in bars] == [0.05, 0.15, 0.25, 0.65, 0.95]


def test_speed_has_a_mark_for_each_model_and_size_of_batch(figures):
    long = "runs/" + 40 * "x" + "/best.onnx"
    score_plots.plot_speed("x.png", "title", [("a", {1: 10.0, 8: 12.0}, 0.5), (long, {8: 30.0}, 0.4)])
    axes = figures[0].axes[0]
    marks = [(*line.get_xydata()[0].tolist(), line.get_marker()) for line in axes.lines if len(line.get_xdata()) == 1]
    assert {mark for mark in marks if mark[2] != "None"} == {(10, 0.5, "o"), (12, 0.5, "s"), (30, 0.4, "s")}
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names[0] == "a" and names[1].startswith("…") and names[1].endswith("x/best.onnx")
    assert names[2:] == ["batch 1", "batch 8"]
    assert axes.get_xlim()[0] == 0


def test_speed_of_no_model(figures):
    score_plots.plot_speed("x.png", "title", [])
    assert len(figures) == 1
