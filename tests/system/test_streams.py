"""Streams that nobody reads any more."""

import contextlib

import pytest

from system import streams


def test_a_log_on_a_full_disk_ends_nothing():
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:  # Python flushes again as it closes the file
        with pytest.raises(OSError):
            print("a line", file=full, flush=True)
        for _ in range(3):
            print("a line", file=streams.Unbreakable(full), flush=True)
