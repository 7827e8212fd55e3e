"""What all worker processes keep to: Ctrl-C is the parent's to answer, and they end when the parent does."""

import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing import resource_tracker


@contextlib.contextmanager
def shielded_from_signals(*numbers):
    """A process started in here never sees these signals, which may be sent to the group: the parent decides its end.

    Blocked signals stay blocked in a child from its first moment on.
    """
    resource_tracker.ensure_running()  # its start, else part of the first process's, would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def interrupts_held():
    """For the start of a process pool: its workers never see Ctrl-C, which waits for the end of the block.

    SIGTERM they do see: with it a pool ends the others when one was killed. The mask covers this thread alone; the
    handler is for when a library's thread receives the signal. Needs the main thread. Raises KeyboardInterrupt at the
    end if there was one.
    """
    received = []
    handler = signal.signal(signal.SIGINT, lambda *_: received.append(True))
    try:
        with shielded_from_signals(signal.SIGINT):
            yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if received:
        raise KeyboardInterrupt


def follow_parent():
    """For a worker that starts: from now on it ends, even in the middle of a job, when its parent has died."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    parent = multiprocessing.parent_process()
    # Not so if a fork server bore it: then the pipe alone tells, which a fork of the parent could hold open
    is_child = os.getppid() == parent.pid
    while parent.is_alive() and (not is_child or os.getppid() == parent.pid):
        parent.join(1)
    os._exit(1)
