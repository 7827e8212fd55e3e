"""What travels between two ranks, and what is no message."""

import json
import socket
import struct

import pytest

from distribution import connection


@pytest.fixture
def ends():
    """(Connection, the socket at its other end)."""
    listener = socket.create_server(("127.0.0.1", 0))
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    with listener, near, far:
        far.settimeout(20)
        yield connection.Connection(near), far


def test_messages_arrive_as_they_were_sent(ends):
    near, far = ends[0], connection.Connection(ends[1])
    near.send("part", {"a": [1, None]}, b"bytes")
    near.send("beat")
    assert far.receive() == ("part", {"a": [1, None]}, b"bytes")
    assert far.receive() == ("beat", None, b"")
    near.end_writing()
    with pytest.raises(EOFError):
        far.receive()


def packed(value, size=0):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("!IQ", len(data), size) + data


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        packed(5),
        packed(["beat"]),
        packed([5, None]),
        packed({"beat": None, "end": None}),
        packed(b"{"),
        packed(b"\xff\xff"),
        packed(b"[" * 100_000),
        packed(["part", None], size=2**60),
    ],
    ids=["HTTP", "number", "one", "number-in-place-of-a-word", "object", "half", "no-UTF-8", "nested", "too-long"],
)
def test_what_is_no_message_is_refused(data, ends):
    near, far = ends
    far.sendall(data)
    far.shutdown(socket.SHUT_WR)  # what waits for more finds the end
    with pytest.raises(ValueError):
        near.receive()
