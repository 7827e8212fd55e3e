"""Keeps what a training does beside its steps to a small part of the time."""

import contextlib
import time
from collections.abc import Iterator

SPARING = 10.0  # times as long as a piece of work took must pass before it is due again
QUICK = 0.25  # seconds; what takes less is always due


class Ration:
    """Says when a piece of work is due again, such as a checkpoint after each epoch where these are short.

    It is due at first, and from then on when SPARING times as long as it took has passed since it ended.
    """

    def __init__(self) -> None:
        self._took, self._ended = 0.0, 0.0

    def is_due(self) -> bool:
        """Whether the work may be done now."""
        return self._took < QUICK or time.monotonic() - self._ended >= SPARING * self._took

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Context manager: the work, whose time is taken."""
        start = time.monotonic()
        yield
        self._ended = time.monotonic()
        self._took = self._ended - start
