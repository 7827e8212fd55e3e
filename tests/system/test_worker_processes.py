"""How many workers fit a machine, and which cores are whose."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from system import worker_processes
from system.own_folders import ROOT


@pytest.mark.parametrize(("cores", "workers"), [(1, 2), (2, 2), (4, 2), (5, 3), (16, 14), (34, 32), (128, 32)])
def test_workers_leave_two_cores_to_the_network(cores, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert worker_processes.usable_cores() == cores
    assert worker_processes.beside_network() == workers


@pytest.mark.parametrize(("sharers", "workers"), [("1", 32), ("2", 30), ("8", 6), ("64", 2), ("100", 2)])
def test_processes_that_share_cores_have_as_many_workers_together(sharers, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setenv(worker_processes.SHARERS, sharers)
    assert worker_processes.beside_network() == workers


on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cores are claimed on Linux only")


@on_linux
def test_no_two_processes_claim_a_core_and_those_of_a_killed_one_are_free():
    cores = os.sched_getaffinity(0)
    name = uuid.uuid4().hex  # another run of the tests may be at the same place
    program = f"""
import os
from system import worker_processes
worker_processes.CLAIM, worker_processes.QUOTAS = "{name}", {{}}
worker_processes.claim_cores(1)
print(*os.sched_getaffinity(0), flush=True)
input()
"""
    processes = []

    def claim():
        words = [sys.executable, "-c", program]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        processes.append(subprocess.Popen(words, cwd=ROOT, text=True, **pipes))
        return set(map(int, processes[-1].stdout.readline().split()))

    try:
        claimed = [claim() for _ in cores]
        assert [len(one) for one in claimed] == [1] * len(cores) and set.union(*claimed) == cores
        assert claim() == cores  # none is free
        processes[0].send_signal(signal.SIGKILL)
        processes[0].wait()
        assert claim() == claimed[0]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@on_linux
@pytest.mark.parametrize(
    ("second", "first", "limited"),
    [
        (None, None, False),
        ("max 100000\n", None, False),
        ("400000 100000\n", None, True),
        (None, "-1\n", False),
        (None, "400000\n", True),
    ],
)
def test_a_container_with_a_part_of_the_time_claims_nothing(second, first, limited, tmp_path, monkeypatch):
    """It does not see which cores another container on the same machine has claimed."""
    paths = [str(tmp_path / "cpu.max"), str(tmp_path / "quota")]
    monkeypatch.setattr(worker_processes, "QUOTAS", dict(zip(paths, ("max", "-1"), strict=True)))
    for path, content in zip(paths, (second, first), strict=True):
        if content:
            Path(path).write_text(content)
    pinned = []
    monkeypatch.setattr(worker_processes, "CLAIM", uuid.uuid4().hex)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: pinned.append(sorted(cores)))
    worker_processes.claim_cores(2)
    assert pinned == ([] if limited else [[3, 5]])
