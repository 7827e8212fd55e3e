"""Ctrl-C and SIGTERM as a wish to stop: what is under way is finished and saved first."""

import contextlib
import os
import signal
import sys

from system import signals, streams


class StopRequest:
    """While open, Ctrl-C and SIGTERM set a flag instead of interrupting a step; a second signal interrupts it.

    Work that can be saved checks `requested` between steps; `raise_if_requested` ends work that cannot. Output that
    nobody reads any more is no error meanwhile: Ctrl-C also ends the `tee` that reads it.
    In another thread than the main one, which receives no signals, it changes nothing.
    """

    SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.requested = False
        self._is_asked = False  # by a signal: `requested` may also be set by the program, as where another one stops

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(signals.handled(self._handle, *self.SIGNALS))
            if signals.in_main_thread():  # several threads would put each other's streams back
                stack.enter_context(streams.unbreakable())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def _handle(self, number, _frame):
        if signals.is_repeated():  # of any but the last: the second press, too, is passed on by a program's caller
            return
        if self._is_asked:
            raise KeyboardInterrupt
        self.requested = self._is_asked = True
        pressed = number == signal.SIGINT
        name, again = ("Ctrl-C", "press") if pressed else (signal.Signals(number).name, "send")
        text = f"\n{name}: stopping after this step; {again} it again to stop now and lose what is not saved\n"
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no reader, or no file behind stderr
            place = sys.stderr.fileno()
            place = streams.put_aside.get(place, place)
            os.write(place, text.encode())  # print() would fail in the middle of another print()

    def raise_if_requested(self) -> None:
        """Raise KeyboardInterrupt if a stop was requested."""
        if self.requested:
            raise KeyboardInterrupt
