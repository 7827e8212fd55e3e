"""Files that appear whole or not at all."""

import json
import os

import pytest

import files
from structures import UserError


def test_write_json(tmp_path):
    files.write_json(tmp_path / "x.json", {"mean": None})
    assert json.loads((tmp_path / "x.json").read_text()) == {"mean": None}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "y.json", {"mean": float("nan")})
    assert os.listdir(tmp_path) == ["x.json"]


def test_write_replaces_text_and_bytes(tmp_path):
    for content in ("first", "second", b"\x00\xff"):
        files.write(tmp_path / "x", content)
    assert (tmp_path / "x").read_bytes() == b"\x00\xff"
    assert os.listdir(tmp_path) == ["x"]


def test_failed_commit_leaves_the_old_file(tmp_path, monkeypatch):
    files.write(tmp_path / "x", "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        files.write(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_the_longest_names_can_be_written(tmp_path):
    """Of 255 bytes; also several at once, which must not share a temporary file."""
    names = [letter * 251 + ".txt" for letter in "ab"]
    pending = [files.PendingFile(tmp_path / name) for name in names]
    for name, file in zip(names, pending, strict=True):
        file.write(name)
    for file in pending:
        file.commit()
    assert sorted(os.listdir(tmp_path)) == names
    assert [(tmp_path / name).read_text() for name in names] == names


def test_unwritable_place_is_a_user_error(tmp_path):
    files.write(tmp_path / "x", "a file")
    with pytest.raises(UserError, match="cannot be written"):
        files.write(tmp_path / "x" / "y", "below a file")


@pytest.mark.parametrize(("content", "reason"), [("{", "not valid JSON"), ("[]", "no JSON object")])
def test_read_json_names_what_is_wrong(tmp_path, content, reason):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=reason):
        files.read_json(tmp_path / "x.json")
    with pytest.raises(UserError, match="no such file"):
        files.read_json(tmp_path / "none.json")
