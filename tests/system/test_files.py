"""Files that are read and written at once."""

import hashlib
import json
import os

import pytest

from structures import UserError
from system import files, write_errors


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


def test_unwritable_place_is_a_user_error(tmp_path):
    files.write(tmp_path / "x", "a file")
    with pytest.raises(UserError, match=f"{tmp_path}/x/y: "):
        files.write(tmp_path / "x" / "y", "below a file")


def test_check_writable_leaves_things_alone(tmp_path):
    files.check_writable(tmp_path / "new")
    files.check_writable(tmp_path / "far" / "away" / "new")
    assert os.listdir(tmp_path) == []
    (tmp_path / "old").write_text("precious")
    files.check_writable(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "precious"
    for path in (tmp_path, tmp_path / "old" / "new"):  # a folder; below a file
        with pytest.raises(write_errors.UnwritableFile, match=str(path)):
            files.check_writable(path)
    with pytest.raises(write_errors.UnwritableFile, match="far"):
        files.check_folder_writable(tmp_path / "old" / "far")
    assert os.listdir(tmp_path) == ["old"]


@pytest.mark.parametrize("content", ["{", "[]"])
def test_read_json_names_the_file(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=r"x\.json.*JSON"):
        files.read_json(tmp_path / "x.json")
    with pytest.raises(UserError, match=r"none\.json"):
        files.read_json(tmp_path / "none.json")


def test_copies_have_one_digest(tmp_path, monkeypatch):
    monkeypatch.delattr(hashlib, "file_digest", raising=False)  # as in Python 3.10
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    digests = [files.digest(tmp_path / name) for name in "abc"]
    assert digests[0] == digests[1] != digests[2] and len(digests[0]) == 16
    assert files.digest(tmp_path / "a", "sha256") == hashlib.sha256(b"one").digest()
