"""Handlers for the length of a block, in the main thread and in another one."""

import concurrent.futures
import contextlib
import io
import os
import signal
import subprocess
import sys

import pytest

from programs import ROOT
from system import chain, cli, signals, stopping, streams, worker_processes
from system.argument_parser import ArgumentParser


def in_a_thread(function):
    """What function() returns or raises in another thread."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_a_block_has_its_handler_and_puts_the_old_one_back():
    received = []
    before = signal.getsignal(signal.SIGTERM)
    with signals.handled(lambda number, _: received.append(number), signal.SIGTERM):
        signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_old_handler_is_put_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.suppress(KeyError), signals.handled(print, signal.SIGTERM):
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is before


def stop_request():
    with stopping.StopRequest() as stop:
        return stop.requested, sys.stdout, signal.getsignal(signal.SIGINT)


def start_of_a_pool():
    with worker_processes.interrupts_held():
        return signal.getsignal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_waits_until_a_pool_has_started_and_then_does_what_it_did_before(number):
    """An exception in the middle of the start left half a pool: tracebacks of its workers, or a wait without end."""
    started = []

    def start():
        with worker_processes.interrupts_held():
            signal.raise_signal(number)
            started.append(number)

    with signals.handled(signal.SIG_IGN, number):
        start()
    with stopping.StopRequest() as stop:
        start()
        assert stop.requested
    signals._received = None
    signals.raise_at_interrupt()
    with pytest.raises(KeyboardInterrupt):
        start()
    assert len(started) == 3


def test_a_start_that_fails_as_the_workers_are_stopped_too_is_a_stop():
    """As of check_dataset.py under `timeout`, which also stops the process that forks its workers."""

    def fail():
        with worker_processes.interrupts_held():
            signal.raise_signal(signal.SIGTERM)
            raise EOFError

    with signals.handled(signal.SIG_IGN, signal.SIGTERM), pytest.raises(EOFError):
        fail()
    signals.raise_at_interrupt()
    with pytest.raises(KeyboardInterrupt):
        fail()


def test_another_thread_changes_neither_handlers_nor_streams():
    before = signal.getsignal(signal.SIGINT)
    assert in_a_thread(stop_request) == (False, sys.stdout, before)
    assert in_a_thread(start_of_a_pool) is before


def test_programs_follow_each_other_in_another_thread(capfd):
    in_a_thread(lambda: chain.call("average_precision.py", "--help"))
    assert "usage: average_precision.py" in capfd.readouterr().out


class Written:
    """All that some notebooks put in the place of sys.stdout: no isatty, no fileno, no encoding."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize("kind", [Written, io.StringIO])
def test_a_stream_without_a_file_will_do(kind, monkeypatch):
    stream = kind()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    assert not streams.is_terminal(sys.stderr)
    with stopping.StopRequest() as stop:
        print("begun", flush=True)
        cli.warn("half")
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
    assert sys.stdout is stream
    assert (stream.getvalue() if kind is io.StringIO else stream.text) == "begun\nwarning: half\n"


def test_arguments_come_as_a_line_as_words_and_as_paths(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["train.py", "--epochs", "2"])
    assert cli.words(None) == ["--epochs", "2"]
    assert cli.words("--run 'my run' --epochs 3") == ["--run", "my run", "--epochs", "3"]
    assert cli.words(["--run", tmp_path, "--rate", 0.5]) == ["--run", str(tmp_path), "--rate", "0.5"]
    parser = ArgumentParser()
    parser.add_argument("--run")
    assert parser.parse_args(["--run", tmp_path]).run == parser.parse_args(f"--run {tmp_path}").run == str(tmp_path)


def test_a_script_without_a_guard_may_start_workers(tmp_path):
    """Workers that imported it would draw again, and again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nprint('started')\nfrom toy_road.dataset import write_dataset\n"
        "write_dataset(sys.argv[1], train=2, test=1, workers=2)\nprint(__file__)\n"
    )
    call = [sys.executable, script, tmp_path / "road"]
    done = subprocess.run(call, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["started", str(script)]
