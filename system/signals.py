"""Handlers of signals for the length of a block, as far as the caller's thread may have any."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


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
