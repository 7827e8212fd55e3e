"""What --events writes: a line of JSON when a class appears, and a clip of it, with some seconds before."""

import collections
import datetime
import json
import os
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import cv2

from film.frames import Frame
from media.video import VideoWriter
from structures import UserError
from system import file_names, wording

NAME = "events.jsonl"
BEFORE, AFTER = 3.0, 5.0  # seconds of the clip before a class appears, and after the last that appears in it
LONGEST = 60.0  # seconds of a clip, however many classes appear
AWAY = 3.0  # seconds after which a class that is seen again appears anew
QUALITY = 90  # of the JPEGs that the seconds before are kept as: raw ones would be half a gigabyte in full HD


class Events:
    """Clips and lines of one video. A class that appears while a clip is filmed is in that clip."""

    def __init__(self, folder: str, width: int, height: int, rate: Fraction, class_names: Sequence[str]) -> None:
        """folder: made if it is missing; lines are added to its events.jsonl. rate: frames per second.

        Raises UserError if the folder cannot be written.
        """
        self._folder, self._size, self._rate, self._class_names = folder, (width, height), rate, class_names
        self._before: collections.deque[tuple[float, Any]] = collections.deque()
        self._seen: dict[int, float] = {}  # when each class was seen last
        self._clip: VideoWriter | None = None
        self._name, self._begin, self._last = "", 0.0, 0.0
        try:
            os.makedirs(folder, exist_ok=True)
            self._lines = open(os.path.join(folder, NAME), "a", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise UserError(f"--events {folder}: cannot be written ({wording.reason(error)})") from None

    def add(self, frame: Frame) -> None:
        """Note a frame with its drawings. Raises UserError (a full disk)."""
        found = frame.detections
        assert found is not None
        self._forget(frame.time)
        carried = frame.tracks.carried.tolist() if frame.tracks else [False] * len(found)
        here = [row for row, label in enumerate(found.labels.tolist()) if not carried[row]]
        for row in here:
            label = int(found.labels[row])
            if label not in self._seen or frame.time - self._seen[label] >= AWAY:
                self._start(frame, self._class_names[label])
                self._write_line(frame, row)
                self._last = frame.time
            self._seen[label] = frame.time
        if self._clip:
            self._clip.write(frame.image, frame.time - self._begin)
            if frame.time - self._last >= AFTER or frame.time - self._begin >= LONGEST:
                self._end()
        self._keep(frame)

    def _forget(self, time):
        """Drop what is too old at the time of a frame: where a camera was away, the picture would stand still."""
        while self._before and self._before[0][0] < time - BEFORE:
            self._before.popleft()
        if self._clip and time - self._last > max(AFTER, 2 / float(self._rate)):  # frames may be rare
            self._end()

    def _keep(self, frame):
        self._before.append(
            (frame.time, cv2.imencode(".jpg", frame.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])
        )

    def _start(self, frame, name):
        """Begin a clip with the seconds before, unless one is being filmed."""
        if self._clip:
            return
        moment = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        self._begin = self._before[0][0] if self._before else frame.time
        self._name = f"{moment}_{frame.index:06d}_{file_names.safe_names([name])[0]}.mp4"
        self._clip = VideoWriter(os.path.join(self._folder, self._name), *self._size, self._rate)
        for time, picture in self._before:
            self._clip.write(cv2.imdecode(picture, cv2.IMREAD_COLOR_RGB), time - self._begin)

    def _write_line(self, frame, row):
        found = frame.detections
        line = {
            "class": self._class_names[int(found.labels[row])],
            "time": round(frame.time, 6),
            "frame": frame.index,
            "clock": datetime.datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "score": float(found.scores[row]),
            "box": found.boxes_px[row].tolist(),
            **({"track": int(frame.tracks.ids[row])} if frame.tracks else {}),
            "clip": os.path.join(self._folder, self._name),
            "clip_time": round(frame.time - self._begin, 6),
        }
        try:
            self._lines.write(json.dumps(line) + "\n")
            self._lines.flush()  # for whoever follows the file
        except OSError as error:
            raise UserError(f"{self._lines.name}: cannot be written ({wording.reason(error)})") from None

    def _end(self):
        clip, self._clip = self._clip, None
        clip.close()

    def close(self) -> None:
        """Complete the last clip. Raises UserError."""
        try:
            if self._clip:
                self._end()
        finally:
            self._lines.close()
