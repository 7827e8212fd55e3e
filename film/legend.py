"""What --legend and the page of --serve show beside the picture: speed, and how many of each class there are."""

import collections
import time
from collections.abc import Sequence

import numpy as np

from media import track_chart
from media.class_colors import class_colors
from structures import Detections

SPEED_FRAMES = 50  # over which the speed is the mean


class Presence:
    """Which classes there are in a video, frame by frame.

    seconds: the time in the video. speed: frames per second of processing; None in the first frame.
    here: {label: objects in this frame}. so_far: {label: tracks so far, each in its latest class}; None where objects
    are not tracked.
    """

    def __init__(self) -> None:
        self.seconds, self.speed = 0.0, None
        self.here: collections.Counter[int] = collections.Counter()
        self.so_far: dict[int, int] | None = None
        self._marks: collections.deque[float] = collections.deque(maxlen=SPEED_FRAMES)
        self._totals: dict[int, int] = {}
        self._latest: dict[int, int] = {}  # the label of each track

    def note(self, seconds: float, found: Detections, ids: np.ndarray | None) -> None:
        """The next frame. ids: int64 [N], of the tracks that `found` is; None without --track."""
        self._marks.append(time.monotonic())
        passed = self._marks[-1] - self._marks[0]
        self.speed = (len(self._marks) - 1) / passed if passed else None
        self.seconds, self.here = seconds, collections.Counter(found.labels.tolist())
        for label in self.here:
            self._totals.setdefault(label, 0)
        if ids is None:
            return
        for label, key in zip(found.labels.tolist(), ids.tolist(), strict=True):
            if key in self._latest:
                self._totals[self._latest[key]] -= 1
            self._totals[label] += 1
            self._latest[key] = label
        self.so_far = dict(self._totals)

    @property
    def labels(self) -> list[int]:
        """The classes that have been there."""
        return sorted(self._totals)


class Legend:
    """The lines of the legend."""

    def __init__(self, class_names: Sequence[str]) -> None:
        """class_names: what labels index."""
        self._class_names, self._colors = class_names, class_colors(class_names)
        self._presence = Presence()

    def lines(self, seconds: float, found: Detections, ids: np.ndarray | None) -> list[tuple[str, tuple | None]]:
        """(text, color) of each line: time and speed, then a line for each class; arguments as of `Presence.note`."""
        now = self._presence
        now.note(seconds, found, ids)
        head = track_chart.clock(seconds, 0) + (f", {now.speed:.1f} frames/s" if now.speed else "")
        lines: list[tuple[str, tuple | None]] = [(head, None)]
        for label in now.labels:
            total = "" if now.so_far is None else f", {now.so_far[label]} so far"
            lines.append((f"{self._class_names[label]} {now.here[label]}{total}", self._colors[label]))
        return lines
