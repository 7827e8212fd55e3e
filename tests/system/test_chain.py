"""Programs run one after another: failures are reported, finished stages skipped, and a stop waits for the program."""

import json
import os
import signal
import subprocess
import sys

import pytest

from programs import ROOT, wait_until
from structures import UserError
from system import chain


@pytest.fixture
def program(tmp_path):
    """A program that records its arguments and ends with the first as its exit code."""
    path = tmp_path / "program.py"
    path.write_text(
        "import pathlib, sys\n"
        f"with open({str(tmp_path / 'calls')!r}, 'a') as file: print(*sys.argv[1:], file=file)\n"
        "sys.exit(int(sys.argv[1]))"
    )
    return str(path)


def calls(tmp_path):
    path = tmp_path / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_a_failure_is_reported_and_an_interrupt_ends_the_chain(program):
    chain.call(program, 0)
    with pytest.raises(UserError, match=r"program\.py .*\b3\b.*; repeat"):
        chain.call(program, 3)
    with pytest.raises(KeyboardInterrupt):
        chain.call(program, 130)


def test_finished_stages_are_skipped(program, tmp_path):
    def run(first="0 a", second="0 b"):
        links = chain.Chain(str(tmp_path / "stages.json"))
        links.call("first", program, *first.split())
        links.call("second", program, *second.split(), again=["again"])

    run()
    assert calls(tmp_path) == ["0 a", "0 b again"]
    run()
    assert len(calls(tmp_path)) == 2
    run(second="0 c")  # another command
    assert calls(tmp_path)[2:] == ["0 c again"]
    run(first="0 d", second="0 c")  # the second depends on the first
    assert calls(tmp_path)[3:] == ["0 d", "0 c again"]
    with pytest.raises(UserError):
        run(first="1 e", second="0 c")
    assert set(json.loads((tmp_path / "stages.json").read_text())) == {"second"}
    run(first="0 d", second="0 c")  # a stage that failed is not done, even if it was before
    assert calls(tmp_path)[6:] == ["0 d", "0 c again"]


@pytest.mark.parametrize(
    ("number", "send"),
    [(signal.SIGINT, os.killpg), (signal.SIGINT, os.kill), (signal.SIGTERM, os.kill)],
    ids=["Ctrl-C", "SIGINT", "SIGTERM"],
)
def test_a_stop_waits_until_the_program_has_saved_its_work(tmp_path, number, send):
    """Ctrl-C reaches all processes of the terminal; a signal to the caller alone is passed on."""
    saving = tmp_path / "saving.py"
    saving.write_text(
        "import pathlib, signal, sys, time\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "def stop(*_):\n"
        "    time.sleep(1)\n"
        "    (here / 'saved').touch()\n"
        "    sys.exit(130)\n"
        "signal.signal(signal.SIGINT, stop); signal.signal(signal.SIGTERM, stop)\n"
        "(here / 'ready').touch()\n"
        "time.sleep(60)"
    )
    code = f"from system import chain, cli; cli.run(lambda: (chain.call({str(saving)!r}), chain.call('never.py')))"
    group = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE)
    wait_until((tmp_path / "ready").exists, group)
    send(group.pid, number)
    assert group.wait(timeout=20) == 130
    assert (tmp_path / "saved").exists()
    assert group.stderr.read() == b"interrupted; repeat the command to continue from here\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_the_program_is_being_started_is_passed_on(number):
    child = chain._Child()
    child.handle(number, None)
    assert child.stopped
    code = child.run([sys.executable, "-c", "import time; time.sleep(60)"])
    assert code in (-number, 1)  # 1 after a traceback, of Python that had begun to start


# Removes what it leaves, in longer than a signal takes to be passed on. A second interrupt would leave it there
TIDY = """
import pathlib, sys, time
from system import cli
here = pathlib.Path(sys.argv[1])
def main():
    (here / "left").touch()
    try:
        (here / "ready").touch()
        time.sleep(60)
    finally:
        time.sleep(0.5)
        (here / "left").unlink()
cli.run(main)
"""


@pytest.mark.parametrize("pressed", [True, False], ids=["Ctrl-C", "SIGINT to the caller alone"])
def test_a_program_in_a_terminal_is_interrupted_once(pressed, tmp_path):
    """The terminal sends Ctrl-C to both, and the caller passes it on too: a signal to it alone looks the same."""
    (tmp_path / "tidy.py").write_text(TIDY)
    ours, theirs = os.openpty()
    code = (
        f"import os; os.open({os.ttyname(theirs)!r}, os.O_RDWR)\n"  # it is the terminal of its session now
        "from system import chain, cli\n"
        f"cli.run(lambda: chain.call({str(tmp_path / 'tidy.py')!r}, {str(tmp_path)!r}))"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE)
    try:
        wait_until((tmp_path / "ready").exists, caller)
        if pressed:
            os.write(ours, b"\x03")
        else:
            caller.send_signal(signal.SIGINT)
        assert caller.wait(30) == 130
        expected = b"interrupted\ninterrupted; repeat the command to continue from here\n"
        assert caller.stderr.read() == expected
    finally:
        os.killpg(caller.pid, signal.SIGKILL) if caller.poll() is None else None
        caller.communicate()
        os.close(ours)
        os.close(theirs)
    assert not (tmp_path / "left").exists()


def test_last_metrics(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step\n1,10\n2,20\n")
    assert chain.last_metrics(tmp_path) == {"epoch": "2", "step": "20"}
    (tmp_path / "metrics.csv").write_text("epoch,step\n")
    with pytest.raises(UserError, match=r"metrics\.csv"):
        chain.last_metrics(tmp_path)
