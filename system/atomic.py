"""Files and folders that appear complete or not at all, also after a power cut, and leave nothing half written."""

import contextlib
import errno
import fcntl
import functools
import itertools
import os
import re
import shutil
import stat
from collections.abc import Iterator
from typing import Any

from system import locks, write_errors
from system.file_names import UNENCODABLE, Path

_numbers = itertools.count()  # distinguish the temporary files of a process


def temporary_beside(path: Path) -> str:
    """A name in the folder of a file, under which it is written until `publish` renames it; nothing has it yet.

    The first call for a folder removes what processes that are gone left in it under such names.
    """
    folder = os.path.dirname(os.path.abspath(path))
    _remove_abandoned(folder)
    while True:
        # It does not contain the file's own name, which may be as long as a name can be
        name = os.path.join(folder, f".{os.getpid()}-{next(_numbers)}.tmp")
        if not os.path.lexists(name):  # of an earlier process with this number, or a planted link
            return name


@functools.cache
def _remove_abandoned(folder):
    """Remove the temporary files and folders of killed processes from a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_pending(entry.name) and not _is_alive(int(entry.name[1:].partition("-")[0])):
                _remove_unlocked(entry.path)


def _is_alive(process):
    """Whether there is a process of that number on this machine, or in this container."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _remove_unlocked(path):
    """Remove a temporary file or folder, unless a process in another container holds it (`locks.hold`)."""
    with contextlib.suppress(OSError):
        mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path) if stat.S_ISDIR(mode) else os.remove(path)
            finally:
                os.close(descriptor)


def publish(temporary: Path, path: Path, durable: bool = True) -> None:
    """Rename a complete file or folder to `path`, replacing an older one. Raises OSError.

    durable: flush its content to disk first and the folder's entry afterwards, so that a power cut leaves the old or
    the new one, not an empty one, and what is written later is not there without it.
    """
    if durable:
        flush(temporary)
    os.replace(temporary, path)
    if durable:
        _flush_one(os.path.dirname(os.path.abspath(path)))


def flush(path: Path) -> None:
    """Flush a file to disk, or a folder and all that is in it and below. Raises OSError."""
    if not os.path.isdir(path):
        _flush_one(path)
    for parent, _, names in os.walk(path, topdown=False):  # of a file it yields nothing
        for one in (*(os.path.join(parent, name) for name in names), parent):
            _flush_one(one)


def _flush_one(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network disks cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def make_folders(path: Path) -> None:
    """Make a folder and those above it that are missing, and flush their entries. Raises OSError."""
    missing = []
    above = os.path.abspath(path)
    while not os.path.isdir(above):
        missing.append(above)
        above = os.path.dirname(above)
    os.makedirs(path, exist_ok=True)
    for one in missing:
        _flush_one(os.path.dirname(one))


class PendingFile:
    """A file that appears under its name at `commit`.

    binary: bytes instead of text.
    durable: as in `publish`.
    Creating, writing and committing raise UnwritableFile if the place cannot be written or the disk is full.
    """

    def __init__(self, path: Path, binary: bool = False, durable: bool = True):
        self._failure: OSError | None = None
        self._durable = durable
        self._path, self._temporary = path, temporary_beside(path)
        text: dict[str, Any] = {} if binary else {"encoding": "utf-8", "errors": UNENCODABLE, "newline": "\n"}
        try:
            make_folders(os.path.dirname(self._temporary))
            self._file = open(self._temporary, "xb" if binary else "x", **text)  # noqa: SIM115
        except OSError as error:
            raise write_errors.unwritable(path, error) from None
        locks.hold(self._file.fileno())

    def write(self, content: str | bytes) -> None:
        """Append text, or bytes if the file is binary."""
        try:
            self._file.write(content)
        except OSError as error:
            self._failure = error
            raise write_errors.unwritable(self._path, error) from None

    def commit(self, path: Path | None = None) -> None:
        """Publish the file, under another name of the same folder if `path` is given.

        If this or an earlier `write` fails, nothing is left behind.
        """
        try:
            if self._failure:
                raise self._failure
            self._file.close()
            publish(self._temporary, path or self._path, self._durable)
        except OSError as error:
            self.discard()
            raise write_errors.unwritable(self._path, error) from None

    def discard(self) -> None:
        """Remove the file unless it is published."""
        with contextlib.suppress(OSError):  # a full disk refuses the last flush too
            self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._temporary)


@contextlib.contextmanager
def pending_folder(path: Path) -> Iterator[str]:
    """Context manager: a folder to fill, which appears as `path` when the block ends, and not at all if it fails.

    path: a folder that does not exist, or an empty one. It may hold thousands of files, so all that the machine still
    has to write is flushed to disk at once. Raises OSError if it cannot be created.
    """
    with temporary_folder(path) as temporary:
        yield temporary
        os.sync()
        os.replace(temporary, path)
        _flush_one(os.path.dirname(os.path.abspath(path)))


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[str]:
    """Context manager: a new folder beside `path`, removed at the end. Raises OSError if it cannot be created."""
    temporary = temporary_beside(path)
    os.makedirs(temporary)
    held = os.open(temporary, os.O_RDONLY)
    try:
        locks.hold(held)
        yield temporary
    finally:
        os.close(held)
        shutil.rmtree(temporary, ignore_errors=True)


def move_all(source: Path, target: Path) -> None:
    """Move what is in one folder into another of the same disk, in place of what has its names there. Raises OSError.

    All is flushed to disk first, so that the moves follow each other at once. If one fails, or Ctrl-C comes between
    two, what was there before is there again.
    """
    flush(source)
    with temporary_folder(os.path.join(target, "any")) as earlier:
        moves = [tuple(os.path.join(one, name) for one in (source, target, earlier)) for name in os.listdir(source)]
        try:
            for new, path, old in moves:
                _put_aside(path, old)
                os.replace(new, path)
        except BaseException:
            for new, path, old in moves:
                with contextlib.suppress(OSError):
                    if not os.path.lexists(new):
                        os.replace(path, new)
                    if os.path.lexists(old) and not os.path.lexists(path):  # else the copy may be a part
                        os.replace(old, path)
            raise
    _flush_one(os.path.abspath(target))


def _put_aside(path, place):
    """Keep what is at a path, if anything, at another; a file is at both, so that a kill leaves the old or the new one.

    Folders have to go, and so do links, whose place no folder can take.
    """
    if os.path.islink(path) or os.path.isdir(path):
        os.replace(path, place)
    elif os.path.exists(path):
        try:
            os.link(path, place)
        except OSError:  # some disks have no links
            shutil.copyfile(path, place)


def is_pending(name: str) -> bool:
    """Whether a file name is that of a PendingFile, of this process or of one that was killed."""
    return re.fullmatch(r"\.\d+-\d+\.tmp", name) is not None
