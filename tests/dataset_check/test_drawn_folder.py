"""check_dataset.py --draw removes nothing that it has not drawn, and draws to any folder, all or nothing."""

import contextlib
import errno
import os
import pathlib
import shutil

import cv2
import numpy as np
import pytest

import check_dataset
from dataset_check import drawings, drawn_folder, scanning
from media import images
from structures import UserError
from system import atomic, files
from voc_tree import write_voc

NAMES = ["test/JPEGImages_b.jpg", "train/JPEGImages_a0.jpg", "train/JPEGImages_a1.jpg"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    coarse = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)
    objects = [("cat", (5, 5, 60, 60)), ("dog", (50, 20, 120, 90))]
    drawn = [(cv2.resize(one, (160, 120), interpolation=cv2.INTER_CUBIC), objects) for one in coarse]
    pictures = dict(zip(("a0", "a1", "b"), drawn, strict=True))
    return write_voc(tmp_path_factory.mktemp("drawn_folder") / "data", pictures, {"train": ["a0", "a1"], "test": ["b"]})


@pytest.fixture(autouse=True)
def no_flush(monkeypatch):
    """`os.sync` waits for all that the machine writes, and no test here pulls the plug."""
    monkeypatch.setattr(os, "sync", lambda: None)


def draw(data, folder, limit=9):
    drawings.check_folder(str(folder), str(data))
    return drawings.write(scanning.scan(str(data), workers=1), str(folder), limit)


def content(folder):
    """{path from a folder: bytes} of its files, but the mark."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: one for name, one in found.items() if name != drawn_folder.MARK}


def add_picture(folder):
    (folder / "mine.jpg").write_bytes(b"mine")


def add_to_split(folder):
    (folder / "train" / "mine.jpg").write_bytes(b"mine")


def add_link_to_folder(folder):
    (folder.parent / "elsewhere").mkdir()
    (folder / "link").symlink_to(folder.parent / "elsewhere")


def edit_drawing(folder):
    (folder / "train" / "JPEGImages_a1.jpg").write_bytes(b"what I wrote on it")


def replace_by_link(folder):
    shutil.copy(folder / "train" / "JPEGImages_a1.jpg", folder.parent / "mine.jpg")
    (folder / "train" / "JPEGImages_a1.jpg").unlink()
    (folder / "train" / "JPEGImages_a1.jpg").symlink_to(folder.parent / "mine.jpg")


@pytest.mark.parametrize("change", [add_picture, add_to_split, add_link_to_folder, edit_drawing, replace_by_link])
def test_what_somebody_else_has_put_there_is_kept(data, tmp_path, change):
    folder = tmp_path / "drawn"
    draw(data, folder)
    change(folder)
    before, links = content(folder), {path for path in folder.rglob("*") if path.is_symlink()}
    with pytest.raises(UserError, match=f"^--draw {folder}: it exists and is not an empty folder"):
        drawings.check_folder(str(folder), str(data))
    with contextlib.suppress(UserError):  # put there while the pictures were drawn
        drawings.write(scanning.scan(str(data), workers=1), str(folder), 1)
    assert {path for path in folder.rglob("*") if path.is_symlink()} == links
    ours = set(NAMES[:2] if change in (edit_drawing, replace_by_link) else NAMES)
    assert {name: one for name, one in before.items() if name not in ours}.items() <= content(folder).items()


def test_a_mark_of_a_stranger_removes_nothing_outside_of_the_folder(data, tmp_path):
    folder = tmp_path / "drawn"
    draw(data, folder)
    (tmp_path / "mine.jpg").write_bytes((folder / "train" / "JPEGImages_a0.jpg").read_bytes())
    mark = folder / drawn_folder.MARK
    mark.write_text(mark.read_text() + mark.read_text().splitlines()[1].replace(NAMES[1], "../mine.jpg") + "\n")
    draw(data, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drawn", "mine.jpg"]


def test_a_mark_that_cannot_be_read_is_not_ours(data, tmp_path, monkeypatch):
    draw(data, tmp_path)
    monkeypatch.setattr(files, "read_regular", fails_at(1, files.read_regular))
    with pytest.raises(UserError, match=f"^--draw {tmp_path}: it exists and is not an empty folder"):
        drawings.check_folder(str(tmp_path), str(data))


def test_drawings_of_which_some_were_deleted_are_replaced(data, tmp_path):
    draw(data, tmp_path / "drawn")
    (tmp_path / "drawn" / "train" / "JPEGImages_a0.jpg").unlink()
    shutil.copytree(tmp_path / "drawn", tmp_path / "copy")  # all have another time
    for name in ("drawn", "copy"):
        assert draw(data, tmp_path / name) == (3, 0)
        assert sorted(content(tmp_path / name)) == NAMES


def test_what_a_killed_call_left_is_not_in_the_way(data, tmp_path):
    draw(data, tmp_path / "out")
    left = tmp_path / "out" / ".4194305-0.tmp"  # no process has such a number
    (left / "new").mkdir(parents=True)
    (left / "new" / "x.jpg").write_bytes(b"x")
    assert drawn_folder.holds_drawings(tmp_path / "out")
    atomic._remove_abandoned.cache_clear()  # as in another process
    draw(data, tmp_path / "out")
    assert not left.exists()


def test_a_split_that_is_drawn_no_more_leaves_no_folder(data, tmp_path):
    draw(data, tmp_path)
    drawings.write(scanning.scan(str(data), "test", workers=1), str(tmp_path), None)
    assert sorted(os.listdir(tmp_path)) == [drawn_folder.MARK, "test"]
    assert draw(data, tmp_path) == (3, 0)


@pytest.mark.parametrize("how", ["link", "."])
def test_a_link_and_the_current_folder(data, tmp_path, monkeypatch, how):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder if how == "." else tmp_path)
    for limit, number in ((9, 3), (1, 2), (9, 3)):
        assert draw(data, how, limit) == (number, 0)
        assert len(content(folder)) == number
    assert sorted(os.listdir(folder)) == [drawn_folder.MARK, "test", "train"]
    assert (tmp_path / "link").is_symlink() and sorted(os.listdir(tmp_path)) == ["folder", "link"]


def test_a_mount(data, tmp_path, monkeypatch):
    """Nothing can be renamed onto it or from outside of it."""
    folder, replace = tmp_path / "mount", os.replace
    folder.mkdir()

    def within(source, target):
        if folder == pathlib.Path(target):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if (folder in files_above(source)) != (folder in files_above(target)):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        replace(source, target)

    def files_above(path):
        return (tmp_path / path).parents

    monkeypatch.setattr(os, "replace", within)
    for _ in range(2):
        assert draw(data, folder) == (3, 0)
    assert sorted(content(folder)) == NAMES


def test_a_corrected_copy_in_the_folder_of_the_drawings(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", str(data), "--workers", "1"]
    check_dataset.main([*arguments, "--fix", "out/fix", "--draw", "out"])
    assert set(content(tmp_path / "out")) >= {*NAMES, "fix/changes.txt"}
    (tmp_path / "link").symlink_to("new")
    (tmp_path / "new").mkdir()
    with pytest.raises(UserError, match=r"^--draw: the folder of --fix; choose another one"):
        check_dataset.main([*arguments, "--fix", "new", "--draw", "link"])


def test_the_other_outputs_of_the_same_call_may_be_in_the_folder(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outputs = ["--html", "drawn/check.html", "--json", "drawn/check.json", "--anchors", "drawn/anchors.json"]
    for _ in range(2):
        check_dataset.main(["--data", str(data), "--workers", "1", "--draw", "drawn", *outputs])
        assert set(content(tmp_path / "drawn")) >= {*NAMES, "check.html", "check.json"}
    with pytest.raises(UserError, match=r"^--draw drawn: it exists and is not an empty folder"):
        check_dataset.main(["--data", str(data), "--workers", "1", "--draw", "drawn"])


def fails_at(number, function):
    """A function that the disk refuses at its call of that number."""
    calls = []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*arguments)

    return failing


@pytest.mark.parametrize("earlier", [None, "empty", "drawings"])
@pytest.mark.parametrize("what", ["write", *range(1, 9)])
def test_after_a_failure_all_is_as_it_was(data, tmp_path, monkeypatch, earlier, what):
    """And the same command works then. what: a picture cannot be written, or the call of os.replace after that."""
    folder = tmp_path / "drawn"
    if earlier:
        folder.mkdir()
    if earlier == "drawings":
        draw(data, folder, 1)
    before, write, sync = content(folder), images.write, os.sync
    with monkeypatch.context() as patch:
        if what == "write":
            patch.setattr(images, "write", fails_at(2, write))
        else:  # once all is drawn
            patch.setattr(os, "sync", lambda: (sync(), patch.setattr(os, "replace", fails_at(what, os.replace))))
        failed = False
        try:
            draw(data, folder)
        except UserError as error:
            assert str(error).startswith(f"--draw {folder}: cannot be written (No space left on device); free")
            failed = True
    moves = 1 + (2 if earlier == "drawings" else 0) + 3 + 1  # a mark of both, old ones out, new ones in, the new mark
    assert failed == (what == "write" or what <= moves)
    if failed:
        assert content(folder) == before and folder.exists() == bool(earlier)
        assert earlier != "empty" or not os.listdir(folder)
    assert draw(data, folder) == (3, 0)
    assert sorted(content(folder)) == NAMES and len(os.listdir(folder)) == 3


def test_a_kill_while_drawings_are_replaced_leaves_nothing_in_the_way(data, tmp_path, monkeypatch):
    """The mark lists what there is at any time."""
    draw(data, tmp_path, 1)
    seen, replace, sync = [], os.replace, os.sync

    def watching(source, target):
        replace(source, target)
        seen.append(unlisted(tmp_path))

    monkeypatch.setattr(os, "sync", lambda: (sync(), monkeypatch.setattr(os, "replace", watching)))
    draw(data, tmp_path)
    assert seen == [set()] * 7


def unlisted(folder):
    listed = {line.partition("  ")[2] for line in (folder / drawn_folder.MARK).read_text().splitlines()}
    return {name for name in content(folder) if not atomic.is_pending(name.partition("/")[0])} - listed
