"""The standard streams, whose reader may be gone: closed streams, broken pipes, terminals that hung up."""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

put_aside: dict[int, int] = {}  # descriptor -> that of the user's terminal, while `tensorflow_loading` needs its number


def open_closed() -> None:
    """Open closed streams (`2>&-`) on /dev/null: libraries write to them, and a new file could get their number."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # which is how Python marks a closed stream
            if not _is_open(number):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def reader_is_gone(error: OSError) -> bool:
    """Whether an OSError means that nobody reads a stream any more: a closed pipe, or a terminal that hung up (EIO)."""
    return isinstance(error, BrokenPipeError) or (error.errno == errno.EIO and error.filename is None)


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody watches a stream, such as sys.stderr; what a notebook puts in its place may not know."""
    return hasattr(stream, "isatty") and stream.isatty()


def flush(stream: TextIO) -> None:
    """Flush a stream; what it holds is dropped if its reader (`| tee log`, a terminal) is gone."""
    try:
        stream.flush()
    except OSError as error:
        if not reader_is_gone(error):
            raise
        silence(stream)


def silence(stream: TextIO) -> None:
    """Send a stream that has lost its reader to /dev/null, with what it still holds."""
    with contextlib.suppress(io.UnsupportedOperation, AttributeError):  # a notebook's: there is no file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def unbreakable() -> Iterator[None]:
    """While open, sys.stdout and sys.stderr are Unbreakable."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(Unbreakable, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class Unbreakable:
    """A text stream whose reader may go away, or whose disk may be full: what is then written is lost, no error."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text):
        with contextlib.suppress(OSError):  # also EFBIG and ENOSPC, of a log
            self._stream.write(text)
        return len(text)

    def flush(self):
        with contextlib.suppress(OSError):
            flush(self._stream)

    def __getattr__(self, name):
        return getattr(self._stream, name)


def stdout_is_closed() -> bool:
    """Whether the reader of the output (`| head`) is gone; if so, also silence the flush at exit."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except BrokenPipeError:
        silence(sys.stdout)
        return True
    except (OSError, ValueError):  # a stdout without a file behind it
        pass
    return False
