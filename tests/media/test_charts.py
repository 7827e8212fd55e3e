"""Charts: that the files are pictures, and what is in them."""

import warnings

import cv2
import numpy as np
import pytest

from media import charts


def is_picture(path, color_share=0.005):
    image = cv2.imread(str(path))
    assert image is not None and min(image.shape[:2]) > 300
    saturated = (image.max(axis=2).astype(int) - image.min(axis=2) > 60).mean()
    return saturated > color_share if color_share else True


def test_precision_recall_pictures(tmp_path):
    recall, precision = np.array([0.1, 0.1, 0.2, 0.4]), np.array([1, 0.5, 0.66, 0.75])
    line = ("car 0.4", recall, precision)
    empty = ("bus 0.0", np.zeros(0), np.zeros(0))
    charts.plot_precision_recall(tmp_path / "one.png", [line], "car: AP 0.4")
    charts.plot_precision_recall(tmp_path / "many.png", [line, empty, *[line] * 40], "mean")
    charts.plot_precision_recall(tmp_path / "empty.png", [empty], "bus")
    charts.plot_precision_recall(tmp_path / "none.png", [], "nothing")
    assert is_picture(tmp_path / "one.png") and is_picture(tmp_path / "many.png")
    assert is_picture(tmp_path / "empty.png", 0) and is_picture(tmp_path / "none.png", 0)


def test_envelope_line_encloses_the_area():
    precision, recall = np.array([1, 0.66, 0.75]), np.array([0.25, 0.5, 0.75])
    x, y = charts.envelope_steps(recall, precision)
    assert np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) == pytest.approx(0.25 + 0.75 * 0.5)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 1, 0.75, 0)


def test_learning_curve_pictures(tmp_path):
    rows = [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "loss": 5 / epoch,
            "confidence": 3 / epoch,
            "localization": 2 / epoch,
            "voc07": None if epoch % 2 else epoch / 20,
            "area": None if epoch % 2 else epoch / 19,
            "voc07_car": None,
            "learning_rate": 1e-3,
        }
        for epoch in range(1, 11)
    ]
    for name, part in (("all", rows), ("first", rows[:1]), ("none", [])):
        charts.plot_learning_curves(tmp_path / f"{name}.png", part)
        assert is_picture(tmp_path / f"{name}.png", 0)
    assert is_picture(tmp_path / "all.png")


def drawn_axes(monkeypatch, tmp_path, *arguments):
    """The two axes of plot_learning_curves."""
    figures, make = [], charts.make_figure
    monkeypatch.setattr(charts, "make_figure", lambda *size: figures.append(make(*size)) or figures[-1])
    charts.plot_learning_curves(tmp_path / "a.png", *arguments)
    return figures[0].axes


def losses_of(*values, every=100):
    return [
        {"step": every * number, "loss": value, "confidence": 0.6 * value, "localization": 0.4 * value}
        for number, value in enumerate(values, start=1)
    ]


def test_learning_curves_have_a_point_for_each_mean(monkeypatch, tmp_path):
    """Epochs are many steps: of three the losses had three points. Where means are fewer, the epochs are drawn."""
    rows = [{"epoch": e, "voc07": 0.3 * e, **one} for e, one in enumerate(losses_of(5, 4, every=250), start=1)]
    above, below = drawn_axes(monkeypatch, tmp_path, rows, losses_of(9, 7, 5, 4.5, 4))
    assert above.lines[0].get_xdata().tolist() == [100, 200, 300, 400, 500]
    assert above.lines[0].get_ydata().tolist() == [9, 7, 5, 4.5, 4]
    assert below.lines[0].get_xdata().tolist() == [250, 500]
    assert below.get_xlabel() == "optimizer steps (2 epochs)"
    above, _ = drawn_axes(monkeypatch, tmp_path, rows, losses_of(9))
    assert above.lines[0].get_xdata().tolist() == [250, 500]


@pytest.mark.parametrize(
    "values", [(9, 7, 5, 4.5, 4), (30, 8, 3, 2.5), (4.1, 4.0), (500, 40, 3, 0.9), (0.034, 0.021), (7,)]
)
def test_ticks_of_losses_are_plain_numbers(monkeypatch, tmp_path, values):
    above, _ = drawn_axes(monkeypatch, tmp_path, losses_of_epochs(values))
    low, high = above.get_ylim()
    labels = [label.get_text() for label in above.get_yticklabels()]
    seen = [text for tick, text in zip(above.get_yticks(), labels, strict=True) if low <= tick <= high]
    assert 3 <= len(seen) <= 12, seen
    assert all(float(text) > 0 and len(text) <= 5 for text in seen), seen
    assert not [tick for tick in above.get_yticks(minor=True) if low <= tick <= high]


def losses_of_epochs(values):
    return [{"epoch": epoch, **one} for epoch, one in enumerate(losses_of(*values), start=1)]


def test_learning_curves_of_losses_that_are_0(tmp_path):
    """No anchor has matched an object, so a log scale has nothing to show; nothing warns."""
    row = {"epoch": 1, "step": 10, "loss": 0.0, "confidence": 0.0, "localization": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r"'\w+' (argument is )?deprecated")  # pyparsing's, of Matplotlib 3.8
        charts.plot_learning_curves(tmp_path / "zero.png", [row])
    assert is_picture(tmp_path / "zero.png", 0)


def test_pictures_of_a_rate_test(tmp_path):
    """With a proposal, without one, and without a step; nothing warns."""
    rates, losses = [1e-4, 1e-3, 1e-2, 1e-1], [5.0, 4.0, 4.5, 500.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r"'\w+' (argument is )?deprecated")  # pyparsing's, of Matplotlib 3.8
        charts.plot_rate_test(tmp_path / "all.png", rates, losses, losses, 3e-4)
        charts.plot_rate_test(tmp_path / "no_rate.png", rates, losses, losses, None)
        charts.plot_rate_test(tmp_path / "none.png", [], [], [], None)
    for name in ("all", "no_rate", "none"):
        assert is_picture(tmp_path / f"{name}.png", 0)


def test_error_pictures(tmp_path):
    """With many, with few and with no errors at all, of classes with long names; nothing warns."""
    sizes = {"<16": (3, 1, 2), ">=256": (0, 0, 0)}
    kinds = {"localization": (1, 4000), "background": (0, 0)}
    confused = {f"a class with a rather long name {index}": (1, 1 + index) for index in range(30)}
    rng = np.random.default_rng(0)
    many = {"true_scores": rng.random(50), "false_scores": rng.random(4000), "kinds": kinds, "confused": confused}
    none = {"true_scores": [], "false_scores": [], "kinds": dict.fromkeys(kinds, (0, 0)), "confused": {}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", r"'\w+' (argument is )?deprecated")  # pyparsing's, of Matplotlib 3.8
        charts.plot_errors(tmp_path / "many.png", "car", **many, sizes=sizes)
        charts.plot_errors(tmp_path / "none.png", "bus", **none, sizes=dict.fromkeys(sizes, (0, 0, 0)))
    assert is_picture(tmp_path / "many.png") and is_picture(tmp_path / "none.png", 0)
