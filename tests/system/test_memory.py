"""Free memory by /proc and by the files of a container, which are imitated; the pause of Python's collector."""

import gc
import subprocess
import sys

import psutil
import pytest

from programs import ROOT
from system import memory


def imitate(folder, monkeypatch, **contents):
    for name, text in contents.items():
        (folder / name).write_text(text)
    one = tuple(str(folder / name) for name in ("limit", "usage", "statistics"))
    monkeypatch.setattr(memory, "LIMITS", ((*one, "inactive_file"),))


def test_memory_is_what_the_system_says():
    assert 0 < memory.available() <= memory.total() <= psutil.virtual_memory().total


def test_a_container_has_its_limit_less_what_it_cannot_drop(tmp_path, monkeypatch):
    statistics = "anon 5\ninactive_file 3000\nactive_file 7\n"
    imitate(tmp_path, monkeypatch, limit="10000\n", usage="8000\n", statistics=statistics)
    assert memory.available() == 10000 - (8000 - 3000)
    assert memory.total() == 10000
    imitate(tmp_path, monkeypatch, limit="4000\n")  # lowered below the usage
    assert memory.available() == 0


@pytest.mark.parametrize("limit", ["max\n", str(1 << 62)])
def test_no_limit(tmp_path, monkeypatch, limit):
    imitate(tmp_path, monkeypatch, limit=limit, usage="8000\n", statistics="inactive_file 3000\n")
    assert memory.available() > 1 << 20
    assert memory.total() == psutil.virtual_memory().total


def test_the_peak_is_that_of_this_process_and_stays():
    held = bytearray(200 << 20)
    held[::4096] = bytes(len(held[::4096]))  # touch every page
    now = psutil.Process().memory_info().rss
    del held
    assert memory.peak() >= 0.99 * now > 200 << 20  # the kernel counts by thread and is a little late
    started = subprocess.run(
        [sys.executable, "-c", "from system import memory; print(memory.peak())"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 1 << 20 < int(started.stdout) < 100 << 20 < memory.peak()  # getrusage would give the parent's too


def test_the_collector_pauses_and_goes_on_even_after_an_error():
    @memory.collector_paused()
    def fail():
        assert not gc.isenabled()
        with memory.collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()  # the end of an inner pause does not end the outer one
        raise KeyError

    assert gc.isenabled()
    for _ in range(2):  # a decorated function may be called again
        with pytest.raises(KeyError):
            fail()
        assert gc.isenabled()


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    try:
        with memory.collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
