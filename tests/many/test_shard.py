"""Shards of pictures whose detector is a stand-in, in processes that are really killed."""

import contextlib
import functools
import json
import math
import os
import re
import signal
import threading
import time
import types

import pytest

from many import job, parquet, shard, workers
from many.inputs import Entry
from structures import UserError
from system import worker_processes

NEVER = types.SimpleNamespace(requested=False, raise_if_requested=lambda: None)
UNLIMITED = lambda place: contextlib.nullcontext()  # noqa: E731


def detect(entries, following=(), log=None, wait=0.0, most=math.inf, fails=False):
    """A row for each entry; poison kills the process, heavy ones raise an error, and broken ones cannot be read.

    most: pictures that can be looked at together. fails: whether none can be.
    """
    if fails or len(entries) > most or any("heavy" in one.id for one in entries):
        raise MemoryError("out of memory" if fails or len(entries) > most else "")
    rows = []
    for entry in entries:
        if log:
            with open(log, "a", encoding="utf-8") as file:
                file.write(f"{entry.id} {os.getpid()}\n")
        time.sleep(wait)
        if "poison" in entry.id:
            os.kill(os.getpid(), signal.SIGKILL)
        if "broken" in entry.id:
            rows.append(shard.row(entry, shard.UNREADABLE, "no picture"))
        else:
            rows.append(
                shard.row(
                    entry, shard.DONE, width=4, height=3, boxes=[[0, 0, 1, 1]], scores=[0.5], labels=[0], classes=["a"]
                )
            )
    return rows


@contextlib.contextmanager
def opener(**options):
    yield functools.partial(detect, **options)


def open_with(**options):
    return functools.partial(opener, **options)


def entries(count, **special):
    """`count` pictures; special: {name: numbers that have it}."""
    names = {number: name for name, numbers in special.items() for number in numbers}
    return [Entry(f"{names.get(number, 'fine')}{number}", f"/pictures/{number}") for number in range(count)]


def begun(tmp_path, pictures, size=10):
    folder = str(tmp_path / "out")
    return folder, job.begin(folder, {"model": "m"}, lambda: iter(pictures), size)


def run(folder, shards, count=2, **options):
    done = dict(workers.run(folder, job.left(folder, shards, "jsonl"), open_with(**options), count, NEVER, UNLIMITED))
    assert not [name for name in os.listdir(os.path.join(folder, "work")) if name.endswith((".rows", ".note"))]
    return done


def rows_of(folder, shards):
    return [row for number in range(shards) for row in job.read_part(folder, number, "jsonl", ["id"])]


def test_every_picture_has_one_row_in_order(tmp_path):
    pictures = entries(35, broken=[3, 20])
    folder, shards = begun(tmp_path, pictures)
    assert shards == 4 and sorted(run(folder, shards)) == [0, 1, 2, 3]
    rows = rows_of(folder, shards)
    assert [row["id"] for row in rows] == [one.id for one in pictures]
    assert [row["status"] for row in rows if row["id"] == "broken20"] == ["unreadable"]
    counts = job.close(folder, shards, "jsonl")
    assert counts == {"done": 33, "unreadable": 2, "quarantined": 0}
    assert job.told(counts) == "35 pictures: 33 done, 2 unreadable, 0 quarantined"
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["pictures"] == 35


def test_poison_is_quarantined_and_costs_no_other_picture(tmp_path):
    pictures = entries(50, poison=[7, 8, 49])
    folder, shards = begun(tmp_path, pictures, size=40)
    log = tmp_path / "log"
    run(folder, shards, log=str(log))
    rows = rows_of(folder, shards)
    assert [row["id"] for row in rows] == [one.id for one in pictures]
    assert [row["id"] for row in rows if row["status"] == "quarantined"] == ["poison7", "poison8", "poison49"]
    assert job.close(folder, shards, "jsonl") == {"done": 47, "unreadable": 0, "quarantined": 3}
    assert log.read_text().split().count("poison7") == 3  # once among others, twice alone


def test_poison_that_has_a_group_to_itself_costs_as_many_processes(tmp_path):
    """Its row says how many have died."""
    folder, shards = begun(tmp_path, entries(1, poison=[0]))
    log = tmp_path / "log"
    run(folder, shards, log=str(log))
    (row,) = rows_of(folder, shards)
    assert row["reason"] == "3 processes died while they worked on it"
    assert log.read_text().split().count("poison0") == 3


def test_a_note_of_an_earlier_version_keeps_its_count_of_deaths(tmp_path):
    """It does not say whether its picture was alone."""
    folder, shards = begun(tmp_path, entries(3, poison=[0]))
    with open(shard.path(folder, 0, "note"), "w", encoding="ascii") as file:
        json.dump([0, 1, 3, 1], file)  # the second process died of a picture that was alone
    log = tmp_path / "log"
    run(folder, shards, log=str(log))
    assert [row["status"] for row in rows_of(folder, shards)] == ["quarantined", "done", "done"]
    assert "poison0" not in log.read_text()


def test_an_error_at_one_picture_quarantines_it_with_its_reason(tmp_path):
    pictures = entries(50, heavy=[0, 7, 8, 49], broken=[9])
    folder, shards = begun(tmp_path, pictures, size=40)
    log = tmp_path / "log"
    run(folder, shards, log=str(log))
    rows = rows_of(folder, shards)
    assert [row["id"] for row in rows] == [one.id for one in pictures]
    reasons = {row["id"]: row["reason"] for row in rows if row["status"] == "quarantined"}
    assert reasons == dict.fromkeys(["heavy0", "heavy7", "heavy8", "heavy49"], "MemoryError")
    assert job.close(folder, shards, "jsonl") == {"done": 45, "unreadable": 1, "quarantined": 4}
    lines = log.read_text("utf-8").splitlines()
    assert len({line.split()[1] for line in lines}) <= 2  # no process ended
    assert not list((tmp_path / "out" / "work").glob("*.png"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fails": True}, "the detector fails on every picture: MemoryError: out of memory"),
        (
            {"most": 1},
            "the detector fails on a batch of pictures but on none of them alone (MemoryError: out of memory); give a "
            "smaller --batch-size",
        ),
    ],
    ids=["alone too", "together"],
)
def test_an_error_at_every_picture_ends_the_job_and_harms_none(options, message, tmp_path):
    pictures = entries(150)
    folder, shards = begun(tmp_path, pictures, size=150)
    for _ in range(4):  # after so many deaths a picture would be quarantined
        with pytest.raises(UserError, match=rf"^{re.escape(message)}$"):
            list(workers.run(folder, [0], open_with(**options), 1, NEVER, UNLIMITED))
    run(folder, shards)
    assert job.close(folder, shards, "jsonl") == {"done": 150, "unreadable": 0, "quarantined": 0}


def test_pictures_that_take_no_time_are_looked_at_in_larger_groups():
    pace, counts = shard.Pace(), []
    for per_picture in [0.001] * 4 + [0.003] * 2 + [1] * 6:
        counts.append(pace.count)
        pace.learn(pace.count, pace.count * per_picture)
    assert counts == [32, 64, 128, 256, 256, 256, 256, 128, 64, 32, 32, 32]
    pace.learn(5, 0.001)  # the rest of a shard says nothing
    assert pace.count == 32


def test_the_detector_is_told_what_comes_next(tmp_path, monkeypatch):
    monkeypatch.setattr(shard, "SECONDS", 1e9)  # all are fast
    pictures, told = entries(100, heavy=[50]), []
    folder, _ = begun(tmp_path, pictures, size=100)

    def note(group, following=()):
        told.append(([one.address for one in group], [one.address for one in following]))
        return detect(group)

    shard.run(folder, 0, note, job.publish_jsonl)
    addresses = [one.address for one in pictures]
    assert told[0] == (addresses[:32], addresses[32:64])
    assert told[1] == told[2] == (addresses[32:96], addresses[96:])  # one is heavy
    assert told[3:5] == [(addresses[32:33], []), (addresses[33:34], [])]  # one by one
    assert told[-1] == (addresses[96:], [])


def test_pictures_in_tars_are_looked_at_together_as_far_as_memory_goes(tmp_path):
    sizes = [100_000_000, 100_000_000, 100_000_000, 300_000_000, 300_000_000, 1, 1]
    pictures = [Entry(f"{number}", "/a.tar", number, size) for number, size in enumerate(sizes)]
    folder, _ = begun(tmp_path, pictures)
    groups = []

    def note(group, following=()):
        groups.append([one.id for one in group])
        return detect(group)

    shard.run(folder, 0, note, job.publish_jsonl)
    assert groups == [["0", "1"], ["2"], ["3"], ["4"], ["5", "6"]]


def test_an_error_that_does_not_come_again_costs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(shard, "SECONDS", 1e9)  # all are fast
    pictures, calls = entries(100), []
    folder, shards = begun(tmp_path, pictures, size=100)

    def fails_once(group, following):
        calls.append(len(group))
        return detect(group, fails=len(calls) == 2)

    shard.run(folder, 0, fails_once, job.publish_jsonl)
    assert calls == [32, 64, 64, 4]
    assert job.close(folder, shards, "jsonl") == {"done": 100, "unreadable": 0, "quarantined": 0}


def test_kills_from_outside_lose_nothing(tmp_path):
    """Whoever has looked at a picture is killed, 25 pictures or more after the last kill.

    At no picture twice: one that two kills hit while it is alone counts as poison, and where a process starts slowly
    another may look at 25 pictures meanwhile.
    """
    pictures = entries(120, poison=[60])
    folder, shards = begun(tmp_path, pictures, size=40)
    log, over, killed = tmp_path / "log", threading.Event(), []

    def kill():
        until = 25
        while not over.wait(0.005):
            lines = log.read_text("utf-8").splitlines() if log.exists() else []
            if len(lines) >= until and (looked_at := lines[-1].split())[0] not in killed:
                killed.append(looked_at[0])
                until = len(lines) + 25
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(looked_at[1]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        run(folder, shards, log=str(log), wait=0.02)
    finally:
        over.set()
        killer.join()
    assert len(killed) >= 3
    assert [row["id"] for row in rows_of(folder, shards)] == [one.id for one in pictures]
    assert job.close(folder, shards, "jsonl") == {"done": 119, "unreadable": 0, "quarantined": 1}


def test_a_job_goes_on_where_it_was(tmp_path):
    pictures = entries(30)
    folder, shards = begun(tmp_path, pictures)
    log = tmp_path / "log"
    shard.run(folder, 0, functools.partial(detect, log=str(log)), job.publish_jsonl)
    assert job.left(folder, shards, "jsonl") == [1, 2]
    assert job.begin(folder, {"model": "m"}, lambda: 1 / 0, 10) == 3  # nothing is listed again
    run(folder, shards, log=str(log))
    assert sorted(log.read_text().split()[::2]) == sorted(one.id for one in pictures)
    with pytest.raises(UserError, match="was begun with model m, not n"):
        job.begin(folder, {"model": "n"}, lambda: iter(pictures), 10)
    assert job.begin(folder, {"model": "m", "pictures": "a hash"}, lambda: 1 / 0, 10) == 3  # it was not noted then


def test_half_a_row_is_made_again(tmp_path):
    pictures = entries(6)
    folder, _ = begun(tmp_path, pictures)
    whole = "".join(json.dumps(row) + "\n" for row in detect(pictures[:3]))
    with open(shard.path(folder, 0, "rows"), "w", encoding="utf-8") as file:
        file.write(whole + '{"id": "fine3", "sta')
    log = tmp_path / "log"
    shard.run(folder, 0, functools.partial(detect, log=str(log)), job.publish_jsonl)
    assert log.read_text().split()[::2] == ["fine3", "fine4", "fine5"]
    assert [row["id"] for row in rows_of(folder, 1)] == [one.id for one in pictures]


@pytest.mark.parametrize(
    "left",
    [b"\0\0\0\0\n", b"\xff\xfe\n", b"[]\n", b"7\n", b"\n", json.dumps(detect(entries(1))[0]).encode() + b"\n"],
    ids=["zeros", "no UTF-8", "a list", "a number", "nothing", "another picture"],
)
def test_what_a_power_failure_leaves_of_rows_is_made_again(left, tmp_path):
    """A block that did not reach the disk is zeros, or what lay there before. It ended the job, in each call anew."""
    pictures = entries(6)
    folder, _ = begun(tmp_path, pictures)
    lines = [json.dumps(row).encode() + b"\n" for row in detect(pictures)]
    with open(shard.path(folder, 0, "rows"), "wb") as file:
        file.writelines([*lines[:3], left, *lines[4:]])
    log = tmp_path / "log"
    shard.run(folder, 0, functools.partial(detect, log=str(log)), job.publish_jsonl)
    assert log.read_text().split()[::2] == ["fine3", "fine4", "fine5"]
    assert [row["id"] for row in rows_of(folder, 1)] == [one.id for one in pictures]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:-1], "lacks fine9"),
        (lambda lines: [*lines, lines[0]], "has fine0, which does not belong to it"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "lacks fine0"),
        (None, "lacks fine0"),
    ],
)
def test_the_count_at_the_end_finds_what_is_wrong(change, message, tmp_path):
    folder, shards = begun(tmp_path, entries(10))
    run(folder, shards)
    part = job.part(folder, 0, "jsonl")
    if change is None:
        os.remove(part)
    else:
        with open(part, encoding="utf-8") as file:
            lines = change(file.readlines())
        with open(part, "w", encoding="utf-8") as file:
            file.writelines(lines)
    with pytest.raises(UserError, match=message):
        job.close(folder, shards, "jsonl")


@contextlib.contextmanager
def no_detector():
    raise UserError("runs/mine: no such model")
    yield


@contextlib.contextmanager
def detector_with_a_bug():
    yield lambda pictures, following=(): detect(pictures[1:])


@contextlib.contextmanager
def dead_detector():
    os._exit(9)
    yield


def test_a_detector_that_cannot_be_opened_is_reported(tmp_path):
    folder, _ = begun(tmp_path, entries(4))
    with pytest.raises(UserError, match="runs/mine: no such model"):
        list(workers.run(folder, [0], no_detector, 1, NEVER, UNLIMITED))
    with pytest.raises(UserError, match="3 processes in a row ended with exit code 9 while starting"):
        list(workers.run(folder, [0], dead_detector, 1, NEVER, UNLIMITED))


def test_deaths_of_starts_are_counted_on_disk(tmp_path):
    folder, shards = begun(tmp_path, entries(4))

    def dies():
        with pytest.raises(EOFError), job.opening(folder, 2):
            raise EOFError

    for _ in range(5):
        dies()
    with job.opening(folder, 2):  # one that lives
        pass
    for _ in range(6):
        dies()
    with (
        pytest.raises(UserError, match=r"^6 processes in a row have died while they opened .*\(--workers\)$"),
        job.opening(folder, 2),
    ):
        pass
    job.work(folder, shards, "jsonl", lambda numbers: run(folder, shards).items())  # begins anew
    dies()


def test_what_cannot_be_written_ends_the_job(tmp_path):
    """Processes that died of it were started anew without end."""
    folder, _ = begun(tmp_path, entries(4))
    os.mkdir(job.part(folder, 0, "jsonl"))
    until = time.monotonic() + 60
    stop = types.SimpleNamespace(raise_if_requested=lambda: 1 / max(0, until - time.monotonic()))
    with pytest.raises(UserError, match=r"out: cannot be written \(Is a directory\)"):
        list(workers.run(folder, [0], open_with(), 1, stop, UNLIMITED))


@pytest.mark.parametrize("damage", [{}, {"facts": []}, {"shards": "2"}, {"pictures": -1}], ids=str)
def test_a_damaged_job_is_refused(damage, tmp_path):
    folder, _ = begun(tmp_path, entries(4))
    path = os.path.join(folder, job.JOB)
    with open(path, encoding="utf-8") as file:
        values = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**values, **damage} if damage else {}, file)
    with pytest.raises(UserError, match=r"job\.json: .*; choose another folder$"):
        begun(tmp_path, entries(4))


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        begun(tmp_path, entries(4))


def test_a_job_begins_where_one_was_killed_as_it_was_written(tmp_path):
    """What it left is no other's file: it was refused, together with the folder."""
    (tmp_path / "out" / "work").mkdir(parents=True)
    (tmp_path / "out" / ".999999999-0.tmp").write_text("half")  # a number that no process has
    folder, shards = begun(tmp_path, entries(4))
    assert shards == 1 and sorted(os.listdir(folder)) == ["job.json", "work"]


def test_a_folder_that_cannot_be_written_ends_the_job(tmp_path):
    """Not one process after another that meets the same error."""
    folder, shards = begun(tmp_path, entries(4))
    os.mkdir(shard.path(folder, 0, "lock"))  # as root may write everywhere
    with pytest.raises(UserError, match=r"00000\.lock: cannot be written \(.*directory"):
        list(workers.run(folder, list(range(shards)), open_with(), 1, NEVER, UNLIMITED))


def dies_publishing(folder, number, rows):
    """As where memory is full; also notes that it was called."""
    with open(os.path.join(folder, shard.WORK, "calls"), "ab") as file:
        file.write(b".")
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def no_room_to_publish():
    job.PUBLISH["jsonl"] = dies_publishing  # in this process alone
    yield detect


def test_deaths_while_a_shard_is_published_end_the_job(tmp_path):
    """Processes that died of it were started anew without end."""
    folder, shards = begun(tmp_path, entries(4))
    until = time.monotonic() + 60
    stop = types.SimpleNamespace(raise_if_requested=lambda: 1 / max(0, until - time.monotonic()))
    for calls in (3, 6):  # the same command tries again, as when there is more memory
        with pytest.raises(UserError, match=r"^\S+00000\.rows: 3 processes have died while .*; is memory short\? "):
            list(workers.run(folder, [0], no_room_to_publish, 1, stop, UNLIMITED))
        assert os.path.getsize(os.path.join(folder, shard.WORK, "calls")) == calls
    log = tmp_path / "log"
    run(folder, shards, log=str(log))
    assert not log.exists() and job.close(folder, shards, "jsonl")["done"] == 4


def test_an_error_of_publishing_is_no_death(tmp_path):
    folder, _ = begun(tmp_path, entries(4))
    os.mkdir(job.part(folder, 0, "jsonl"))
    for _ in range(4):
        with pytest.raises(UserError, match=r"cannot be written"):
            shard.run(folder, 0, detect, job.publish_jsonl)
    os.rmdir(job.part(folder, 0, "jsonl"))
    shard.run(folder, 0, detect, job.publish_jsonl)


def test_a_stop_while_rows_are_published_is_no_death(tmp_path):
    folder, _ = begun(tmp_path, entries(4))

    def stopped(*_):
        raise KeyboardInterrupt

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            shard.run(folder, 0, detect, stopped)
    shard.run(folder, 0, detect, job.publish_jsonl)


def test_processes_with_a_gpu_each_share_the_cores(monkeypatch):
    """Each had as many threads for pictures as the machine has cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)))
    with workers.on_device(5, 4, ["0", "3"]):
        assert os.environ[worker_processes.GPUS] == "3"
        assert worker_processes.beside_network() == 32 // 4 - 2
    assert worker_processes.beside_network() == 30


def test_rows_get_into_parquet_piece_by_piece(tmp_path, monkeypatch):
    """All of a shard were in memory twice: as Python's lists, and as a table."""
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(parquet, "ROWS", 10)
    path = str(tmp_path / "part.parquet")
    made, sizes = [{**row, "model": "m"} for row in detect(entries(35))], []

    def rows():
        for number, row in enumerate(made):
            if number % 10 == 0:
                sizes.append(os.path.getsize(path) if number else 0)
            yield row

    parquet.write_rows(path, rows())
    assert sizes == sorted(set(sizes)) and len(sizes) == 4  # each piece is in the file before the next is made
    assert list(parquet.read_rows(path, list(made[0]), job.AGAIN)) == made
    parquet.write_rows(path, iter(()))
    assert list(parquet.read_rows(path, ["id"], job.AGAIN)) == []


def test_a_bug_ends_the_job_and_leaves_its_traceback(tmp_path, capfd):
    folder, shards = begun(tmp_path, entries(4))
    with pytest.raises(UserError, match="the detection failed with AssertionError"):
        list(workers.run(folder, list(range(shards)), detector_with_a_bug, 1, NEVER, UNLIMITED))
    assert "in run" in capfd.readouterr().err


@pytest.mark.parametrize("left", [b"", b"no JSON\n", b"\0\0\0\n", b"{}\n", b"[1, 2, 3, 4, 5, 6]\n"], ids=str)
def test_a_damaged_list_of_pictures_is_named(left, tmp_path):
    folder, _ = begun(tmp_path, entries(4))
    path = shard.path(folder, 0, "entries")
    with open(path, "wb") as file:
        file.write(left)
    with pytest.raises(UserError, match=f"^{path}: is damaged; choose another output folder$"):
        shard.run(folder, 0, detect, job.publish_jsonl)


def test_a_name_that_is_no_utf_8_gets_into_parquet(tmp_path):
    """Parquet has UTF-8 only; the job must end all the same."""
    pytest.importorskip("pyarrow")
    names = ["a.png", "caf\udce9.png"]
    folder = str(tmp_path / "job")
    shards = job.begin(folder, {"model": "abc"}, lambda: iter([Entry(name, f"/{name}") for name in names]), 2)
    rows = shard.path(folder, 0, "rows")
    with open(rows, "w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(shard.row(one, shard.UNREADABLE, 'why'))}\n" for one in shard.entries(folder, 0))
    job.publish_parquet(folder, 0, rows)
    assert job.close(folder, shards, "parquet")[shard.UNREADABLE] == 2
    assert [row["id"] for row in job.read_part(folder, 0, "parquet", ["id"])] == ["a.png", "caf\\xe9.png"]


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_a_damaged_part_is_named_with_what_makes_it_again(format, tmp_path):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    folder, shards = begun(tmp_path, entries(4))
    shard.run(folder, 0, detect, job.PUBLISH[format])
    path = job.part(folder, 0, format)
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) - 9)
    with pytest.raises(UserError, match=rf"^{path}: .*damaged \(.*\); remove this file, .* writes it again$"):
        job.close(folder, shards, format)
    os.remove(path)
    shard.run(folder, 0, detect, job.PUBLISH[format])
    assert job.close(folder, shards, format)["done"] == 4
