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

    pictures: all that are read, without repetition.
    kinds: names of what the store keeps: "1", "2", "4", "8" for pictures decoded at such a part of their size; others
        for what is made of them.
    store: has a slot for each of the pictures, and the kinds in this order.
    """

    def __init__(self, pictures: Sequence[Picture], kinds: Sequence[str], store: Store):
        self._pictures, self._kinds, self._store = pictures, kinds, store
        self._kind_of = {name: kind for kind, name in enumerate(kinds)}
        self._jpeg: dict[int, tuple[Signature, bool]] = {}  # by slot

    def __reduce__(self):
        return PictureCache, (self._pictures, self._kinds, self._store)

    def read(self, slot: int, reduce: int = 1) -> np.ndarray:
        """What images.read(path, exif, reduce) returns, read-only. Raises ImageError."""
        path, exif = self._pictures[slot]
        seen = signature(path)
        # Other formats are decoded whole, whatever `reduce` says, and need only one entry
        kind = str(reduce) if seen is None or reduce == 1 or self._is_jpeg(slot, seen) else "1"
        return self._get(slot, kind, seen, lambda: images.read(path, exif, reduce))

    def made(self, slot: int, kind: str, make: Callable[[np.ndarray], np.ndarray], reduce: int = 1) -> np.ndarray:
        """make(images.read(path, exif, reduce)), read-only. Raises ImageError."""
        path, exif = self._pictures[slot]
        return self._get(slot, kind, signature(path), lambda: make(images.read(path, exif, reduce)))

    def _get(self, slot, kind, seen, make):
        number = self._kind_of.get(kind)
        if seen is None or number is None:
            return make()
        found = self._store.find(slot, number, seen)
        if found is None:
            found = make()
            if not any(0 <= time.time_ns() - moment < RECENT_NS for moment in seen[1:]):
                self._store.add(slot, number, seen, found)
        return found

    def _is_jpeg(self, slot, seen):
        known = self._jpeg.get(slot)
        if known is None or known[0] != seen:
            known = self._jpeg[slot] = seen, images.is_jpeg(self._pictures[slot].path)
        return known[1]


def signature(path: str) -> Signature | None:
    """(size in bytes, times in ns when content and inode changed) of a file; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
