"""Pictures in a folder that all trainings of a machine share, up to a number of bytes for all of them together.

    FOLDER/ab/NAME.array     one array: 64 bytes of header, then the pixels; NAME is a hash of all that decides them
    FOLDER/.PID-N.training   what a training may still write; locked (flock) as long as one of its processes lives
    FOLDER/.lock             locked by a training that starts, while it counts and makes room

A training that starts touches its own arrays and removes the oldest of the others until its new ones have room, but
none that was touched since the oldest living training started. Then it reserves the room, so that others count it in.
Arrays appear by renaming, so none is ever incomplete, and whoever reads one that is removed keeps it.
"""

import contextlib
import fcntl
import hashlib
import mmap
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from multiprocessing import reduction
from typing import NamedTuple

import numpy as np

from structures import UserError
from system import atomic, cli, files, write_errors
from system.shared_arrays import HEADER_BYTES, HEADER_WORDS, Locked, Signature, share_out

SUFFIX, RESERVATION = ".array", ".training"
KEPT_FREE = 0.05  # share of the disk that is left free
ABANDONED_SECONDS = 3600.0  # a temporary file this old belongs to a killed process: writing one takes milliseconds
_MAGIC = int.from_bytes(b"pixels 1", "little")
# The first words of a reservation; from _USED on bytes written by kind, then bytes reserved by kind
_FULL, _START, _USED = range(3)


class Names:
    """The files of arrays.

    folder: that holds them.
    pictures: a name for each slot, unique.
    kinds: a name for each kind, unique, with all that decides the pixels besides picture and signature.
    """

    def __init__(self, folder: str, pictures: Sequence[str], kinds: Sequence[str]):
        self.folder, self.pictures, self.kinds = folder, pictures, kinds
        self._hashes = [hashlib.blake2b(f"{kind}\0".encode(), digest_size=16) for kind in kinds]

    def __reduce__(self):
        return Names, (self.folder, self.pictures, self.kinds)

    def path(self, slot: int, kind: int, signature: Signature) -> str:
        """The file of an array, which may not exist."""
        digest = self._hashes[kind].copy()
        picture = self.pictures[slot].encode("utf-8", "surrogateescape")
        digest.update(b"%b\0%d %d %d" % (picture, *signature))
        name = digest.hexdigest()
        return f"{self.folder}/{name[:2]}/{name[2:]}{SUFFIX}"


class ArrayFolder:
    """Arrays uint8 [H,W,3] by slot (which picture) and kind (at which size), in files. Made by `reserve`.

    Pickling it for a process that is being started shares it with that process.

    names: of the files.
    limits: bytes that may be written for each kind.
    """

    def __init__(self, names: Names, limits: Sequence[int], descriptors: tuple[int, int] | None = None):
        self._names, self._limits, self._path = names, tuple(limits), None
        claimable = max(1, len(names.pictures) * len(limits))  # nothing cannot be mapped
        if descriptors is None:
            self._path, reservation = _new_reservation(names.folder)
            fcntl.flock(reservation, fcntl.LOCK_EX)
            words = [0, int(time.time()), *[0] * len(limits), *limits]
            os.pwrite(reservation, np.array(words, np.int64).tobytes(), 0)
            # On a network disk flock and lockf are one and the same, so the second lock has a file of its own. It has
            # a word for each array, that says which one a process of this training has written, or is about to write
            descriptors = reservation, os.memfd_create("lock")
            os.ftruncate(descriptors[1], 8 * claimable)
        self._descriptors: tuple[int, int] | None = descriptors
        self._words = np.frombuffer(mmap.mmap(descriptors[0], 8 * (_USED + 2 * len(limits))), np.int64)
        claims = np.frombuffer(mmap.mmap(descriptors[1], 8 * claimable), np.int64)
        self._claims = claims[: len(names.pictures) * len(limits)].reshape(len(names.pictures), len(limits))

    def __reduce__(self):
        return _attach, (self._names, self._limits, *map(reduction.DupFd, self._descriptors))

    def close(self) -> None:
        """Give up the reservation. Arrays handed out stay readable."""
        if self._path:
            with contextlib.suppress(OSError):
                os.remove(self._path)
        for descriptor in self._descriptors or ():
            os.close(descriptor)
        self._path = self._descriptors = None

    def find(self, slot: int, kind: int, signature: Signature) -> np.ndarray | None:
        """The array that was added with this signature, read-only, or None."""
        return _read(self._names.path(slot, kind, signature))

    def add(self, slot: int, kind: int, signature: Signature, array: np.ndarray) -> None:
        """Keep an array, if there is room and no process of this training has added it, or is about to.

        Where it cannot be written, one line on stderr says so, once.
        """
        size, words = HEADER_BYTES + array.nbytes, self._words
        claim = hash(signature) or 1  # the hash of numbers is the same in all processes
        with Locked(self._descriptors[1]):
            claimed = self._claims[slot, kind] == claim
            if claimed or words[_FULL] or words[_USED + kind] + size > self._limits[kind]:
                return
            words[_USED + kind] += size
            self._claims[slot, kind] = claim
        header = np.zeros(HEADER_WORDS, np.int64)
        header[:3] = _MAGIC, *array.shape[:2]
        path = self._names.path(slot, kind, signature)
        try:
            files.write(path, header.tobytes() + array.tobytes(), durable=False)
        except write_errors.UnwritableFile as error:
            with Locked(self._descriptors[1]):
                told, words[_FULL] = bool(words[_FULL]), 1
            if not told:
                cli.warn(f"{error}; the cache keeps what it has, and other pictures are decoded each time")


def _attach(names, limits, *descriptors):
    return ArrayFolder(names, limits, tuple(one.detach() for one in descriptors))


def _read(path):
    """The array of a file, or None if there is none that can be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # none yet, or the disk fails: then the picture is decoded
        return None
    try:
        size = os.fstat(descriptor).st_size
        if size <= HEADER_BYTES:
            return None
        # MAP_POPULATE: without it each page costs a fault
        mapping = mmap.mmap(descriptor, size, mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0), mmap.PROT_READ)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    magic, height, width = np.frombuffer(mapping, np.int64, 3).tolist()
    if magic != _MAGIC or size != HEADER_BYTES + height * width * 3:  # cut off by a power failure
        return None
    return np.ndarray((height, width, 3), np.uint8, mapping, HEADER_BYTES)


class Reserved(NamedTuple):
    """What a training gets.

    store: to read and write arrays.
    present: bytes of its arrays that are there already.
    granted: bytes that it may write.
    """

    store: ArrayFolder
    present: int
    granted: int


def reserve(
    limit: int, names: Names, wanted: Sequence[int], signatures: Iterable[Signature | None], sharers: int = 1
) -> Reserved:
    """Make room for a training in a folder, which is created if needed.

    limit: bytes that the folder may hold.
    names: of the training's files.
    wanted: bytes of all arrays of each kind, those that matter most first.
    signatures: of each slot; None for a file that cannot be read.
    sharers: how many processes train together on these arrays and call this; each gets its share of what is missing.
    Raises UserError if the folder cannot be written.
    """
    try:
        os.makedirs(names.folder, exist_ok=True)
        lock = os.open(os.path.join(names.folder, ".lock"), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _reserve(limit, names, wanted, signatures, sharers)
        finally:
            os.close(lock)
    except OSError as error:
        raise UserError(f"{names.folder}: cannot be written ({error.strerror}); choose another --cache-dir") from None


def _reserve(limit, names, wanted, signatures, sharers):
    """`reserve`, with the folder's lock held."""
    now = int(time.time())
    sizes, touched = _scan(names.folder, now)
    outstanding, oldest_start = _living(names.folder, now)
    present = [0] * len(wanted)
    for slot, signature in enumerate(signatures):
        for kind in range(len(wanted)) if signature else ():
            path = names.path(slot, kind, signature)
            if path in sizes:
                present[kind] += sizes[path]
                touched[path] = now
                os.utime(path, (now, now))
    # All that is there counts once against all that is wanted: the part that is missing is divided, not the whole
    missing = [-(-max(one - there, 0) // sharers) for one, there in zip(wanted, present, strict=True)]
    free = limit - sum(sizes.values()) - outstanding
    for path in sorted(sizes, key=touched.__getitem__):
        if free >= sum(missing) or touched[path] >= oldest_start:
            break
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        free += sizes[path]
    disk = shutil.disk_usage(names.folder)
    limits = share_out(missing, min(free, int(disk.free - KEPT_FREE * disk.total)))
    return Reserved(ArrayFolder(names, limits), sum(present), sum(limits))


def _scan(folder, now):
    """({path: bytes}, {path: seconds when it was last touched}) of all arrays; removes what killed writers left."""
    sizes, touched = {}, {}
    for entry in list(os.scandir(folder)):
        for file in os.scandir(entry.path) if entry.is_dir(follow_symlinks=False) else ():
            with contextlib.suppress(FileNotFoundError):
                found = file.stat()
                if file.name.endswith(SUFFIX):
                    path = f"{folder}/{entry.name}/{file.name}"
                    sizes[path], touched[path] = found.st_size, found.st_mtime
                elif atomic.is_pending(file.name) and found.st_mtime < now - ABANDONED_SECONDS:
                    os.remove(file.path)
    return sizes, touched


def _new_reservation(folder):
    """(path, descriptor) of a new file in a folder; another container may have a process with this one's number."""
    while True:
        path = atomic.temporary_beside(os.path.join(folder, "any")).removesuffix(".tmp") + RESERVATION
        with contextlib.suppress(FileExistsError):
            return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)


def _living(folder, now):
    """(bytes that living trainings may still write, when the oldest of them started); forgets the dead ones."""
    outstanding, oldest = 0, now
    for entry in list(os.scandir(folder)):
        if not entry.name.endswith(RESERVATION):
            continue
        try:
            descriptor = os.open(entry.path, os.O_RDONLY)
        except FileNotFoundError:  # its training has ended meanwhile
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                os.remove(entry.path)  # nobody holds it
        except BlockingIOError:
            _, start, *numbers = np.frombuffer(os.pread(descriptor, 1 << 16, 0), np.int64).tolist()
            kinds = len(numbers) // 2
            outstanding += sum(numbers[kinds:]) - sum(numbers[:kinds])
            oldest = min(oldest, start)
        finally:
            os.close(descriptor)
    return outstanding, oldest
