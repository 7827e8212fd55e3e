"""What --legend shows: the time, how fast the film is processed, and how many objects of each class are there."""

import collections
import time
from collections.abc import Sequence

import numpy as np

from media import track_chart, visualization
from structures import Detections

SPEED_FRAMES = 50  # over which the speed is the mean


class Legend:
    """The legend of one film, frame by frame."""

    def __init__(self, class_names: Sequence[str]) -> None:
        """class_names: what labels index."""
        self._class_names, self._colors = class_names, visualization.class_colors(class_names)
        self._marks: collections.deque[float] = collections.deque(maxlen=SPEED_FRAMES)
        self._known: dict[int, set[int]] = collections.defaultdict(set)

    def lines(self, seconds: float, found: Detections, ids: np.ndarray | None) -> list[tuple[str, tuple | None]]:
        """(text, color) of each line: time and speed, then a line for each class that has been there.

        seconds: of the film. ids: int64 [N], of the tracks that `found` is; None without --track.
        """
        self._marks.append(time.monotonic())
        speed = (len(self._marks) - 1) / max(self._marks[-1] - self._marks[0], 1e-9)
        head = track_chart.clock(seconds, 0) + (f", {speed:.1f} frames/s" if len(self._marks) > 1 else "")
        lines: list[tuple[str, tuple | None]] = [(head, None)]
        for label, key in zip(found.labels.tolist(), range(len(found)) if ids is None else ids.tolist(), strict=True):
            self._known[label].add(key)
        here = collections.Counter(found.labels.tolist())
        for label in sorted(self._known):
            total = "" if ids is None else f", {len(self._known[label])} so far"
            lines.append((f"{self._class_names[label]} {here[label]}{total}", self._colors[label]))
        return lines
