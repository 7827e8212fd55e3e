"""Pictures that several processes share: added by any of them, then never changed, up to a number of bytes.

`MemoryStore` keeps them in an anonymous file (memfd), as the data queue does its batches: no name can be left behind,
and the memory is free as soon as the last process has ended, however it ends.

Entries belong to a slot (which picture) and a kind (at which size). The kinds have limits of their own, so that a kind
that is added late still has room.
"""

import contextlib
import fcntl
import mmap
import os
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import reduction

import numpy as np

from system import cli, memory

_ALIGNMENT = 64  # bytes
_HEADER_WORDS = 8  # int64, before the pixels: the three of the signature, height, width; the rest is unused
_HEADER_BYTES = 8 * _HEADER_WORDS
_STEP = 32 * 2**20  # bytes that are requested from the system at once
RESERVED_SHARE = 0.1  # of all memory that others are left: the stores of several trainings may grow at the same time

Signature = tuple[int, int, int]  # what a file's content is recognized by


class Lock:
    """A lock between processes that share a file; the kernel opens it when its holder dies.

    Its methods must be called by one thread of each process.
    """

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock in the block. It is also a memory barrier: what was written before is seen before."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
