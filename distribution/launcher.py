"""Starts the ranks of a training on this machine, and ends when they have ended: one log, one Ctrl-C, one last line.

The process that the user started does this and nothing else. A rank that fails reports why, one that dies is seen to
die, and one that is stopped (SIGSTOP) to stand still; the others end by themselves, because they talk to each other
(`group`). Whatever still runs some seconds later (`_grace`) is killed: the run on disk is whole at any moment.
"""

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from distribution import member
from distribution.cluster import Cluster, host_of
from distribution.ends import End, Kind, RankLost
from distribution.group import LOST_SECONDS
from structures import UserError
from system import cli, worker_processes

GRACE_SECONDS = 5.0  # from when rank 0 has ended, or a rank is known to be lost, to the last end
_POLL_SECONDS = 0.1
_BY_CAUSE = (Kind.ERROR, Kind.INTERRUPTED, Kind.DIED, Kind.LOST)  # what is nearest to the cause of an end first


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a rank runs.

    cluster: the ranks, and which it is.
    variables: what its environment has beside that of this process.
    cores: that it may use; None for all.
    """

    cluster: Cluster
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cores: Sequence[int] | None = None


def run(
    command: Callable[[int], list[str]],
    places: Callable[[], list[Place]],
    stop: Any,
    restarts: int = 0,
    saved: Callable[[], str] = str,
) -> None:
    """Start the ranks, and again up to `restarts` times after some were lost; returns when all have done their work.

    command: the words that start a rank, by the number of the start (0 for the first); places: of the ranks of this
    machine, called for each start; stop: an open StopRequest; saved: what to say of the run where a rank was lost.
    Raises UserError with the text that says why the ranks ended, KeyboardInterrupt if they were interrupted.
    """
    for start in range(restarts + 1):
        try:
            with _started(command(start), places()) as ranks:
                _wait(ranks, stop)
            return
        except RankLost as lost:
            if start == restarts or stop.requested:
                raise RankLost(f"{lost}; {saved()}") from None
            cli.warn(f"{lost}; all ranks start again ({start + 1} of {restarts})")


@dataclasses.dataclass
class _Rank:
    """A rank that was started.

    report: the End that it sent first; still: for how many seconds its process has been stopped; ticks: of the
    processor that it had used then.
    """

    place: Place
    process: subprocess.Popen
    channel: socket.socket
    report: End | None = None
    received: bytes = b""
    still: float = 0.0
    ticks: int = 0

    @property
    def failed(self):
        return self.report is not None or self.process.poll() not in (None, 0)

    @property
    def stands_still(self):
        return self.still > LOST_SECONDS

    def note_stillness(self, seconds):
        """To be called every so many seconds. One that goes on at times uses the processor."""
        try:
            with open(f"/proc/{self.process.pid}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:  # it has ended
            return
        state, ticks = fields[0], int(fields[11]) + int(fields[12])
        self.still = self.still + seconds if state == "T" and ticks == self.ticks else 0.0
        self.ticks = ticks

    def read(self):
        """Take what it has sent; False at the end of its messages."""
        with contextlib.suppress(OSError):
            data = self.channel.recv(2**16)
            self.received += data
            *lines, self.received = self.received.split(b"\n")
            for line in lines:
                end = End.from_json(json.loads(line))
                # The first text of a loss names the rank; that of an error may come from another rank, and then this
                # one's own says more: what is saved
                if self.report is None or not self.report.kind.is_loss:
                    self.report = end
            return bool(data)
        return False


@contextlib.contextmanager
def _started(command, places) -> Iterator[list[_Rank]]:
    """Context manager: the ranks, started; none runs any more when the block ends."""
    ranks: list[_Rank] = []
    try:
        with worker_processes.shielded_from_signals(signal.SIGINT, signal.SIGTERM):
            for place in places:
                ranks.append(_start(command, place))
        yield ranks
    finally:
        for rank in ranks:
            rank.process.kill()
        for rank in ranks:
            rank.process.wait()
            rank.channel.close()


def _start(command, place):
    ours, theirs = socket.socketpair()
    cluster = place.cluster
    who = member.variable(cluster, theirs)
    environment = {**os.environ, **place.variables, **_direct(cluster, os.environ), **who}
    with theirs, worker_processes.limited_to(place.cores):
        process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    return _Rank(place, process, ours)


def _direct(cluster, environ):
    """The variable by which gRPC, which heeds https_proxy and http_proxy, talks to the ranks without a proxy.

    It reads no_proxy only where this one is missing.
    """
    others = environ.get("no_grpc_proxy") or environ.get("no_proxy") or ""
    hosts = dict.fromkeys(host_of(address) for address in cluster.addresses)
    return {"no_grpc_proxy": ",".join(filter(None, (*hosts, others)))}


def _wait(ranks, stop):
    """Wait until all ranks have ended; raises for the reason if that is not the end of the training."""
    told, began, last = False, None, time.monotonic()
    saving = last  # the last moment at which rank 0, which may be elsewhere, could save
    with selectors.DefaultSelector() as selector:
        for rank in ranks:
            selector.register(rank.channel, selectors.EVENT_READ, rank)
        while any(rank.process.poll() is None for rank in ranks) or selector.get_map():
            for key, _ in selector.select(_POLL_SECONDS):
                if not key.data.read():
                    selector.unregister(key.fileobj)
            if stop.requested and not told:
                told = True
                for rank in ranks:
                    with contextlib.suppress(OSError):
                        rank.channel.sendall(b"s")
            now = time.monotonic()
            passed, last = min(now - last, 2 * _POLL_SECONDS), now  # a pause of this process (Ctrl-Z) does not count
            for rank in ranks:
                rank.note_stillness(passed)
            if began is None and any(rank.failed or rank.stands_still for rank in ranks):
                began = now
            if ranks[0].place.cluster.rank != 0 or ranks[0].process.poll() is None:
                saving = now
            if began is not None and now > min(began + _grace(ranks), max(began, saving) + GRACE_SECONDS):
                break
    _raise_reason(ranks, stop)


def _grace(ranks):
    """How many seconds ranks may go on, so that rank 0 can end its step and save.

    Most ends are seen at once, silence only after LOST_SECONDS: they have as much time in all.
    """
    at_once = any((rank.process.poll() or 0) < 0 or (rank.report and rank.report.kind == Kind.DIED) for rank in ranks)
    silent = any(rank.stands_still or (rank.report and rank.report.kind == Kind.LOST) for rank in ranks)
    return GRACE_SECONDS + (0 if silent and not at_once else LOST_SECONDS)


def _raise_reason(ranks, stop):
    """Raise for what ended the ranks, if anything did: what is nearest to the cause first."""
    first = ranks[0].process.poll()
    if ranks[0].place.cluster.rank == 0 and (first is None or first < 0):
        print(file=sys.stderr, flush=True)  # what it leaves of its progress bar has no end of line
    for rank in ranks:
        code = rank.process.poll()
        if code is not None and code < 0 and not stop.requested:
            raise RankLost(_obituary(rank, -code))
    reports = [rank.report for rank in ranks if rank.report]
    if reports:
        raise min(reports, key=lambda end: _BY_CAUSE.index(end.kind)).error()
    for rank in ranks:
        if code := rank.process.poll():
            raise UserError(f"{_named(rank)} ended with exit code {code}")
    for rank in ranks:
        if rank.stands_still:
            raise RankLost(
                f"{_named(rank)} is lost: it has not answered for {LOST_SECONDS:g} seconds; its process is stopped"
            )
    if any(rank.process.poll() is None for rank in ranks):
        raise RankLost("some ranks did not end")


def _obituary(rank, number):
    name = signal.Signals(number).name
    hint = "; the system does this when memory runs out: lower --batch-size or --workers" if name == "SIGKILL" else ""
    return f"{_named(rank)} was killed by {name}{hint}"


def _named(rank):
    cluster = rank.place.cluster
    return f"{cluster.name(cluster.rank)}, process {rank.process.pid},"
