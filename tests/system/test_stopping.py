"""Ctrl-C between steps, also where nobody reads what is printed."""

import os
import signal
import subprocess
import sys

import pytest

from programs import ROOT, wait_until
from system import signals, stopping

UNHEARD = """
import pathlib, sys, time
from system import cli, stopping
def main():
    with stopping.StopRequest() as stop:
        pathlib.Path(sys.argv[1] + ".ready").touch()
        steps = 0
        while not stop.requested:
            steps += 1
            pathlib.Path(sys.argv[1] + ".steps").write_text("." * steps)
            print("step", flush=True)
            time.sleep(0.01)
        print("saving", file=sys.stderr)
        pathlib.Path(sys.argv[1]).touch()
        print("saved", flush=True)
        stop.raise_if_requested()
cli.run(main)
"""


def test_work_is_saved_although_nobody_reads_its_output(tmp_path):
    """Ctrl-C under `2>&1 | tee log` ends tee first."""
    call = [sys.executable, "-c", UNHEARD, str(tmp_path / "saved")]
    worker = subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert worker.stdout.readline() == b"step\n"
    worker.stdout.close()
    worker.send_signal(signal.SIGINT)
    assert worker.wait(timeout=60) == 130
    assert (tmp_path / "saved").exists()


def test_closed_streams_stop_nothing(tmp_path):
    (tmp_path / "unheard.py").write_text(UNHEARD)
    line = f"exec {sys.executable} {tmp_path / 'unheard.py'} {tmp_path / 'saved'} >&- 2>&-"
    worker = subprocess.Popen(["sh", "-c", line], env={**os.environ, "PYTHONPATH": str(ROOT)})
    wait_until((tmp_path / "saved.ready").exists, worker)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(timeout=60) == 130
    assert (tmp_path / "saved").exists()


def test_work_continues_after_the_terminal_hung_up(tmp_path):
    """A training in the background of a shell that was closed."""
    ours, terminal = os.openpty()
    call = [sys.executable, "-c", UNHEARD, str(tmp_path / "saved")]
    worker = subprocess.Popen(call, cwd=ROOT, stdout=terminal, stderr=terminal)
    os.close(terminal)
    assert os.read(ours, 4) == b"step"
    os.close(ours)
    steps = tmp_path / "saved.steps"
    before = steps.stat().st_size
    wait_until(lambda: steps.stat().st_size > before + 2, worker)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(timeout=60) == 130
    assert (tmp_path / "saved").exists()


def test_a_signal_that_arrives_twice_is_one(monkeypatch):
    """`timeout` and schedulers send it to parent and child, and the parent passes it on too."""
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with stopping.StopRequest() as stop:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        now[0] += 2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_a_second_stop_that_arrives_twice_is_one_interrupt(monkeypatch):
    """The caller of a program in a terminal passes on the second Ctrl-C too, while this one removes what it leaves."""
    now, tidied = [100.0], []
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    signals.raise_at_interrupt()
    with pytest.raises(KeyboardInterrupt), stopping.StopRequest():
        signal.raise_signal(signal.SIGINT)
        now[0] += 2
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            tidied.append("in it")
    signal.raise_signal(signal.SIGINT)
    assert tidied == ["in it"]
    now[0] += 2
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("number", "again"), [(signal.SIGINT, "press it again"), (signal.SIGTERM, "send it again")])
def test_what_a_second_signal_does_is_said_in_its_own_word(number, again, capfd):
    """Slurm's scancel presses nothing."""
    with stopping.StopRequest():
        signal.raise_signal(number)
    assert f"after this step; {again} to stop now" in capfd.readouterr().err


def test_a_signal_after_a_stop_that_the_program_asked_for_is_the_first(monkeypatch):
    """Another rank of a training passes on the Ctrl-C that then reaches this one too: it must not lose its work."""
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with stopping.StopRequest() as stop:
        stop.requested = True
        signal.raise_signal(signal.SIGTERM)
        now[0] += 2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
