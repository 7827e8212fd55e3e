"""ByteTrack (arXiv 2110.06864) for objects of several classes, on frames at any times.

Each frame's detections with high scores are associated with the tracks first, those with low scores then with the
tracks that are left: an object that is partly hidden has a low score, and clutter with a low score is near no track.
What differs from the authors' code (github.com/ifzhang/ByteTrack, yolox/tracker/byte_tracker.py):

- times are seconds (see `motion`);
- a detection of another class than the track's counts less, and the class of a track is that of most of its scores;
- a second box on an object that has a track starts none: suppression works on each class by itself;
- a track that is missed for a short time goes on where it is expected, until it is seen again or not;
- a box that ends behind a nearer object is completed to the width of its track (see `hiding`);
- an object that was hidden for longer is known again by what it looks like, if that is given (see `recognition`).
"""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

import boxes as box_geometry
from structures import Detections
from tracking import hiding, motion, recognition
from tracking.assignment import assign

T = TypeVar("T")
# Detections above it can continue a track. ByteTrack has 0.1 for YOLOX; what an SSD scores below 0.2 is clutter that
# keeps tracks of nothing alive. Chosen on three drives through the toy town: HOTA 0.745, 0.561 and 0.646 with 0.1 and
# 0.757, 0.607 and 0.642 with 0.2
LOW = 0.2
UNDISPUTED = 3.0  # sum of the scores of a class from which on it is taken for a track's, if there is no other
SAME = 0.85  # IoU of a track and a lost one from which on they are one (ByteTrack: distance below 0.15)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Numbers of the association; the defaults are ByteTrack's but for `low` and the last six.

    high: a detection above it has a high score: one number, or one for each class.
    low: a detection above it can continue a track.
    start_above: how much above `high` a score starts a track.
    first, second, third: least similarity of a pair. Detections with high scores and tracks, by IoU × score; with low
        scores and the tracks that are left, by IoU; the high ones that are left and tracks seen once, by IoU × score.
    keep: seconds after which a track that is not seen ends.
    carry: seconds for which a track that is not seen still has boxes.
    other_class: factor of the similarity where the detection is of another class than the track.
    duplicate: IoU with a detection that continues a track, above which a detection starts none.
    complete: whether boxes that end behind a nearer object are completed.
    again: of an object that is known again.
    """

    high: float | Sequence[float] = 0.5
    low: float = LOW
    start_above: float = 0.1
    first: float = 0.2
    second: float = 0.5
    third: float = 0.3
    keep: float = 1.0
    carry: float = 0.5
    other_class: float = 0.5
    duplicate: float = 0.7
    complete: bool = True
    again: recognition.Limits = dataclasses.field(default_factory=recognition.Limits)


class Identity(NamedTuple):
    """What is still of interest when a track is over. votes: {label: sum of scores}, of the track itself."""

    id: int
    votes: dict[int, float]

    @property
    def label(self) -> int:
        """The class that most of its scores are of."""
        return max(self.votes, key=self.votes.__getitem__)


@dataclasses.dataclass(eq=False)
class Track:
    """One object through time.

    id: 1 for the first; 0 until it was seen twice.
    votes: {label: sum of scores}.
    score: of the last detection.
    born, seen: seconds, when it was seen first and last.
    box: float64 [4], where it was seen last.
    missed: frames with detections since it was seen.
    open: the Sightings since it was seen.
    last: the Sighting in which it was seen last; None before the first.
    look: its colors, as of `recognition.describe`; None if they are not known.
    looked: seconds, when they were noted last.
    """

    id: int
    votes: dict[int, float]
    score: float
    born: float
    seen: float
    box: np.ndarray
    missed: int = 0
    open: list["Sighting"] = dataclasses.field(default_factory=list)
    last: "Sighting | None" = None
    look: np.ndarray | None = None
    looked: float = -np.inf

    @property
    def identity(self) -> Identity:
        """What may be kept for as long as a video lasts; a track has boxes and colors, of which a camera has no end."""
        return Identity(self.id, self.votes)

    @property
    def label(self) -> int:
        """The class that most of its scores are of."""
        return self.identity.label


@dataclasses.dataclass(eq=False)
class Sighting:
    """A track in one frame.

    time: seconds.
    box: float64 [4] (xmin, ymin, xmax, ymax) in pixels, smoothed; may reach out of the picture.
    score: of the detection, or of the last one.
    carried: no detection is there. The box is where the track is expected; once it is seen again, between the two.
    settled: True if it was seen, or seen again soon; False if it was seen again too late; None if that is not known.
    """

    track: Track
    time: float
    box: np.ndarray
    score: float
    carried: bool
    settled: bool | None = None


class Tracker:
    """Associates detections with tracks, frame by frame."""

    def __init__(self, settings: Settings | None = None) -> None:
        """settings: by default those of ByteTrack, as in `Settings`."""
        self._settings = settings or Settings()
        self._tracks: list[Track] = []
        self._state = motion.start(np.zeros((0, 4)))
        self._time: float | None = None
        self._count = 0
        self._ended: list[recognition.Lost] = []  # not long ago

    def update(self, time: float, detections: Detections, image: np.ndarray | None = None) -> list[Sighting]:
        """The tracks in the next frame, also those seen once and those carried.

        time: seconds, not before that of the frame before. detections: with low scores too, above `Settings.low`.
        image: uint8 RGB [H,W,3], in which objects are known again that were hidden; None for not at all.
        """
        settings = self._settings
        first = self._time is None
        self._advance(time)
        scores, labels = detections.scores.astype(np.float64), detections.labels
        least = _for_labels(settings.high, labels)
        high, low = scores > least, (scores <= least) & (scores > settings.low)
        sides = self._sides(detections, high)
        similarity = self._similarity(detections, sides)
        weighted = similarity * scores
        certain = np.array([track.id > 0 for track in self._tracks], bool)
        visible = np.array([track.missed == 0 for track in self._tracks], bool)
        pairs = _Pairs(len(self._tracks), len(scores))
        pairs.add(weighted, certain, high, settings.first)
        pairs.add(similarity, certain & visible, low, settings.second)
        pairs.add(weighted, ~certain, high, settings.third)
        # Half way to 1 where 1 would be out of reach
        new = high & pairs.free & (scores >= np.minimum(least + settings.start_above, (1 + least) / 2))
        new = self._without_duplicates(detections, pairs, new)
        if image is not None:  # with a low score something may be in front of it
            self._look(time, image, detections, pairs, (high & ~pairs.free).nonzero()[0])
        self._see(time, detections, sides, pairs)
        if image is not None:
            self._let_go(image)
        self._drop(time)
        self._begin(time, detections.where(new), first, image)
        return self._sightings(time)

    def between(self, time: float) -> list[Sighting]:
        """The tracks in a frame without detections: where they are expected."""
        ahead = time - self._time if self._time is not None else 0.0
        boxes = motion.predict(self._state, ahead).boxes_px
        return self._carry(time, boxes, range(len(self._tracks)))

    def _advance(self, time):
        """Predict all tracks for `time`. The height of one that is not seen stays, as ByteTrack has it."""
        if self._time is not None and self._tracks:
            for row, track in enumerate(self._tracks):
                if track.missed:
                    self._state.velocity[row, 3] = 0
            self._state = motion.predict(self._state, max(time - self._time, 0.0))
        self._time = time

    def _sides(self, detections, certain):
        """(indices of the boxes with hidden sides, how far the sides of all may go on, as of `hiding.reach`).

        None if no side is hidden.
        """
        if not self._settings.complete:
            return None
        sides = hiding.reach(detections.boxes_px, certain)
        hidden = hiding.is_hidden(detections.boxes_px, sides).nonzero()[0]
        return (hidden, sides) if len(hidden) else None

    def _similarity(self, detections, sides):
        """IoU × 1 or other_class, float64 [tracks, detections]."""
        boxes, expected = detections.boxes_px.astype(np.float64), self._state.boxes_px
        overlap = box_geometry.iou(expected, boxes)
        if sides:
            hidden, reach = sides
            whole = hiding.completed(boxes[hidden], reach[hidden], expected[:, None])
            overlap[:, hidden] = np.maximum(overlap[:, hidden], box_geometry.paired_iou(expected[:, None], whole))
        classes = np.array([track.label for track in self._tracks], int)
        same = classes[:, None] == detections.labels
        return overlap * np.where(same, 1.0, self._settings.other_class)

    def _without_duplicates(self, detections, pairs, new):
        """`new`, bool [N], without boxes on an object that has another: one that continues a track, or a better one."""
        if not new.any():  # as in most frames
            return new
        overlap = box_geometry.iou(detections.boxes_px, detections.boxes_px) > self._settings.duplicate
        best_first = np.argsort(-detections.scores, kind="stable")
        taken, kept = ~pairs.free, new.copy()
        for index in best_first[new[best_first]]:
            kept[index] = not (overlap[index] & taken).any()
            taken[index] |= kept[index]
        return kept

    def _see(self, time, detections, sides, pairs):
        """Correct the tracks that have detections, and confirm those seen twice."""
        for track in self._tracks:
            track.missed += 1
        found = np.flatnonzero(~pairs.free)
        rows = pairs.track[found]
        again = self._known_again([self._tracks[row] for row in rows if not self._tracks[row].id], pairs.alone)
        state, boxes = self._state.where(rows), detections.boxes_px[found]
        if sides:
            boxes = hiding.completed(boxes, sides[1][found], state.boxes_px)
        corrected = motion.correct(state, boxes)
        for part, values in zip(self._state, corrected, strict=True):
            part[rows] = values
        labels, scores = detections.labels[found].tolist(), detections.scores[found].tolist()
        for row, label, score, box in zip(rows, labels, scores, corrected.boxes_px, strict=True):
            track = self._tracks[row]
            track.votes[label] = track.votes.get(label, 0.0) + score
            if not track.id:
                track = self._tracks[row] = self._identified(track, again.get(track))
            _settle(track, time, box, track.missed == 1 or time - track.seen <= self._settings.carry)
            track.score, track.seen, track.box, track.missed = score, time, box, 0
        if again:  # an object that was lost and is seen again has the row of its new track
            self._remove(~pairs.alone | np.array([track.missed > 0 for track in self._tracks], bool))

    def _look(self, time, image, detections, pairs, which):
        """Note what the tracks look like in some of the detections, an index array, now and then."""
        due = [index for index in which if time - self._tracks[pairs.track[index]].looked >= recognition.PAUSE]
        if due:
            looks = recognition.describe(image, detections.boxes_px[due])
            for row, look in zip(pairs.track[due], looks, strict=True):
                self._tracks[row].look = recognition.mixed(self._tracks[row].look, look)
                self._tracks[row].looked = time

    def _let_go(self, image):
        """Forget the looks of what has left through the picture's edge: what comes in there is something else."""
        missed = [row for row, track in enumerate(self._tracks) if track.missed == 1]
        if missed:
            leaving = recognition.at_edge(self._state.boxes_px[missed], image)
            for row in np.array(missed)[leaving]:
                self._tracks[row].look = None

    def _known_again(self, new, unseen):
        """{Track of an object that was seen twice: the Track that it continues}. unseen: bool mask of the tracks."""
        if not new:
            return {}
        found = recognition.known_again(new, self._lost(unseen) + self._ended, self._settings.again)
        again = {track: one.track for track, one in zip(new, found, strict=True) if one}
        self._ended = [one for one in self._ended if one.track not in again.values()]
        return again

    def _identified(self, new, old):
        """The Track of an object that was seen twice: `old`, which it continues, or the new one itself."""
        if old is None:
            self._confirm(new)
            return new
        both, old.open = old.open, [one for one in old.open if one.time < new.born]
        for one in both:  # from then on, there is the box of the new one
            one.settled = False
        _settle(old, new.born, new.box, new.born - old.seen <= self._settings.carry)
        for label, score in new.votes.items():
            old.votes[label] = old.votes.get(label, 0.0) + score
        old.look, old.score, old.seen, old.box, old.missed = new.look, new.score, new.seen, new.box, new.missed
        old.open = new.open
        for sighting in (new.last, *new.open):
            sighting.track = old
        return old

    def _confirm(self, track):
        self._count += 1
        track.id = self._count

    def _lost(self, which):
        """[Lost] of the confirmed tracks among a bool mask of those there are."""
        velocity = self._state.velocity[:, :2] / motion.STEP
        rows = [row for row in np.flatnonzero(which) if self._tracks[row].id]
        return [recognition.Lost(self._tracks[row], velocity[row]) for row in rows]

    def _remove(self, keep):
        """Leave only the tracks of a bool mask."""
        self._tracks = [track for track, kept in zip(self._tracks, keep, strict=True) if kept]
        self._state = self._state.where(keep)

    def _drop(self, time):
        """End the tracks that were seen once only, or not for long, and lost ones that another one covers."""
        self._ended = [one for one in self._ended if time - one.track.seen <= self._settings.again.seconds]
        visible = np.array([track.missed == 0 for track in self._tracks], bool)
        if visible.all():
            return
        keep = np.array([self._goes_on(track, time) for track in self._tracks], bool)
        for a, b in self._covering(np.flatnonzero(keep & visible), np.flatnonzero(keep & ~visible)):
            one, other = self._tracks[a], self._tracks[b]
            keep[b if one.seen - one.born > other.seen - other.born else a] = False
        if keep.all():
            return
        known = np.array([track.look is not None for track in self._tracks], bool)
        self._ended += self._lost(~keep & ~visible & known)
        for row in np.flatnonzero(~keep):
            track = self._tracks[row]
            if not track.id:  # it will have none: nobody need wait for it
                for sighting in (track.last, *track.open):
                    sighting.settled = False
        self._remove(keep)

    def _covering(self, tracked, lost):
        """(row, row) of those tracked and those lost of which one covers the other."""
        if not len(tracked) or not len(lost):
            return []
        boxes = self._state.boxes_px
        found = np.argwhere(box_geometry.iou(boxes[tracked], boxes[lost]) > SAME)
        return [(tracked[a], lost[b]) for a, b in found]

    def _goes_on(self, track, time):
        if not track.missed:
            return True
        # Where the network sees few frames, one that misses the object does not end the track
        return track.id > 0 and (time - track.seen <= self._settings.keep or track.missed == 1)

    def _begin(self, time, detections, first, image):
        """Start tracks; those of the first frame at all are confirmed at once, as ByteTrack has it."""
        if not len(detections):
            return
        state = motion.start(detections.boxes_px)
        for row, box in enumerate(state.boxes_px):
            score, label = float(detections.scores[row]), int(detections.labels[row])
            track = Track(0, {label: score}, score, time, time, box)
            if image is not None:
                track.look = recognition.mixed(None, recognition.describe(image, detections.boxes_px[row : row + 1])[0])
            if first:
                self._confirm(track)
            self._tracks.append(track)
        self._state = self._state.joined(state)

    def _sightings(self, time):
        seen = []
        for track in self._tracks:
            if not track.missed:
                track.last = Sighting(track, time, track.box, track.score, carried=False, settled=True)
                seen.append(track.last)
        lost = [row for row, track in enumerate(self._tracks) if track.missed]
        return seen + self._carry(time, self._state.boxes_px, lost) if lost else seen

    def _carry(self, time, boxes, rows):
        """Sightings of tracks that are not seen in this frame, but were a short time ago."""
        carried = []
        for row in rows:
            track = self._tracks[row]
            if not track.missed or time - track.seen <= self._settings.carry:
                carried.append(Sighting(track, time, boxes[row], track.score, carried=True))
                track.open.append(carried[-1])
        return carried


class _Pairs:
    """Which detections continue which tracks.

    track: int64 [detections], the row of the track; -1 for none.
    free, alone: bool [detections] and bool [tracks], those in no pair.
    """

    def __init__(self, tracks: int, detections: int):
        self.track, self.free, self.alone = np.full(detections, -1), np.ones(detections, bool), np.ones(tracks, bool)

    def add(self, similarity, tracks, detections, least):
        """Associate those in no pair of bool masks of tracks and detections. similarity: float [tracks, detections]."""
        columns = (detections & self.free).nonzero()[0]
        if len(columns):  # often all are associated by now
            rows = (tracks & self.alone).nonzero()[0]
            chosen, found = assign(similarity[rows[:, None], columns] - least)
            rows, columns = rows[chosen], columns[found]
            self.track[columns], self.free[columns], self.alone[rows] = rows, False, False


def _settle(track, time, box, near):
    """Decide on the Sightings since a track was last seen, now that it is seen again in `box`.

    near: whether they are filled in, on the line from where it was to `box`.
    """
    for sighting in track.open:
        part = (sighting.time - track.seen) / max(time - track.seen, 1e-9)
        sighting.box = (1 - part) * track.box + part * box
        sighting.settled = near
    track.open.clear()


def _for_labels(values: Any, labels):
    """float64 [N]: of one number for all classes, or one for each, those of labels [N]."""
    values = np.asarray(values, np.float64)
    return values[labels] if values.ndim else np.full(len(labels), values)


def held_back(
    frames: Iterable[tuple[T, list[Sighting]]], hold: int, guess: bool, early: bool = True
) -> Iterator[tuple[T, list[Sighting]]]:
    """The same frames with those of their tracks that are to be shown, up to `hold` frames late.

    frames: (anything, what `Tracker.update` or `between` returned) in order. One waits until it is known of its tracks
    whether they were seen twice and, where the detections disagree, of which class they are, and of those carried
    whether they were seen again. What is not known after `hold` frames is not shown.
    guess: show carried ones that may not be seen again, as live pictures need, which cannot wait.
    early: whether a frame leaves once that is known. A class may still change later that no detection has disputed so
    far: where it decides who can be recognized, all frames should wait.
    """
    waiting: collections.deque[tuple[T, list[Sighting]]] = collections.deque()
    for frame in frames:
        waiting.append(frame)
        for _ in range(2):  # more at once would stop the network until they are drawn and encoded
            if waiting and (len(waiting) > hold or (early and all(map(_is_known, waiting[0][1])))):
                item, sightings = waiting.popleft()
                yield item, _shown(sightings, guess)
    for item, sightings in waiting:
        yield item, _shown(sightings, guess)


def _is_known(sighting):
    """Whether what comes after it will hardly change it."""
    if sighting.settled and sighting.track.id:
        votes = sighting.track.votes.values()
        return len(votes) == 1 and sum(votes) >= UNDISPUTED
    return sighting.settled is False


def _shown(sightings, guess):
    return [one for one in sightings if one.track.id and _is_shown(one, guess)]


def _is_shown(sighting, guess):
    if sighting.settled is None:  # of a track that no frame has missed, it is between two runs of the network
        return guess or not sighting.track.missed
    return sighting.settled
