"""Run stages of work at the same time: iterators computed ahead by threads, and the time each stage works.

Threads suffice, because NumPy, OpenCV, FFmpeg and TensorFlow release the interpreter lock while they compute.
"""

import collections
import concurrent.futures
import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

POLL_SECONDS = 0.1  # how soon a waiting thread notices the end
T = TypeVar("T")
R = TypeVar("R")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items; the last may be shorter (itertools.batched of Python 3.12)."""
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield group


def parallel_map(
    function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int
) -> Generator[R, None, None]:
    """map() by threads, in order, at most `ahead` items ahead of the consumer."""
    iterator = iter(items)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        pending: collections.deque[concurrent.futures.Future[R]] = collections.deque()
        try:
            for item in iterator:
                pending.append(pool.submit(function, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


class Background:
    """Calls that threads make beside the caller; leaving the `with` block waits for all of them.

    take: called in the caller's thread with what each call returns, in their order. threads: that make the calls.
    ahead: calls that may wait or run at once. An exception of a call is raised by a later `run` or at the end, unless
    the block is left by another one.
    """

    def __init__(self, take: Callable[[R], None], *, threads: int, ahead: int):
        self._take, self._ahead = take, ahead
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)
        self._pending: collections.deque[concurrent.futures.Future] = collections.deque()

    def run(self, function: Callable[..., R], *arguments: Any) -> None:
        """Have a thread call function(*arguments); waits while `ahead` calls are not done."""
        self._pending.append(self._pool.submit(function, *arguments))
        self._settle(self._ahead)

    def finish(self) -> None:
        """Wait for all calls so far."""
        self._settle(0)

    def _settle(self, most):
        while len(self._pending) > most:
            self._take(self._pending.popleft().result())

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        with self._pool:
            if kind is None:
                self.finish()


class Meter:
    """Counts the frames of a stage and the seconds that it works; waiting does not count."""

    def __init__(self):
        self.frames, self.seconds = 0, 0.0

    @contextlib.contextmanager
    def measure(self, frames: int = 1) -> Iterator[None]:
        """Time the `with` block, which processes that many frames."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - start
        self.frames += frames

    def to_json(self) -> dict[str, float | None]:
        """{"frames", "seconds", "frames_per_second"}; the rate is None before the first frame."""
        rate = self.frames / self.seconds if self.seconds else None
        return {"frames": self.frames, "seconds": self.seconds, "frames_per_second": rate}


class Threads:
    """Iterators that run ahead in threads. An exception in any of them is raised where its items are used.

    stopped: a function, called every POLL_SECONDS. Once it returns True, or the `with` block is left, all iterators
    end and the items they hold are dropped.
    """

    def __init__(self, stopped: Callable[[], bool]):
        self._asked, self._left = stopped, threading.Event()
        self._threads: list[threading.Thread] = []

    def run(self, items: Iterable[T], *, ahead: int) -> Iterator[T]:
        """An iterator over `items`, which a new thread computes, at most `ahead` in advance."""
        channel: queue.Queue = queue.Queue(ahead)
        thread = threading.Thread(target=self._feed, args=(items, channel), daemon=True)
        self._threads.append(thread)
        thread.start()
        return self._drain(channel)

    def _feed(self, items, channel):
        try:
            for item in items:
                self._put(channel, (item, None))
                if self._stopped():
                    return
            self._put(channel, (None, StopIteration()))
        except BaseException as error:
            self._put(channel, (None, error))

    def _drain(self, channel):
        while not self._stopped():
            with contextlib.suppress(queue.Empty):
                item, error = channel.get(timeout=POLL_SECONDS)
                if isinstance(error, StopIteration):
                    return
                if error is not None:
                    raise error
                yield item

    def _put(self, channel, entry):
        while not self._stopped():
            with contextlib.suppress(queue.Full):
                channel.put(entry, timeout=POLL_SECONDS)
                return

    def _stopped(self):
        return self._left.is_set() or self._asked()

    def end(self) -> None:
        """Stop the threads and wait for them; the items they hold are dropped."""
        self._left.set()
        for thread in self._threads:
            thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
