"""How the ranks of a training find each other: rank 0 waits at an address, the others call and say who they are.

Anybody can call. So a caller is a rank only once it has said the right words, strangers have few seconds for that and
keep nobody waiting, and a rank counts as come only once rank 0 has answered.
"""

import contextlib
import hashlib
import ipaddress
import json
import secrets
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

from distribution.cluster import Cluster, Source, host_of, port_of, split
from distribution.connection import Connection
from distribution.ends import RankLost
from distribution.patience import Patience
from structures import UserError

MAGIC = b"ssd rank"
HELLO_SECONDS = 5.0  # for what a caller says, and for an answer that has begun
MOST_NEWCOMERS = 64  # who have called and not yet said who they are
_TWICE, _OTHER = "twice", "other"  # why rank 0 refuses a rank: it has come already; it is of another training
_HELLO = struct.Struct(f"!{len(MAGIC)}s16sI")  # MAGIC, which training, which rank
_POLL_SECONDS = 0.25


def callers(cluster: Cluster, check: Callable[[], object], seconds: float) -> Iterator[tuple[int, Connection]]:
    """At rank 0: (rank, connection) of each other rank, as it comes, until all have.

    check: called several times a second, to raise what ends the waiting. Raises RankLost for ranks that have not come
    after so many seconds.
    """
    missing = set(range(1, cluster.size))
    deadline, patience = time.monotonic() + seconds, Patience(cluster)
    with _Reception(cluster) as reception, _Double(cluster) as double:
        while missing:
            check()
            double.check()
            patience.wait(missing)
            if time.monotonic() > deadline:
                raise RankLost(
                    f"{', '.join(map(cluster.name, sorted(missing)))}: has not connected to {cluster.meeting} within "
                    f"{seconds:g} seconds; start it, or check the network between the hosts{_what_else(cluster)}"
                )
            for rank, connection in reception.new_ranks():
                if rank == 0:
                    double.answer(connection)
                elif rank not in missing:
                    _refuse(connection, _TWICE)
                elif _welcome(connection):
                    missing.remove(rank)
                    yield rank, connection


def _welcome(connection):
    """Whether a rank could be told that it has come."""
    try:
        connection.send("welcome")
    except OSError:  # it is gone again
        connection.close()
        return False
    return True


def _refuse(connection, reason):
    with contextlib.suppress(OSError):
        connection.send("refused", reason)
    connection.end_writing()
    connection.close()


class _Double:
    """At rank 0: finds another process that takes itself for rank 0, as where TF_CONFIG was copied to a host as it is.

    Each would wait for the others where it is. So rank 0 calls the address at which it should be, as others do: it is
    answered by itself or, on a wrong host, by the one that is rank 0 there. A context manager.
    """

    def __init__(self, cluster):
        self._cluster, self._own = cluster, secrets.token_hex(8)
        self._found, self._closed = False, threading.Event()

    def __enter__(self):
        threading.Thread(target=self._seek, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._closed.set()

    def check(self):
        """Raise UserError if another one was found."""
        if self._found:
            raise UserError(_refusal(self._cluster, _TWICE))

    def answer(self, connection):
        """To a call of rank 0, this one or another."""
        with contextlib.suppress(OSError):
            connection.send("first", self._own)
        connection.end_writing()
        connection.close()

    def _seek(self):
        while not self._closed.is_set():
            with contextlib.suppress(OSError, EOFError, ValueError):
                kind, name, _ = self._ask()
                self._found = kind == "first" and name != self._own
                return
            self._closed.wait(_POLL_SECONDS)

    def _ask(self):
        with socket.create_connection(split(self._cluster.meeting), timeout=HELLO_SECONDS) as connected:
            connected.sendall(_HELLO.pack(MAGIC, _training(self._cluster), 0))
            connection = Connection(connected)
            connected.settimeout(HELLO_SECONDS)
            return connection.receive()


class _Reception:
    """Where rank 0 listens, and those who have called but not yet said who they are. A context manager."""

    def __init__(self, cluster):
        self._training = _training(cluster)
        self._newcomers: dict[socket.socket, tuple[float, bytes]] = {}  # until when each may speak, what it has said
        self._listener = _listening(cluster)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for newcomer in list(self._newcomers):
            self._dismiss(newcomer)
        self._selector.close()
        self._listener.close()

    def new_ranks(self):
        """[(rank, Connection)] of those who have now said that they are ranks of this training."""
        ranks = []
        for key, _ in self._selector.select(_POLL_SECONDS):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj in self._newcomers:  # and has not just been dismissed for a newer one
                ranks += self._hear(key.fileobj)
        now = time.monotonic()
        for newcomer, (until, _) in list(self._newcomers.items()):
            if now > until:
                self._dismiss(newcomer)
        return ranks

    def _accept(self):
        with contextlib.suppress(OSError):  # it is gone again
            newcomer, _ = self._listener.accept()
            newcomer.setblocking(False)
            self._newcomers[newcomer] = time.monotonic() + HELLO_SECONDS, b""
            self._selector.register(newcomer, selectors.EVENT_READ)
            if len(self._newcomers) > MOST_NEWCOMERS:  # a rank speaks at once, so the oldest is none
                self._dismiss(next(iter(self._newcomers)))

    def _hear(self, newcomer):
        """[(rank, Connection)] of a newcomer that has said all, else []."""
        until, said = self._newcomers[newcomer]
        try:
            heard = newcomer.recv(_HELLO.size - len(said))
        except BlockingIOError:
            return []
        except OSError:
            heard = b""
        said += heard
        if not heard or not MAGIC.startswith(said[: len(MAGIC)]):
            self._dismiss(newcomer)
            return []
        self._newcomers[newcomer] = until, said
        if len(said) < _HELLO.size:
            return []
        _, training, rank = _HELLO.unpack(said)
        del self._newcomers[newcomer]
        self._selector.unregister(newcomer)
        if training == self._training:
            return [(rank, Connection(newcomer))]
        _refuse(Connection(newcomer), _OTHER)
        return []

    def _dismiss(self, newcomer):
        del self._newcomers[newcomer]
        self._selector.unregister(newcomer)
        newcomer.close()


def _training(cluster):
    """What tells the ranks of this training from those of others. A host may have several names."""
    ports = [port_of(address) for address in cluster.addresses]
    return hashlib.sha256(json.dumps([ports, cluster.training]).encode()).digest()[:16]


def _what_else(cluster):
    """What else may be wrong where a rank does not come, beside its start and the network."""
    return {
        Source.TF_CONFIG: ", and each index in TF_CONFIG",
        Source.SLURM: "; to train without the other tasks of Slurm's step, add --devices 1",
    }.get(cluster.source, "")


def _listening(cluster):
    """The socket at which rank 0 waits: of this machine alone if all ranks are on it, else of all its networks."""
    host, port = split(cluster.meeting)
    backlog = cluster.size + MOST_NEWCOMERS
    try:
        if all(_is_loopback(host_of(address)) for address in cluster.addresses):
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address, family=family, backlog=backlog)
        with contextlib.suppress(OSError, ValueError):  # IPv6 may be switched off
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog)
        return socket.create_server(("", port), backlog=backlog)
    except OSError as error:
        raise UserError(
            f"{cluster.meeting}: rank 0 cannot listen there ({error.strerror}); {cluster.source.other_port}"
        ) from None


def _is_loopback(host):
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def go_to_first(cluster: Cluster, check: Callable[[], object], seconds: float) -> Connection:
    """At another rank: the connection to rank 0, once that has answered.

    check: called several times a second, to raise what ends the waiting. Raises RankLost if rank 0 has not answered
    after so many seconds, UserError if it refuses this rank.
    """
    deadline, reason = time.monotonic() + seconds, ""
    while time.monotonic() < deadline:
        check()
        try:
            return _call(cluster, check, deadline)
        except (OSError, EOFError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no answer"
            time.sleep(_POLL_SECONDS)
    raise RankLost(
        f"{cluster.name(0)}: does not listen at {cluster.meeting} ({reason}); start it, or check the name "
        f"{host_of(cluster.meeting)} and the network{_what_else(cluster)}"
    )


def _call(cluster, check, deadline):
    """Call rank 0 and wait for its answer. Raises what `go_to_first` tries again after."""
    connected = socket.create_connection(split(cluster.meeting), timeout=HELLO_SECONDS)
    try:
        connected.sendall(_HELLO.pack(MAGIC, _training(cluster), cluster.rank))
        with selectors.DefaultSelector() as selector:
            selector.register(connected, selectors.EVENT_READ)
            while not selector.select(_POLL_SECONDS):  # rank 0 may be busy, and has this call all the same
                check()
                if time.monotonic() > deadline:
                    raise TimeoutError
        connection = Connection(connected)
        connected.settimeout(HELLO_SECONDS)
        kind, reason, _ = connection.receive()
        if kind == "refused":
            raise UserError(_refusal(cluster, reason))
        if kind != "welcome":
            raise ValueError("not the answer of rank 0")
        connected.settimeout(None)
        return connection
    except BaseException:
        connected.close()
        raise


def _refusal(cluster, reason):
    """A refusal of rank 0 in words."""
    if reason == _TWICE:
        return (
            f"{cluster.name(cluster.rank)}: has come already; two processes have its index in TF_CONFIG, and each "
            "needs one of its own"
        )
    return f"{cluster.meeting}: rank 0 of another training waits there; {cluster.source.other_port}"
