"""Iterators that threads compute ahead. (tests/test_process_video.py holds the chain of Threads.)"""

import threading

import pytest

from system import stages


def test_parallel_map_keeps_order_and_reads_little_ahead():
    taken = []

    def source():
        for n in range(20):
            taken.append(n)
            yield n

    mapped = stages.parallel_map(lambda n: n * n, source(), threads=3, ahead=4)
    assert next(mapped) == 0
    assert len(taken) <= 5
    assert list(mapped) == [n * n for n in range(1, 20)]


def test_parallel_map_ends_its_threads_when_left():
    before = threading.active_count()
    mapped = stages.parallel_map(str, range(100), threads=3, ahead=4)
    next(mapped)
    mapped.close()
    assert threading.active_count() == before


def test_parallel_map_passes_an_error_on():
    mapped = stages.parallel_map(lambda n: 1 // n, [2, 1, 0, 1], threads=2, ahead=2)
    assert [next(mapped), next(mapped)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(mapped)


def test_background_calls_are_few_and_their_results_come_in_order():
    done = []
    with stages.Background(done.append, threads=2, ahead=3) as background:
        for n in range(20):
            background.run(lambda n: n * n, n)
            assert n + 1 - len(done) <= 3
    assert done == [n * n for n in range(20)]


def test_the_end_of_a_background_waits_for_all_calls():
    before, released, done = threading.active_count(), threading.Event(), []
    with stages.Background(done.append, threads=2, ahead=4) as background:
        for n in range(3):
            background.run(lambda n=n: released.wait(10) and n)
        assert done == []
        released.set()
    assert done == [0, 1, 2]
    assert threading.active_count() == before


def test_an_error_in_the_background_is_raised_unless_another_is():
    def leave(error=None):
        with stages.Background(print, threads=1, ahead=9) as background:
            background.run(lambda: 1 // 0)
            if error:
                raise error

    with pytest.raises(ZeroDivisionError):
        leave()
    with pytest.raises(KeyboardInterrupt):
        leave(KeyboardInterrupt())
    with pytest.raises(ZeroDivisionError), stages.Background(print, threads=1, ahead=0) as background:
        background.run(lambda: 1 // 0)
        pytest.fail("the error comes with the next call at the latest")


def test_batches_are_full_but_for_the_last():
    assert list(stages.batched(iter(range(7)), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(stages.batched([], 3)) == []


def test_threads_pass_items_and_errors_on_and_end_with_the_block():
    def failing():
        yield 1
        raise ZeroDivisionError

    before = threading.active_count()
    with stages.Threads(lambda: False) as threads:
        doubled = threads.run((2 * item for item in threads.run(range(5), ahead=1)), ahead=1)
        assert list(doubled) == [0, 2, 4, 6, 8]
        broken = threads.run(failing(), ahead=1)
        assert next(broken) == 1
        with pytest.raises(ZeroDivisionError):
            next(broken)
        next(threads.run(iter(int, 1), ahead=1))  # never ends by itself
    assert threading.active_count() == before


def test_a_stop_ends_threads_without_an_error():
    asked = threading.Event()
    with stages.Threads(asked.is_set) as threads:
        endless = threads.run(iter(int, 1), ahead=1)
        assert next(endless) == 0
        asked.set()
        assert list(endless) == []


def test_a_meter_counts_work_and_no_waiting(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(stages.time, "monotonic", lambda: now[0])
    meter = stages.Meter()
    assert meter.to_json()["frames_per_second"] is None
    for seconds, frames in ((2, 1), (1, 2)):
        with meter.measure(frames):
            now[0] += seconds
        now[0] += 100
    assert meter.to_json() == {"frames": 3, "seconds": 3.0, "frames_per_second": 1.0}
