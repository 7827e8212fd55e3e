"""Pictures that are decoded once: `images.read` with a store of what it returned.

The pixels are exactly those that decoding would give. A file that changed is decoded anew: each entry holds size and
times of the file that it was made from. What cannot be read is not kept, so that it fails as without a cache.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from media import images
from system.shared_arrays import Signature

# A file that was just written may change again without a change of its times, whose ticks can be this long
RECENT_NS = 2_000_000_000


class Store(Protocol):
    """What keeps the pixels: `system.shared_arrays.MemoryStore` or `system.array_folder.ArrayFolder`."""

    def find(self, slot: int, kind: int, signature: Signature) -> np.ndarray | None:
        """The array that was added with this signature, or None."""

    def add(self, slot: int, kind: int, signature: Signature, array: np.ndarray) -> None:
        """Keep an array, if there is room."""

    def close(self) -> None:
        """Give up what the store holds of the system."""


class Picture(NamedTuple):
    """path, exif: as for `images.read`."""

    path: str
    exif: bool


class PictureCache:
    """Reads pictures, each decoded once at each size.

    Pickling it for a process that is being started shares the store with that process.

    pictures: those that are kept, without repetition.
    kinds: names of what is kept: "1", "2", "4", "8" for pictures decoded at such a part of their size; others for what
        is made of them.
    store: has a slot for each of the pictures, and the kinds in this order.
    gray16: as for `images.read`.
    """

    def __init__(self, pictures: Sequence[Picture], kinds: Sequence[str], store: Store, gray16: str = images.FULL):
        self._arguments = pictures, kinds, store, gray16
        self._store, self._gray16 = store, gray16
        self._slot_of = {picture: slot for slot, picture in enumerate(pictures)}
        self._kind_of = {name: kind for kind, name in enumerate(kinds)}
        self._jpeg: dict[str, tuple[Signature, bool]] = {}  # by path

    def __reduce__(self):
        return PictureCache, self._arguments

    def close(self) -> None:
        """Give up the store. Pictures handed out stay readable."""
        self._store.close()

    def read(self, path: str, exif: bool = True, reduce: int = 1) -> np.ndarray:
        """What `images.read` returns, read-only. Raises ImageError."""
        seen = signature(path)
        # Other formats are decoded whole, whatever `reduce` says, and need only one entry
        shrinks = reduce != 1 and (seen is None or self._is_jpeg(path, seen))
        return self._get(
            Picture(path, exif),
            str(reduce if shrinks else 1),
            seen,
            lambda: images.read(path, exif, reduce, self._gray16),
        )

    def made(
        self, kind: str, make: Callable[[np.ndarray], np.ndarray], path: str, exif: bool = True, reduce: int = 1
    ) -> np.ndarray:
        """make(images.read(path, exif, reduce)), read-only. Raises ImageError.

        kind: one of `kinds`, that goes with this `make` and `reduce` for this picture.
        """
        return self._get(
            Picture(path, exif), kind, signature(path), lambda: make(images.read(path, exif, reduce, self._gray16))
        )

    def _get(self, picture, kind, seen, make):
        slot, number = self._slot_of.get(picture), self._kind_of.get(kind)
        if seen is None or slot is None or number is None:
            return make()
        found = self._store.find(slot, number, seen)
        if found is None:
            found = make()
            if not any(0 <= time.time_ns() - moment < RECENT_NS for moment in seen[1:]):
                self._store.add(slot, number, seen, found)
        return found

    def _is_jpeg(self, path, seen):
        known = self._jpeg.get(path)
        if known is None or known[0] != seen:
            known = self._jpeg[path] = seen, images.is_jpeg(path)
        return known[1]


def signature(path: str) -> Signature | None:
    """(size in bytes, times in ns when content and inode changed) of a file; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
