"""Handlers of signals, as far as the caller's thread may have any: for a block, and for the start of a program."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

INTERRUPTED = 130  # exit code after Ctrl-C, as of a shell


def in_main_thread() -> bool:
    """Whether this is Python's main thread, which alone may set handlers and receives all signals."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def handled(handler: Callable[[int, FrameType | None], object] | signal.Handlers, *numbers: int) -> Iterator[None]:
    """While open, these signals call handler(number, frame), or do what SIG_DFL or SIG_IGN says.

    In another thread than the main one, where a notebook's widget or a server may call a program, nothing is set:
    signals do what they did before.
    """
    if not in_main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, one or signal.SIG_DFL)  # None: a handler that is not Python's, which is lost


def end_at_interrupt() -> None:
    """From now on Ctrl-C ends the process with one line, until `raise_at_interrupt`.

    For a program that still imports its modules, in which a KeyboardInterrupt would show a traceback. Nothing changes
    where Ctrl-C is ignored, as in the background of a shell, or has a handler already.
    """
    if in_main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_at_interrupt() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt again, if `end_at_interrupt` has changed that."""
    if in_main_thread() and signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_number, _frame):
    if sys.stderr:  # None if it is closed: the descriptor may be another file's
        with contextlib.suppress(OSError):
            os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)  # an exception could be lost in the module that is being imported
