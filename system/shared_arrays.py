"""Pictures in memory that several processes share: added by any of them, then never changed, up to a number of bytes.

They are in an anonymous file (memfd), as the batches of the data queue: no name can be left behind, and the memory is
free as soon as the last process has ended, however it ends. The kernel locks the file for one process at a time, so
a killed process cannot leave it locked.
"""

import fcntl
import mmap
import os
from collections.abc import Iterable, Sequence
from multiprocessing import reduction

import numpy as np

from system import cli, memory

ALIGNMENT = 64  # bytes
HEADER_WORDS = 8  # int64, before the pixels: the three of the signature, height, width; the rest is unused
HEADER_BYTES = 8 * HEADER_WORDS
STEP = 32 * 2**20  # bytes that are requested from the system at once
KEPT_FREE = 0.1  # share of all memory that the store leaves free, whoever uses the rest

_FULL, _NEXT, _ALLOCATED, _USED = range(4)  # the first words of the file; from _USED on there is one for each kind

Signature = tuple[int, int, int]  # what the content of a picture's file is recognized by


def block_bytes(height: int, width: int) -> int:
    """How many bytes an array uint8 [height,width,3] takes in a store."""
    return -(-(HEADER_BYTES + height * width * 3) // ALIGNMENT) * ALIGNMENT


def share_out(wanted: Iterable[int], limit: int) -> list[int]:
    """How many bytes each kind gets of `limit`; the first get all that they want."""
    shares: list[int] = []
    for one in wanted:
        shares.append(max(0, min(one, limit - sum(shares))))
    return shares


class MemoryStore:
    """Arrays uint8 [H,W,3] by slot (which picture) and kind (at which size).

    It grows as arrays are added, and stops where memory would become short; one line on stderr then says so.
    Pickling it for a process that is being started shares it with that process.

    slots: how many pictures.
    limits: bytes for each kind. A kind keeps its room even if others are added first.
    """

    def __init__(self, slots: int, limits: Sequence[int], descriptor: int | None = None):
        self._arguments = (slots, tuple(limits))
        start = -(-8 * (_USED + len(limits) * (1 + slots)) // STEP) * STEP
        size = start + -(-sum(limits) // STEP) * STEP
        if descriptor is None:
            descriptor = os.memfd_create("pictures")
            os.ftruncate(descriptor, size)  # without memory: this file may be larger than will ever be filled
        self._descriptor: int | None = descriptor
        self._mapping = mmap.mmap(descriptor, size)
        self._words = np.frombuffer(self._mapping, np.int64)
        self._table = self._words[_USED + len(limits) :][: slots * len(limits)].reshape(slots, len(limits))
        if not self._words[_NEXT]:
            self._words[[_NEXT, _ALLOCATED]] = start

    def __reduce__(self):
        return _attach, (*self._arguments, reduction.DupFd(self._descriptor))

    def close(self) -> None:
        """Give up the file; the memory is free when all processes have done so. Arrays handed out stay readable."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        del self._mapping, self._words, self._table

    @property
    def used(self) -> int:
        """Bytes taken so far, by all processes."""
        return int(self._words[_USED : _USED + len(self._arguments[1])].sum())

    def find(self, slot: int, kind: int, signature: Signature) -> np.ndarray | None:
        """The array that was added with this signature, read-only, or None."""
        at = int(self._table[slot, kind])
        if at <= 0:
            return None
        header = self._header(at)
        if tuple(header[:3]) != signature:
            return None
        return self._array(at, *header[3:5])

    def add(self, slot: int, kind: int, signature: Signature, array: np.ndarray) -> None:
        """Keep a copy of an array, if there is room and no process has added it, or is about to."""
        height, width = array.shape[:2]
        with Locked(self._descriptor):
            there = abs(int(self._table[slot, kind]))
            if there and tuple(self._header(there)[:3]) == signature:
                return
            at = self._take(kind, block_bytes(height, width))
            if at is None:
                return
            self._words[at // 8 : at // 8 + 5] = (*signature, height, width)
            self._table[slot, kind] = -at  # being written
        self._array(at, height, width, writeable=True)[...] = array
        # The lock is a memory barrier too: nobody sees the entry before the pixels. Blocks are never reused, so who
        # reads an older entry meanwhile is not disturbed
        with Locked(self._descriptor):
            self._table[slot, kind] = at

    def _header(self, at):
        return self._words[at // 8 : at // 8 + HEADER_WORDS].tolist()

    def _array(self, at, height, width, writeable=False):
        array = np.ndarray((height, width, 3), np.uint8, self._mapping, at + HEADER_BYTES)
        array.flags.writeable = writeable
        return array

    def _take(self, kind, size):
        """Where a new block of `size` bytes starts, or None if there is no room. The lock must be held."""
        words, limit = self._words, self._arguments[1][kind]
        if words[_FULL] or words[_USED + kind] + size > limit or not self._grow(int(words[_NEXT]) + size):
            return None
        at = int(words[_NEXT])
        words[_NEXT] += size
        words[_USED + kind] += size
        return at

    def _grow(self, end):
        """Request memory up to `end` from the system; False if memory is short."""
        words = self._words
        while words[_ALLOCATED] < end:
            free = memory.available() - STEP
            try:
                if free < KEPT_FREE * memory.total():
                    raise MemoryError
                os.posix_fallocate(self._descriptor, int(words[_ALLOCATED]), STEP)
            except (OSError, MemoryError):
                words[_FULL] = 1
                cli.warn(
                    f"memory is short ({free / 1e9:.1f} GB free): the cache keeps the {self.used / 1e9:.1f} GB that it "
                    "has, and other pictures are decoded each time"
                )
                return False
            words[_ALLOCATED] += STEP
        return True


def _attach(slots, limits, file):
    return MemoryStore(slots, limits, file.detach())


class Locked:
    """Context manager: no other process is in such a block for the same file. One thread of a process may use it."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def __enter__(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
