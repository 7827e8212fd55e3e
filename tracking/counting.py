"""Who crosses a line, who is in a zone and for how long.

A track is where the middle of its box's lower edge is: there it stands on the ground. Boxes tremble, and so a track
has crossed a line, or the edge of a zone, only once it is well past it: further than a part of its box, MARGIN.
"""

import collections
import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from tracking.places import Place
from tracking.tracker import Identity, Track

MARGIN = 0.1  # of the smaller side of the box: as far beyond a line a track must be
# Seconds after which a track that is not seen is over. The tracker has ended it by then, unless the network sees only a
# frame every few seconds
LOST = 5.0
DIRECTIONS = ("in", "out")


@dataclasses.dataclass(frozen=True)
class Moment:
    """A frame: its index and its time in seconds."""

    frame: int
    time: float


@dataclasses.dataclass(frozen=True)
class Event:
    """A track crosses a line or the edge of a zone. direction: 'in' or 'out'."""

    track: Identity
    direction: str
    at: Moment


@dataclasses.dataclass
class Visit:
    """A track is in a zone. came_in, went_out: whether it was seen to cross the edge, or began or ended inside."""

    track: Identity
    first: Moment
    last: Moment
    came_in: bool
    went_out: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Count:
    """What is drawn of a place. entered, left: events so far. inside: the tracks in a zone now; None for a line."""

    place: Place
    entered: int
    left: int
    inside: int | None = None


class LineCounter:
    """Counts the tracks that cross a line: 'in' from its left to its right, as seen from its first to its second end.

    Between two moments at which a track is far from the line, what counts is the difference of its crossings.
    """

    def __init__(self, place: Place) -> None:
        """place: in pixels."""
        self.place = place
        self.events: list[Event] = []
        self._totals = dict.fromkeys(DIRECTIONS, 0)
        self._start, self._end = place.points
        self._points: dict[Track, np.ndarray] = {}
        self._open: dict[Track, tuple[int, Moment]] = {}  # crossings in less crossings out, and the last of them

    def add(self, track: Track, point: np.ndarray, margin: float, at: Moment) -> None:
        """A track is at a point (x, y)."""
        step = crossing(self._start, self._end, self._points.get(track, point), point)
        self._points[track] = point
        if step:
            total = self._open.get(track, (0, at))[0] + step
            self._open[track] = total, at
        if track in self._open and _distance(self._start, self._end, point) > margin:
            self._settle(track)

    def end(self, track: Track) -> None:
        """A track is over: its last crossing counts, however near it is."""
        self._settle(track)
        self._points.pop(track, None)

    def _settle(self, track):
        total, at = self._open.pop(track, (0, Moment(0, 0)))
        if total:
            self.events.append(Event(track.identity, DIRECTIONS[total < 0], at))
            self._totals[DIRECTIONS[total < 0]] += 1

    def count(self, present: Sequence[Track]) -> Count:
        """What is drawn of a frame. present: the tracks in it."""
        return Count(self.place, *self._totals.values())

    def to_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """The crossings, by class and one by one."""
        crossings = [
            {
                "track": event.track.id,
                "class": class_names[event.track.label],
                "direction": event.direction,
                "frame": event.at.frame,
                "time": round(event.at.time, 6),
            }
            for event in sorted(self.events, key=lambda event: event.at.frame)
        ]
        return {**_head(self.place), **_by_class(crossings), "crossings": crossings}


class ZoneCounter:
    """Counts the tracks that come into a zone and leave it, and how long they stay."""

    def __init__(self, place: Place) -> None:
        """place: in pixels."""
        self.place = place
        self.visits: list[Visit] = []
        self._totals = dict.fromkeys(DIRECTIONS, 0)
        self._most_at_once = 0
        self._outline = place.points.astype(np.float32)
        self._known: set[Track] = set()
        self._inside: dict[Track, Visit] = {}
        self._turned: dict[Track, Moment] = {}  # when a track got to the other side, from which it may come back

    def add(self, track: Track, point: np.ndarray, margin: float, at: Moment) -> None:
        """A track is at a point (x, y)."""
        depth = cv2.pointPolygonTest(self._outline, point.tolist(), True)
        if track not in self._known:
            self._known.add(track)
            if depth >= 0:
                self._enter(track, at, came_in=False)
            return
        visit = self._inside.get(track)
        if (depth >= 0) == (visit is not None):
            self._turned.pop(track, None)
        else:
            since = self._turned.setdefault(track, at)
            if abs(depth) > margin:
                del self._turned[track]
                if visit is None:
                    self._enter(track, since, came_in=True)
                else:
                    visit.last, visit.went_out = since, True
                    self._totals["out"] += 1
                    del self._inside[track]
        if track in self._inside:
            self._inside[track].last = at

    def _enter(self, track, at, came_in):
        self._inside[track] = Visit(track.identity, at, at, came_in)
        self.visits.append(self._inside[track])
        self._totals["in"] += came_in

    def end(self, track: Track) -> None:
        """A track is over."""
        self._known.discard(track)
        self._inside.pop(track, None)
        self._turned.pop(track, None)

    def count(self, present: Sequence[Track]) -> Count:
        """What is drawn of a frame. present: the tracks in it."""
        inside = sum(track in self._inside for track in present)
        self._most_at_once = max(self._most_at_once, inside)
        return Count(self.place, *self._totals.values(), inside)

    def to_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """The visits, by class and one by one."""
        visits = [
            {
                "track": visit.track.id,
                "class": class_names[visit.track.label],
                "first_frame": visit.first.frame,
                "last_frame": visit.last.frame,
                "first_time": round(visit.first.time, 6),
                "last_time": round(visit.last.time, 6),
                "came_in": visit.came_in,
                "went_out": visit.went_out,
            }
            for visit in sorted(self.visits, key=lambda visit: visit.first.frame)
        ]
        events = [{**one, "direction": "in"} for one in visits if one["came_in"]]
        events += [{**one, "direction": "out"} for one in visits if one["went_out"]]
        stays = collections.defaultdict[str, list](list)
        seen = collections.defaultdict[str, set](set)
        for one in visits:
            stays[one["class"]].append(one["last_time"] - one["first_time"])
            seen[one["class"]].add(one["track"])
        return {
            **_head(self.place),
            **_by_class(events),
            "seen": {name: len(tracks) for name, tracks in seen.items()},
            "most_at_once": self._most_at_once,
            "dwell": {name: _stays(seconds) for name, seconds in stays.items()},
            "visits": visits,
        }


class Counting:
    """The counts of a video, at all its lines and zones."""

    def __init__(self, places: Sequence[Place]) -> None:
        """places: in pixels."""
        self._counters = [LineCounter(one) if one.is_line else ZoneCounter(one) for one in places]
        self._seen: dict[Track, float] = {}

    def add(self, frame: int, time: float, tracks: Sequence[Track], boxes_px: np.ndarray) -> list[Count]:
        """Note the tracks of a frame, and return the counts so far. boxes_px: [N,4], of each track."""
        at = Moment(frame, time)
        for track, (x0, _, x1, y1), margin in zip(tracks, boxes_px, margins(boxes_px), strict=True):
            self._seen[track] = time
            for counter in self._counters:
                counter.add(track, np.array([(x0 + x1) / 2, y1], np.float64), margin, at)
        self._end(track for track, last in list(self._seen.items()) if time - last > LOST)
        return [counter.count(tracks) for counter in self._counters]

    def _end(self, tracks):
        for track in tracks:
            del self._seen[track]
            for counter in self._counters:
                counter.end(track)

    def to_json(self, class_names: Sequence[str]) -> dict[str, list]:
        """{"lines": [a dict for each], "zones": [a dict for each]}; call it once, at the end."""
        self._end(list(self._seen))
        both = [(one.place.is_line, one.to_json(class_names)) for one in self._counters]
        return {
            name: [one for line, one in both if line is wanted] for name, wanted in (("lines", True), ("zones", False))
        }


def margins(boxes_px: np.ndarray) -> np.ndarray:
    """float64 [N]: how far from a line the tracks of boxes [N,4] must be to be past it."""
    return MARGIN * np.minimum(boxes_px[:, 2] - boxes_px[:, 0], boxes_px[:, 3] - boxes_px[:, 1]).astype(np.float64)


def crossing(start: np.ndarray, end: np.ndarray, before: np.ndarray, after: np.ndarray) -> int:
    """1 if a step between two points crosses a line from its left to its right (y points down), −1 back, 0 if not.

    A point on the line is on its right; of the line's ends, the first belongs to it.
    """
    along = end - start
    sides = [along[0] * (y - start[1]) - along[1] * (x - start[0]) for x, y in (before, after)]
    if (sides[0] >= 0) == (sides[1] >= 0):
        return 0
    where = before + sides[0] / (sides[0] - sides[1]) * (after - before)
    if not 0 <= np.dot(where - start, along) < np.dot(along, along):
        return 0
    return 1 if sides[1] >= 0 else -1


def _distance(start, end, point):
    """Pixels from a point to the nearest of a line between its ends."""
    along = end - start
    part = np.clip(np.dot(point - start, along) / np.dot(along, along), 0, 1)
    return math.dist(point, start + part * along)


def _head(place):
    return {"name": place.name, "points": place.points.round(2).tolist()}


def _by_class(events):
    """{"in": {class: events}, "out": {class: events}}."""
    return {
        name: dict(collections.Counter(one["class"] for one in events if one["direction"] == name))
        for name in DIRECTIONS
    }


def _stays(seconds):
    return {
        "visits": len(seconds),
        "mean": round(statistics.mean(seconds), 3),
        "median": round(statistics.median(seconds), 3),
        "longest": round(max(seconds), 3),
    }
