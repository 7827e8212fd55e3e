"""How far a training is, and how long it still takes."""

from collections.abc import Callable, Iterator

import tqdm

import runs
from system.wording import plural
from training import optimization


def epochs_left(
    state: runs.TrainingState, plan: optimization.Plan, say: Callable[[str], object] = print
) -> Iterator[None]:
    """Yield once for each epoch that is to be trained or validated; `state` must be up to date each time.

    say: gets the reason of an early end.
    """
    settings, unfinished = plan.settings, state.batch > 0  # stopped in the middle, or before the last validation
    while state.epoch < settings.epochs and (state.step < plan.total_steps or unfinished):
        # Here and not after the epoch: the run may have been stopped early, or killed just before
        if settings.patience is not None and state.stale * settings.valid_every >= settings.patience:
            say(f"--patience: no better mean AP in {plural(settings.patience, 'epoch')}, so training stops early")
            return
        unfinished = False
        yield


def validates(state: runs.TrainingState, plan: optimization.Plan) -> bool:
    """Whether a validation belongs to the end of the current epoch."""
    last = state.step >= plan.total_steps or state.epoch + 1 == plan.settings.epochs
    return last or (state.epoch + 1) % plan.settings.valid_every == 0


class Outlook:
    """Steps done, steps in all, and the time left at the pace of this process's own steps and validations.

    Until a validation was measured, the time left is that of the steps alone.
    """

    def __init__(self, plan: optimization.Plan, state: runs.TrainingState, validates: bool) -> None:
        """state: the position, which the training keeps up to date; validates: whether epochs end with a validation."""
        self._plan, self._state, self._validates = plan, state, validates
        self._steps: int | None = None
        self._seconds = self._first = self._validation = 0.0

    def step_done(self, seconds: float) -> None:
        """Note what a step took. The first one, in which TensorFlow prepares the graph, only counts while alone."""
        if self._steps is None:
            self._steps, self._first = 0, seconds
        else:
            self._steps, self._seconds = self._steps + 1, self._seconds + seconds

    def validation_done(self, seconds: float) -> None:
        """Note what a validation took."""
        self._validation = seconds

    def seconds_left(self) -> float | None:
        """Of the whole training; None before its first step here."""
        if self._steps is None:
            return None
        pace = self._seconds / self._steps if self._steps else self._first
        steps = self._plan.total_steps - self._state.step
        return steps * pace + self._validations_left() * self._validation

    def _validations_left(self):
        """How many validations follow, that of the current epoch included."""
        if not self._validates or self._state.step >= self._plan.total_steps:
            return 0
        epochs, every = self._plan.epochs, self._plan.settings.valid_every
        return epochs // every - self._state.epoch // every + (epochs % every > 0)

    def __str__(self) -> str:
        """'step 20 of 560, 12:40 left'."""
        left = self.seconds_left()
        time_left = f", {tqdm.tqdm.format_interval(left)} left" if left else ""
        return f"step {self._state.step} of {self._plan.total_steps}{time_left}"
