"""A ring of fixed-shape batches in shared memory, filled row by row by worker processes.

Workers write arrays directly into 64-byte-aligned slots and the consumer gets views of them, which TensorFlow
feeds without a copy. Order and content of the batches do not depend on the number of workers.

The work is split by row, not by batch: all workers fill the oldest batch first, so the first batch is ready after
batch_size / workers rows, and few slots keep many workers busy. As soon as a slot is free, its jobs are written into
the ring, and a 16-byte ticket for each row into one pipe that all workers read; any idle worker takes the next ticket.
So the workers continue while the consumer is busy elsewhere, without a thread in its process. The kernel locks the
pipe, so a killed worker cannot leave it locked. Each worker answers through its own pipe, which closes when the worker
dies.

The ring is an anonymous file (memfd): no name can be left behind, and neither a full /dev/shm nor Docker's limit of
64 MB on it matters.
"""

import atexit
import collections
import contextlib
import dataclasses
import errno
import itertools
import math
import mmap
import multiprocessing
import os
import pickle
import selectors
import signal
import struct
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import reduction
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from structures import UserError
from system import memory, worker_processes

_ALIGNMENT = 64  # bytes; TensorFlow copies fed arrays with a smaller alignment
_JOB_BYTES = 512  # a pickled job: a short tuple takes under 100
_POLL_SECONDS = 0.25
_START_SECONDS = 60.0  # a worker may take this long to import its modules from a cold disk
_CLOSE_SECONDS = 1.0  # after close(), how long workers may take to end by themselves
_TICKET = struct.Struct("=qII")  # epoch, slot, row; 16 bytes divide a page, so no ticket is split between two
_STARTING = -1  # in place of the epoch, when a worker reports that it cannot start


class WorkerError(RuntimeError):
    """A worker died, got stuck or raised an exception. The first line names the job; a traceback may follow."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One array of a batch.

    shape: of one row, without the batch dimension.
    dtype: NumPy's.
    """

    name: str
    shape: tuple[int, ...]
    dtype: type


class Batch:
    """One batch, in the order of its jobs.

    arrays: {field name: [n, *shape]}, views of the ring, 64-byte aligned and writeable.
    jobs: the n jobs.
    """

    def __init__(self, arrays: dict[str, np.ndarray], jobs: list, give_back: Callable[[], None]):
        self.arrays = arrays
        self.jobs = jobs
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        """Free the slot for a later batch, which overwrites the arrays. A second call does nothing."""
        give_back, self._give_back = self._give_back, None
        if give_back:
            give_back()


@dataclasses.dataclass
class _Slot:
    index: int
    jobs: list
    missing: int  # rows not made yet
    failures: dict  # row -> what _attempt returned


class DataQueue:
    """Makes batches of rows, in worker processes or, with workers=0, in the calling process on demand.

    fields: list of Field.
    make_item: callable(job, out) that fills all of `out`, {field name: view of one row}; rows are reused. It must be
        picklable, and of a module, since workers do not import `__main__`; it is sent to each worker once. If it has a
        method `describe(job)`, messages name jobs by it.
    batch_size: rows of a batch.
    workers: processes.
    depth: slots of the ring, including those that the consumer holds.
    initializer: callable() run once in each worker, but not with workers=0.
    shared: what only a starting process can be given, such as open files; None for nothing. make_item must then have
        a method `sharing(shared)` that returns the callable to use in its place.
    timeout: seconds without progress after which a worker counts as stuck.

    Any failure to make a batch closes the queue and raises UserError if make_item raised one or memory is short,
    otherwise WorkerError. Only one thread may use a queue. Use it in a `with` block, or call close().
    """

    def __init__(
        self,
        fields: list[Field],
        make_item: Callable[[Any, dict[str, np.ndarray]], object],
        *,
        batch_size: int,
        workers: int,
        depth: int = 4,
        initializer: Callable[[], object] | None = None,
        shared: object | None = None,
        timeout: float = 60.0,
    ):
        if batch_size < 1 or depth < 1 or workers < 0:
            raise ValueError(f"{batch_size=} and {depth=} must be at least 1, {workers=} at least 0")
        self._make_item = _sharing(make_item, shared)
        self._batch_size = batch_size
        self._timeout = timeout
        self._slots = [_Slot(index, [], 0, {}) for index in range(depth)]
        self._free: collections.deque[_Slot] = collections.deque()
        self._order: collections.deque[_Slot] = collections.deque()  # slots in flight, the next batch first
        self._jobs: Iterator = iter(())
        self._unsent: collections.deque[bytes] = collections.deque()  # tickets that the pipe had no room for
        self._processes: list[BaseProcess] = []
        self._reports: list[Connection] = []
        self._selector = selectors.DefaultSelector()
        payload = pickle.dumps((make_item, initializer)) if workers else b""
        self._ring = _Ring(fields, batch_size, depth, workers, len(payload))
        self._tickets_out, self._tickets_in = multiprocessing.Pipe(duplex=False)
        ends = (self._tickets_out, self._tickets_in)
        self._finalizer = weakref.finalize(
            self, _stop, os.getpid(), self._processes, self._reports, *ends, self._selector
        )
        # It must run before multiprocessing's own exit handler, which waits for the workers. Handlers run in reverse
        # order of registration, and weakref's may have been registered long ago.
        self._finalizer.atexit = False
        atexit.register(self._finalizer)
        try:
            self._start(workers, payload, shared)
        except BaseException:
            self.close()
            raise

    def _start(self, workers, payload, shared):
        self._ring.payload[:] = np.frombuffer(payload, np.uint8)
        self._ring.beats[:, 0] = 1
        os.set_blocking(self._tickets_in.fileno(), False)
        context = multiprocessing.get_context("spawn")
        for index in range(workers):
            report_out, report_in = context.Pipe(duplex=False)
            self._reports.append(report_out)
            self._selector.register(report_out, selectors.EVENT_READ, index)
            arguments = (index, self._ring, self._tickets_out, report_in, shared)
            process = context.Process(target=_work, args=arguments, name=f"data-worker-{index}", daemon=True)
            with worker_processes.shielded_from_signals(signal.SIGINT, signal.SIGTERM):
                process.start()
                self._processes.append(process)
            report_in.close()
        self._ring.close_file()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Stop the workers. A second call does nothing. Batches handed out stay readable."""
        self._order.clear()
        atexit.unregister(self._finalizer)
        self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether close() was called, or a failure closed the queue."""
        return not self._finalizer.alive

    def batches(self, jobs: Iterable[Any]) -> Iterator[Batch]:
        """Iterate over the batches made from `jobs`, an iterable of small picklable values, one for each row.

        Jobs are read as slots become free. The last batch may have fewer rows. The iterator may be left early.
        Calling `batches` again, for the next epoch, ends the previous iterator and takes back all slots, released or
        not.
        Raises RuntimeError if the queue is closed or all slots wait for release().
        """
        self._check_open()
        self._ring.epoch[0] += 1  # workers skip the rest of the previous epoch
        epoch = int(self._ring.epoch[0])
        try:
            for slot in self._slots:
                self._wait(slot)
            self._order.clear()
            self._jobs = iter(jobs)
            self._free = collections.deque(self._slots)
            self._hand_out()
        except BaseException:
            self.close()
            raise
        return self._iterate(epoch)

    def _iterate(self, epoch):
        while self._is_current(epoch) and (slot := self._next_slot()):
            try:
                self._complete(slot)
            except BaseException:
                self.close()
                raise
            arrays = {name: view[: len(slot.jobs)] for name, view in self._ring.slots[slot.index].items()}
            try:
                yield Batch(arrays, slot.jobs, lambda slot=slot: self._release(slot, epoch))
            except GeneratorExit:
                if not self.closed and epoch == self._ring.epoch[0]:
                    self._ring.epoch[0] += 1  # so that the workers stop making rows of this epoch
                raise

    def _check_open(self):
        if self.closed:
            raise RuntimeError("the data queue is closed")

    def _is_current(self, epoch):
        self._check_open()
        if epoch != self._ring.epoch[0]:
            raise RuntimeError("a later call of batches() has ended this iterator")
        return True

    def _next_slot(self):
        """The slot of the next batch, or None after the last."""
        if self._order:
            return self._order.popleft()
        if not self._free and next(self._jobs, self) is not self:
            raise RuntimeError(
                f"all {len(self._slots)} slots of the ring are in use: release() a batch before the next"
            )
        return None

    def _release(self, slot, epoch):
        if not self.closed and epoch == self._ring.epoch[0]:
            self._free.append(slot)
            self._hand_out()

    def _hand_out(self):
        """Give the workers the jobs of a batch for each free slot."""
        while self._free and (jobs := list(itertools.islice(self._jobs, self._batch_size))):
            slot = self._free.popleft()
            slot.jobs, slot.missing, slot.failures = jobs, len(jobs), {}
            self._order.append(slot)
            if self._processes:
                for row, job in enumerate(jobs):
                    self._ring.write_job(slot.index, row, job)
                    self._unsent.append(_TICKET.pack(int(self._ring.epoch[0]), slot.index, row))
        self._send()

    def _send(self):
        """Write as many tickets as fit into the pipe. It never blocks: a worker may be waiting for this process."""
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                os.write(self._tickets_in.fileno(), self._unsent[0])
                self._unsent.popleft()

    def _complete(self, slot):
        """Wait until all rows of a slot are made.

        A failure is raised only now, and only that of the first row, as if rows were made one by one.
        """
        if self._processes:
            self._collect(0)
            self._wait(slot)
            _raise(slot.failures[min(slot.failures)] if slot.failures else None)
        for row in range(len(slot.jobs) - slot.missing, len(slot.jobs)):
            _raise(_attempt(self._make_item, slot.jobs[row], self._ring.row(slot.index, row)))
            slot.missing -= 1

    def _wait(self, slot):
        """Collect reports until no row of a slot is missing.

        A worker's silence is measured only here, and pauses of this process (Ctrl-Z) do not count.
        """
        silent = np.zeros(len(self._processes))  # seconds
        counts = self._ring.beats[:, 0].copy()
        while self._processes and slot.missing:
            start = time.monotonic()
            self._collect(_POLL_SECONDS)
            elapsed = min(time.monotonic() - start, 2 * _POLL_SECONDS)
            same = counts == self._ring.beats[:, 0]
            counts = self._ring.beats[:, 0].copy()
            silent = np.where(same, silent + elapsed, 0)
            late = silent >= np.where(counts == 1, max(self._timeout, _START_SECONDS), self._timeout)
            stuck = late & (counts % 2 == 1)
            if stuck.any() or late.all():  # an idle worker is fine as long as another makes progress
                index = int(np.argmax(stuck))
                silence = f"made no progress for {self._timeout:g} seconds"
                raise WorkerError(f"{self._describe(index)} {silence} {self._occupation(index)}")

    def _collect(self, timeout):
        """Read one report from each worker that has one; wait up to `timeout` seconds for the first."""
        self._send()
        for key, _ in self._selector.select(timeout):
            try:
                report = key.fileobj.recv_bytes()
            except (EOFError, OSError):
                raise WorkerError(self._obituary(key.data)) from None
            epoch, slot, row = _TICKET.unpack_from(report)
            failure = pickle.loads(report[_TICKET.size :]) if len(report) > _TICKET.size else None
            if epoch == _STARTING:
                _raise(failure)
            elif failure:
                self._slots[slot].failures[row] = failure
            self._slots[slot].missing -= 1

    def _describe(self, index):
        return f"data worker {index} (pid {self._processes[index].pid})"

    def _occupation(self, index):
        """What the worker was doing last, by its own record."""
        count, slot, row = self._ring.beats[index].tolist()
        if count == 1:
            return "while starting"
        if count % 2 == 0:
            return "between two jobs"
        return f"while making {_described(self._make_item, self._slots[slot].jobs[row])}"

    def _obituary(self, index):
        process = self._processes[index]
        process.join(_CLOSE_SECONDS)
        code = process.exitcode
        if code is None or code >= 0:
            return f"{self._describe(index)} ended with exit code {code} {self._occupation(index)}"
        name = signal.Signals(-code).name
        hint = "; the system does this when memory runs out: lower --workers or --batch-size"
        hint = hint if name == "SIGKILL" else ""
        return f"{self._describe(index)} was killed by {name} {self._occupation(index)}{hint}"


class _Ring:
    """The shared memory and the arrays in it. Pickling it for a spawned process shares it with that process.

    epoch: int64 [1], the current one; workers skip tickets of others.
    beats: int64 [workers,3], a row written by each worker: a count that is odd while it is busy, slot, row.
    payload: uint8 [P], pickled (make_item, initializer).
    slots: list of {name: [batch_size, *shape]}.
    """

    def __init__(self, fields, batch_size, depth, workers, payload_size, file=None):
        self._arguments = (fields, batch_size, depth, workers, payload_size)
        batch = [((batch_size, *field.shape), field.dtype) for field in fields]
        specs = [((1,), np.int64), ((workers, 3), np.int64), ((payload_size,), np.uint8)]
        specs += [((depth, batch_size, _JOB_BYTES), np.uint8), *batch * depth]
        starts, size = _lay_out(specs)
        self._file = _allocate(size) if file is None else file
        mapping = mmap.mmap(self._file.fileno(), size)
        arrays = [
            np.frombuffer(mapping, dtype, math.prod(shape), start).reshape(shape)
            for (shape, dtype), start in zip(specs, starts, strict=True)
        ]
        self.epoch, self.beats, self.payload, self._jobs = arrays[:4]
        names = [field.name for field in fields]
        in_slots = iter(arrays[4:])
        self.slots = [{name: next(in_slots) for name in names} for _ in range(depth)]

    def __reduce__(self):
        return _attach, (self._arguments, reduction.DupFd(self._file.fileno()))

    def close_file(self):
        """Close the file; the mapping stays valid."""
        self._file.close()

    def row(self, slot, row):
        """{name: view of one row}; `...` keeps a view where a row is a scalar."""
        return {name: view[row, ...] for name, view in self.slots[slot].items()}

    def write_job(self, slot, row, job):
        data = pickle.dumps(job)
        if len(data) > _JOB_BYTES:
            raise ValueError(f"job {job!r} takes {len(data)} bytes pickled, more than {_JOB_BYTES}")
        self._jobs[slot, row, : len(data)] = np.frombuffer(data, np.uint8)

    def read_job(self, slot, row):
        return pickle.loads(self._jobs[slot, row])  # stops at the pickle's end mark


def _attach(arguments, file):
    ring = _Ring(*arguments, file=_as_file(file.detach()))
    ring.close_file()
    return ring


def _lay_out(specs):
    """(starts, size) in bytes of consecutive arrays, each aligned."""
    starts, end = [], 0
    for shape, dtype in specs:
        starts.append(end)
        size = math.prod(shape) * np.dtype(dtype).itemsize
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    return starts, end


def _allocate(size):
    """An unnamed file of `size` zero bytes that are really allocated: writing to them later cannot fail.

    Nothing limits an unnamed file, so the free memory is checked first: the kernel does not refuse a request that is
    too large, but kills processes. Half of the free memory is left for the workers and the training.
    """
    available = memory.available()
    if size > available // 2:
        raise UserError(_too_large(size, available))
    file = _as_file(os.memfd_create("batches"))
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        file.close()
        if error.errno == errno.EFBIG:  # the limit holds for memory that is shared too
            raise UserError(
                f"the batches take {_megabytes(size)} of shared memory, more than the limit on the size of files "
                "(ulimit -f): raise it, or lower --batch-size"
            ) from None
        raise UserError(_too_large(size, available)) from None
    return file


def _too_large(size, available):
    return (
        f"the batches take {_megabytes(size)} of memory, more than half of the {_megabytes(available)} free: lower "
        "--batch-size"
    )


def _megabytes(size):
    return f"{size / 2**20:.0f} MB"


def _as_file(descriptor):
    return open(descriptor, "r+b", buffering=0)


def _stop(owner, processes, reports, tickets_out, tickets_in, selector):
    """End the workers: idle ones see the end of the ticket pipe, the others are killed."""
    if os.getpid() != owner:  # a fork of the parent exits: the workers are not its children
        return
    try:
        tickets_in.close()
        deadline = time.monotonic() + _CLOSE_SECONDS
        for process in processes:
            process.join(max(0, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        selector.close()
        for connection in (tickets_out, *reports):
            connection.close()


def _raise(failure):
    if failure:
        kind, text = failure
        raise kind(text)


def _described(make_item, job):
    """The description of a job for messages."""
    return make_item.describe(job) if hasattr(make_item, "describe") else f"job {job!r}"


def _attempt(function, *arguments):
    """Call a function; returns None, or (UserError or WorkerError, message) if it raised an exception."""
    try:
        function(*arguments)
    except UserError as error:
        return UserError, str(error)
    except WorkerError as error:
        return WorkerError, str(error)
    except Exception as error:
        doing = f"making {_described(function, arguments[0])}" if arguments else "starting a data worker"
        return WorkerError, f"{doing} failed: {type(error).__name__}: {error}\n{traceback.format_exc()}"
    return None


def _sharing(make_item, shared):
    return make_item if shared is None else make_item.sharing(shared)


def _work(index, ring, tickets, report, shared):
    """The main function of a worker process: take tickets until their pipe ends."""
    worker_processes.follow_parent()
    make_item, initializer = pickle.loads(ring.payload)
    make_item = _sharing(make_item, shared)
    beat = ring.beats[index]
    with contextlib.suppress(BrokenPipeError):  # the parent is gone
        if initializer and (failure := _attempt(initializer)):
            report.send_bytes(_TICKET.pack(_STARTING, 0, 0) + pickle.dumps(failure))
        beat[0] += 1
        while ticket := os.read(tickets.fileno(), _TICKET.size):
            epoch, slot, row = _TICKET.unpack(ticket)
            failure = None
            if epoch == ring.epoch[0]:
                beat[1:] = slot, row
                beat[0] += 1
                failure = _attempt(make_item, ring.read_job(slot, row), ring.row(slot, row))
                beat[0] += 1
            report.send_bytes(ticket + pickle.dumps(failure) if failure else ticket)
