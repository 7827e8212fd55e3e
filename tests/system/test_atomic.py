"""Files and folders that appear complete or not at all."""

import contextlib
import errno
import fcntl
import itertools
import os
import resource
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from structures import UserError
from system import atomic, files


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
    file = atomic.PendingFile(tmp_path / "x")
    with small_disk(), pytest.raises(UserError, match=f"{tmp_path}/x: "):
        for _ in range(100):
            file.write("a" * 1000)
    file.discard()
    assert os.listdir(tmp_path) == []


def test_a_file_with_a_hole_is_not_committed(tmp_path, monkeypatch):
    """Space may become free between a failed write and the end."""

    def fail(_):
        raise OSError(28, "No space left")

    file = atomic.PendingFile(tmp_path / "a")
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
    pending = [atomic.PendingFile(tmp_path / name) for name in names]
    for name, file in zip(names, pending, strict=True):
        file.write(name)
    for file in pending:
        file.commit()
    assert sorted(os.listdir(tmp_path)) == names
    assert [(tmp_path / name).read_text() for name in names] == names


def test_publish_replaces_files_and_names_folders(tmp_path):
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    atomic.publish(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "new" and os.listdir(tmp_path) == ["b"]
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "file").write_text("inside")
    atomic.publish(tmp_path / "part", tmp_path / "whole")
    assert (tmp_path / "whole" / "file").read_text() == "inside"
    assert sorted(os.listdir(tmp_path)) == ["b", "whole"]


def test_a_folder_appears_when_it_is_full(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty", "deep/new"):
        with atomic.pending_folder(tmp_path / name) as folder:
            files.write(os.path.join(folder, "below", "a.txt"), "a")
            assert not list((tmp_path / name).glob("*"))
        assert (tmp_path / name / "below" / "a.txt").read_text() == "a"
    with pytest.raises(KeyboardInterrupt), atomic.pending_folder(tmp_path / "stopped") as folder:
        files.write(os.path.join(folder, "a.txt"), "a")
        raise KeyboardInterrupt
    with pytest.raises(OSError), atomic.pending_folder(tmp_path / "new"):
        pass  # it is there, and not empty
    assert sorted(os.listdir(tmp_path)) == ["deep", "empty", "new"]


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
    monkeypatch.setattr(atomic, "_numbers", itertools.count(5))
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
    atomic.publish(tmp_path / "new", tmp_path / "final")
    assert done == ["new/a/b/x", "new/a/b", "new/a", "new/y", "new", "replace", "."]


def test_a_folder_appears_after_all_that_is_in_it_is_on_disk(tmp_path, monkeypatch):
    """Its thousands of files are flushed at once, then it gets its name, then that is flushed."""
    done = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "sync", lambda: done.append("sync"))
    monkeypatch.setattr(os, "replace", lambda old, new: (replace(old, new), done.append("replace")))
    with atomic.pending_folder(tmp_path / "new") as folder:
        files.write(os.path.join(folder, "a.txt"), "a", durable=False)
        done.clear()
        monkeypatch.setattr(os, "fsync", lambda file: (fsync(file), done.append(os.readlink(f"/proc/self/fd/{file}"))))
    assert done == ["sync", "replace", str(tmp_path)]


@pytest.fixture
def pair(tmp_path):
    """(source, target) of `atomic.move_all`: a folder and two files, of which the target has earlier ones but for c."""
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
    atomic.move_all(source, target)
    assert texts(target) == {"a/x": "new", "b": "new", "c": "new", "mine": "mine"}
    assert list(source.iterdir()) == [] and sorted(os.listdir(target)) == ["a", "b", "c", "mine"]


def test_links_are_replaced_and_not_followed(pair):
    source, target = pair
    (target / "a").rename(target / "elsewhere")
    (target / "a").symlink_to("elsewhere")
    (target / "b").rename(target / "file")
    (target / "b").symlink_to("file")
    (target / "c").symlink_to("nowhere")
    atomic.move_all(source, target)
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
            atomic.move_all(source, target)
        found = {**texts(target), **{f"../source/{name}": text for name, text in texts(source).items()}}
        assert found == before, (place, late)
        assert sorted(os.listdir(target)) == ["a", "b"]


def test_a_copy_that_does_not_fit_replaces_no_earlier_file(pair, monkeypatch):
    """Where a disk has no hard links, and is full."""
    source, target = pair
    before = texts(target), texts(source)

    def refuse(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    def copy(_, place):
        Path(place).write_text("o")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(shutil, "copyfile", copy)
    with pytest.raises(OSError, match="No space left"):
        atomic.move_all(source, target)
    assert (texts(target), texts(source)) == before and sorted(os.listdir(target)) == ["a", "b"]


def test_a_file_that_is_being_written_is_held(tmp_path):
    """So that no process in another container removes it, where the process that writes has another number."""
    pending = atomic.PendingFile(tmp_path / "a")
    (name,) = os.listdir(tmp_path)
    with open(tmp_path / name, "rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    atomic._remove_unlocked(tmp_path / name)
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
