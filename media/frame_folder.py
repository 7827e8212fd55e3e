"""A folder of numbered pictures as a video: frame_1.jpg, frame_2.jpg, …, frame_10.jpg."""

import os
import re
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from media import images
from structures import UserError
from system import folder_tree
from system.file_names import Path
from system.wording import plural

# Suffixes of videos, which are no frames
VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts", ".ts", ".flv", ".3gp")


def by_number(name: str) -> list[str | int]:
    """The key that sorts names as people count: frame_2 before frame_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


class FrameFolder:
    """The pictures of a folder in the order of their numbers, with the attributes of a `video.VideoReader`.

    Iterate it once, for (frame uint8 RGB [height,width,3], seconds from the start). All frames have the size of the
    first; those that have another or cannot be read are left out, which `error` says.

    skipped: how many were left out before the frame that came last.
    """

    streams, live, pixel_aspect = 1, False, Fraction(1)
    skipped = 0

    def __init__(self, folder: Path, rate: Fraction):
        """rate: frames per second. Raises UserError if there is no picture or the first cannot be read."""
        self.source, self.rate = str(folder), rate
        there = folder_tree.visible(folder)
        names = [name for name in there if name.lower().endswith(images.SUFFIXES)]
        self._paths = [os.path.join(folder, name) for name in sorted(names, key=by_number)]
        videos = [name for name in there if name.lower().endswith(VIDEOS)]
        if videos and len(videos) >= len(names):  # pictures beside them are their thumbnails
            each = os.path.join(folder, f"*{os.path.splitext(videos[0])[1]}")
            raise UserError(
                f"{folder}: holds {plural(len(videos), 'video')}; name the videos, such as {each}, and an OUTPUT folder"
            )
        if not self._paths:
            raise UserError(
                f"{folder}: no pictures in it ({', '.join(images.SUFFIXES)}); give a folder of pictures or a video"
            )
        try:
            self.height, self.width = images.read(self._paths[0]).shape[:2]
        except images.ImageError as error:
            raise UserError(f"{error.path}: {error.reason}; the first frame decides the size") from None
        self.frame_count = len(self._paths)
        self.duration = float(self.frame_count / rate)
        self.error: str | None = None

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        first_bad = ""
        for index, path in enumerate(self._paths):
            try:
                image = images.read(path)
                reason = f"{image.shape[1]}×{image.shape[0]} pixels, not {self.width}×{self.height}"
            except images.ImageError as error:
                image, reason = None, error.reason
            if image is not None and image.shape[:2] == (self.height, self.width):
                yield image, float(index / self.rate)
                continue
            self.skipped += 1
            first_bad = first_bad or f"{path} ({reason})"
            # At once: with --max-frames the end may never come
            self.error = f"{self.source}: {plural(self.skipped, 'picture')} left out, the first is {first_bad}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass
