"""Arrays in a folder: found by later trainings, within the limit, whoever else writes there or is killed."""

import itertools
import multiprocessing
import os
import time

import numpy as np
import pytest

from structures import UserError
from system import array_folder
from system.array_folder import Names, reserve

SIGNATURE = (100, 1, 2)
SIZE = 64 + 30 * 40 * 3  # of a file
MUCH = 1 << 30
HOUR = 3600


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def names(folder, *pictures):
    return Names(str(folder), pictures, ["whole", "half"])


def opened(folder, pictures, limit=MUCH, wanted=None, signatures=None):
    wanted = [len(pictures) * SIZE, 0] if wanted is None else wanted
    return reserve(limit, names(folder, *pictures), wanted, signatures or [SIGNATURE] * len(pictures))


def write(folder, pictures, **options):
    """What a whole training leaves: picture N of seed N."""
    got = opened(folder, pictures, **options)
    for slot, name in enumerate(pictures):
        if got.store.find(slot, 0, SIGNATURE) is None:
            got.store.add(slot, 0, SIGNATURE, picture(int(name)))
    got.store.close()
    return got


def held(folder, pictures):
    """Which pictures the folder has, by a look that changes nothing."""
    there = names(folder, *pictures)
    return [name for slot, name in enumerate(pictures) if os.path.exists(there.path(slot, 0, SIGNATURE))]


def age(folder, pictures, seconds):
    there, moment = names(folder, *pictures), time.time() - seconds
    for slot in range(len(pictures)):
        os.utime(there.path(slot, 0, SIGNATURE), (moment, moment))


def test_a_later_training_finds_the_arrays(tmp_path):
    first = write(tmp_path / "new" / "folder", "01234")
    assert (first.present, first.granted) == (0, 5 * SIZE)
    again = opened(tmp_path / "new" / "folder", "0123456")
    assert (again.present, again.granted) == (5 * SIZE, 2 * SIZE)
    for slot in range(5):
        found = again.store.find(slot, 0, SIGNATURE)
        np.testing.assert_array_equal(found, picture(slot))
        assert not found.flags.writeable
        assert again.store.find(slot, 1, SIGNATURE) is None  # another kind
        for changed in ((101, 1, 2), (100, 2, 2), (100, 1, 3)):
            assert again.store.find(slot, 0, changed) is None
    assert again.store.find(5, 0, SIGNATURE) is None
    again.store.close()
    other = reserve(MUCH, Names(str(tmp_path / "new" / "folder"), ["0"], ["by another decoder"]), [SIZE], [SIGNATURE])
    assert other.present == 0 and other.store.find(0, 0, SIGNATURE) is None
    other.store.close()


def test_a_training_may_end_while_another_one_starts(tmp_path, monkeypatch):
    """After any of the listings of the folder."""
    first, second, scandir = opened(tmp_path, "0"), opened(tmp_path, "1"), os.scandir
    ending = iter([first.store.close, second.store.close])

    def list_and_end(path):
        found = list(scandir(path))
        if str(path) == str(tmp_path):
            next(ending, lambda: None)()
        return iter(found)

    monkeypatch.setattr(os, "scandir", list_and_end)
    third = opened(tmp_path, "2")
    assert third.granted == SIZE
    third.store.close()


def test_a_training_in_another_container_may_have_the_same_number(tmp_path, monkeypatch):
    """Two equal containers have equal process numbers, and programs that count alike."""
    monkeypatch.setattr(array_folder.atomic, "_numbers", itertools.count(7))
    first = opened(tmp_path, "0")
    monkeypatch.setattr(array_folder.atomic, "_numbers", itertools.count(7))
    second = opened(tmp_path, "1")
    assert second.granted == SIZE
    for got in (first, second):
        got.store.close()


def test_no_pictures_at_all(tmp_path):
    got = opened(tmp_path, "", signatures=[])
    assert (got.present, got.granted) == (0, 0)
    got.store.close()


def test_no_more_is_written_than_granted(tmp_path):
    got = write(tmp_path, "012345", limit=3 * SIZE + 100)
    assert got.granted == 3 * SIZE + 100
    assert held(tmp_path, "012345") == list("012")


def test_what_is_added_twice_takes_its_room_once(tmp_path):
    """As by two workers that decode the same picture at once: the room of another was gone, which was never kept."""
    store = opened(tmp_path, "01").store
    for slot in (0, 0, 1):
        store.add(slot, 0, SIGNATURE, picture(slot))
    assert held(tmp_path, "01") == list("01")
    store.close()


def test_a_file_that_changes_is_added_anew(tmp_path):
    store = opened(tmp_path, "01").store
    for signature, seed in ((SIGNATURE, 0), ((101, 1, 2), 5)):
        store.add(0, 0, signature, picture(seed))
        np.testing.assert_array_equal(store.find(0, 0, signature), picture(seed))
    store.close()


def test_the_oldest_arrays_make_room(tmp_path):
    write(tmp_path, "01")
    write(tmp_path, "23")
    age(tmp_path, "23", 3 * HOUR)
    age(tmp_path, "01", HOUR)
    got = write(tmp_path, "45", limit=5 * SIZE)
    assert got.granted == 2 * SIZE
    assert held(tmp_path, "012345") in (list("01245"), list("01345"))  # 2 and 3 are equally old
    write(tmp_path, "67", limit=5 * SIZE)
    assert held(tmp_path, "67") == list("67") and len(held(tmp_path, "01234567")) == 5


def test_its_own_arrays_are_not_removed_however_old(tmp_path):
    write(tmp_path, "0123")
    age(tmp_path, "0123", HOUR)
    got = write(tmp_path, "0145", limit=4 * SIZE)
    assert (got.present, got.granted) == (2 * SIZE, 2 * SIZE)
    assert held(tmp_path, "012345") == list("0145")
    got = write(tmp_path, "014567", limit=4 * SIZE)
    assert got.granted == 0 and held(tmp_path, "014567") == list("0145")


def test_a_living_training_keeps_its_arrays_and_its_reservation(tmp_path):
    write(tmp_path, "01")
    age(tmp_path, "01", HOUR)
    living = opened(tmp_path, "0123")  # touches 0 and 1, and may still write two
    living.store.add(2, 0, SIGNATURE, picture(2))
    got = opened(tmp_path, "4567", limit=5 * SIZE)
    assert got.granted == SIZE  # three are there, and one is outstanding
    got.store.close()
    living.store.close()
    age(tmp_path, "012", HOUR)
    got = opened(tmp_path, "4567", limit=5 * SIZE)
    assert got.granted == 4 * SIZE
    got.store.close()


def test_processes_that_write_together_cache_what_a_stopped_training_left(tmp_path):
    """Each asked for its share of all arrays, and took off it what all of them have on the disk."""
    pictures = [str(number) for number in range(16)]

    def ranks():
        wanted, signatures = [len(pictures) * SIZE, 0], [SIGNATURE] * len(pictures)
        return [reserve(MUCH, names(tmp_path, *pictures), wanted, signatures, sharers=4) for _ in range(4)]

    def add(got, slots):
        for slot in slots:
            got[slot % 4].store.add(slot, 0, SIGNATURE, picture(slot))
        for one in got:
            one.store.close()

    first = ranks()
    assert {(one.present, one.granted) for one in first} == {(0, 4 * SIZE)}
    add(first, range(8))
    again = ranks()
    assert {(one.present, one.granted) for one in again} == {(8 * SIZE, 2 * SIZE)}
    add(again, range(8, 16))
    assert held(tmp_path, pictures) == pictures


def die(folder):
    """In a process: reserve much, write one array, leave a temporary file, and end like a killed process."""
    got = opened(folder, "0", wanted=[MUCH, 0])
    got.store.add(0, 0, SIGNATURE, picture(0))
    os._exit(9)


def test_a_killed_training_holds_nothing(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 9
    (old, new) = (tmp_path / "ab" / name for name in (".123-4.tmp", ".123-5.tmp"))
    old.parent.mkdir(exist_ok=True)
    old.write_bytes(b"half an arr")
    os.utime(old, (0, 0))
    new.write_bytes(b"being written")
    got = opened(tmp_path, "012")
    assert (got.present, got.granted) == (SIZE, 2 * SIZE)
    np.testing.assert_array_equal(got.store.find(0, 0, SIGNATURE), picture(0))
    assert not old.exists() and new.exists()
    assert len(list(tmp_path.glob(".*.training"))) == 1  # its own
    got.store.close()
    assert not list(tmp_path.glob(".*.training"))


def fill(store, barrier):
    barrier.wait()
    for slot in range(40):
        store.add(slot, 0, SIGNATURE, picture(slot))


def test_processes_write_at_once(tmp_path):
    pictures = [str(number) for number in range(40)]
    context = multiprocessing.get_context("spawn")
    got, barrier = opened(tmp_path, pictures), context.Barrier(2)
    processes = [context.Process(target=fill, args=(got.store, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    for slot in range(40):
        np.testing.assert_array_equal(got.store.find(slot, 0, SIGNATURE), picture(slot))
    got.store.close()
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".tmp"]


@pytest.mark.parametrize("content", [b"", b"x" * 64, b"x" * SIZE, "cut", "longer"])
def test_a_damaged_file_is_not_read_and_is_replaced(tmp_path, content):
    write(tmp_path, "0")
    path = names(tmp_path, "0").path(0, 0, SIGNATURE)
    good = open(path, "rb").read()  # noqa: SIM115
    with open(path, "wb") as file:
        file.write({"cut": good[:-1], "longer": good + b"x"}.get(content, content))
    got = opened(tmp_path, "0", wanted=[3 * SIZE, 0])
    assert got.store.find(0, 0, SIGNATURE) is None
    got.store.add(0, 0, SIGNATURE, picture(0))
    np.testing.assert_array_equal(got.store.find(0, 0, SIGNATURE), picture(0))
    got.store.close()


def test_who_reads_a_removed_array_keeps_it(tmp_path):
    write(tmp_path, "0")
    got = opened(tmp_path, "0")
    found = got.store.find(0, 0, SIGNATURE)
    os.remove(names(tmp_path, "0").path(0, 0, SIGNATURE))
    np.testing.assert_array_equal(found, picture(0))
    assert got.store.find(0, 0, SIGNATURE) is None
    got.store.close()


def test_a_full_disk_is_said_once(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    got = opened(tmp_path, "012")
    monkeypatch.setattr(array_folder.files.os, "replace", refuse)
    for slot in range(3):
        got.store.add(slot, 0, SIGNATURE, picture(slot))
    told = capsys.readouterr().err
    assert told.count("No space left") == 1 and "decoded each time" in told
    assert held(tmp_path, "012") == [] and not list(tmp_path.rglob("*.tmp"))
    got.store.close()


def test_the_disk_is_not_filled(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000 + 2 * SIZE, "total": 20_000})
    monkeypatch.setattr(array_folder.shutil, "disk_usage", lambda _: usage)
    got = opened(tmp_path, "012")
    assert got.granted == 2 * SIZE
    got.store.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/below: cannot be written .*--cache-dir"):
        opened(tmp_path / "file" / "below", "0")
