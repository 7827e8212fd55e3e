"""Messages between two ranks over TCP: a word that says what it is, JSON, and bytes."""

import contextlib
import json
import socket
import struct
import threading
from typing import Any

LOST_SECONDS = 7.0  # of silence, after which a rank is lost; with what follows it, about 15 seconds
_LENGTHS = struct.Struct("!IQ")  # of a message's JSON, and of the bytes behind it
_LONGEST_JSON = 2**30
_LONGEST_PAYLOAD = 2**34  # detections of a million pictures take half as much


class Connection:
    """Messages to and from one other rank.

    beats: messages received; silence: seconds since the last, by the clock of this process.
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A timeout of the socket would hold for reading too, which waits for as long as the other rank computes
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(LOST_SECONDS), 0))
        connected.settimeout(None)
        self._socket, self._writing = connected, threading.Lock()
        self.beats, self.silence, self._seen = 0, 0.0, 0

    def send(self, kind: str, value: Any = None, payload: bytes = b"") -> None:
        """Raises OSError if the other rank is gone or takes nothing."""
        header = json.dumps([kind, value]).encode()
        with self._writing:
            self._socket.sendall(_LENGTHS.pack(len(header), len(payload)) + header)
            self._socket.sendall(payload)

    def receive(self) -> tuple[str, Any, bytes]:
        """Raises EOFError at the end of the connection, OSError if it breaks, ValueError for what is no message."""
        length, size = _LENGTHS.unpack(self._read(_LENGTHS.size))
        if length > _LONGEST_JSON or size > _LONGEST_PAYLOAD:
            raise ValueError("no message of a training")
        kind, value = _header(self._read(length))
        payload = self._read(size)
        self.beats += 1
        return kind, value, payload

    def _read(self, size):
        parts = bytearray()
        while len(parts) < size:
            part = self._socket.recv(min(size - len(parts), 2**20))
            if not part:
                raise EOFError
            parts += part
            self.beats += 1  # a long message is no silence
        return bytes(parts)

    def note_silence(self, seconds: float) -> None:
        """To be called every so many seconds."""
        self.silence = 0.0 if self.beats != self._seen else self.silence + seconds
        self._seen = self.beats

    def end_writing(self) -> None:
        """Let the other rank read what was sent, and then the end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Also ends a `receive` in another thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _header(data):
    """(kind, value) of a message's JSON."""
    try:
        header = json.loads(data)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None
    if not (isinstance(header, list) and len(header) == 2 and isinstance(header[0], str)):
        raise ValueError("no message of a training")
    return header
