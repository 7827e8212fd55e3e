"""Locks that keep other processes out."""

import pytest

from system import locks


def test_a_lock_keeps_others_out_and_follows_no_link(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with locks.locked(tmp_path / "lock"), pytest.raises(BlockingIOError), locks.locked(tmp_path / "lock"):
        pass
    with locks.locked(tmp_path / "lock"):
        assert (tmp_path / "precious").read_text() == "precious" and not (tmp_path / "lock").is_symlink()
