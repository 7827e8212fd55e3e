"""The process that starts the ranks, with ranks that only play a part."""

import os
import signal
import sys
import threading
import time
import types

import pytest

from distribution import cluster, launcher
from distribution.ends import RankLost
from programs import ROOT
from structures import UserError

PART = """
import os, sys, time
sys.path.insert(0, {root!r})
from distribution import member
from distribution.ends import End, Kind, RankLost
from structures import UserError
rank = member.of_this_process()
number, start = rank.cluster.rank, {start}
with member.speaking(rank), rank.stop_request() as stop:
    rank.follow(stop)
    {body}
"""


def play(tmp_path, body, size=2, restarts=0, stop=None, places=None):
    """Run ranks whose program has `body`; it may use `number` (of the rank), `start` and `stop`."""

    def command(start):
        script = tmp_path / f"part{start}.py"
        indented = body.strip().replace("\n", "\n    ")
        script.write_text(PART.format(root=str(ROOT), start=start, body=indented))
        return [sys.executable, str(script)]

    stop = stop or types.SimpleNamespace(requested=False)
    places = places or (lambda: [launcher.Place(one) for one in cluster.local(size)])
    launcher.run(command, places, stop, restarts, saved=lambda: "step 7 is saved")


def test_all_do_their_work(tmp_path):
    play(tmp_path, f"open(f'{tmp_path}/done{{number}}', 'w').close()", size=3)
    assert len(list(tmp_path.glob("done*"))) == 3


def test_a_killed_rank_is_named_and_the_others_are_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(launcher, "LOST_SECONDS", 0.5)
    body = "if number == 1: os.kill(os.getpid(), 9)\ntime.sleep(60)"
    start = time.monotonic()
    with pytest.raises(RankLost, match=r"rank 1 \(127.0.0.1:\d+\), process \d+, was killed by SIGKILL.*; step 7 is"):
        play(tmp_path, body)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("seen", "size", "message"),
    [
        ("if number == 1: os.kill(os.getpid(), 9)", 2, "was killed by SIGKILL"),
        ("rank.report(End(Kind.DIED, 'rank 1 is lost'))", 1, "^rank 1 is lost; step 7"),  # on another host
        ("if number == 1: raise UserError('data worker 0 was killed')", 2, "^data worker 0 was killed$"),
        ("rank.report(End(Kind.ERROR, 'data worker 0 was killed'))", 1, "^data worker 0 was killed$"),
        ("if number == 1: raise ValueError('odd')", 2, "ended with exit code 1"),
    ],
)
def test_rank_0_has_time_for_its_step_after_what_is_seen_at_once(seen, size, message, tmp_path, monkeypatch):
    """Of the 15 seconds, which all may take, those of a silence are left."""
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 0.1)
    body = f"""
{seen}
time.sleep(2)
open('{tmp_path}/saved', 'w').close()
"""
    with pytest.raises(UserError, match=message):
        play(tmp_path, body, size=size)
    assert (tmp_path / "saved").exists()


def test_without_rank_0_nothing_is_left_to_be_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(launcher, "LOST_SECONDS", 60)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"^the disk is full$"):
        play(tmp_path, "if number == 0: raise UserError('the disk is full')\ntime.sleep(60)")
    assert time.monotonic() - start < 30


def test_a_stopped_rank_is_lost_although_no_other_one_here_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "LOST_SECONDS", 0.5)
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 0.1)
    number = tmp_path / "number"
    body = f"import signal\nopen({str(number)!r}, 'w').write(str(os.getpid()))\nos.kill(os.getpid(), signal.SIGSTOP)"
    watchdog = threading.Timer(60, lambda: os.kill(int(number.read_text()), signal.SIGKILL))
    watchdog.start()
    try:
        with pytest.raises(RankLost, match=r"rank 0 .* has not answered for 0.5 seconds; its process is stopped; "):
            play(tmp_path, body, size=1)
    finally:
        watchdog.cancel()


def test_an_error_is_passed_on(tmp_path):
    body = "if number == 1: raise UserError('the disk is full')"
    with pytest.raises(UserError, match=r"^the disk is full$"):
        play(tmp_path, body)


def test_a_bug_leaves_its_traceback(tmp_path, capfd):
    with pytest.raises(UserError, match=r"rank 0 .* ended with exit code 1"):
        play(tmp_path, "if number == 0: raise ValueError('odd')")
    assert "ValueError: odd" in capfd.readouterr().err


def test_the_first_text_of_a_loss_counts(tmp_path):
    body = "rank.report(End(Kind.LOST, 'rank 1 is silent'))\nraise UserError('and so on')"
    with pytest.raises(RankLost, match=r"^rank 1 is silent; step 7 is saved$"):
        play(tmp_path, body, size=1)


def test_a_lost_rank_starts_all_again(tmp_path, capsys):
    body = f"""
open(f'{tmp_path}/start{{start}}-{{number}}', 'w').close()
if start < 2: raise RankLost('the network fails')
"""
    play(tmp_path, body, restarts=2)
    assert len(list(tmp_path.glob("start*"))) == 6
    assert capsys.readouterr().err.splitlines() == [
        "warning: the network fails; all ranks start again (1 of 2)",
        "warning: the network fails; all ranks start again (2 of 2)",
    ]
    with pytest.raises(RankLost):
        play(tmp_path, body, restarts=1)


def test_an_error_does_not_start_all_again(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        play(tmp_path, "assert start == 0\nraise UserError('no such file')", restarts=3)


def test_a_request_to_stop_reaches_all(tmp_path):
    stop = types.SimpleNamespace(requested=False)
    threading.Timer(0.3, lambda: setattr(stop, "requested", True)).start()
    body = f"""
while not stop.requested: time.sleep(0.02)
open(f'{tmp_path}/stopped{{number}}', 'w').close()
raise KeyboardInterrupt('all is saved')
"""
    with pytest.raises(KeyboardInterrupt, match=r"^all is saved$"):
        play(tmp_path, body, stop=stop)
    assert len(list(tmp_path.glob("stopped*"))) == 2


@pytest.mark.parametrize("end", ["raise RankLost('the network fails')", "raise UserError('the disk is full')"])
def test_an_end_during_a_stop_is_that_of_all(end, tmp_path, monkeypatch):
    """Rank 0 may be in an operation of TensorFlow that waits for ever."""
    monkeypatch.setattr(launcher, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(launcher, "LOST_SECONDS", 0.5)
    stop = types.SimpleNamespace(requested=True)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"^the (network fails|disk is full)"):
        play(tmp_path, f"if number == 0: time.sleep(60)\nwhile not stop.requested: time.sleep(0.02)\n{end}", stop=stop)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("address", "written"),
    [("127.0.0.1:1", "127.0.0.1"), ("[::1]:1", "::1"), ("[fe80::1%eth0]:1", "fe80::1%eth0"), ("gpu1:1", "gpu1")],
)
def test_hosts_are_named_to_grpc_as_it_compares_them(address, written):
    assert launcher._direct(cluster.Cluster((address,), 0, address), {}) == {"no_grpc_proxy": written}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, "127.0.0.1"),
        ({"no_proxy": "a.org,b.org"}, "127.0.0.1,a.org,b.org"),
        ({"no_proxy": "a.org", "no_grpc_proxy": "c.org"}, "127.0.0.1,c.org"),
    ],
    ids=str,
)
def test_ranks_talk_to_each_other_without_a_proxy(given, wanted, tmp_path, monkeypatch):
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    play(tmp_path, f"open(f'{tmp_path}/{{number}}', 'w').write(os.environ['no_grpc_proxy'])")
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text() == wanted


def test_signals_do_not_reach_ranks(tmp_path):
    """Not while they are blocked, nor after Python's resource tracker has started, which ends that."""
    body = f"""
from multiprocessing import resource_tracker
for number in (2, 15): os.kill(os.getpid(), number)
resource_tracker.ensure_running()
for number in (2, 15): os.kill(os.getpid(), number)
open('{tmp_path}/goes on', 'w').close()
"""
    play(tmp_path, body, size=1)
    assert (tmp_path / "goes on").exists()


def test_ranks_end_with_their_starter(tmp_path):
    """The starter is killed; its rank writes its process number and would sleep."""
    inner = tmp_path / "part.py"
    body = f"open('{tmp_path}/pid', 'w').write(str(os.getpid()))\n    os.rename('{tmp_path}/pid', '{tmp_path}/there')"
    inner.write_text(PART.format(root=str(ROOT), start=0, body=f"{body}\n    time.sleep(60)"))
    code = (
        "import sys, types; sys.path.insert(0, sys.argv[1]); from distribution import cluster, launcher;"
        "launcher.run(lambda _: [sys.executable, sys.argv[2]],"
        "lambda: [launcher.Place(one) for one in cluster.local(1)],"
        "types.SimpleNamespace(requested=False))"
    )
    starter = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", code, str(ROOT), str(inner)])
    until = time.monotonic() + 60
    while not (tmp_path / "there").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    rank = int((tmp_path / "there").read_text())
    os.kill(starter, signal.SIGKILL)
    os.waitpid(starter, 0)
    while running(rank):
        assert time.monotonic() < until
        time.sleep(0.05)


def running(process):
    try:
        with open(f"/proc/{process}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_cores_are_shared_out(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    places = lambda: [launcher.Place(one, {"SHOWN": "x"}, cores[-1:]) for one in cluster.local(1)]  # noqa: E731
    body = f"open('{tmp_path}/cores', 'w').write(f\"{{os.sched_getaffinity(0)}} {{os.environ['SHOWN']}}\")"
    play(tmp_path, body, places=places)
    assert (tmp_path / "cores").read_text() == f"{{{cores[-1]}}} x"
    assert sorted(os.sched_getaffinity(0)) == cores
