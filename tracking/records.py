"""What is known of each track of a video at its end, with the picture of it where it had its best score."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from media import images, visualization
from tracking.tracker import Identity, Sighting

FORGET = 3.0  # seconds after a track was seen, when its crop is written and its pixels are freed


@dataclasses.dataclass
class Record:
    """One track. first, last: frame indices; times: of these, in seconds; seen: frames in which it was detected."""

    track: Identity
    first: int
    last: int
    first_time: float
    last_time: float
    seen: int = 0
    best_score: float = 0.0
    best_frame: int = 0
    crop: np.ndarray | None = None


class Records:
    """The tracks of a video, in the order of their first frames."""

    def __init__(self, class_names: Sequence[str], folder: str | None = None) -> None:
        """folder: where a crop of each track is written, made if it is missing; None for none."""
        self._class_names, self._folder = class_names, folder
        self._records: dict[int, Record] = {}
        self._open: dict[int, Record] = {}
        if folder:
            os.makedirs(folder, exist_ok=True)

    def add(self, index: int, time: float, image: np.ndarray, sightings: Sequence[Sighting]) -> None:
        """Note what frame `index` shows. image: uint8 RGB [H,W,3] without drawings. Raises UserError (a full disk)."""
        for one in sightings:
            track = one.track
            if track.id not in self._records:
                self._records[track.id] = Record(track.identity, index, index, time, time)
            record = self._records[track.id]
            record.last, record.last_time = index, time
            record.seen += not one.carried
            if not one.carried and one.score > record.best_score:
                record.best_score, record.best_frame = one.score, index
                if self._folder:
                    record.crop = visualization.crop(image, one.box).copy()
                    self._open[track.id] = record
        self._write(record for record in list(self._open.values()) if time - record.last_time > FORGET)

    def _write(self, records):
        for record in records:
            images.write(self._path(record), record.crop)
            record.crop = None
            del self._open[record.track.id]

    def _path(self, record):
        return os.path.join(self._folder, f"{record.track.id}.jpg")

    def to_json(self) -> list[dict]:
        """A dict for each track, after the last crops were written. Raises UserError (a full disk)."""
        self._write(list(self._open.values()))
        return [self._entry(record) for record in self._records.values()]

    def _entry(self, record):
        entry = {
            "id": record.track.id,
            "class": self._class_names[record.track.label],
            "first_frame": record.first,
            "last_frame": record.last,
            "first_time": round(record.first_time, 6),
            "last_time": round(record.last_time, 6),
            "frames_seen": record.seen,
            "best_score": record.best_score,
            "best_frame": record.best_frame,
        }
        if self._folder:
            entry["crop"] = self._path(record)
        return entry
