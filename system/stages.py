"""Work in stages that overlap: iterators computed ahead by threads, and how long each stage works.

NumPy, OpenCV, FFmpeg and TensorFlow let other threads run while they compute.
"""

import collections
import concurrent.futures
import contextlib
import itertools
import queue
import threading
import time

POLL_SECONDS = 0.1  # how soon a waiting thread notices the end


def batched(items, size):
    """Yield lists of `size` items, the last one shorter (itertools.batched of Python 3.12)."""
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield group


def parallel_map(function, items, *, threads, ahead):
    """Like map(), computed by threads, in order, at most `ahead` items beyond the one being consumed."""
    iterator = iter(items)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        pending = collections.deque()
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


class Meter:
    """How many frames a stage has done, and in how many seconds of its own (waiting does not count)."""

    def __init__(self):
        self.frames, self.seconds = 0, 0.0

    @contextlib.contextmanager
    def measure(self, frames=1):
        """Time what is done inside, the work on so many frames."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - start
        self.frames += frames

    def to_json(self):
        """Frames, seconds and frames_per_second, None before the first."""
        rate = self.frames / self.seconds if self.seconds else None
        return {"frames": self.frames, "seconds": self.seconds, "frames_per_second": rate}


class Threads:
    """Iterators that run ahead in threads. An exception in any of them is raised where its items are used.

    stopped() is asked every POLL_SECONDS: once it is true, and when the `with` block is left, all iterators
    end, in the middle of whatever they hold.
    """

    def __init__(self, stopped):
        self._asked, self._left = stopped, threading.Event()
        self._threads = []

    def run(self, items, *, ahead):
        """An iterator over `items`, which a new thread makes, at most `ahead` in advance."""
        channel = queue.Queue(ahead)
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

    def end(self):
        """Wait for the threads, which leave what they hold."""
        self._left.set()
        for thread in self._threads:
            thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
