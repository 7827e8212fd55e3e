"""A camera or stream that goes on when it drops out, and of which the newest frame is read."""

import threading
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from media.video import STREAM_TIMEOUT, VideoReader
from structures import UserError
from system import cli
from system.wording import plural

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between tries; each pause is twice the one before
POLL = 0.1  # seconds in which a stop is noticed
JOIN = 2 * max(STREAM_TIMEOUT)  # seconds: a source that gives nothing is waited for no longer than this


class LiveReader:
    """The frames of a camera or stream, with the attributes of a `video.VideoReader`.

    When frames end, the source is opened again, with pauses that grow. Its times go on: in between, as much passes as
    on a clock. Frames of another size are made as large as the first.

    newest: whether frames that come faster than they are read are dropped.
    dropped: how many were. interruptions: how often it dropped out and came back. seconds_lost: how long it was away.
    error: why it ended, or None while it goes on.
    away: called with True where it drops out, and with False where it is back or given up.
    """

    skipped = 0  # what is dropped has no number

    def __init__(self, reader: VideoReader, newest: bool, patience: float, stopped: Callable[[], bool]) -> None:
        """reader: the source, open, and not yet iterated. patience: seconds after which a source that drops out is
        given up. stopped: whether to end."""
        self._reader, self._patience, self._stopped = reader, patience, stopped
        self._left = threading.Event()
        self.source, self.name = reader.source, reader.name
        self.stream, self.newest = reader.stream, newest
        self._alone = reader.alone  # a camera that comes back as a playlist is refused too
        self.width, self.height, self.rate = reader.width, reader.height, reader.rate
        self.pixel_aspect, self.streams = reader.pixel_aspect, reader.streams
        self.live, self.duration, self.frame_count = True, None, None
        self.error: str | None = None
        self.dropped = self.interruptions = 0
        self.seconds_lost = 0.0
        self.away: Callable[[bool], None] = lambda is_away: None
        self._start = time.monotonic()
        self._delays, self._longest, self._shown = 0.0, 0.0, 0
        self._thread: threading.Thread | None = None

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        """Yield (frame uint8 RGB [height,width,3], seconds from the start: by its clock, or of arrival if `newest`)."""
        self._start = time.monotonic()
        return self._newest() if self.newest else self._all()

    def _all(self):
        """Every frame, through interruptions."""
        shift, last = 0.0, 0.0
        while True:
            first = True
            for image, seconds in self._reader:
                if first and self.interruptions:
                    shift = max(time.monotonic() - self._start, last + float(1 / self.rate)) - seconds
                first = False
                last = seconds + shift
                yield self._fitted(image), last
                if self._ended():
                    return
            self._reader.close()
            self.away(True)
            try:
                if not self._open_again(self._reader.error or "it ended"):
                    return
            finally:
                self.away(False)

    def _newest(self):
        """The newest frame each time, read by a thread of its own."""
        ready = threading.Condition()
        box: list = []  # the newest frame that nobody took, with its time; at the end None, or an exception

        def read():
            last: object = None
            try:
                for image, _ in self._all():
                    with ready:
                        self.dropped += len(box)
                        box[:] = [(image, time.monotonic() - self._start)]
                        ready.notify()
            except BaseException as error:
                last = error
            with ready:
                box.append(last)
                ready.notify()

        self._thread = threading.Thread(target=read, daemon=True)
        self._thread.start()
        while not self._ended():
            with ready:
                if not ready.wait_for(lambda: box, POLL):
                    continue
                frame = box.pop(0)
            if isinstance(frame, BaseException):
                raise frame
            if frame is None:
                return
            yield frame

    def _fitted(self, image):
        size = (self.width, self.height)
        return image if image.shape[1::-1] == size else cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    def _open_again(self, reason):
        """Try until the source is back -> whether it is."""
        lost, pause = time.monotonic(), FIRST_PAUSE
        cli.warn(f"{self.name}: no picture ({reason.removeprefix(f'{self.name}: ')}); trying again")
        while not self._ended():
            remaining = lost + self._patience - time.monotonic()
            if remaining <= 0:
                self.error = f"{self.name}: gave no picture for {self._patience:g} seconds"
                return False
            self._wait(min(pause, remaining))
            if self._ended():
                return False
            try:
                self._reader = VideoReader(self.source, self.stream, self._alone)
            except UserError:
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            away = time.monotonic() - lost
            self.interruptions, self.seconds_lost = self.interruptions + 1, self.seconds_lost + away
            cli.warn(f"{self.name}: back after {plural(round(away), 'second')}")
            return True
        return False

    def _wait(self, seconds):
        until = time.monotonic() + seconds
        while not self._ended() and time.monotonic() < until:
            time.sleep(POLL)

    def _ended(self):
        return self._left.is_set() or self._stopped()

    def shown(self, seconds: float) -> None:
        """Note that the frame of that time is processed: of the newest frames, the delay since they came."""
        delay = time.monotonic() - self._start - seconds
        self._delays, self._longest, self._shown = self._delays + delay, max(self._longest, delay), self._shown + 1

    def facts(self) -> dict[str, float | int | None]:
        """What happened so far, for JSON: dropped, interruptions, seconds_lost, and with `newest` the delays."""
        facts: dict[str, float | int | None] = {
            "dropped": self.dropped,
            "interruptions": self.interruptions,
            "seconds_lost": round(self.seconds_lost, 1),
        }
        if self.newest:
            facts["mean_delay"] = round(self._delays / self._shown, 3) if self._shown else None
            facts["longest_delay"] = round(self._longest, 3)
        return facts

    def close(self) -> None:
        """Close the source, once no thread reads from it."""
        self._left.set()
        if self._thread:
            self._thread.join(JOIN)
        if not self._thread or not self._thread.is_alive():
            self._reader.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
