"""How the process that measures a model ends. Its work is replaced by functions of this file, which it imports."""

import multiprocessing
import os
import signal
import time

import pytest

from measuring import own_process, timing
from structures import UserError

TASK = timing.Task("runs/mine", "auto", 0.01, (1, 8), 16, [], [])


def refuse(connection, task):
    connection.send(("error", f"{task.model}: no such model; give another"))


def send(connection, task):
    connection.send(("loaded", {"pid": os.getpid()}))
    connection.send(("detected", []))


def be_killed(connection, task):
    connection.send(("loaded", {}))
    os.kill(os.getpid(), signal.SIGKILL)


def fail(connection, task):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the traceback, which the tests' output need not show
    raise ZeroDivisionError


def go_on(connection, task):
    connection.send(("loaded", {}))
    time.sleep(600)


def use(monkeypatch, function):
    monkeypatch.setattr(timing, "measure", function)
    return own_process.messages(TASK)


def test_what_is_found_comes_from_another_process(monkeypatch):
    (loaded, facts), last = use(monkeypatch, send)
    assert (loaded, last) == ("loaded", ("detected", []))
    assert facts["pid"] != os.getpid()
    assert multiprocessing.active_children() == []


def test_an_error_of_the_user_is_raised_here(monkeypatch):
    with pytest.raises(UserError, match=r"^runs/mine: no such model; give another$"):
        list(use(monkeypatch, refuse))


def test_a_process_that_is_killed_names_the_signal_and_what_to_do(monkeypatch):
    with pytest.raises(UserError, match=r"^runs/mine: .*SIGKILL.*memory.*--batch-sizes$"):
        list(use(monkeypatch, be_killed))


def test_a_failure_is_no_error_of_the_user(monkeypatch):
    with pytest.raises(RuntimeError, match=r"runs/mine: .*exit code 1"):
        list(use(monkeypatch, fail))


def test_the_process_ends_when_nobody_asks_for_more(monkeypatch):
    messages = use(monkeypatch, go_on)
    assert next(messages) == ("loaded", {})
    assert len(multiprocessing.active_children()) == 1
    messages.close()
    assert multiprocessing.active_children() == []
