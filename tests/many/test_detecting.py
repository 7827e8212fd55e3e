"""The rows of pictures beside what the detector itself says of them."""

import contextlib
import io
import os
import shutil
import tarfile
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import config
import detector
import transforms
from many import detecting, job, shard
from many.inputs import Entry, read
from media import images
from structures import UserError


def opener_of(model, wanted=None):
    settings = {"threshold": 0.05, "precision": "float32"}
    return detecting.Opener(str(model), detecting.model_hash(config.find_model(str(model))), wanted, settings)


def test_rows_are_what_the_detector_finds(trained, shapes, tmp_path):
    folder = shapes / "JPEGImages"
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    paths = [*sorted(folder.iterdir())[:3], tmp_path / "broken.jpg", tmp_path / "gone.jpg"]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for path in paths[:2]:
            tar.add(path, path.name)
        tar.addfile(tarfile.TarInfo("c.jpg"), io.BytesIO())
    entries = [*(Entry(path.name, str(path)) for path in paths), *read(str(tmp_path / "a.tar"))]
    with opener_of(trained, ("square",))() as detect:
        rows = detect(entries)
    assert [row["id"] for row in rows] == [one.id for one in entries]
    assert [row["status"] for row in rows] == ["done"] * 3 + ["unreadable"] * 2 + ["done"] * 2 + ["unreadable"]
    assert rows[5:7] == [{**row, "id": f"a.tar/{row['id']}"} for row in rows[:2]]
    with detector.load(str(trained), precision="float32", threshold=0.05) as loaded:
        found = [one.where(one.labels == 1) for one in loaded.detect(list(map(str, paths[:3])))]
    assert sum(map(len, found)) > 0
    for row, one in zip(rows, found, strict=False):
        assert (row["classes"], row["labels"]) == (["square"] * len(one), [1] * len(one))
        assert (row["scores"], row["boxes"]) == (one.scores.tolist(), one.boxes_px.tolist())  # every digit
        assert (row["width"], row["height"]) == (120, 90)
    with (
        pytest.raises(UserError, match="--classes circle: the model has disc, square"),
        opener_of(trained, ("circle",))(),
    ):
        pass


def test_memory_that_is_full(trained, shapes, tmp_path, monkeypatch):
    """For one picture it costs that picture, for a batch it ends the job and harms none."""
    paths = sorted((shapes / "JPEGImages").iterdir())[:4]
    folder = str(tmp_path / "out")
    job.begin(folder, {}, lambda: (Entry(path.name, str(path)) for path in paths), 10)
    warp, run = transforms.warp, detector.Detector._run

    def full(self, batch):
        monkeypatch.setattr(detector.Detector, "_run", run)
        self._network = types.SimpleNamespace(batch=None, run=exhausted, close=self._network.close)
        return self._run(batch)

    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(detector.Detector, "_run", full)
    for _ in range(4):  # a death would count
        with (
            opener_of(trained)() as detect,
            pytest.raises(UserError, match="the memory of this machine is full: give --batch-size 4"),
        ):
            shard.run(folder, 0, detect, job.publish_jsonl)
        monkeypatch.setattr(detector.Detector, "_run", full)
    monkeypatch.setattr(detector.Detector, "_run", run)
    heavy = images.read(str(paths[2]))

    def warp_unless_heavy(image, *size):
        if np.array_equal(image, heavy):
            raise MemoryError
        return warp(image, *size)

    monkeypatch.setattr(transforms, "warp", warp_unless_heavy)
    with opener_of(trained)() as detect:
        assert shard.run(folder, 0, detect, job.publish_jsonl) == {"done": 3, "unreadable": 0, "quarantined": 1}
    rows = list(job.read_part(folder, 0, "jsonl", ["id"]))
    assert [(row["id"], row["reason"]) for row in rows if row["status"] != "done"] == [(paths[2].name, "MemoryError")]


@pytest.mark.parametrize("change", ["trained on", "removed"])
def test_a_model_that_changed_since_the_job_began_is_noticed(change, trained, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    opener = opener_of(f"{run}@last")
    source = config.find_model(f"{run}@last")
    newer = types.SimpleNamespace(checkpoint=source.checkpoint, class_names=("disc", "square"))
    if change == "removed":  # which is also what happens to the last checkpoint when the next one is saved
        shutil.move(os.path.dirname(source.checkpoint), tmp_path / "elsewhere")
        monkeypatch.setattr(config, "find_model", lambda name: source)
    else:
        folder = run / "checkpoints" / "step-00000009"
        shutil.copytree(os.path.dirname(source.checkpoint), folder)
        newer.checkpoint = str(folder / os.path.basename(source.checkpoint))
        with open(f"{newer.checkpoint}.index", "ab") as file:
            file.write(b"other weights")
    monkeypatch.setattr(detector, "load", lambda *_, **__: contextlib.nullcontext(newer))
    with (
        pytest.raises(UserError, match=r"run@last: is not the model that the job began with; .*: restore that one, or"),
        opener(),
    ):
        pass


def test_a_model_has_its_hash(trained, tmp_path):
    source = config.find_model(str(trained))
    assert detecting.model_hash(source) == detecting.model_hash(source) and len(detecting.model_hash(source)) == 32
    hashes = set()
    for content in (b"one", b"two"):
        (tmp_path / "model.pb").write_bytes(content)
        hashes.add(detecting.model_hash(config.find_model(str(tmp_path / "model.pb"))))
    assert len(hashes) == 2


def test_unreadable_rows_say_why(tmp_path):
    row = shard.row(Entry("a", "b"), shard.UNREADABLE, "is empty")
    assert (row["status"], row["reason"], row["width"], row["boxes"]) == ("unreadable", "is empty", None, [])
