"""Batches from workers against batches made serially, and every way in which workers can fail."""

import gc
import itertools
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
import types
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
import psutil
import pytest

from data_queue_items import (
    FIELDS,
    AddToShared,
    Burden,
    MisbehaveAt,
    OpenCounter,
    WaitFor,
    count_item,
    count_item_behind_a_gate,
    exit_with_3,
    kill_self,
    make_item,
    put_index,
    put_mark,
    put_module_names,
    raise_user_error,
    raise_value_error,
    set_mark,
    sleep_long,
    stop_self,
)
from programs import ROOT, wait_until
from structures import UserError
from system import data_queue, memory
from system.data_queue import DataQueue, Field, WorkerError


def jobs_of(epoch, count=19, first=0):
    return [(epoch, index) for index in range(first, count)]


def open_queue(workers, item=make_item, **settings):
    return DataQueue(FIELDS, item, **{"batch_size": 4, "workers": workers, "depth": 3, "timeout": 20} | settings)


def collect(batches):
    """Copies of all batches, each released at once: a list of (jobs, arrays)."""
    copies = []
    for batch in batches:
        copies.append((batch.jobs, {name: array.copy() for name, array in batch.arrays.items()}))
        batch.release()
    return copies


def assert_same(left, right):
    assert [jobs for jobs, _ in left] == [jobs for jobs, _ in right]
    for (_, a), (_, b) in zip(left, right, strict=True):
        assert list(a) == list(b)
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])


def children():
    """Child processes of the test, without multiprocessing's resource tracker and a fork server of another test.

    Those two live as long as their parent.
    """
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.pid not in older and "resource_tracker" not in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            pass
    return found


older = set()  # process ids of the children that were there before the test


def rings(pid="self"):
    """How many rings a process has mapped. They must be unnamed files: none of them may be in /dev/shm.

    (The process pools and barriers of other tests in this process have semaphores and memory, pym-…, there.)
    """
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert not [line for line in maps.splitlines() if "/dev/shm/" in line and not re.search("/dev/shm/(sem|pym)", line)]
    return maps.count("memfd:batches")


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """No test may leave a process, a descriptor or a ring behind."""
    older.clear()
    older.update(process.pid for process in psutil.Process().children(recursive=True))
    descriptors = len(os.listdir("/proc/self/fd"))
    tracked = resource_tracker._resource_tracker._fd is not None
    yield
    gc.collect()  # a caught exception keeps the frames, they keep the arrays, they keep the ring
    assert children() == []
    started = not tracked and resource_tracker._resource_tracker._fd is not None
    assert len(os.listdir("/proc/self/fd")) <= descriptors + started
    assert rings() == 0


@pytest.fixture(scope="module")
def serial():
    """Three epochs made in this process."""
    with open_queue(0) as queue:
        return [collect(queue.batches(jobs_of(epoch))) for epoch in range(3)]


def test_serial_batches_are_what_make_item_makes(serial):
    assert [len(jobs) for jobs, _ in serial[1]] == [4, 4, 4, 4, 3]
    for jobs, arrays in serial[1]:
        for row, job in enumerate(jobs):
            expected = {field.name: np.zeros(field.shape, field.dtype) for field in FIELDS}
            make_item(job, expected)
            for name in expected:
                np.testing.assert_array_equal(arrays[name][row], expected[name])


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_parallel_equals_serial(serial, workers):
    with open_queue(workers) as queue:
        pids = {child.pid for child in children()}
        assert len(pids) == workers and rings() == 1
        for epoch in range(3):
            assert_same(collect(queue.batches(jobs_of(epoch))), serial[epoch])
        assert {child.pid for child in children()} == pids
        until = time.monotonic() + 60  # on a busy machine one worker may make all batches before another has started
        while {rings(pid) for pid in pids} != {1} and time.monotonic() < until:
            time.sleep(0.05)
        assert {rings(pid) for pid in pids} == {1}


@pytest.mark.parametrize("workers", [0, 2])
def test_leave_early_start_again_and_start_in_the_middle(serial, workers):
    with open_queue(workers) as queue:
        for attempt in range(5):
            for number, batch in enumerate(queue.batches(jobs_of(attempt))):
                if number == 1:
                    break  # unreleased, more often than there are slots
                batch.release()
        assert_same(collect(queue.batches(jobs_of(0))), serial[0])
        unused = queue.batches(jobs_of(0))
        assert_same(collect(queue.batches(jobs_of(2, first=8))), serial[2][2:])
        with pytest.raises(RuntimeError, match="later call of batches"):
            next(unused)


def test_a_batch_released_late_does_not_disturb_the_next_epoch(serial):
    with open_queue(2) as queue:
        old = next(queue.batches(jobs_of(0)))
        batches = queue.batches(jobs_of(1))
        old.release()
        old.release()
        assert_same(collect(batches), serial[1])


@pytest.mark.parametrize("workers", [0, 1])
def test_arrays_are_what_tensorflow_feeds_without_copy(workers):
    with open_queue(workers, batch_size=3) as queue:
        addresses = {field.name: set() for field in FIELDS}
        for batch in queue.batches(jobs_of(0, 20)):
            for field in FIELDS:
                array = batch.arrays[field.name]
                assert array.shape == (len(batch.jobs), *field.shape)
                assert array.dtype == field.dtype
                assert array.ctypes.data % 64 == 0
                assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
                addresses[field.name].add(array.ctypes.data)
            batch.release()
        assert all(len(found) == 3 for found in addresses.values())  # views of the three slots, not copies


def test_a_held_batch_is_not_overwritten(serial):
    with open_queue(2) as queue:
        batches = queue.batches(jobs_of(0))
        held = next(batches)
        rest = collect(batches)
        assert_same([(held.jobs, held.arrays)], serial[0][:1])
        assert_same(rest, serial[0][1:])


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_held_batches_are_an_error_not_a_hang(workers):
    with open_queue(workers) as queue:
        with pytest.raises(RuntimeError, match=r"all 3 slots .*release"):
            list(queue.batches(jobs_of(0)))
        held = [batch.jobs for batch in queue.batches(jobs_of(0, 12))]  # as many as there are slots: fine
        assert len(held) == 3


def test_prefetch_goes_on_without_the_consumer_and_is_bounded_by_depth(tmp_path):
    log, given = tmp_path / "log", []

    def jobs():
        for index in range(1000):
            given.append(index)
            yield str(log), index

    with open_queue(2, count_item) as queue:
        batches = queue.batches(jobs())
        first = next(batches)
        wait_until(lambda: log.stat().st_size == 12)  # 3 slots of 4 rows
        assert len(given) == 12  # so workers cannot make more
        first.release()
        wait_until(lambda: log.stat().st_size == 16)
        assert len(given) == 16


def test_workers_rest_when_an_epoch_is_left(tmp_path):
    log = tmp_path / "log"
    with open_queue(1, count_item_behind_a_gate) as queue:
        batches = queue.batches((str(log), index) for index in range(12))
        next(batches)
        wait_until(lambda: log.stat().st_size == 5)
        batches.close()
        log.with_name("log.gate").touch()
        wait_until(lambda: not queue._tickets_out.poll())  # nothing else shows that the worker has taken all tickets
        assert log.stat().st_size == 5  # the batch, and the row that was begun before


def test_more_tickets_than_the_pipe_holds():
    with DataQueue([Field("index", (), np.int64)], put_index, batch_size=3000, workers=2, depth=4) as queue:
        batches = collect(queue.batches(range(20_000)))
        assert np.concatenate([arrays["index"] for _, arrays in batches]).tolist() == list(range(20_000))


def test_no_jobs():
    with open_queue(1) as queue:
        assert list(queue.batches([])) == []


def test_workers_import_nothing_heavy_and_run_the_initializer():
    with open_queue(1, put_module_names) as queue:
        (_, arrays), *_ = collect(queue.batches(jobs_of(0)))
        assert arrays["index"].tolist() == [0] * 4
    with open_queue(1, put_mark, initializer=set_mark) as queue:
        (_, arrays), *_ = collect(queue.batches(jobs_of(0)))
        assert arrays["index"].tolist() == [42] * 4


def fails_with(kind, item, workers, **settings):
    """The message with which an epoch ends; also checks that the queue is closed."""
    queue = open_queue(workers, item, **{"timeout": 300} | settings)
    start = time.monotonic()
    with pytest.raises(kind) as caught:
        collect(queue.batches(jobs_of(0)))
    assert type(caught.value) is kind
    assert time.monotonic() - start < 150  # before the queue's timeout
    assert queue.closed and children() == []
    with pytest.raises(RuntimeError, match="closed"):
        queue.batches(jobs_of(0))
    return str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_names_the_job_and_carries_the_traceback(workers):
    message = fails_with(WorkerError, MisbehaveAt(raise_value_error), workers)
    first, rest = message.split("\n", 1)
    assert first == "making job (0, 5) failed: ValueError: a strange sample"
    assert "Traceback" in rest and "in raise_value_error" in rest


@pytest.mark.parametrize("workers", [0, 2])
def test_a_user_error_arrives_as_one(workers):
    assert fails_with(UserError, MisbehaveAt(raise_user_error), workers) == "a.jpg: not a picture; remove it"


def test_a_killed_worker_is_noticed():
    message = fails_with(WorkerError, MisbehaveAt(kill_self), 2)
    assert "was killed by SIGKILL while making job (0, 5)" in message
    assert "memory" in message and "\n" not in message


def test_a_worker_that_exits_is_noticed():
    assert "ended with exit code 3 while making job (0, 5)" in fails_with(WorkerError, MisbehaveAt(exit_with_3), 1)


@pytest.fixture
def clock(monkeypatch):
    """A callable: the function that tells the queue the time, of which each of its polls counts 0.1 s at most."""

    def set_clock(tell):
        monkeypatch.setattr(data_queue, "_POLL_SECONDS", 0.05)
        monkeypatch.setattr(data_queue, "time", types.SimpleNamespace(**vars(time) | {"monotonic": tell}))

    return set_clock


@pytest.mark.parametrize("deed", [sleep_long, stop_self])
def test_a_stuck_worker_is_noticed(deed, clock, tmp_path):
    """The clock stands still until it is stuck, so that no other row takes long."""
    mark, calls = tmp_path / "mark", itertools.count()
    clock(lambda: float(next(calls)) if mark.exists() else 0.0)
    message = fails_with(WorkerError, MisbehaveAt(deed, mark), 2, timeout=2)
    assert "made no progress for 2 seconds while making job (0, 5)" in message


def jumps_until(path, polls):
    """A clock that jumps by 1000 s in each of the first polls, and then makes a file and stands still."""
    calls = itertools.count(1)

    def tell():
        call = next(calls)
        if call == 2 * polls:
            path.touch()
        return 1000.0 * min(call, 2 * polls)

    return tell


def test_a_slow_worker_is_not_stuck(clock):
    """One whose every row takes 0.1 s of a timeout of 0.3 s, for a batch of 32 rows."""
    with open_queue(1, batch_size=32, timeout=0.3) as queue:
        beats = []

        def tell():
            beats.append(int(queue._ring.beats[0, 0]))
            return 0.1 * beats[-1]

        clock(tell)
        assert len(collect(queue.batches(jobs_of(0, 32)))) == 1
        assert beats[-1] > 32  # it was told the time often, and far more than the timeout has passed


def test_a_worker_may_take_longer_to_start_than_for_a_row(clock, tmp_path):
    clock(jumps_until(tmp_path / "gate", 10))  # 1 s
    with open_queue(1, initializer=WaitFor(tmp_path / "gate"), timeout=0.3) as queue:
        assert len(collect(queue.batches(jobs_of(0, 4)))) == 1


def test_a_pause_of_this_process_is_no_silence_of_a_worker(clock, tmp_path):
    """Ctrl-Z stops both; at once afterward, the worker has not said anything for as long as that lasted."""
    clock(jumps_until(tmp_path / "gate", 10))
    with open_queue(1, WaitFor(tmp_path / "gate")) as queue:
        assert len(collect(queue.batches(jobs_of(0, 4)))) == 1


def test_a_worker_that_cannot_start_is_noticed(capfd):
    assert "ended with exit code 1 while starting" in fails_with(WorkerError, Burden(), 1)
    assert "a strange sample" in capfd.readouterr().err
    message = fails_with(WorkerError, make_item, 1, initializer=raise_value_error)
    assert message.startswith("starting a data worker failed: ValueError: a strange sample")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_with_its_own_batch_and_not_if_the_epoch_is_left_before(serial, workers, tmp_path):
    mark = tmp_path / "mark"
    with open_queue(workers, MisbehaveAt(raise_value_error, mark)) as queue:
        batches = queue.batches(jobs_of(0))
        first = next(batches)
        if workers:
            wait_until(mark.exists)
        assert_same([(first.jobs, first.arrays)], serial[0][:1])
        assert_same(collect(queue.batches(jobs_of(1))), serial[1])
        batches = queue.batches(jobs_of(0))
        next(batches)
        with pytest.raises(WorkerError):
            next(batches)


def test_mistakes_of_the_caller():
    with pytest.raises((pickle.PicklingError, AttributeError)):
        open_queue(1, lambda job, out: None)
    with pytest.raises(ValueError, match="batch_size=0"):
        open_queue(1, batch_size=0)
    with open_queue(1) as queue, pytest.raises(ValueError, match="bytes pickled"):
        queue.batches(["x" * 1000])


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_shared_reaches_every_process(workers):
    """Open files cannot be sent to a running process; a memory-backed file shows that it is the same one."""
    counter = OpenCounter()
    with open_queue(workers, AddToShared(), shared=counter) as queue:
        for batch in queue.batches(jobs_of(0)):
            batch.release()
    assert counter.value == len(jobs_of(0))
    counter.close()


def refuse_to_allocate(*_):
    raise AssertionError("the check must come first: this would take the machine's memory")


def test_more_than_half_of_the_memory_is_refused_before_it_is_touched(monkeypatch):
    """The sizes are small, and the free memory is faked to be smaller: no test may fill a machine."""
    monkeypatch.setattr(data_queue.os, "posix_fallocate", refuse_to_allocate)
    monkeypatch.setattr(memory, "available", lambda: 3 << 20)
    with pytest.raises(UserError, match=r"2 MB .* 3 MB .*--batch-size"):
        open_queue(2, batch_size=1000)


def test_memory_that_the_system_refuses(monkeypatch):
    monkeypatch.setattr(data_queue.os, "posix_fallocate", no_space)
    with pytest.raises(UserError, match="--batch-size"):
        open_queue(2)


def no_space(*_):
    raise OSError(28, "No space left on device")


def test_the_ring_is_backed_by_memory_before_it_is_used():
    """With a sparse file the writer would be killed when memory runs out."""
    file = data_queue._allocate(1 << 20)
    assert os.fstat(file.fileno()).st_blocks * 512 >= 1 << 20
    file.close()


def test_close_twice_arrays_stay_readable_and_garbage_collection_closes(serial):
    queue = open_queue(1)
    batch = next(queue.batches(jobs_of(0)))
    queue.close()
    queue.close()
    batch.release()
    assert_same([(batch.jobs, batch.arrays)], serial[0][:1])
    queue = open_queue(2)
    next(queue.batches(jobs_of(0))).release()
    del queue
    wait_until(lambda: children() == [])


ITEMS = """
import pathlib, time

def make_item(job, out):
    if job == 30:
        pathlib.Path(__file__).with_name("program.stuck").touch()
        time.sleep(100)
    out["x"][...] = job
"""
# The workers import no script, so this one needs no `if __name__ == "__main__":`
SCRIPT = """
import multiprocessing, pathlib, signal, sys, time
import numpy as np
from items import make_item
from system.data_queue import DataQueue, Field

queue = DataQueue([Field("x", (9,), np.uint8)], make_item, batch_size=4, workers=2, depth=8)
batches = queue.batches(range(100))
next(batches)
print(*[child.pid for child in multiprocessing.active_children()], flush=True)
"""


def start_script(tmp_path, ending):
    """A program in a process group of its own with two workers, one of them stuck: (process, pids of the workers)."""
    path = tmp_path / "program.py"
    (tmp_path / "items.py").write_text(ITEMS)
    path.write_text(SCRIPT + textwrap.dedent(ending))
    process = subprocess.Popen(
        [sys.executable, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    wait_until(path.with_suffix(".stuck").exists)
    return process, pids


def gone(pids):
    def is_gone(pid):
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return all(is_gone(pid) for pid in pids)


def test_workers_end_with_a_killed_parent(tmp_path):
    process, pids = start_script(tmp_path, "time.sleep(100)")
    process.kill()
    wait_until(lambda: gone(pids))
    _, errors = process.communicate(timeout=60)  # ends only when no process holds the pipe
    assert errors == ""


@pytest.mark.parametrize("ending", ["[batch.release() for batch in batches]", "time.sleep(100)"])
def test_ctrl_c(tmp_path, ending):
    """While the parent waits for a batch, and while it does something else."""
    process, pids = start_script(tmp_path, ending)
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT  # Python's own end by KeyboardInterrupt
    assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")  # the parent's alone
    assert gone(pids)


def test_sigterm_to_the_group_leaves_the_parent_in_charge(tmp_path):
    ending = """
        stopped = []
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
        print("ready", flush=True)
        def has_arrived(pid):
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            pending = next(line for line in status.splitlines() if line.startswith("ShdPnd:"))
            return int(pending.split()[1], 16) >> (signal.SIGTERM - 1) & 1
        while not (stopped and all(has_arrived(child.pid) for child in multiprocessing.active_children())):
            time.sleep(0.01)
        for number in range(5):
            next(batches).release()
        print("still fed", flush=True)
    """
    process, pids = start_script(tmp_path, ending)
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "still fed\n", "")
    assert gone(pids)


def test_sigterm_without_a_handler(tmp_path):
    process, pids = start_script(tmp_path, "time.sleep(100)")
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    wait_until(lambda: gone(pids))


def test_a_program_that_forgets_to_close(tmp_path):
    process, pids = start_script(tmp_path, "import atexit")
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert gone(pids)


def test_a_low_limit_on_files_is_named():
    """It holds for shared memory too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(UserError, match=r"the batches take 2 MB .*ulimit -f.*raise it"):
            data_queue._allocate(2 * 2**20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
