"""How the ranks of a training find each other: late ones, missing ones, strangers."""

import contextlib
import dataclasses
import ipaddress
import re
import socket
import threading
import time
import types

import pytest

from distribution import cluster, connection, group, meeting, patience
from distribution.ends import RankDied, RankLost
from rank_threads import never, run_ranks
from structures import UserError


def meet(one):
    return one.share(1)


def call(address):
    """A connection of nobody, once rank 0 waits there."""
    until = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(cluster.split(address), 1)
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_rank_may_come_later_than_a_lost_one_is_silent(monkeypatch):
    """Rank 1 has met nobody but rank 0 then, and rank 0 computes nothing."""
    monkeypatch.setattr(group, "LOST_SECONDS", 1.5)
    assert run_ranks(meet, delays=(0, 0, 4)) == [1, 1, 1]


def test_rank_0_says_once_who_has_not_come(monkeypatch, capfd):
    monkeypatch.setattr(patience, "WORD_SECONDS", 0.5)
    assert run_ranks(meet, delays=(0, 0, 2.5)) == [1, 1, 1]
    err = capfd.readouterr().err
    assert err.count("still waiting") == 1
    assert re.search(r"warning: still waiting for rank 2 \(127.0.0.1:\d+\), after 0.5 seconds\n", err)


def test_rank_0_may_come_last(monkeypatch):
    monkeypatch.setattr(group, "LOST_SECONDS", 1.5)
    assert run_ranks(meet, delays=(4, 0, 0)) == [1, 1, 1]


@pytest.mark.parametrize("end", ["death", "interrupt"])
def test_the_end_of_a_rank_is_that_of_all_while_others_are_missing(end):
    """Rank 2 never comes."""
    ranks = cluster.local(3)
    found = []

    def first():
        with pytest.raises(BaseException) as raised, group.joined(ranks[0], {}, never(), seconds=50):
            pass
        found.append(raised.value)

    thread = threading.Thread(target=first)
    thread.start()
    since = time.monotonic()
    come = meeting.go_to_first(ranks[1], lambda: None, 20)
    if end == "death":
        come.close()
    else:
        come.send("end", ["interrupted", "Ctrl-C on b"])
    thread.join(30)
    come.close()
    assert time.monotonic() - since < 25
    assert type(found[0]) is (RankDied if end == "death" else KeyboardInterrupt)
    assert str(found[0]).startswith("rank 1 (127.0.0.1:" if end == "death" else "Ctrl-C on b")


@pytest.mark.parametrize(
    ("rank", "message"), [(0, r"rank 1 \(127.0.0.1:\d+\): has not connected"), (1, r"rank 0 .* does not listen at")]
)
def test_a_rank_that_does_not_come_is_named(rank, message):
    with pytest.raises(RankLost, match=message), group.joined(cluster.local(2)[rank], {}, never(), seconds=0.5):
        pass


def test_a_rank_0_that_does_not_answer_is_named():
    """Something else has its port."""
    one = cluster.local(2)[1]
    with (
        contextlib.closing(socket.create_server(cluster.split(one.meeting))),
        pytest.raises(RankLost, match=r"rank 0 .* does not listen at .*no answer"),
        group.joined(one, {}, never(), seconds=1),
    ):
        pass


def test_a_second_process_with_the_index_of_another_is_refused():
    """The line with TF_CONFIG was copied to the third host as it is; later the user corrects it."""
    ranks = cluster.local(3)
    first, second, copy, last = run_ranks(meet, ranks=[*ranks[:2], ranks[1], ranks[2]], delays=(0, 0, 1.5, 3))
    assert (first, second, last) == (1, 1, 1)
    assert type(copy) is UserError
    assert re.match(r"rank 1 \(127.0.0.1:\d+\): has come already; .* index in TF_CONFIG", str(copy))


@pytest.mark.parametrize("delays", [(0, 1.5, 3), (1.5, 0, 3)], ids=["later", "earlier"])
def test_a_second_rank_0_on_another_host_is_refused(delays, monkeypatch):
    """The line with TF_CONFIG was copied to the second host as it is. It would wait where nobody calls."""
    ranks = cluster.local(2)
    copy = dataclasses.replace(ranks[0])
    listening = meeting._listening
    monkeypatch.setattr(
        meeting, "_listening", lambda one: socket.create_server(("", 0)) if one is copy else listening(one)
    )
    first, refused, second = run_ranks(meet, ranks=[ranks[0], copy, ranks[1]], delays=delays)
    assert (first, second) == (1, 1)
    assert type(refused) is UserError
    assert re.match(r"rank 0 \(127.0.0.1:\d+\): has come already; .* index in TF_CONFIG", str(refused))


@pytest.mark.parametrize(
    "other", [{"addresses": ("127.0.0.1:1", "127.0.0.1:2")}, {"training": "job 77, step 1"}], ids=str
)
def test_the_ranks_of_another_training_are_refused(other):
    """Its rank 0 has not got the port, and its rank 1 calls the one that has."""
    mine = cluster.local(2)
    other = dataclasses.replace(mine[1], **other)
    first, foreign, second = run_ranks(meet, ranks=[mine[0], other, mine[1]], delays=(0, 0, 1.5))
    assert (first, second) == (1, 1)
    assert type(foreign) is UserError and "rank 0 of another training waits there" in str(foreign)


@pytest.mark.parametrize("source", list(cluster.Source))
def test_who_waits_in_vain_may_have_the_wrong_index(source):
    """Both hosts have index 0, or both 1."""
    for one in cluster.local(2):
        [error] = run_ranks(meet, ranks=[dataclasses.replace(one, source=source)], seconds=0.5)
        assert str(error).endswith("and each index in TF_CONFIG") == (source == cluster.Source.TF_CONFIG)
        assert str(error).endswith("add --devices 1") == (source == cluster.Source.SLURM)


@pytest.mark.parametrize("number", [0, 1])
def test_a_request_to_stop_ends_the_waiting(number):
    def stop():
        raise KeyboardInterrupt

    one = cluster.local(2)[number]
    with contextlib.ExitStack() as stack:
        if number:  # something else has its port, and does not answer
            stack.enter_context(contextlib.closing(socket.create_server(cluster.split(one.meeting))))
        stack.enter_context(pytest.raises(KeyboardInterrupt))
        asked = types.SimpleNamespace(requested=False, raise_if_requested=lambda: time.monotonic() < until or stop())
        until = time.monotonic() + 1
        stack.enter_context(group.joined(one, {}, asked, seconds=50))
    assert time.monotonic() < until + 10


@pytest.mark.parametrize("source", list(cluster.Source))
def test_a_port_that_is_taken_is_named_with_what_this_user_can_do(source):
    one = dataclasses.replace(cluster.local(2)[0], source=source)
    port = cluster.port_of(one.meeting)
    taken = contextlib.closing(socket.create_server(("127.0.0.1", port)))
    refused = pytest.raises(UserError, match=f":{port}: rank 0 cannot listen .*; {source.other_port}$")
    with taken, refused, group.joined(one, {}, never(), seconds=0.5):
        pass
    assert ("TF_CONFIG" in source.other_port) == (source == cluster.Source.TF_CONFIG)


@pytest.mark.parametrize("host", ["localhost", "[::1]"])
def test_ranks_of_named_hosts_and_of_ipv6_meet(host):
    if host == "[::1]":
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 here")
    port = cluster.port_of(cluster.local(1)[0].meeting)
    ranks = [cluster.Cluster((f"{host}:1", f"{host}:2"), rank, f"{host}:{port}") for rank in range(2)]
    assert run_ranks(meet, ranks=ranks) == [1, 1]


@pytest.mark.parametrize(
    ("hosts", "alone"),
    [
        (("127.0.0.1", "127.0.0.1"), True),
        (("localhost", "localhost"), True),
        (("[::1]", "[::1]"), True),
        (("127.0.0.2", "localhost"), True),
        (("gpu1", "gpu2"), False),
        (("localhost", "gpu2"), False),  # rank 0's own name for its host; rank 1 has another
    ],
)
def test_what_only_this_machine_needs_no_other_can_reach(hosts, alone):
    port = cluster.port_of(cluster.local(1)[0].meeting)
    one = cluster.Cluster(tuple(f"{host}:{number}" for number, host in enumerate(hosts, 1)), 0, f"{hosts[0]}:{port}")
    try:
        listener = meeting._listening(one)
    except UserError:
        assert hosts[0] == "[::1]"
        pytest.skip("no IPv6 here")
    with listener:
        address = ipaddress.ip_address(listener.getsockname()[0])
        assert address.is_loopback if alone else address.is_unspecified


@pytest.mark.parametrize("said", [b"", b"ssd", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\1"])
def test_strangers_do_not_keep_ranks_waiting(said, monkeypatch):
    """They hold their connections open, as monitoring does."""
    monkeypatch.setattr(group, "LOST_SECONDS", 1.5)
    monkeypatch.setattr(meeting, "HELLO_SECONDS", 60)
    ranks = cluster.local(2)
    with contextlib.ExitStack() as stack:

        def knock():
            for _ in range(3):
                stack.enter_context(call(ranks[0].meeting)).sendall(said)
            come.set()

        come = threading.Event()
        threading.Thread(target=knock).start()
        found = []
        first = threading.Thread(target=lambda: found.extend(run_ranks(meet, ranks=ranks[:1])))
        first.start()
        assert come.wait(20)
        assert run_ranks(meet, ranks=ranks[1:]) == [1]
        first.join(30)
        assert found == [1]


def test_a_stranger_has_some_seconds_and_not_some_for_each_byte(monkeypatch):
    monkeypatch.setattr(meeting, "HELLO_SECONDS", 0.5)
    ranks = cluster.local(2)
    first = threading.Thread(target=run_ranks, args=(meet,), kwargs={"ranks": ranks[:1], "seconds": 10})
    first.start()
    with call(ranks[0].meeting) as stranger, pytest.raises(OSError):
        stranger.settimeout(0.4)
        until = time.monotonic() + 8
        for byte in meeting.MAGIC * 5:
            stranger.sendall(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                assert time.monotonic() < until
                if not stranger.recv(1):
                    raise ConnectionResetError
    assert time.monotonic() < until
    run_ranks(meet, ranks=ranks[1:])
    first.join(30)


def test_many_strangers_do_not_use_up_what_may_be_open(monkeypatch):
    monkeypatch.setattr(meeting, "MOST_NEWCOMERS", 5)
    ranks = cluster.local(2)
    first = threading.Thread(target=run_ranks, args=(meet,), kwargs={"ranks": ranks[:1]})
    first.start()
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(call(ranks[0].meeting)) for _ in range(8)]
        for one in strangers[:3]:  # the oldest
            one.settimeout(3)
            assert one.recv(1) == b""
        assert run_ranks(meet, ranks=ranks[1:]) == [1]
    first.join(30)


def test_what_answers_in_another_way_is_not_rank_0():
    ranks = cluster.local(2)
    with contextlib.closing(socket.create_server(cluster.split(ranks[0].meeting))) as server:

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    with server.accept()[0] as connected:
                        connection.Connection(connected).send("beat")

        thread = threading.Thread(target=answer)
        thread.start()
        [error] = run_ranks(meet, ranks=ranks[1:], seconds=1)
        server.shutdown(socket.SHUT_RDWR)
        thread.join(20)
    assert isinstance(error, RankLost) and "does not listen at" in str(error)
