"""Processes of this machine that share the shards of a job, one for each device; one that dies is started anew."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any

from many import job, shard
from structures import UserError
from system import worker_processes
from system.wording import plural

MOST_FAILED_STARTS = 3  # in a row, of processes that die before they have a detector

Open = Callable[[], contextlib.AbstractContextManager[Callable[[Sequence[Any]], Sequence[shard.Row]]]]


@dataclasses.dataclass
class _Worker:
    """A process. at: the shard that it has, None before it is ready."""

    place: int
    process: Any
    pipe: connection.Connection
    at: int | None = None


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

    open_detector: picklable, opens what makes rows of pictures; stop: a cli.StopRequest, upon which KeyboardInterrupt
    is raised; limits: the number of a process -> context manager in which it is started. Raises UserError if a process
    cannot start.
    """
    waiting, workers, failed_starts = list(reversed(numbers)), {}, 0
    context = multiprocessing.get_context("spawn")

    def start(place):
        ours, theirs = context.Pipe()
        arguments = (folder, open_detector, theirs, format)
        process = context.Process(target=_work, args=arguments, name=f"detector-{place}", daemon=True)
        with limits(place), worker_processes.shielded_from_signals(signal.SIGINT, signal.SIGTERM):
            process.start()
        theirs.close()
        workers[ours] = _Worker(place, process, ours)

    try:
        for place in range(min(count, len(numbers))):
            start(place)
        while workers:
            stop.raise_if_requested()
            for pipe in connection.wait(list(workers), 0.25):
                worker = workers[pipe]
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    del workers[pipe]
                    if worker.at is None:
                        failed_starts += 1
                        if failed_starts == MOST_FAILED_STARTS:
                            raise UserError(
                                f"{plural(failed_starts, 'process')} in a row ended with exit code "
                                f"{worker.process.exitcode} while starting; is memory short? Try fewer (--shards)"
                            ) from None
                    else:
                        waiting.append(worker.at)
                    start(worker.place)
                    continue
                if isinstance(message, str):
                    raise UserError(message)
                failed_starts = 0
                if message is not None:
                    yield worker.at, message
                worker.at = waiting.pop() if waiting else None
                pipe.send(worker.at)
                if worker.at is None:
                    worker.process.join()
                    del workers[pipe]
    finally:
        for worker in workers.values():
            worker.process.kill()
        for worker in workers.values():
            worker.process.join()


def _work(folder, open_detector, pipe, format):
    """The main function of a process: take shards until there is none."""
    worker_processes.follow_parent()
    try:
        with open_detector() as detect:
            pipe.send(None)
            while (number := pipe.recv()) is not None:
                pipe.send(shard.run(folder, number, detect, job.PUBLISH[format]))
    except UserError as error:
        pipe.send(str(error))


@contextlib.contextmanager
def on_device(place: int, count: int, gpus: Sequence[str]) -> Iterator[None]:
    """Context manager: a process that is started in it has a GPU of its own, or its share of the cores."""
    if gpus:
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
        try:
            yield
        finally:
            if before is None:
                del os.environ["CUDA_VISIBLE_DEVICES"]
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = before
        return
    cores = sorted(os.sched_getaffinity(0))
    each = len(cores) // count
    os.sched_setaffinity(0, cores[place * each : (place + 1) * each] or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
