"""A process whose time and memory are limited, for work on files that could crash, hang or fill a process."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence

PAUSE = 0.02  # seconds between two looks at a process


class Ended(Exception):
    """A process that crashed or went beyond its limits; the text says which, as a part of a message."""


class BeyondLimits(Ended):
    """A process that went beyond its limits."""


def call(command: Sequence[str], folder: str, seconds: float, memory: int) -> tuple[int, str]:
    """Run a command -> (exit code, what it printed to stdout). Raises Ended.

    folder: where it runs. seconds: that it may take. memory: bytes that it may hold; not limited where the system does
    not say what a process holds. Its stderr is not shown: the libraries that fail there print much.
    """
    with tempfile.TemporaryFile() as output:
        settings = {"cwd": folder, "stdout": output, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
        process = subprocess.Popen(command, **settings)  # type: ignore[call-overload]
        try:
            _watch(process, time.monotonic() + seconds, seconds, memory)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode < 0:
            raise Ended(f"crashes with signal {_name_of_signal(-process.returncode)}")
        output.seek(0)
        return process.returncode, output.read(1 << 20).decode("utf-8", "replace")


def _name_of_signal(number):
    """'SIGSEGV' for 11; Python has no names for most of the signals for real time."""
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return str(number)


def _watch(process, deadline, seconds, memory):
    """Return once a process has ended. Raises Ended."""
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise BeyondLimits(f"takes more than {seconds:g} s")
        if _resident(process.pid) > memory:
            raise BeyondLimits(f"takes more than {memory / 1e9:.1f} GB of memory")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PAUSE)


def _resident(pid):
    """Bytes of memory that a process holds; 0 if the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
