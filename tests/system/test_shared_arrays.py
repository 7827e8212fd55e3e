"""Arrays that processes share in memory: found as they were added, within the limits, and gone with the processes."""

import multiprocessing
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from programs import ROOT, wait_until
from system import memory, shared_arrays
from system.shared_arrays import MemoryStore, block_bytes

SIGNATURE = (100, 1, 2)
MUCH = 1 << 30


def picture(seed, height=30, width=40):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def store():
    with_room = MemoryStore(5, [MUCH, MUCH])
    yield with_room
    with_room.close()


def test_what_was_added_is_found_until_the_file_changes(store):
    for slot in range(5):
        assert store.find(slot, 1, SIGNATURE) is None
        store.add(slot, 1, SIGNATURE, picture(slot, 30 + slot, 41))
    for slot in range(5):
        found = store.find(slot, 1, SIGNATURE)
        np.testing.assert_array_equal(found, picture(slot, 30 + slot, 41))
        assert not found.flags.writeable and found.flags.c_contiguous
        assert store.find(slot, 0, SIGNATURE) is None
        for changed in ((101, 1, 2), (100, 2, 2), (100, 1, 3)):
            assert store.find(slot, 1, changed) is None
    before = store.find(2, 1, SIGNATURE)
    store.add(2, 1, (7, 8, 9), picture(9))
    np.testing.assert_array_equal(store.find(2, 1, (7, 8, 9)), picture(9))
    assert store.find(2, 1, SIGNATURE) is None
    np.testing.assert_array_equal(before, picture(2, 32, 41))  # who still reads it is not disturbed


def test_a_view_that_is_not_contiguous_is_kept_as_seen(store):
    store.add(0, 0, SIGNATURE, picture(0)[::2, ::-1])
    np.testing.assert_array_equal(store.find(0, 0, SIGNATURE), picture(0)[::2, ::-1])


def test_each_kind_has_its_own_limit():
    size = block_bytes(30, 40)
    assert size == 30 * 40 * 3 + 64 + 48  # the header, and up to a multiple of 64
    store = MemoryStore(9, [3 * size, size])
    for slot in range(9):
        store.add(slot, 0, SIGNATURE, picture(slot))
    assert [store.find(slot, 0, SIGNATURE) is not None for slot in range(9)] == [True] * 3 + [False] * 6
    assert store.used == 3 * size
    store.add(8, 1, SIGNATURE, picture(8))
    np.testing.assert_array_equal(store.find(8, 1, SIGNATURE), picture(8))
    store.add(0, 1, SIGNATURE, picture(0, 2, 2))  # no room, even if it is small
    assert store.find(0, 1, SIGNATURE) is None
    store.close()


def test_what_is_added_twice_takes_its_room_once():
    """As by two workers that decode the same picture at once: the room of another was gone, which was never kept."""
    store = MemoryStore(2, [2 * block_bytes(30, 40)])
    for slot in (0, 0, 1):
        store.add(slot, 0, SIGNATURE, picture(slot))
    for slot in (0, 1):
        np.testing.assert_array_equal(store.find(slot, 0, SIGNATURE), picture(slot))
    store.close()


def test_it_does_not_grow_where_memory_is_short(monkeypatch, capsys):
    """The free memory is faked: no test may fill a machine."""
    store = MemoryStore(40, [MUCH])
    large = np.zeros((1000, 2000, 3), np.uint8)  # 6 MB
    free = [memory.total() // 2]
    monkeypatch.setattr(memory, "available", lambda: free[0])
    store.add(0, 0, SIGNATURE, large)
    free[0] = int(memory.total() * shared_arrays.KEPT_FREE)
    for slot in range(1, 40):
        store.add(slot, 0, SIGNATURE, large)
    kept = [store.find(slot, 0, SIGNATURE) is not None for slot in range(40)]
    assert kept == [True] * 5 + [False] * 35  # what fits into the first 32 MB
    told = capsys.readouterr().err
    assert told.count("memory is short") == 1 and "0.0 GB that it has" in told
    free[0] = memory.total()
    store.add(39, 0, SIGNATURE, picture(0))
    assert store.find(39, 0, SIGNATURE) is None
    store.close()


def test_memory_that_the_system_refuses(monkeypatch, capsys):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shared_arrays.os, "posix_fallocate", refuse)
    store = MemoryStore(1, [MUCH])
    store.add(0, 0, SIGNATURE, picture(0))
    assert store.find(0, 0, SIGNATURE) is None
    assert "memory is short" in capsys.readouterr().err
    store.close()


def test_it_takes_only_the_memory_that_is_used():
    store = MemoryStore(1000, [200 << 30])
    store.add(0, 0, SIGNATURE, picture(0))
    assert os.fstat(store._descriptor).st_blocks * 512 <= shared_arrays.STEP + (1 << 20)
    store.close()


def fill(store, first, step, barrier):
    """In a process: add every `step`-th of 60 pictures, from `first` on."""
    barrier.wait()
    for slot in range(first, 60, step):
        store.add(slot, 0, SIGNATURE, picture(slot))


def test_processes_add_at_once_and_see_each_other():
    context = multiprocessing.get_context("spawn")
    store, barrier = MemoryStore(60, [MUCH]), context.Barrier(3)
    processes = [context.Process(target=fill, args=(store, first, 2, barrier)) for first in (0, 1)]
    processes += [context.Process(target=fill, args=(store, 0, 1, barrier))]  # all of them again
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    for slot in range(60):
        np.testing.assert_array_equal(store.find(slot, 0, SIGNATURE), picture(slot))
    assert store.used == 60 * block_bytes(30, 40)
    store.close()


SCRIPT = """
    import os, sys, time, multiprocessing
    import numpy as np
    from system import worker_processes
    from system.shared_arrays import MemoryStore

    def follow(store):
        worker_processes.follow_parent()
        store.add(0, 0, (1, 2, 3), np.zeros((9, 9, 3), np.uint8))
        print(os.getpid(), flush=True)
        time.sleep(600)

    if __name__ == "__main__":
        store = MemoryStore(9, [1 << 30])
        multiprocessing.get_context("spawn").Process(target=follow, args=(store,), daemon=True).start()
        time.sleep(600)
"""


def test_a_killed_process_leaves_nothing(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    assert "memfd:pictures" in pathlib.Path(f"/proc/{child}/maps").read_text()
    names = set(os.listdir("/dev/shm"))
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(lambda: not is_alive(child))
    assert not {name for name in names if "pictures" in name}


def is_alive(pid):
    """Whether a process runs; a zombie that nobody waits for does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_shares():
    assert shared_arrays.share_out([3, 4, 5], 100) == [3, 4, 5]
    assert shared_arrays.share_out([3, 4, 5], 8) == [3, 4, 1]
    assert shared_arrays.share_out([3, 4, 5], 3) == [3, 0, 0]
    assert shared_arrays.share_out([3], -7) == [0]
