"""One network for several cameras: what they ask for while it is at work is its next batch."""

import dataclasses
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from structures import Detections

GATHER = 0.02  # seconds: what is asked for that much later is in the same batch


@dataclasses.dataclass(eq=False)
class _Request:
    """A picture of one camera, as a batch. answer: its Detections, or the exception that the network raised."""

    batch: np.ndarray | Sequence[np.ndarray]
    sizes: Sequence[tuple[int, int]]
    answer: list[Detections] | BaseException | None = None


class SharedDetector:
    """A `detector.Detector` for threads, with what the stages of a video use of one.

    Whichever thread finds the network free waits a moment for the others, and runs it for all that have asked.
    """

    batch_size = 1  # of each camera: a live picture should not wait for others of its own

    def __init__(self, detector: Any, cameras: int) -> None:
        """detector: its batch_size is the most that one run of the network takes. cameras: how many ask."""
        self._detector = detector
        self.class_names, self.threshold = detector.class_names, detector.threshold
        self.precision, self.prepare = detector.precision, detector.prepare
        self._cameras = cameras
        self._waiting: list[_Request] = []
        self._asked, self._network = threading.Condition(), threading.Lock()

    def left(self) -> None:
        """One of the cameras has ended: nobody waits for it any more."""
        self.away(True)

    def away(self, is_away: bool) -> None:
        """One of the cameras gives no picture for a while, in which nobody waits for it, or gives some again."""
        with self._asked:
            self._cameras -= 1 if is_away else -1
            self._asked.notify()

    @property
    def _most(self):
        """Pictures in one run of the network."""
        return max(1, min(self._cameras, self._detector.batch_size))

    def detect_prepared(
        self, batch: np.ndarray | Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """As of `detector.Detector`; may be called by several threads."""
        mine = _Request(batch, sizes)
        with self._asked:
            self._waiting.append(mine)
            self._asked.notify()
        while mine.answer is None:
            with self._network:
                if mine.answer is None:
                    self._run(self._next())
        if isinstance(mine.answer, BaseException):
            raise mine.answer
        return mine.answer

    def _next(self):
        """The requests that have waited longest, as many as one run takes: each is of one picture."""
        with self._asked:
            self._asked.wait_for(lambda: len(self._waiting) >= self._most, GATHER)
            group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        return group

    def _run(self, group):
        try:
            batch = [picture for one in group for picture in one.batch]  # cameras may need different numbers of tiles
            found = self._detector.detect_prepared(batch, [size for one in group for size in one.sizes])
        except BaseException as error:
            for one in group:
                one.answer = error
            return
        for one in group:
            one.answer, found = found[: len(one.sizes)], found[len(one.sizes) :]
