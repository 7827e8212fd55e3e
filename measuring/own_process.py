"""Starts the process that measures one model, and gives on what it finds."""

import contextlib
import multiprocessing
import signal
from collections.abc import Generator
from typing import Any

from measuring import timing
from structures import UserError
from system import worker_processes


def messages(task: timing.Task) -> Generator[tuple[str, Any], None, None]:
    """Yield the pairs that `timing.measure` sends, but no "error": that is raised as the UserError that it was.

    Closing the iterator ends the process. Raises UserError if the process is killed, as happens where memory is full,
    RuntimeError if it fails with a traceback.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=timing.measure, args=(sender, task), name="measured-model", daemon=True)
    with worker_processes.shielded_from_signals(signal.SIGINT, signal.SIGTERM):
        process.start()
    sender.close()  # so that the end of the process is the end of the pipe
    try:
        with contextlib.suppress(EOFError):
            while True:
                kind, content = receiver.recv()
                if kind == "error":
                    raise UserError(content)
                yield kind, content
        process.join()
        _check_end(task.model, process.exitcode)
    finally:
        receiver.close()
        process.kill()
        process.join()


def _check_end(model, code):
    """Raise the error that the exit code of a process means."""
    if code < 0:
        name = signal.Signals(-code).name
        raise UserError(
            f"{model}: the process that measured it was ended by {name}, as happens where memory is full; end other "
            "programs, or measure it with smaller --batch-sizes"
        )
    if code:
        raise RuntimeError(f"{model}: the process that measured it ended with exit code {code}; see its message above")
