"""How far a training is, and how long it still takes."""

import tqdm

import runs
from training import optimization


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
        return sum(epoch % every == 0 or epoch == epochs for epoch in range(self._state.epoch + 1, epochs + 1))

    def __str__(self) -> str:
        """'step 20 of 560, 12:40 left'."""
        left = self.seconds_left()
        time_left = f", {tqdm.tqdm.format_interval(left)} left" if left else ""
        return f"step {self._state.step} of {self._plan.total_steps}{time_left}"
