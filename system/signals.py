"""Handlers of signals, as far as the caller's thread may have any: for a block, and for the start of a program."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

INTERRUPTED = 130  # exit code after Ctrl-C, as of a shell
# Signals this close together count as one: `timeout` sends one to a process and one to its group, and what reaches all
# of a terminal is passed on to a program by the one that started it (`chain`)
REPEAT_SECONDS = 1.0
_received: float | None = None  # when the last signal came that was not a repetition


def in_main_thread() -> bool:
    """Whether this is Python's main thread, which alone may set handlers and receives all signals."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def handled(handler: Callable[[int, FrameType | None], object] | signal.Handlers, *numbers: int) -> Iterator[None]:
    """While open, these signals call handler(number, frame), or do what SIG_DFL or SIG_IGN says.

    In another thread than the main one, where a notebook's widget or a server may call a program, nothing is set:
    signals do what they did before.
    """
    with kept(*numbers):
        if in_main_thread():
            for number in numbers:
                signal.signal(number, handler)
        yield


@contextlib.contextmanager
def kept(*numbers: int) -> Iterator[None]:
    """Context manager: puts back the handlers of these signals at its end, even if a library has replaced them."""
    if not in_main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
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
    """From now on Ctrl-C and SIGTERM raise KeyboardInterrupt, so that a program removes what it leaves and ends others.

    A repetition is passed over. Nothing changes where a signal is ignored or somebody else has a handler.
    """
    ours = {signal.SIGINT: (_end, signal.default_int_handler), signal.SIGTERM: (signal.SIG_DFL,)}
    if in_main_thread():
        for number, handlers in ours.items():
            if signal.getsignal(number) in handlers:
                signal.signal(number, interrupt)


def is_repeated() -> bool:
    """Note that a signal came that asks to stop; returns whether it is a repetition of the one before."""
    global _received
    now = time.monotonic()
    if _received is not None and 0 <= now - _received < REPEAT_SECONDS:
        return True
    _received = now
    return False


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """A handler that raises KeyboardInterrupt, and passes over a repetition."""
    if not is_repeated():
        raise KeyboardInterrupt


def _end(_number, _frame):
    if sys.stderr:  # None if it is closed: the descriptor may be another file's
        with contextlib.suppress(OSError):
            os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)  # an exception could be lost in the module that is being imported
