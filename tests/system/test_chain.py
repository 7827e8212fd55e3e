"""Programs run one after another: failures are reported, finished stages skipped, and a stop waits for the program."""

import json
import os
import signal
import subprocess
import sys
import time

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


def test_ctrl_c_reaches_the_program_once(tmp_path):
    """A second SIGINT would interrupt a program that has no StopRequest as it ends: three of 25 left a traceback."""
    counting = tmp_path / "counting.py"
    counting.write_text(
        "import pathlib, signal, sys, time\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "signal.signal(signal.SIGINT, lambda *_: (here / str(time.monotonic_ns())).with_suffix('.signal').touch())\n"
        "(here / 'ready').touch()\n"
        "while not (here / 'end').exists(): time.sleep(0.02)\n"
        "sys.exit(130)"
    )
    ours, theirs = os.openpty()
    code = (
        f"import os; os.open({os.ttyname(theirs)!r}, os.O_RDWR)\n"  # it is the terminal of its session now
        "from system import chain, cli\n"
        f"cli.run(lambda: chain.call({str(counting)!r}))"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE)
    try:
        wait_until((tmp_path / "ready").exists, caller)
        caller.send_signal(signal.SIGSTOP)  # two signals at once would be one
        os.waitid(os.P_PID, caller.pid, os.WSTOPPED)
        os.write(ours, b"\x03")
        wait_until(lambda: list(tmp_path.glob("*.signal")), caller)
        caller.send_signal(signal.SIGCONT)
        time.sleep(1)  # for a second signal
        (tmp_path / "end").touch()
        assert caller.wait(60) == 130
    finally:
        (tmp_path / "end").touch()
        caller.kill()
        caller.communicate()
        os.close(ours)
        os.close(theirs)
    assert len(list(tmp_path.glob("*.signal"))) == 1


def test_last_metrics(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step\n1,10\n2,20\n")
    assert chain.last_metrics(tmp_path) == {"epoch": "2", "step": "20"}
    (tmp_path / "metrics.csv").write_text("epoch,step\n")
    with pytest.raises(UserError, match=r"metrics\.csv"):
        chain.last_metrics(tmp_path)
