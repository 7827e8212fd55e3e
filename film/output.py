"""The video that process_video.py writes, or none where OUTPUT is -."""

import argparse
import os
from typing import Any

from film.frames import Frame
from media.video import VideoWriter
from structures import UserError
from system.wording import plural

NONE = "-"  # as OUTPUT: no video


class VideoFile:
    """The annotated video.

    frames: written so far. seconds: how long it is. padding, audio: as of a `video.VideoWriter`. is_whole: whether it
    is complete, and so has its name.
    """

    def __init__(self, flags: argparse.Namespace, reader: Any) -> None:
        """Raises UserError if the file cannot be written."""
        self._writer = VideoWriter(
            flags.output,
            reader.width,
            reader.height,
            reader.rate,
            audio_from=None if reader.live or os.path.isdir(flags.input) else flags.input,
            pixel_aspect=reader.pixel_aspect,
        )
        self.padding, self.is_whole = self._writer.padding, False
        if reader.live:  # nobody knows when it ends, and until then somebody may look for it
            print(f"{flags.output}: is written as {self._writer.unfinished} first", flush=True)

    @property
    def frames(self) -> int:
        return self._writer.frames

    @property
    def seconds(self) -> float:
        return self._writer.seconds

    @property
    def audio(self) -> str | None:
        return self._writer.audio

    def add(self, frame: Frame) -> None:
        """Write a frame. Raises UserError (a full disk)."""
        self._writer.write(frame.image, frame.time)

    def close(self) -> None:
        """Complete the file. Raises UserError."""
        self._writer.close()
        self.is_whole = True

    def __enter__(self):
        self._writer.__enter__()
        return self

    def __exit__(self, kind, error, trace):
        """Raises what ended the block again, with the name of the unfinished video, unless it is said already."""
        self._writer.__exit__(kind, error, trace)
        path = self._writer.unfinished
        if isinstance(error, UserError | KeyboardInterrupt) and os.path.exists(path):
            said = str(error) or "interrupted"
            if path not in said:
                raise type(error)(f"{said}; {path} holds the {plural(self.frames, 'frame')} before that") from None


class NoVideo:
    """In the place of a VideoFile where none is written."""

    padding, audio = (0, 0), None

    def __init__(self) -> None:
        self.frames, self.seconds, self.is_whole = 0, 0.0, False

    def add(self, frame: Frame) -> None:
        """Count a frame."""
        self.frames, self.seconds = self.frames + 1, frame.time

    def close(self) -> None:
        """All frames were counted."""
        self.is_whole = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass
