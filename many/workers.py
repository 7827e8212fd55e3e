"""Processes of this machine that share the shards of a job, one for each device; one that dies is started anew."""

import contextlib
import dataclasses
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any

from many import job, shard
from structures import UserError
from system import worker_processes
from system.wording import plural

Open = Callable[[], contextlib.AbstractContextManager[shard.Detect]]


def run(
    folder: str,
    numbers: Sequence[int],
    open_detector: Open,
    count: int,
    stop: Any,
    limits: Callable[[int], contextlib.AbstractContextManager],
    format: str = "jsonl",
) -> Iterator[tuple[int, dict[str, int]]]:
    """Work on shards with `count` processes; yields (number, counts of its statuses) of each as it is done.

    open_detector: picklable, opens what makes rows of pictures; stop: a StopRequest, upon which KeyboardInterrupt
    is raised; limits: the number of a process -> context manager in which it is started. Raises UserError if a process
    cannot start, or write.
    """
    crew = _Crew(numbers, limits, (folder, open_detector, format))
    try:
        for place in range(min(count, len(numbers))):
            crew.start(place)
        while crew.workers:
            stop.raise_if_requested()
            for pipe in connection.wait(list(crew.workers), 0.25):
                if done := crew.hear(pipe):
                    yield done
    finally:
        crew.end()


@dataclasses.dataclass
class _Worker:
    """A process. at: the shard that it has, None before it is ready and when there is none left."""

    place: int
    process: Any
    pipe: connection.Connection
    at: int | None = None


class _Crew:
    """The processes, by their pipes, and the shards that none of them has.

    arguments: of `_work` beside its pipe.
    """

    def __init__(self, numbers, limits, arguments):
        self.workers: dict[connection.Connection, _Worker] = {}
        self._waiting, self._failed_starts = list(reversed(numbers)), 0
        self._limits, self._arguments = limits, arguments
        self._context = multiprocessing.get_context("spawn")

    def start(self, place):
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, *self._arguments), name=f"detector-{place}", daemon=True
        )
        with self._limits(place), worker_processes.shielded_from_signals(signal.SIGINT, signal.SIGTERM):
            process.start()
        theirs.close()
        self.workers[ours] = _Worker(place, process, ours)

    def hear(self, pipe):
        """Take what a process says; returns (number, counts) if that is a shard that is done, else None."""
        worker = self.workers[pipe]
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            self._replace(worker)
            return None
        if isinstance(message, str):
            raise UserError(message)
        self._failed_starts = 0
        done = None if message is None else (worker.at, message)
        worker.at = self._waiting.pop() if self._waiting else None
        with contextlib.suppress(OSError):  # it was killed meanwhile, which shows when it is heard next
            pipe.send(worker.at)
        if worker.at is None:
            worker.process.join()
            del self.workers[pipe]
        return done

    def _replace(self, worker):
        """Start another process for one that has died, and keep its shard for whoever is free."""
        worker.process.join()
        del self.workers[worker.pipe]
        if worker.at is not None:
            self._waiting.append(worker.at)
        else:
            self._failed_starts += 1
            if self._failed_starts == job.MOST_FAILED_STARTS:
                raise UserError(
                    f"{plural(self._failed_starts, 'process')} in a row ended with exit code "
                    f"{worker.process.exitcode} while starting; is memory short? Try fewer (--shards)"
                )
        self.start(worker.place)

    def end(self):
        for worker in self.workers.values():
            worker.process.kill()
        for worker in self.workers.values():
            worker.process.join()


def _work(pipe, folder, open_detector, format):
    """The main function of a process: take shards until there is none."""
    worker_processes.follow_parent()
    pace = shard.Pace()
    try:
        with open_detector() as detect:
            pipe.send(None)
            while (number := pipe.recv()) is not None:
                pipe.send(shard.run(folder, number, detect, job.PUBLISH[format], pace))
    except Exception as error:
        end, trace = shard.end_of_job(error)
        sys.stderr.write(trace)
        pipe.send(end)


@contextlib.contextmanager
def on_device(place: int, count: int, gpus: Sequence[str]) -> Iterator[None]:
    """Context manager: a process that is started in it has a GPU of its own, or its share of the cores."""
    with contextlib.ExitStack() as limits:
        if gpus:
            limits.enter_context(worker_processes.with_variable(worker_processes.GPUS, gpus[place % len(gpus)]))
            limits.enter_context(worker_processes.with_variable(worker_processes.SHARERS, str(count)))
        else:
            limits.enter_context(worker_processes.limited_to(worker_processes.share_of_cores(place, count)))
        yield
