"""Locks of files and folders: one process at a time."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

from system import wording
from system.file_names import Path


def hold(descriptor: int) -> None:
    """Lock what is being written, as long as its descriptor is open; some network disks have no locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked(path: Path, warn: Callable[[str], object] = lambda reason: None) -> Iterator[None]:
    """Context manager: no other process is in such a block for the same path, at which an empty file is made.

    A file that is there is not emptied, and a link is replaced, not followed. warn: told where the disk has no locks,
    so that nothing keeps others out. Raises BlockingIOError if another process holds the lock, other OSErrors where no
    file can be made.
    """
    descriptor = _open_lock(path, warn)
    try:
        yield
    finally:
        os.close(descriptor)


def _open_lock(path, warn):
    """The locked descriptor of the regular file at a path."""
    while True:
        if os.path.islink(path):
            os.remove(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return descriptor
        except FileNotFoundError:  # who held the lock has removed the file
            pass
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError as error:  # some network disks have no locks
            warn(f"cannot be locked ({wording.reason(error)}); do not let two processes write there at once")
            return descriptor
        os.close(descriptor)
