"""What the ranks of a training tell each other beside TensorFlow: what each has found, and that it is still there.

Rank 0 is in the middle: each other rank has one TCP connection to it. A rank that dies closes its connection. One that
is stopped, or behind a dead link, falls silent: every rank sends a beat each second, from a thread of its own, so that
a slow step is no silence. The first end that a rank learns of is the end of all: of them only rank 0 is sure to have a
whole state to save, and none ever joins again.
"""

import collections
import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from distribution import meeting
from distribution.cluster import Cluster
from distribution.connection import LOST_SECONDS, Connection
from distribution.ends import End, Kind
from distribution.patience import Patience
from structures import UserError

BEAT_SECONDS = 1.0
MEET_SECONDS = 600.0  # hosts may start minutes apart, and read their data at different speeds
_POLL_SECONDS = 0.25
_PAUSE_SECONDS = 3.0  # a machine that is only busy lets this process wait for less

_SAME = (
    "start all ranks with the same version of this project and the same command on the same pictures, or let this "
    "machine train alone: --devices 1"
)

Part = tuple[Any, bytes]  # JSON, and bytes


class Group:
    """The ranks of a training, as one of them talks to the others. Made by `joined`.

    cluster: who they are.

    Every call of `total`, `share` and `gather` happens on all ranks, in the same order, and waits for all. Each raises
    RankLost if a rank is lost, UserError if one has failed, KeyboardInterrupt if one was interrupted.
    """

    def __init__(
        self,
        cluster: Cluster,
        stop: Any,
        on_end: Callable[[End], object] = lambda end: None,
    ) -> None:
        """stop: a StopRequest; on_end: told once, of the first end."""
        self.cluster = cluster
        self._stop, self._on_end = stop, on_end
        self._connections: dict[int, Connection] = {}  # replaced and never changed: threads go through it
        self._condition = threading.Condition()
        self._arrived: dict[int, collections.deque] = {}
        self._end: End | None = None
        self._over = False  # every rank has said that it has nothing more to say
        self._pause = -math.inf, 0.0  # when the last pause of this process ended, and how long it was
        self._closing = threading.Event()
        self._readers: list[threading.Thread] = []
        threading.Thread(target=self._beat, daemon=True).start()

    def admit(self, rank: int, connection: Connection) -> None:
        """Listen to a rank from now on, and let it know that this one is there: others may come much later."""
        self._arrived[rank] = collections.deque()
        self._connections = {**self._connections, rank: connection}
        self._readers.append(threading.Thread(target=self._read, args=(rank,), daemon=True))
        self._readers[-1].start()

    @property
    def rank(self) -> int:
        return self.cluster.rank

    @property
    def size(self) -> int:
        return self.cluster.size

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes."""
        return self.rank == 0

    @property
    def ended(self) -> bool:
        """Whether another rank or the network has ended the training."""
        return self._end is not None

    def total(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The sums over all ranks, added in the order of the ranks, so that all get the same numbers."""

        def add(parts):
            values = [value for value, _ in parts]
            return {name: sum(value[name] for value in values) for name in values[0]}, b""

        return self._meet(f"adds {', '.join(sorted(sums))}", dict(sums), b"", add)[0]

    def share(self, value: Any = None) -> Any:
        """The value of rank 0, of plain JSON types; that of the other ranks is not looked at."""
        return self._meet("shares", value if self.is_first else None, b"", lambda parts: parts[0])[0]

    def gather(self, value: Any, payload: bytes = b"") -> list[Part]:
        """(value, payload) of every rank at rank 0; [] at the others."""
        gathered: list[Part] = []

        def keep(parts):
            gathered.extend(parts)
            return None, b""

        self._meet("gathers", value, payload, keep)
        return gathered

    def compare(self, facts: Mapping[str, Any], remedy: str) -> None:
        """Raise UserError, which names rank and fact, unless all ranks have the same.

        facts: {what: value of plain JSON types}; what not all know is not compared. remedy: for the message.
        """
        for rank, (other, _) in enumerate(self.gather(dict(facts))):
            for name in facts:
                if name in other and json.dumps(other[name]) != json.dumps(facts[name]):
                    shown = _shown(other[name], facts[name])
                    raise UserError(f"{self.cluster.name(rank)} differs from rank 0 in {name}{shown}; {remedy}")

    def check(self) -> None:
        """Raise what ends this rank, if something does."""
        if self._end:
            raise self._end.error()

    def explain(self, doing: str, seconds: float, since: float) -> None:
        """After TensorFlow failed in something that all ranks do together: raise the reason, for which it may wait.

        doing: for the message, if all ranks still answer after so many seconds. since: time.monotonic() when it began.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._end, seconds)
        at, paused = self._pause
        if at >= since:  # which only what runs in this process can tell from a network that fails
            hint = (
                f"this process was paused for {paused:.0f} seconds (Ctrl-Z), which no exchange between ranks outlasts"
            )
        else:
            hint = f"check the network between them ({', '.join(self.cluster.addresses)})"
        self._conclude(End(Kind.LOST, f"{doing}, although all {self.size} ranks answer; {hint}"))
        self.check()

    def _meet(self, doing, value, payload, combine):
        """Send a part; rank 0 combines those of all ranks, and all get what it makes of them.

        doing: what all do, in words. Ranks of different versions may not do the same.
        """
        if not self.is_first:
            self._send(0, doing, value, payload)
            _, reply, data = self._next(0)
            return reply, data
        parts = [(value, payload)]
        for rank in sorted(self._connections):
            other, part, data = self._next(rank)
            if other != doing:
                raise UserError(
                    f"{self.cluster.name(rank)} does something else: rank 0 {doing}, this one {other}; start all ranks "
                    "with the same version of this project and of TensorFlow"
                )
            parts.append((part, data))
        reply, data = combine(parts)
        for rank in self._connections:
            self._send(rank, doing, reply, data)
        return reply, data

    def _next(self, rank):
        """The next message of a rank."""
        patience = Patience(self.cluster)
        with self._condition:
            while not self._arrived[rank]:
                self.check()
                if self.is_first:  # which knows on whom all wait, and takes their parts in order
                    patience.wait(one for one, parts in self._arrived.items() if one >= rank and not parts)
                self._condition.wait(_POLL_SECONDS)
            return self._arrived[rank].popleft()

    def _send(self, rank, *message):
        try:
            self._connections[rank].send(*message)
        except OSError as error:
            kind = Kind.DIED if isinstance(error, ConnectionError) else Kind.LOST  # at once, or after a silence
            text = f"{self.cluster.name(rank)} is lost: nothing can be sent to it ({error.strerror})"
            self._conclude(End(kind, text))
            self.check()

    def _read(self, rank):
        """A thread: take what a rank sends."""
        connection = self._connections[rank]
        try:
            while True:
                kind, value, payload = connection.receive()
                if kind == "end":
                    self._conclude(End.from_json(value))
                elif kind == "bye":
                    return
                elif kind == "stop":
                    self._stop.requested = True
                elif kind != "beat":
                    with self._condition:
                        self._arrived[rank].append((kind, value, payload))
                        self._condition.notify_all()
        except ValueError:
            text = (
                f"{self.cluster.name(rank)} has sent something that is not a message; start all ranks with the same "
                "version of this project"
            )
            self._conclude(End(Kind.ERROR, text))
        except (EOFError, OSError):
            if not self._closing.is_set():
                self._conclude(End(Kind.DIED, f"{self.cluster.name(rank)} is lost: its process or its host has ended"))

    def _beat(self):
        """A thread: tell the others that this rank is there, and listen whether they are."""
        last, sent = time.monotonic(), 0.0
        while not self._closing.wait(_POLL_SECONDS):
            now = time.monotonic()
            if now - last > _PAUSE_SECONDS:
                self._pause = now, now - last
            passed, last = min(now - last, 2 * _POLL_SECONDS), now  # a pause of this process (Ctrl-Z) does not count
            for rank, connection in self._connections.items():
                connection.note_silence(passed)
                if connection.silence > LOST_SECONDS:
                    text = (
                        f"{self.cluster.name(rank)} is lost: it has not answered for {LOST_SECONDS:g} seconds; its "
                        "process is stopped, or the network fails"
                    )
                    self._conclude(End(Kind.LOST, text))
            if now - sent >= BEAT_SECONDS and not self._end:
                sent = now
                for connection in self._connections.values():
                    with contextlib.suppress(OSError):  # the thread that reads from it learns of the end
                        connection.send("beat")
                        if self._stop.requested and not self.is_first:
                            connection.send("stop")

    def _conclude(self, end):
        """Note the first end, and tell it."""
        with self._condition:
            if self._end or self._over:
                return
            self._end = end
            self._condition.notify_all()
        self._on_end(end)
        self._tell_all("end", end)

    def _tell_all(self, *message):
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.send(*message)

    def close(self, end: End | None) -> None:
        """Part from the others. end: None if all is done, on every rank; else how this rank ends."""
        if end is not None:
            self._conclude(end)
        elif not self._end:
            self.share()  # nobody leaves while another still needs its TensorFlow server
            self._over = True
        self._closing.set()
        if self._end:  # the thread that learned of it may not have told all yet
            self._tell_all("end", self._end)
        self._tell_all("bye")
        for connection in self._connections.values():
            connection.end_writing()
        for thread in self._readers:
            thread.join(1.0)
        for connection in self._connections.values():
            connection.close()


@contextlib.contextmanager
def joined(
    cluster: Cluster,
    facts: Mapping[str, Any],
    stop: Any,
    on_end: Callable[[End], object] = lambda end: None,
    seconds: float = MEET_SECONDS,
) -> Iterator[Group]:
    """Context manager: the Group of a training, once all ranks have come, until the block ends.

    facts: {what: value of plain JSON types}, of which all ranks must have the same; stop: a StopRequest;
    on_end: as in Group; seconds: how long ranks wait for each other.
    Raises UserError if a rank does not come, or trains something else; KeyboardInterrupt after a request to stop.
    """
    group = Group(cluster, stop, on_end)

    def check():
        stop.raise_if_requested()
        group.check()

    try:
        if cluster.rank == 0:
            for rank, connection in meeting.callers(cluster, check, seconds):
                group.admit(rank, connection)
        else:
            group.admit(0, meeting.go_to_first(cluster, check, seconds))
        group.compare(facts, _SAME)
        yield group
    except BaseException as error:
        group.close(End.of(error, cluster.name(cluster.rank)))
        raise
    group.close(None)


def _shown(value, first):
    """Two values that differ, for a message, if they are short."""
    texts = [one if isinstance(one, str) else json.dumps(one) for one in (value, first)]
    return f" ({texts[0]}, not {texts[1]})" if max(map(len, texts)) < 40 else ""
