"""What ranks that have met tell each other, and how they end together."""

import re
import threading
import time
import types

import pytest

from distribution import group, patience
from distribution.ends import RankLost
from rank_threads import run_ranks
from structures import UserError


def test_sums_values_and_parts_of_all_ranks():
    def work(one):
        sums = one.total({"a": 10.0**one.rank, "b": 1.0})
        shared = one.share({"from": one.rank})
        parts = one.gather(one.rank, bytes([one.rank]) * 3_000_000)
        return sums, shared, [(value, payload[:2], len(payload)) for value, payload in parts]

    first, *others = run_ranks(work)
    expected = {"a": 111.0, "b": 3.0}, {"from": 0}
    assert first == (*expected, [(rank, bytes([rank]) * 2, 3_000_000) for rank in range(3)])
    assert others == [(*expected, [])] * 2


def test_all_get_the_same_sums_to_the_last_bit():
    found = run_ranks(lambda one: one.total({"a": 0.1 * (one.rank + 1)})["a"])
    assert found == [0.1 + 0.2 + 0.1 * 3] * 3


@pytest.mark.parametrize("failing", [0, 2])
def test_an_error_of_one_rank_is_that_of_all(failing):
    def work(one):
        if one.rank == failing:
            raise UserError("the disk is full")
        one.total({})

    assert [str(error) for error in run_ranks(work)] == ["the disk is full"] * 3


def test_an_interrupt_of_rank_0_is_that_of_all():
    def work(one):
        if one.is_first:
            raise KeyboardInterrupt("saved")
        one.share()

    assert [(type(error), str(error)) for error in run_ranks(work)] == [(KeyboardInterrupt, "saved")] * 3


def test_a_request_to_stop_reaches_rank_0():
    def work(one):
        one._stop.requested = one.rank == 2
        until = time.monotonic() + 10
        while one.is_first and not one._stop.requested and time.monotonic() < until:
            time.sleep(0.05)
        one.share()
        return one._stop.requested

    assert run_ranks(work)[0] is True


def test_a_dead_rank_is_named():
    listen = threading.Barrier(3, timeout=20)

    def work(one):
        if one.rank == 1:  # as the kernel does it for a killed process
            listen.wait()
            one._closing.set()
            for connection in one._connections.values():
                connection.close()
            return
        told.setdefault(one.rank, [])
        one._on_end = lambda end: told[one.rank].append(end.kind)
        listen.wait()
        one.share()

    told = {}
    found = run_ranks(work)
    assert told == {0: ["died"], 2: ["died"]}  # rank 0 has longer than after a silence (launcher)
    for rank in (0, 2):
        assert isinstance(found[rank], RankLost) and "is lost: its process or its host has ended" in str(found[rank])
        assert str(found[rank]).startswith("rank 1 (127.0.0.1:")


def test_a_silent_rank_is_named(monkeypatch):
    monkeypatch.setattr(group, "LOST_SECONDS", 2.0)
    released = threading.Event()

    def work(one):
        if one.rank == 1:  # as a stopped process, or one behind a dead link
            for connection in one._connections.values():
                connection.send = lambda *_: None
            released.wait(30)
            return
        try:
            one.share()
        finally:
            if one.is_first:
                released.set()

    start = time.monotonic()
    found = run_ranks(work)
    assert time.monotonic() - start < 20
    for rank in (0, 2):
        assert isinstance(found[rank], RankLost) and "rank 1 (127.0.0.1:" in str(found[rank])
        assert "has not answered for 2 seconds" in str(found[rank])


def test_a_rank_that_sends_no_messages_is_named():
    def work(one):
        if one.rank == 1:
            one._connections[0].send("end", "no pair")
        one.share()

    found = run_ranks(work)
    text = "has sent something that is not a message; start all ranks with the same version of this project"
    assert all(type(error) is UserError and text in str(error) for error in found)
    assert all(str(error).startswith("rank 1 (127.0.0.1:") for error in found)


@pytest.mark.parametrize(
    ("first", "other", "named"),
    [
        (lambda one: one.share({"a": 5}), lambda one: one.total({"a": 1.0}), "rank 0 shares, this one adds a"),
        (lambda one: one.total({"a": 1.0}), lambda one: one.share(), "rank 0 adds a, this one shares"),
        (lambda one: one.total({"a": 1, "b": 2}), lambda one: one.total({"a": 1}), "rank 0 adds a, b, this one adds a"),
        (lambda one: one.share(), lambda one: one.gather(1), "rank 0 shares, this one gathers"),
    ],
)
def test_ranks_that_do_different_things_are_named(first, other, named):
    """As those of two versions of the project do."""
    found = run_ranks(lambda one: (other if one.rank == 2 else first)(one))
    assert [type(error) for error in found] == [UserError] * 3
    assert all(re.match(r"rank 2 \(127.0.0.1:\d+\) does something else: ", str(error)) for error in found)
    assert all(f"{named}; start all ranks with the same version" in str(error) for error in found)


def test_what_one_rank_alone_knows_is_not_compared():
    """Another version differs in a file that both have; a file of one host alone harms nothing."""
    facts = lambda rank: {"a.py": 1, f"mine{rank}.py": 1}  # noqa: E731
    assert run_ranks(lambda one: one.share(1), facts=facts) == [1] * 3


def test_ranks_compare_what_they_learn_later():
    def work(one):
        one.compare({"its kind of device": "GPU" if one.rank else "CPU"}, "look at nvidia-smi")
        one.share()

    found = run_ranks(work, size=2)
    assert all(str(error).startswith("rank 1 (127.0.0.1:") for error in found)
    assert all("differs from rank 0 in its kind of device (GPU, not CPU); look at nvidia-smi" in str(e) for e in found)


def test_a_failure_without_a_lost_rank_has_tensorflows_reason_and_the_addresses():
    found = run_ranks(lambda one: one.explain("the sum failed (connection refused)", 0.1, time.monotonic()), size=2)
    assert all(isinstance(error, RankLost) for error in found)
    text = r"the sum failed \(connection refused\), although all 2 ranks answer; check the network between them "
    assert all(re.match(text + r"\(127.0.0.1:\d+, 127.0.0.1:\d+\)$", str(error)) for error in found)


@pytest.mark.parametrize(("paused", "named"), [(20, True), (0, False)])
def test_a_pause_of_this_process_is_named(paused, named, monkeypatch):
    """Ctrl-Z and fg, which TensorFlow's limit of time does not heed."""
    ahead = [0.0]
    monkeypatch.setattr(group, "time", types.SimpleNamespace(monotonic=lambda: time.monotonic() + ahead[0]))
    both = threading.Barrier(2, timeout=20)

    def work(one):
        began = group.time.monotonic()
        both.wait()
        ahead[0] = paused
        one.explain("the sum failed", 1.0, began)

    found = run_ranks(work, size=2)
    assert all(isinstance(error, RankLost) and str(error).startswith("the sum failed") for error in found)
    assert all(("paused for 20 seconds (Ctrl-Z)" in str(error)) == named for error in found)


def test_an_earlier_pause_is_not_to_blame(monkeypatch):
    ahead = [0.0]
    monkeypatch.setattr(group, "time", types.SimpleNamespace(monotonic=lambda: time.monotonic() + ahead[0]))

    def work(one):
        ahead[0] = 20
        until = time.monotonic() + 20
        while one._pause[1] < 20 and time.monotonic() < until:
            time.sleep(0.05)
        one.explain("the sum failed", 0.5, group.time.monotonic())

    assert not any("paused for 2" in str(error) for error in run_ranks(work, size=2))


def test_rank_0_says_once_on_whom_all_wait(monkeypatch, capfd):
    """Such as a rank whose disk hangs: it goes on with its beats."""
    monkeypatch.setattr(patience, "WORD_SECONDS", 1.0)

    def work(one):
        if one.rank == 2:
            time.sleep(3)
        return one.share(1)

    assert run_ranks(work) == [1, 1, 1]
    lines = [line for line in capfd.readouterr().err.splitlines() if "still waiting" in line]
    assert len(lines) == 1
    assert re.match(r"warning: still waiting for rank 2 \(127.0.0.1:\d+\), after 1 seconds$", lines[0])


def test_a_slow_rank_is_waited_for(monkeypatch):
    monkeypatch.setattr(group, "LOST_SECONDS", 2.0)

    def work(one):
        if one.rank == 1:
            time.sleep(4)
        return one.total({"a": 1.0})

    assert run_ranks(work) == [{"a": 3.0}] * 3


def test_ranks_with_other_flags_are_refused():
    found = run_ranks(lambda one: one.share(), facts=lambda rank: {"--seed": 1 + (rank == 2)})
    assert all(isinstance(error, UserError) and "differs from rank 0 in --seed" in str(error) for error in found)
    assert "rank 2 (" in str(found[0])
