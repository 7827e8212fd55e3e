"""train.py --find-rate: the proposed rate, what ends the test, and what it leaves behind."""

import json
import math
import shlex
import types

import numpy as np
import pytest

import programs
import train
from media import charts
from programs import TINY
from structures import UserError
from system import compiled_code, stopping
from training import optimization, rate_test, train_flags

RATES = np.geomspace(rate_test.FIRST_RATE, rate_test.LAST_RATE, rate_test.STEPS + 1)


def descent(rates, curvature, noise, seed=0):
    """Losses after steps on curvature/2 · x² + 1, from x = 4, by gradients that are a little wrong, as of a batch.

    noise: standard deviation of the logarithm of each loss.
    """
    rng, x, losses = np.random.default_rng(seed), 4.0, []
    for rate in rates:
        x -= rate * curvature * (x + 0.3 * rng.normal())
        losses.append((curvature / 2 * x * x + 1) * math.exp(noise * rng.normal()))
        if losses[-1] > 1e6:
            break
    return losses


def until_the_end(rates, losses):
    """A Curve with these losses, as far as it lets the test go, and why it ends."""
    curve = rate_test.Curve(clock=lambda: 0.0)
    for rate, loss in zip(rates, [1.0, *losses], strict=False):
        curve.add(loss, rate)
        if end := curve.end():
            return curve, end
    return curve, None


@pytest.mark.parametrize("curvature", [20.0, 100.0, 1000.0])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_rate_for_a_quadratic(curvature, noise):
    """Gradient descent converges below 2 / curvature and is fastest at 1 / curvature."""
    curve, end = until_the_end(RATES, descent(RATES, curvature, noise))
    assert "blew up" in end
    rate = rate_test.propose(curve.rates, curve.losses)
    assert 0.05 / curvature < rate < 2 / curvature


def valley(at, before=5.0, lowest=3.0):
    """Losses that fall linearly to the lowest at one step, and rise again as they fell."""
    steps = np.arange(len(RATES))
    return (lowest + (before - lowest) * np.minimum(np.abs(steps - at) / at, 1)).tolist()


@pytest.mark.parametrize("at", [40, 60, 80])
def test_the_proposal_is_half_the_rate_of_the_lowest_loss(at):
    assert rate_test.propose(RATES, valley(at)) == pytest.approx(RATES[at] / 2, rel=0.05)


def test_a_loss_that_hardly_falls_shows_no_rate():
    assert rate_test.propose(RATES, valley(60, 5.0, 4.7)) > 0
    with pytest.raises(rate_test.NoProposal, match="falls at no rate"):
        rate_test.propose(RATES, valley(60, 5.0, 4.9))


def test_high_losses_at_the_start_are_no_fall():
    """Rates are too low there to lower the loss: what falls is the batches' difficulty."""
    with pytest.raises(rate_test.NoProposal, match="falls at no rate"):
        rate_test.propose(RATES, [9.0] * 3 + [5.0] * 50 + [8.0] * 48)


@pytest.mark.parametrize(("last", "blew_up"), [(3.9, False), (4.2, True)])
def test_four_times_the_lowest_loss_ends_the_test(last, blew_up):
    curve = rate_test.Curve(clock=lambda: 0.0)
    curve.rates, curve.losses = RATES[:23].tolist(), [1.0] * 20 + [last] * 3
    assert (curve.end() is not None) == blew_up


def test_a_few_batches_without_objects_are_not_why_there_are_too_few_steps():
    curve = rate_test.Curve(clock=lambda: 0.0)
    curve.rates, curve.losses, curve.empty = [0.1] * 8, [5.0] * 8, 2
    assert rate_test._why_few(curve, "10 was the last", types.SimpleNamespace(requested=False)) == rate_test.SLOW


def test_single_outliers_change_little():
    losses = descent(RATES, 30.0, 0.02)
    curve, _ = until_the_end(RATES, losses)
    plain = rate_test.propose(curve.rates, curve.losses)
    for step in (40, 55):
        losses[step] *= 10
    curve, end = until_the_end(RATES, losses)
    assert "blew up" in end and curve.rates[-1] > 0.05
    assert plain / 2 < rate_test.propose(curve.rates, curve.losses) < plain * 2


def test_smoothing_by_the_slow_obvious_way():
    losses = [8.0, 7.5, 70.0, 7.0, 6.0, 5.0, 9.0]
    medians = [7.75, 8.0, 7.5, 7.0, 6.0, 6.0, 7.0]
    expected = []
    for here in range(7):
        weights = [math.exp(-((there - here) ** 2) / (2 * rate_test.SMOOTHING**2)) for there in range(7)]
        logs = [weight * math.log(median) for weight, median in zip(weights, medians, strict=True)]
        expected.append(math.exp(sum(logs) / sum(weights)))
    np.testing.assert_allclose(rate_test.smoothed(losses), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("rates", "losses", "named"),
    [
        (RATES[:5], [5.0] * 5, "too few steps to propose a rate, 5 of the 20"),
        (RATES, [5.0] * 50 + list(np.linspace(5, 50, 51)), "falls at no rate"),
        (RATES, list(np.linspace(5, 2, 101)), "still falls at 10,"),
        (RATES, [*np.linspace(5, 2, 100), 2.15], "still falls at 10,"),
    ],
)
def test_a_curve_that_shows_no_rate(rates, losses, named):
    with pytest.raises(rate_test.NoProposal, match=f"--find-rate: .*{named}"):
        rate_test.propose(rates, losses)


def test_the_rates_rise_with_the_steps_or_with_the_time():
    now = [0.0]
    curve = rate_test.Curve(clock=lambda: now[0])
    now[0] = 1000.0  # the first step may wait for XLA
    assert curve.next_rate(0) == rate_test.FIRST_RATE
    curve.add(5.0, curve.next_rate(0))
    assert curve.next_rate(50) == pytest.approx(math.sqrt(rate_test.FIRST_RATE * rate_test.LAST_RATE))
    assert curve.next_rate(rate_test.STEPS) == pytest.approx(rate_test.LAST_RATE)
    now[0] += rate_test.SECONDS / 2
    assert curve.next_rate(1) == curve.next_rate(50)
    now[0] += rate_test.SECONDS
    assert curve.next_rate(1) == pytest.approx(rate_test.LAST_RATE)


def test_a_loss_belongs_to_the_rate_before_it():
    curve = rate_test.Curve(clock=lambda: 0.0)
    for loss, rate in ((5.0, 1e-6), (4.0, 2e-6), (0.0, 3e-6), (3.0, 4e-6)):  # 0: no object in the pictures
        curve.add(loss, rate)
    assert (curve.rates, curve.losses, curve.empty) == ([1e-6, 3e-6], [4.0, 3.0], 1)


@pytest.mark.parametrize("steps", [rate_test.FEWEST - 1, rate_test.FEWEST])
def test_the_plot_has_a_smoothed_curve_where_the_steps_are_enough_for_one(steps, tmp_path, monkeypatch):
    """All steps that trained lie inside the picture, and those of the blow-up do not flatten it."""
    curve = rate_test.Curve(clock=lambda: 0.0)
    curve.rates, curve.losses = list(RATES[:steps]), [8.0] * (steps - 3) + [7.0, 40.0, 1e6]
    figures = []
    monkeypatch.setattr(charts, "save_figure", lambda figure, _: figures.append(figure))
    rate_test._write(curve, "the loss blew up", None, str(tmp_path / "rate.png"), str(tmp_path / "rate.json"))
    (axes,) = figures[0].axes
    assert ("smoothed" in axes.get_legend_handles_labels()[1]) == (steps >= rate_test.FEWEST)
    low, high = axes.get_ylim()
    assert low < 7.0 and 8.0 < high < 100.0
    assert len(json.loads((tmp_path / "rate.json").read_text())["steps"]) == steps


@pytest.fixture
def find_rate(shapes, tmp_path, monkeypatch, capsys):
    """train.py --find-rate in this process: find_rate(*flags) -> (lines of its output, the curve as a dict)."""

    monkeypatch.setattr(rate_test, "SECONDS", 1e9)  # the same rates on any machine
    monkeypatch.setattr(rate_test, "STEPS", 60)

    def call(*flags, base=TINY):
        flags = ["--data", shapes, "--train", "train", *base, "--run", tmp_path / "run", "--find-rate", *flags]
        try:
            train.main(list(map(str, flags)))
        finally:
            call.lines = capsys.readouterr().out.splitlines()
        return call.lines, json.loads((tmp_path / "run-rate.json").read_text("utf-8"))

    return call


def left_behind(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize("flags", [[], ["--optimizer", "momentum", "--accumulate", "2", "--ema", "0.9"]])
def test_the_rate_for_a_tiny_network(find_rate, tmp_path, flags):
    # With the default start: from He's weights AdamW's decay keeps the loss of this network bounded at any rate
    lines, found = find_rate("--learning-rate", "7", *flags, base=TINY[: TINY.index("--initializer")])
    assert 1e-5 < found["proposed"] < 0.5
    assert found["steps"][0]["learning_rate"] == rate_test.FIRST_RATE
    if flags or compiled_code.tensorflow_version() >= (2, 21):  # TensorFlow 2.16 keeps the loss bounded in any case
        assert "blew up" in found["end"] or "not finite" in found["end"]
    assert left_behind(tmp_path) == ["run-rate.json", "run-rate.png"]
    (line,) = [line for line in lines if line.startswith("learning rate")]
    command = shlex.split(line.partition("train with: ")[2])
    assert command[:2] == ["python", "train.py"] and "--find-rate" not in command
    _, settings = train_flags.read(train_flags.parse(command[2:], ""))
    assert settings.learning_rate == found["proposed"]
    for name, value in (("optimizer", "momentum"), ("accumulate", 2), ("ema", 0.9)):
        assert not flags or getattr(settings, name) == value


def test_another_first_run_and_kept_layers(find_rate, trained):
    base = [flag for flag in TINY if flag not in ("--width", "0.03")]
    _, found = find_rate("--init-from", trained, "--freeze", "conv1,conv2", "--optimizer", "adamw", base=base)
    assert len(found["steps"]) >= rate_test.FEWEST


def test_a_loss_that_is_not_finite_ends_it(find_rate, tmp_path, monkeypatch):
    run, calls = optimization.TrainingStep.run, []

    def breaking(self, *arguments, **options):
        calls.append(arguments)
        sums = run(self, *arguments, **options)
        return {**sums, "confidence": math.nan} if len(calls) == 10 else sums

    monkeypatch.setattr(optimization.TrainingStep, "run", breaking)
    with pytest.raises(UserError, match=r"8 of the 20 .*; then the loss was not finite: lower --weight-decay"):
        find_rate()
    found = json.loads((tmp_path / "run-rate.json").read_text("utf-8"))
    assert (len(found["steps"]), found["end"], found["proposed"]) == (8, "then the loss was not finite", None)


@pytest.mark.parametrize(
    ("seconds", "named"), [(0.1, "--weight-decay, give a --clip-norm"), (20, "must fit into 120 s")]
)
def test_a_loss_that_blows_up_at_once_is_not_blamed_on_the_machine(seconds, named):
    """Only where the rates rise by the time, and so by too much, does a faster machine help."""
    now = [0.0]
    curve = rate_test.Curve(clock=lambda: now[0])
    for step, loss in enumerate([5.0] * 7 + [1e6] * 3):
        curve.add(loss, curve.next_rate(step))
        now[0] += seconds
    stop = types.SimpleNamespace(requested=False)
    assert curve.end().startswith("the loss blew up at") and named in rate_test._why_few(curve, curve.end(), stop)


@pytest.mark.parametrize("steps", [1, 3, 32])
def test_ctrl_c_ends_it_with_what_it_has(find_rate, tmp_path, monkeypatch, steps):
    run, calls = optimization.TrainingStep.run, []

    def run_and_stop(self, *arguments, **options):
        calls.append(arguments)
        if len(calls) == steps:
            stop.requested = True
        return run(self, *arguments, **options)

    stop = stopping.StopRequest()
    monkeypatch.setattr(stopping, "StopRequest", lambda: stop)
    monkeypatch.setattr(optimization.TrainingStep, "run", run_and_stop)
    with pytest.raises(KeyboardInterrupt):
        find_rate()
    few = "too few" in find_rate.lines[-1] and "it was stopped before that" in find_rate.lines[-1]
    assert few == (steps < 32)
    if steps == 1:
        assert left_behind(tmp_path) == [] and "nothing is written" in find_rate.lines[-2]
        return
    assert left_behind(tmp_path) == ["run-rate.json", "run-rate.png"]
    found = json.loads((tmp_path / "run-rate.json").read_text("utf-8"))
    assert len(found["steps"]) == steps - 1 and found["end"] == "stopped"


@pytest.mark.parametrize("filled", [0, 8])
def test_batches_without_objects_end_it_and_are_named(find_rate, tmp_path, monkeypatch, filled):
    """All steps but the first few have no positive anchor: their sums are 0."""
    run, calls = optimization.TrainingStep.run, []

    def emptied(self, *arguments, **options):
        calls.append(arguments)
        sums = run(self, *arguments, **options)
        return sums if len(calls) <= filled else dict.fromkeys(sums, 0.0)

    monkeypatch.setattr(optimization.TrainingStep, "run", emptied)
    with pytest.raises(UserError, match=r"too few .* no anchor matched an object: raise --batch-size"):
        find_rate()
    assert len(calls) == 62
    assert left_behind(tmp_path) == (["run-rate.json", "run-rate.png"] if filled else [])


def test_its_errors(shapes, trained, tmp_path):
    new = ["--data", shapes, "--train", "train", *TINY, "--find-rate"]
    assert "--resume" in programs.error_of("train.py", "--run", trained, "--resume", "--find-rate")
    assert "already exists" in programs.error_of("train.py", *new, "--run", trained)
    (tmp_path / "run-rate.png").mkdir()
    line = programs.error_of("train.py", *new, "--run", tmp_path / "run")
    assert "--find-rate" in line and "run-rate.png" in line
    assert left_behind(tmp_path) == ["run-rate.png"]
