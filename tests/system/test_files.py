"""Files that appear complete or not at all."""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import time
import types

import pytest

from structures import UserError
from system import files


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
    with pytest.raises(UserError) as error:
        files.write(tmp_path / "x", "new")
    assert str(error.value).startswith(f"{tmp_path / 'x'}: ") and "No space left on device" in str(error.value)
    assert isinstance(error.value, OSError) and error.value.strerror == "No space left on device"
    assert (tmp_path / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


@contextlib.contextmanager
def small_disk():
    """No file may grow beyond a kilobyte within the block; afterward pytest's own output may."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "size", [2000, 100_000]
)  # fails when it is flushed; fails at once, as it is larger than the buffer
@pytest.mark.parametrize("kind", [str, bytes])
def test_a_full_disk_is_reported_with_the_file(tmp_path, size, kind):
    content = "a" * size
    with small_disk(), pytest.raises(UserError, match=f"{tmp_path}/x: .*File too large"):
        files.write(tmp_path / "x", content if kind is str else content.encode())
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_up_while_a_file_is_written_bit_by_bit(tmp_path):
    file = files.PendingFile(tmp_path / "x")
    with small_disk(), pytest.raises(UserError, match=f"{tmp_path}/x: "):
        for _ in range(100):
            file.write("a" * 1000)
    file.discard()
    assert os.listdir(tmp_path) == []


def test_a_file_with_a_hole_is_not_committed(tmp_path, monkeypatch):
    """Space may become free between a failed write and the end."""

    def fail(_):
        raise OSError(28, "No space left")

    file = files.PendingFile(tmp_path / "a")
    file.write("one")
    stream, file._file = file._file, types.SimpleNamespace(write=fail)
    with pytest.raises(UserError, match="No space"):
        file.write("two")
    file._file = stream
    with pytest.raises(UserError, match="No space"):
        file.commit()
    assert os.listdir(tmp_path) == []


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
        with pytest.raises(files.UnwritableFile, match=str(path)):
            files.check_writable(path)
    with pytest.raises(files.UnwritableFile, match="far"):
        files.check_folder_writable(tmp_path / "old" / "far")
    assert os.listdir(tmp_path) == ["old"]


def test_publish_replaces_files_and_names_folders(tmp_path):
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    files.publish(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "new" and os.listdir(tmp_path) == ["b"]
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "file").write_text("inside")
    files.publish(tmp_path / "part", tmp_path / "whole")
    assert (tmp_path / "whole" / "file").read_text() == "inside"
    assert sorted(os.listdir(tmp_path)) == ["b", "whole"]


@pytest.mark.parametrize("content", ["{", "[]"])
def test_read_json_names_the_file(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=r"x\.json.*JSON"):
        files.read_json(tmp_path / "x.json")
    with pytest.raises(UserError, match=r"none\.json"):
        files.read_json(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("a line\nand another"), "a line"),
        (OSError(), "OSError"),  # without a message
        (RuntimeError("Exception from a.cpp:84:\nCheck 'm' failed at b.cpp:9:\nno weights!\n\n"), "no weights!"),
        (RuntimeError("Graph execution error:\n"), "RuntimeError"),
    ],
)
def test_reason_is_one_line(error, expected):
    assert files.reason(error) == expected


def test_walk_follows_links_and_meets_each_folder_once(tmp_path):
    for name in ("b", "d/e"):
        (tmp_path / "top" / name).mkdir(parents=True)
        (tmp_path / "top" / name / "file").touch()
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").touch()
    for name, target in {"a": "top/d/e", "c": "far", "d/up": "top", "d/self": "top/d"}.items():
        (tmp_path / "top" / name).symlink_to(tmp_path / target)
    found = list(files.walk(tmp_path / "top"))
    assert [os.path.relpath(folder, tmp_path / "top") for folder, _ in found] == [".", "b", "d", "d/e", "c"]
    assert [names for _, names in found] == [[], ["file"], [], ["file"], ["file"]]
    left = files.walk(tmp_path / "top", lambda path: os.path.basename(path) in ("c", "top"))
    assert [os.path.relpath(folder, tmp_path / "top") for folder, _ in left] == [".", "b", "d", "d/e"]


def test_a_folder_appears_when_it_is_full(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty", "deep/new"):
        with files.pending_folder(tmp_path / name) as folder:
            files.write(os.path.join(folder, "below", "a.txt"), "a")
            assert not list((tmp_path / name).glob("*"))
        assert (tmp_path / name / "below" / "a.txt").read_text() == "a"
    with pytest.raises(KeyboardInterrupt), files.pending_folder(tmp_path / "stopped") as folder:
        files.write(os.path.join(folder, "a.txt"), "a")
        raise KeyboardInterrupt
    with pytest.raises(OSError), files.pending_folder(tmp_path / "new"):
        pass  # it is there, and not empty
    assert sorted(os.listdir(tmp_path)) == ["deep", "empty", "new"]


def test_copies_have_one_digest(tmp_path, monkeypatch):
    monkeypatch.delattr(hashlib, "file_digest", raising=False)  # as in Python 3.10
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    digests = [files.digest(tmp_path / name) for name in "abc"]
    assert digests[0] == digests[1] != digests[2] and len(digests[0]) == 16
    assert files.digest(tmp_path / "a", "sha256") == hashlib.sha256(b"one").digest()


def test_what_killed_processes_left_is_removed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    gone = process.pid
    for name in (f".{gone}-0.tmp", f".{gone}-1.tmp", f".{os.getppid()}-0.tmp", f".{gone}-0.tmp.txt"):
        (tmp_path / name).write_text("part")
    (tmp_path / f".{gone}-2.tmp").mkdir()
    (tmp_path / f".{gone}-2.tmp" / "file").write_text("part")
    (tmp_path / f".{gone}-3.tmp").symlink_to(tmp_path / f".{gone}-0.tmp.txt")
    with open(tmp_path / f".{gone}-1.tmp", "rb") as held:  # by a process of that number in another container
        fcntl.flock(held, fcntl.LOCK_EX)
        files.write(tmp_path / "a", "new")
    left = {f".{gone}-0.tmp.txt", f".{gone}-1.tmp", f".{os.getppid()}-0.tmp", f".{gone}-3.tmp", "a"}
    assert set(os.listdir(tmp_path)) == left
    assert (tmp_path / f".{gone}-0.tmp.txt").read_text() == "part"


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_numbers", itertools.count(5))
    (tmp_path / "precious").write_text("precious")
    (tmp_path / f".{os.getpid()}-5.tmp").symlink_to(tmp_path / "precious")
    files.write(tmp_path / "a", "new")
    assert (tmp_path / "precious").read_text() == "precious" and (tmp_path / "a").read_text() == "new"


def test_content_and_the_entries_of_folders_are_flushed_in_order(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)

        def note(*arguments, name=name, call=call):
            path = arguments[0] if name == "replace" else os.readlink(f"/proc/self/fd/{arguments[0]}")
            done.append((name, ".tmp" if path.endswith(".tmp") else os.path.relpath(path, tmp_path)))
            return call(*arguments)

        monkeypatch.setattr(os, name, note)
    files.write(tmp_path / "new" / "a", "text")
    assert done == [("fsync", "."), ("fsync", ".tmp"), ("replace", ".tmp"), ("fsync", "new")]


def test_all_that_is_below_a_folder_is_flushed_before_it_gets_its_name(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace

    def note(descriptor):
        done.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path))
        fsync(descriptor)

    (tmp_path / "new" / "a" / "b").mkdir(parents=True)
    (tmp_path / "new" / "a" / "b" / "x").write_text("x")
    (tmp_path / "new" / "y").write_text("y")
    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replace"), replace(*paths)))
    files.publish(tmp_path / "new", tmp_path / "final")
    assert done == ["new/a/b/x", "new/a/b", "new/a", "new/y", "new", "replace", "."]


def test_a_folder_appears_after_all_that_is_in_it_is_on_disk(tmp_path, monkeypatch):
    """Its thousands of files are flushed at once, then it gets its name, then that is flushed."""
    done = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "sync", lambda: done.append("sync"))
    monkeypatch.setattr(os, "replace", lambda old, new: (replace(old, new), done.append("replace")))
    with files.pending_folder(tmp_path / "new") as folder:
        files.write(os.path.join(folder, "a.txt"), "a", durable=False)
        done.clear()
        monkeypatch.setattr(os, "fsync", lambda file: (fsync(file), done.append(os.readlink(f"/proc/self/fd/{file}"))))
    assert done == ["sync", "replace", str(tmp_path)]


@pytest.fixture
def pair(tmp_path):
    """(source, target) of `files.move_all`: a folder and two files, of which the target has earlier ones but for c."""
    for place, text in (("source", "new"), ("target", "old")):
        (tmp_path / place / "a").mkdir(parents=True)
        for name in ("a/x", "b"):
            (tmp_path / place / name).write_text(text)
    (tmp_path / "source" / "c").write_text("new")
    return tmp_path / "source", tmp_path / "target"


def texts(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_all_of_a_folder_replaces_what_has_its_names(pair):
    source, target = pair
    (target / "mine").write_text("mine")
    files.move_all(source, target)
    assert texts(target) == {"a/x": "new", "b": "new", "c": "new", "mine": "mine"}
    assert list(source.iterdir()) == [] and sorted(os.listdir(target)) == ["a", "b", "c", "mine"]


def test_links_are_replaced_and_not_followed(pair):
    source, target = pair
    (target / "a").rename(target / "elsewhere")
    (target / "a").symlink_to("elsewhere")
    (target / "b").rename(target / "file")
    (target / "b").symlink_to("file")
    (target / "c").symlink_to("nowhere")
    files.move_all(source, target)
    assert texts(target) == {"a/x": "new", "b": "new", "c": "new", "elsewhere/x": "old", "file": "old"}
    assert not any((target / name).is_symlink() for name in "abc")


@pytest.mark.parametrize("links", [True, False])
def test_what_was_there_comes_back_when_a_move_fails(pair, links, monkeypatch):
    """Whichever one: Ctrl-C before it, or after."""
    source, target = pair
    replace, before = os.replace, {**texts(target), **{f"../source/{name}": "new" for name in texts(source)}}
    if not links:  # as on a USB stick

        def refuse(*_, **__):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    for place, late in itertools.product(range(4), (False, True)):
        count = itertools.count()

        def interrupted(*paths, place=place, late=late, count=count):
            is_last = next(count) == place
            if late or not is_last:
                replace(*paths)
            if is_last:
                raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            files.move_all(source, target)
        found = {**texts(target), **{f"../source/{name}": text for name, text in texts(source).items()}}
        assert found == before, (place, late)
        assert sorted(os.listdir(target)) == ["a", "b"]


def test_a_file_that_is_being_written_is_held(tmp_path):
    """So that no process in another container removes it, where the process that writes has another number."""
    pending = files.PendingFile(tmp_path / "a")
    (name,) = os.listdir(tmp_path)
    with open(tmp_path / name, "rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    files._remove_unlocked(tmp_path / name)
    assert os.listdir(tmp_path) == [name]
    pending.discard()
    assert os.listdir(tmp_path) == []


def test_a_disk_that_cannot_flush_a_folder_is_written(tmp_path, monkeypatch):
    """As some network disks; any other error of a flush is one."""

    def refuse(file):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    files.write(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"


def test_text_that_has_no_utf8_is_written(tmp_path):
    files.write(tmp_path / "a", "caf\udce9 \ud800")
    assert (tmp_path / "a").read_bytes() == b"caf\xe9 \\ud800"


class GraphError(Exception):
    """As TensorFlow words it."""

    def __str__(self):
        return "Graph execution error:\n\nNode: 'save/SaveV2'\nruns/a/model.tempstate; No space left on device\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GraphError(), "No space left on device); free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded); free some space"),
        (OSError(errno.EFBIG, "File too large"), r"File too large); raise .*ulimit"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system); choose"),
        (OSError(errno.ENOTDIR, "Not a directory"), "Not a directory); choose another place"),
    ],
)
def test_every_error_of_writing_has_file_reason_and_remedy(error, said):
    begin = re.escape("runs/a: cannot be written (")
    assert re.match(begin + said.replace(")", r"\)"), str(files.unwritable("runs/a", error)))
    assert files.is_about_writing(error) == (getattr(error, "errno", None) != errno.ENOTDIR)


def test_a_lock_keeps_others_out_and_follows_no_link(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with files.locked(tmp_path / "lock"), pytest.raises(BlockingIOError), files.locked(tmp_path / "lock"):
        pass
    with files.locked(tmp_path / "lock"):
        assert (tmp_path / "precious").read_text() == "precious" and not (tmp_path / "lock").is_symlink()


def test_safe_names_of_long_texts_fit_into_file_names(tmp_path):
    """They keep their ends, in which names of a video's frames differ, and take no longer than other names."""
    texts = [*(f"{'é' * 150}_{number:05d}_jpg" for number in range(3000)), "b" * 200]
    names = files.safe_names(texts)
    assert len(set(names)) == len(texts) and names[-1] == texts[-1]
    for text, name in zip(texts, names, strict=True):
        assert len(name.encode()) <= 200 and name.endswith(text[-10:])
    (tmp_path / f"precision_recall_{names[0]}.png").write_text("")


def test_safe_names_of_very_many_texts():
    """Also of texts that come out alike: the time grows with their number, not with its square."""
    alike = ["a b", "a_b", "A_b", "a/b", "a_b_"]
    assert files.safe_names(alike) == ["a_b", "a_b_", "A_b__", "a_b___", "a_b____"]
    start = time.process_time()
    names = files.safe_names(f"folder/{number}" for number in range(20_000))
    assert time.process_time() - start < 5  # it was 20
    assert len(set(names)) == 20_000 and names[-1] == "folder_19999"
