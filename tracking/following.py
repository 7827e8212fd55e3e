"""The tracks of one film: what process_video.py does with the detections of each frame under --track."""

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import boxes as box_geometry
from media import marks
from structures import Detections, UserError, no_boxes
from tracking import metrics, mot_file
from tracking.counting import Count, Counting
from tracking.mot_file import Objects, Truth
from tracking.places import Place
from tracking.records import Records
from tracking.tracker import LOW, Settings, Sighting, Tracker

TRAIL = 1.0  # seconds of the way of an object that are drawn
TRAIL_PART = 0.1  # seconds that a straight part of it takes at least
MOST_HELD = 64  # frames that wait for what comes after them, half a second at 128 a second; this bounds memory


def lowered(threshold: Any) -> Any:
    """A threshold of detections, of any kind that `detector.load` takes, with the low scores that tracks need."""
    if callable(threshold):
        return lambda class_names: lowered(threshold(class_names))
    return tuple(min(LOW, one) for one in threshold) if isinstance(threshold, tuple) else min(LOW, threshold)


def hold(rate: float, every: int) -> int:
    """How many frames one of a video waits at most: until it is known whether an unseen object is seen again soon.

    rate: frames a second. every: of so many frames the network sees one.
    """
    return min(max(math.ceil(Settings.carry * rate), every), MOST_HELD)


def waits_for_gaps(rate: float) -> bool:
    """Whether `hold` waits for the end of every gap that tracks are carried through; not of very fast videos."""
    return Settings.carry * rate <= MOST_HELD


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """The tracks of one frame, best first.

    detections: their boxes within the picture, scores and classes.
    ids: int64 [N]; carried: bool [N], where no detection is; trails: N float64 [K,2], centers of boxes in pixels, from
    the oldest on. counts: of the lines and zones. image: uint8 RGB [H,W,3], plain but for what --blur hides.
    """

    detections: Detections
    ids: np.ndarray
    carried: np.ndarray
    trails: list[np.ndarray]
    counts: list[Count]
    image: np.ndarray


class Following:
    """Tracks of one video, and all that is known of them at its end."""

    def __init__(
        self,
        class_names: Sequence[str],
        threshold: float | Sequence[float],
        *,
        crops: str | None = None,
        truth: tuple[str, Truth] | None = None,
        wanted: Sequence[str] | None = None,
        blurred: Sequence[str] = (),
        places: Sequence[Place] = (),
    ) -> None:
        """threshold: of detections that start tracks, one or one for each class. crops: the folder for a crop of each
        track. truth: the file to score with and what it holds; wanted: names of the classes that are shown and
        scored, None for all; blurred: of those that are made unrecognizable. places: where tracks are counted, in
        pixels.

        Raises UserError if no class of the truth is scored, or the folder cannot be made.
        """
        self._tracker = Tracker(Settings(high=threshold))
        self._records = Records(class_names, crops)
        self._class_names, self._truth, self._wanted = class_names, truth, wanted
        self._shown = [wanted is None or name in wanted for name in class_names]
        self._blurred = [name in blurred for name in class_names]
        self._counting = Counting(places) if places else None
        self._found: list[Objects] = []
        self._ways: dict[int, collections.deque] = {}
        if truth and truth[1].class_names is not None:
            scored = set(truth[1].class_names) & set(class_names if wanted is None else wanted)
            if not scored:
                names = ", ".join(truth[1].class_names)
                what = f"has the classes {names}, but none is detected; check its labels.txt"
                raise UserError(f"--score-tracks {truth[0]}: {what}")

    @property
    def blurs(self) -> bool:
        """Whether objects of some class are made unrecognizable."""
        return any(self._blurred)

    def update(self, time: float, detections: Detections | None, image: np.ndarray) -> list[Sighting]:
        """The tracks in the next frame, as `Tracker` has them.

        detections: None where the network does not run. image: uint8 RGB [H,W,3], plain.
        """
        return self._tracker.between(time) if detections is None else self._tracker.update(time, detections, image)

    def show(
        self,
        index: int,
        time: float,
        image: np.ndarray,
        sightings: Sequence[Sighting],
        hidden: np.ndarray | None = None,
    ) -> Shown:
        """Note the tracks of a frame, and return what is to be shown of them.

        image: uint8 RGB [H,W,3], plain. hidden: [N,4], boxes that are made unrecognizable beside those of the tracks.
        """
        height, width = image.shape[:2]
        if self.blurs:
            secret = [one.box for one in sightings if self._blurred[one.track.label]]
            image = marks.hide(
                image, np.concatenate([np.reshape(secret, (-1, 4)), no_boxes() if hidden is None else hidden])
            )
        chosen = [one for one in sightings if self._shown[one.track.label]]
        chosen.sort(key=lambda one: -one.score)
        boxes = np.array([one.box for one in chosen], np.float64).reshape(-1, 4)
        boxes = box_geometry.clip(boxes, width, height).astype(np.float32)
        inside = box_geometry.area(boxes) > 0
        if not inside.all():
            boxes, chosen = boxes[inside], [chosen[row] for row in inside.nonzero()[0]]
        self._records.add(index, time, image, chosen)
        ids = np.array([one.track.id for one in chosen], np.int64)
        labels = np.array([one.track.label for one in chosen], np.int32)
        scores = np.array([one.score for one in chosen], np.float32)
        if self._truth:
            self._found.append(Objects(ids, labels, boxes.astype(np.float64), np.ones(len(ids), bool)))
        centers = ((boxes[:, :2] + boxes[:, 2:]) / 2).tolist()
        trails = [self._trail(one.track.id, time, center) for one, center in zip(chosen, centers, strict=True)]
        self._forget(time)
        carried = np.array([one.carried for one in chosen], bool)
        counts = self._counting.add(index, time, [one.track for one in chosen], boxes) if self._counting else []
        return Shown(Detections(boxes, scores, labels), ids, carried, trails, counts, image)

    def _trail(self, key, time, center):
        way = self._ways.setdefault(key, collections.deque())
        if len(way) > 1 and way[-1][0] - way[-2][0] < TRAIL_PART:
            way.pop()
        way.append((time, *center))
        while way[0][0] < time - TRAIL:
            way.popleft()
        return np.array(list(way), np.float64)[:, 1:]

    def _forget(self, time):
        for key in [key for key, way in self._ways.items() if way[-1][0] < time - TRAIL]:
            del self._ways[key]

    def summary(self) -> dict[str, Any]:
        """{"tracks": [a dict for each], "counts": {…} if there are places, "track_scores": {…} if there is a truth}.

        It also writes the last crops. Call it once, at the end.
        """
        summary: dict[str, Any] = {"tracks": self._records.to_json()}
        if self._counting:
            summary["counts"] = self._counting.to_json(self._class_names)
        if self._truth:
            truth = self._truth[1]
            scores = metrics.score(truth.frames, self._found, self._class_names, truth.class_names, self._wanted)
            summary["track_scores"] = {"truth": self._truth[0], **scores}
        return summary


def read_truth(path: str) -> tuple[str, Truth]:
    """What `Following` takes as `truth`, of the gt.txt of --score-tracks. Raises UserError."""
    try:
        return path, mot_file.read(path)
    except UserError as error:
        raise UserError(f"--score-tracks: {error}") from None
