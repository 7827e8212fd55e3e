"""A learning-rate range test: the rate to train with, found in a few steps whose rates rise.

Source: Smith 2017, Cyclical Learning Rates (arXiv 1506.01186), section 3.3, with rates that rise exponentially and a
smoothed loss, as in fastai's lr_find.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np

import runs
import training_data
from media import charts
from structures import UserError
from system import files, wording
from system.data_queue import WorkerError
from system.stopping import StopRequest
from training import engine, optimization, trainer

# No loss moved below the first. Most blew up from 0.005 (Adam) to 0.3 (its epsilon 0.1), but a network of 3% of the
# channels with momentum only between 1 and 10
FIRST_RATE, LAST_RATE = 1e-5, 10.0
STEPS = 100  # from the first rate to the last; where they do not fit into SECONDS, each raises the rate by more
SECONDS = 120.0  # for all steps but the first, which may wait for compilation
FEWEST = 20  # steps that a proposal needs; with 15, a full network that trains well at 2e-4 seemed to learn at no rate
BLOW_UP = 4.0  # times the lowest loss: two of three steps above it end the test
SMOOTHING = 1.5  # steps, standard deviation of the Gaussian
SLOW = f"more must fit into {SECONDS:.0f} s: lower --batch-size, --accumulate or --width, or end other programs"
BLEW_UP = "the loss blew up at"  # with a rate, why the test ends
NOT_FINITE = "then the loss was not finite"
AT_FIRST = 6  # steps whose rates are too low to change the loss
LEAST_FALL = 0.03  # from there, relative; a smaller one may be noise
# The proposal is the rate at which the loss is lowest, divided by this (docs/training.md has what was measured)
BELOW_LOWEST = 2.0


def find(task: trainer.Task, stop: StopRequest, plot: str, record: str) -> float:
    """Train at rising rates, and propose a learning rate; writes a plot (PNG) and the curve (JSON), and no run.

    Ends when the loss blows up, the last rate is done, or a stop is requested. Raises UserError where the curve shows
    no good rate (after a stop KeyboardInterrupt instead), or as `trainer.open_network`.
    """
    curve, end = _measure(task, stop)
    try:
        rate, failure = propose(curve.rates, curve.losses, _why_few(curve, end, stop)), None
    except NoProposal as error:
        rate, failure = None, error
    if curve.losses:
        _write(curve, end, rate, plot, record)
    else:
        print(f"{end}; no step showed a loss, so nothing is written")
    if rate is not None:
        return rate
    if stop.requested:
        print(failure)
    stop.raise_if_requested()
    raise failure


def _write(curve, end, rate, plot, record):
    """Write the plot and the curve, and say so."""
    smooth = smoothed(curve.losses)
    steps = [
        dict(zip(("learning_rate", "loss", "smoothed"), values, strict=True))
        for values in zip(curve.rates, curve.losses, smooth, strict=True)
    ]
    files.write_json(record, {"proposed": rate, "end": end, "steps": steps})
    enough = len(steps) >= FEWEST  # fewer lie so far apart that a loss says nothing about those beside it
    charts.plot_rate_test(plot, curve.rates, curve.losses, smooth if enough else None, rate)
    print(
        f"{wording.plural(len(steps), 'step')} at rising rates; {end}; {plot} shows the loss, {record} has the numbers"
    )


def _why_few(curve, end, stop):
    """What a curve with too few steps had, and the remedy. end: why it ended."""
    if stop.requested:
        return "it was stopped before that"
    last = curve.rates[-1] if curve.rates else FIRST_RATE
    if last <= _rate_after(FEWEST / STEPS) and (end == NOT_FINITE or end.startswith(BLEW_UP)):  # a fast machine too
        return f"{end}: lower --weight-decay, give a --clip-norm of 10 or less, or another --optimizer or --precision"
    if curve.empty > len(curve.losses):
        batches = wording.plural(curve.empty, "more step")
        return f"in {batches} no anchor matched an object: raise --batch-size, or train on pictures with objects"
    return SLOW


class NoProposal(UserError):
    """A curve that shows no good rate."""


def propose(rates: Sequence[float], losses: Sequence[float], why_few: str = SLOW) -> float:
    """The learning rate that a curve suggests: half the rate with the lowest smoothed loss, two digits.

    rates: rising; losses: after a step with each; why_few: said where they are too few. Raises
    NoProposal for a curve with too few steps, and for one that does not fall and rise again.
    """
    if len(rates) < FEWEST:
        raise NoProposal(
            f"--find-rate: too few steps to propose a rate, {len(rates)} of the {FEWEST} that it takes; {why_few}"
        )
    smooth = smoothed(losses)
    lowest = int(np.argmin(smooth))
    if smooth[lowest] > (1 - LEAST_FALL) * min(smooth[:AT_FIRST]):
        raise NoProposal(
            f"--find-rate: the loss falls at no rate from {rates[0]:.2g} to {rates[-1]:.2g}; raise --batch-size if it "
            "is small, and check the boxes (check_dataset.py --html) and --freeze; weights that have learned these "
            "pictures already show no rate"
        )
    if lowest >= len(rates) - 2:
        raise NoProposal(f"--find-rate: the loss still falls at {rates[-1]:.2g}, so a good rate may lie above it")
    return float(f"{rates[lowest] / BELOW_LOWEST:.2g}")


def smoothed(losses: Sequence[float]) -> list[float]:
    """The losses, each replaced by the median of three and then averaged with its neighbors on a log scale.

    The loss of a single batch may be several times that of the batches around it, also where training goes well.
    """
    medians = [np.median(losses[max(0, step - 1) : step + 2]) for step in range(len(losses))]
    steps = np.arange(len(losses))
    weights = np.exp(-0.5 * np.square((steps[:, None] - steps) / SMOOTHING))
    return np.exp(weights @ np.log(medians) / weights.sum(axis=1)).tolist()


def _rate_after(share):
    """The rate after a share of the test, 0 to 1."""
    return FIRST_RATE * (LAST_RATE / FIRST_RATE) ** share


class Curve:
    """The losses at rising rates.

    rates: those of the steps so far but the last, whose effect the next step shows.
    losses: after a step with each, per positive anchor.
    empty: number of steps whose batches had no positive anchor, so that they say nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.empty = 0
        self._clock = clock
        self._start: float | None = None
        self._last_rate = FIRST_RATE

    def next_rate(self, step: int) -> float:
        """The rate of a step (0-based): by its number, or by the time that has passed if that is further."""
        seconds = 0.0 if self._start is None else self._clock() - self._start
        return _rate_after(min(1.0, max(step / STEPS, seconds / SECONDS)))

    def add(self, loss: float, rate: float) -> None:
        """Note a step: its loss, from before its update, shows the effect of the rate of the step before."""
        if self._start is None:
            self._start = self._clock()
        elif loss > 0:
            self.rates.append(self._last_rate)
            self.losses.append(loss)
        else:
            self.empty += 1
        self._last_rate = rate

    def end(self) -> str | None:
        """Why the test ends here, or None if it goes on."""
        if len(self.losses) >= AT_FIRST and np.median(self.losses[-3:]) > BLOW_UP * min(smoothed(self.losses)):
            return f"{BLEW_UP} {self.rates[-1]:.2g}"
        if self.rates and self.rates[-1] >= LAST_RATE:
            return f"{LAST_RATE:g} was the last"
        return None


@dataclasses.dataclass(frozen=True)
class _RisingRates(optimization.Plan):
    """A plan with the rates of a curve."""

    curve: Curve

    def rate(self, step: int) -> float:
        return self.curve.next_rate(step)


class _End(Exception):
    """The test ends."""


def _measure(task, stop):
    """(the Curve of a task, why it ended)."""
    settings = dataclasses.replace(task.settings, epochs=STEPS + 2, max_steps=STEPS + 2, ema=None)
    task = dataclasses.replace(task, settings=settings)
    curve, state = Curve(), runs.TrainingState()
    plan = _RisingRates(settings, len(task.samples), curve)

    def after_step(sums, rate, _):
        curve.add(optimization.mean_losses(sums)["loss"], rate)
        if end := "stopped" if stop.requested else curve.end():
            raise _End(end)

    with trainer.open_network(task, stop) as opened, trainer.open_queue(task) as queue:
        try:
            while state.step < settings.max_steps:
                jobs = training_data.epoch_jobs(len(task.samples), settings.seed, state.epoch)
                engine.train_one_epoch(opened.graph, queue.batches(jobs), state, plan, task.samples, after_step)
                state.begin_next_epoch()
            return curve, f"{LAST_RATE:g} was the last"  # where the last batches had no objects
        except _End as end:
            return curve, str(end)
        except engine.NonFiniteLoss:
            return curve, NOT_FINITE
        except WorkerError as error:
            raise UserError(f"{error}; nothing is written, call --find-rate again") from None
