"""A rank's side of its start: who it is, and what it tells the process that started it (`launcher`)."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

from distribution.cluster import Cluster, Source
from distribution.ends import End
from structures import UserError
from system import cli, stopping

VARIABLE = "SSD_TENSORFLOW_RANK"  # of the environment: JSON that `variable` writes


@dataclasses.dataclass(frozen=True)
class Member:
    """This process as a rank.

    cluster: the ranks.
    channel: the connection to the process that started it, a line of JSON for each message.
    """

    cluster: Cluster
    channel: socket.socket

    def report(self, end: End) -> None:
        """Say why this rank ends."""
        with contextlib.suppress(OSError):  # whoever started it is gone
            self.channel.sendall(json.dumps(end).encode() + b"\n")

    def stop_request(self) -> stopping.StopRequest:
        """What `follow` sets, to be opened: signals are for the process that started this one."""
        return _WithoutSignals()

    def follow(self, stop: stopping.StopRequest) -> None:
        """From now on a request to stop reaches `stop`, a StopRequest, and this process ends with its starter."""
        threading.Thread(target=self._follow, args=(stop,), daemon=True).start()

    def _follow(self, stop):
        with contextlib.suppress(OSError):
            while self.channel.recv(1):
                stop.requested = True
        os._exit(cli.FAILURE)


class _WithoutSignals(stopping.StopRequest):
    SIGNALS = ()


def variable(cluster: Cluster, channel: socket.socket) -> dict[str, str]:
    """The variable that makes the process that gets it, and the channel, a Member."""
    return {VARIABLE: json.dumps([channel.fileno(), dataclasses.asdict(cluster)])}


def of_this_process() -> Member | None:
    """The Member that this process is; None if it was started by a user. A member ignores Ctrl-C and SIGTERM."""
    text = os.environ.pop(VARIABLE, None)  # a program that this one calls is no rank
    if text is None:
        return None
    for number in stopping.StopRequest.SIGNALS:  # blocked so far, until Python's resource tracker starts
        signal.signal(number, signal.SIG_IGN)
    channel, values = json.loads(text)
    addresses, source = tuple(values.pop("addresses")), Source(values.pop("source"))
    return Member(Cluster(addresses, source=source, **values), socket.socket(fileno=channel))


@contextlib.contextmanager
def speaking(member: Member | None) -> Iterator[None]:
    """Context manager: what ends a rank is reported to its starter, who says it, and not printed. None: no change."""
    if member is None:
        yield
        return
    try:
        yield
    except (KeyboardInterrupt, UserError) as error:
        member.report(End.of(error, member.cluster.name(member.cluster.rank)))
        _exit(cli.INTERRUPTED if isinstance(error, KeyboardInterrupt) else cli.FAILURE)


def _exit(code):
    """End at once: TensorFlow would first take its server down, and wait for ranks that are gone."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def silent(quiet: bool) -> Iterator[None]:
    """Context manager: with `quiet`, this process prints nothing. For what all ranks find and one need say."""
    if not quiet:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield
