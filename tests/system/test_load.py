"""The machine's properties, and what other programs take of it."""

import subprocess
import sys

import psutil
import pytest

from programs import wait_until
from system import load

ROUNDED = 0.57  # seconds; 0.6, of which the kernel rounds user and system time of two processes down to ticks of 0.01
BURN = "import time\nend = time.time() + 60\nwhile time.time() < end: pass"


def measured(burning):
    """`others_busy` while another process works half a second."""
    try:
        with load.Others() as others:
            before = burning.cpu_times().user
            wait_until(lambda: burning.cpu_times().user > before + 0.5)
    finally:
        burning.kill()
    return others.to_json()["others_busy"]


def test_a_process_that_is_not_ours_is_seen():
    """A grandchild whose parent has ended is no child of this process, so it counts as another's."""
    start = "import subprocess, sys\n"
    start += f"print(subprocess.Popen([sys.executable, '-c', {BURN!r}], stdout=subprocess.DEVNULL).pid)"
    done = subprocess.run([sys.executable, "-c", start], check=True, stdout=subprocess.PIPE, text=True)
    assert measured(psutil.Process(int(done.stdout))) > 0.2


def test_a_process_whose_name_is_cut_within_a_letter_harms_nothing():
    """The system keeps 15 bytes of a name."""
    rename = "import ctypes, time\nctypes.CDLL(None).prctl(15, 'обработчик'.encode()[:15])\nprint(flush=True)"
    other = subprocess.Popen([sys.executable, "-c", f"{rename}\ntime.sleep(600)"], stdout=subprocess.PIPE)
    with other:
        try:
            other.stdout.readline()
            with load.Others() as others:
                pass
        finally:
            other.kill()
    assert others.to_json().keys() == {"others_busy", "stolen"}


def test_own_time_is_that_of_all_processes_below_also_of_those_that_ended():
    def own_seconds():
        return load._own_ticks() / load.TICKS

    before = own_seconds()
    work = "import time\nwhile time.process_time() < 0.6: pass"
    start = f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {work!r}])"
    child = subprocess.Popen([sys.executable, "-c", f"{start}\nprint()\ntime.sleep(600)"], stdout=subprocess.PIPE)
    with child:
        try:
            child.stdout.readline()
            assert own_seconds() - before >= ROUNDED  # of a grandchild that has ended, whose parent lives
        finally:
            child.kill()
    assert own_seconds() - before >= ROUNDED
    alive = [psutil.Process(), *psutil.Process().children(recursive=True)]  # the server of programs among them
    assert own_seconds() == pytest.approx(sum(sum(one.cpu_times()[:4]) for one in alive), abs=0.5)


def test_memory_is_that_of_all_processes_below():
    hold = "held = b'1' * 50_000_000\nprint(flush=True)\nimport time\ntime.sleep(600)"
    start = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {hold!r}])"
    with subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE) as child:
        try:
            child.stdout.readline()
            below = psutil.Process(child.pid).children(recursive=True)
            each = [one.memory_info().rss / 2**20 for one in [psutil.Process(child.pid), *below]]
            assert load.resident_mb(child.pid) == pytest.approx(sum(each), abs=2) and max(each) > 50
        finally:
            for one in [*below, child]:
                one.kill()
    assert load.resident_mb(child.pid) == 0


def test_the_machine_is_described():
    machine = load.machine()
    assert machine["cpu"] and 1 <= machine["cores"] <= psutil.cpu_count()
    assert machine["memory_gb"] == pytest.approx(psutil.virtual_memory().total / 2**30, abs=0.1)
    assert machine["python"] == ".".join(map(str, sys.version_info[:3]))
