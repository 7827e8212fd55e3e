"""COCO's list of a job beside the one that infer.py's writer makes of the same detections."""

import contextlib
import json
import os
import tracemalloc
import types

import numpy as np
import pytest

from many import coco_results, job, shard
from many.inputs import Entry
from results import coco_list
from results.result_files import Origin, Source
from structures import Detections, UserError


def write(folder, shards, check_stop=lambda: None):
    with coco_results.Stream(str(folder), shards, "jsonl") as stream:
        stream.finish(check_stop)


def found(number, count=3):
    rng = np.random.default_rng(number)
    boxes = np.sort(rng.uniform(0, 300, (count, 2, 2)), axis=1).reshape(-1, 4).astype(np.float32)
    return Detections(boxes, rng.random(count, np.float32), rng.integers(0, 20, count).astype(np.int32))


def row_of(entry, number, count=3):
    one = found(number, count)
    lists = {"boxes": one.boxes_px.tolist(), "scores": one.scores.tolist(), "labels": one.labels.tolist()}
    return shard.row(entry, shard.DONE, width=300, height=300, classes=["x"] * len(one), **lists)


def done_job(folder, names, without=()):
    """A job of these pictures, in shards of two; returns their number. without: {name: status} of those that failed."""
    folder, without = str(folder), dict(without)
    entries = [Entry(name, f"/{name}") for name in names]
    shards = job.begin(folder, {}, lambda: iter(entries), 2)
    for number in range(shards):
        made = [
            shard.row(one, without[one.id], "why") if one.id in without else row_of(one, names.index(one.id))
            for one in shard.entries(folder, number)
        ]
        rows = shard.path(folder, number, "rows")
        with open(rows, "w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(one)}\n" for one in made)
        job.publish_jsonl(folder, number, rows)
    return shards


def test_the_file_is_that_of_infer_py(tmp_path):
    names = ["a/000012.jpg", "b/shot.png", "broken.jpg", "0.tar/7.jpg", "poison.jpg"]
    shards = done_job(tmp_path / "job", names, {"broken.jpg": "unreadable", "poison.jpg": "quarantined"})
    coco_results.check_ids(str(tmp_path / "job"), shards)
    write(tmp_path / "job", shards)
    classes = [f"class {number}" for number in range(20)]
    with coco_list.open_writer(tmp_path, Origin(Source("runs/mine"), classes, range(20), 0.01)) as writer:
        for number, name in enumerate(names):
            if number in (2, 4):
                writer.error(name, "why")
            else:
                writer.add(name, 300, 300, found(number))
    text = (tmp_path / "job" / coco_list.NAME).read_text("utf-8")
    assert text == (tmp_path / coco_list.NAME).read_text("utf-8")
    assert [one["image_id"] for one in json.loads(text)[::3]] == [12, "shot", 7]


def test_shards_are_written_while_others_are_worked_on(tmp_path):
    """In their order, also behind those of an earlier call, and the file appears at the end."""
    names = [f"{number}.jpg" for number in range(12)]
    shards = done_job(tmp_path / "job", names)
    write(tmp_path / "job", shards)
    expected = (tmp_path / "job" / coco_list.NAME).read_bytes()
    os.remove(tmp_path / "job" / coco_list.NAME)
    parts = [job.part(str(tmp_path / "job"), number, "jsonl") for number in range(shards)]
    for path in parts[2:]:
        os.rename(path, f"{path}.later")

    def work():
        for number in (3, 2, 5, 4):
            os.rename(f"{parts[number]}.later", parts[number])
            yield number

    left = []
    with coco_results.Stream(str(tmp_path / "job"), shards, "jsonl") as stream:
        for _ in stream.follow(work()):
            left.append(len(stream._left))
        assert (left, len(stream._left)) == ([6, 4, 2, 2], 0)
        assert not (tmp_path / "job" / coco_list.NAME).exists()
        stream.finish(lambda: None)
    assert (tmp_path / "job" / coco_list.NAME).read_bytes() == expected
    assert not list((tmp_path / "job").glob(".*"))


def test_a_job_that_fails_leaves_the_old_file(tmp_path):
    shards = done_job(tmp_path / "job", ["a.jpg", "b.jpg", "c.jpg"])
    (tmp_path / "job" / coco_list.NAME).write_text("[]")
    with (
        pytest.raises(UserError, match="it fails"),
        coco_results.Stream(str(tmp_path / "job"), shards, "jsonl") as stream,
    ):
        for _ in stream.follow([0]):
            raise UserError("it fails")
    assert (tmp_path / "job" / coco_list.NAME).read_text() == "[]" and not list((tmp_path / "job").glob(".*"))


def test_a_job_without_detections_is_an_empty_list(tmp_path):
    shards = done_job(tmp_path / "job", ["a.jpg"], {"a.jpg": "unreadable"})
    write(tmp_path / "job", shards)
    assert json.loads((tmp_path / "job" / coco_list.NAME).read_text()) == []


@pytest.mark.parametrize(
    ("first", "second", "key"), [("a/1.jpg", "b/1.png", "1"), ("a/1.jpg", "b/001.jpg", "1"), ("x.jpg", "y/x.jpg", "x")]
)
def test_two_pictures_of_one_image_id_are_refused(first, second, key, tmp_path):
    names = ["other.jpg", first, "last.jpg", second]
    folder = str(tmp_path / "job")
    shards = job.begin(folder, {}, lambda: (Entry(name, name) for name in names), 3)
    with pytest.raises(UserError, match=f"^--coco-results: {first} and {second} would both be {key}; leave it out"):
        coco_results.check_ids(folder, shards)


def test_what_is_stopped_leaves_the_old_file(tmp_path):
    shards = done_job(tmp_path / "job", ["a.jpg", "b.jpg", "c.jpg"])
    folder = tmp_path / "job"
    (folder / coco_list.NAME).write_text("[]")
    before = sorted(os.listdir(folder))
    stop = types.SimpleNamespace(calls=0)

    def in_the_second_shard():
        stop.calls += 1
        if stop.calls == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(folder, shards, in_the_second_shard)
    assert sorted(os.listdir(folder)) == before and (folder / coco_list.NAME).read_text() == "[]"


def test_rows_are_not_kept_in_memory(tmp_path, monkeypatch):
    made = lambda *_: (row_of(Entry(f"{number}.jpg", ""), number, 100) for number in range(120))  # noqa: E731
    monkeypatch.setattr(job, "read_part", made)
    monkeypatch.setattr(coco_results.tqdm, "tqdm", lambda numbers, **_: numbers)
    with contextlib.ExitStack() as stack:
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        write(tmp_path, 1)
        _, peak = tracemalloc.get_traced_memory()
    assert (tmp_path / coco_list.NAME).stat().st_size > 1_200_000
    assert peak < 1_000_000


def test_the_same_id_twice_is_refused(tmp_path):
    """As two rows of a CSV file may have it."""
    entries = [Entry("7", "/a.jpg"), Entry("8", "/b.jpg"), Entry("7", "/c.jpg")]
    shards = job.begin(str(tmp_path / "job"), {}, lambda: iter(entries), 2)
    with pytest.raises(UserError, match=r"--coco-results: /a\.jpg and /c\.jpg would both be 7; leave"):
        coco_results.check_ids(str(tmp_path / "job"), shards)
