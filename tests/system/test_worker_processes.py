"""How many workers fit a machine."""

import os

import pytest

from system import worker_processes


@pytest.mark.parametrize(("cores", "workers"), [(1, 2), (2, 2), (4, 2), (5, 3), (16, 14), (34, 32), (128, 32)])
def test_workers_leave_two_cores_to_the_network(cores, workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert worker_processes.usable_cores() == cores
    assert worker_processes.beside_network() == workers
