"""Very many pictures: infer.py --shards and infer_many.py, on a few."""

import contextlib
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest

import config
import detector
import infer
import infer_many
from media import images
from programs import ROOT, command, error_of, run
from structures import UserError


@pytest.fixture
def tars(tmp_path):
    """Three tars of 40 tiny pictures, of which one cannot be read."""
    rng = np.random.default_rng(0)
    (tmp_path / "tars").mkdir()
    for number in range(3):
        with tarfile.open(tmp_path / "tars" / f"{number}.tar", "w") as tar:
            for index in range(40):
                path = str(tmp_path / "one.png")
                images.write(path, rng.integers(0, 255, (24, 32, 3), np.uint8))
                if (number, index) == (1, 7):
                    with open(path, "wb") as file:
                        file.write(b"no picture")
                tar.add(path, f"{index:03d}.png")
    return tmp_path / "tars"


def as_rows(found):
    """{name: (scores, boxes, classes)} of a detections.json."""
    return {
        one["file"]: (
            [d["score"] for d in one["detections"]],
            [d["box"] for d in one["detections"]],
            [d["class"] for d in one["detections"]],
        )
        for one in found["images"]
    }


@pytest.mark.slow
def test_shards_have_what_infer_writes(trained, shapes, tmp_path):
    flags = [trained, shapes / "JPEGImages", "--threshold", "0.05", "--precision", "float32"]
    run("infer.py", *flags, "--no-draw", "--output", tmp_path / "one")
    done = run("infer.py", *flags, "--shards", "2", "--output", tmp_path / "many")
    assert "24 pictures: 24 done, 0 unreadable, 0 quarantined" in done.stdout
    expected = as_rows(json.loads((tmp_path / "one" / "detections.json").read_text("utf-8")))
    lines = (tmp_path / "many" / "part-00000.jsonl").read_text("utf-8").splitlines()
    rows = {row["id"]: (row["scores"], row["boxes"], row["classes"]) for row in map(json.loads, lines)}
    assert rows == expected
    assert "was begun with threshold 0.05" in error_of(
        "infer.py", *flags, "--threshold", "0.3", "--shards", "2", "--output", tmp_path / "many"
    )


@pytest.mark.parametrize("flag", ["--csv", "--crops", "--overwrite"])
def test_shards_write_nothing_else(flag, trained, shapes, tmp_path):
    with pytest.raises(UserError, match="--shards: writes JSON Lines"):
        infer.main([str(trained), str(shapes / "JPEGImages"), "--shards", "2", flag, "--output", str(tmp_path / "x")])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(["--tiles", "2x1"], ((2, 1), None, 0.3)), (["--tile-size", "64"], (None, 64, 0.3))],
    ids=str,
)
def test_shards_take_tiles(flags, expected, trained, shapes, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(infer.workers, "run", lambda folder, numbers, opener, *_: opened.append(opener) or ())
    words = [str(trained), str(shapes / "JPEGImages"), "--shards", "2", "--output", str(tmp_path / "out")]
    with pytest.raises(UserError, match="lacks"):  # nobody worked
        infer.main([*words, *flags, "--overlap", "0.3"])
    monkeypatch.setattr(detector, "load", lambda *_, **settings: contextlib.nullcontext(settings))
    with opened[0]() as detect:
        loaded = inspect.getclosurevars(detect).nonlocals["loaded"]
    assert (loaded["tiles"], loaded["tile_size"], loaded["overlap"]) == expected
    for others in ([], ["--tiles", "64x1", "--overlap", "0.3"]):
        with pytest.raises(UserError, match="was begun with tiles"):
            infer.main([*words, *others])


@pytest.mark.parametrize(
    ("author", "flags", "precision"),
    [("others", [], "float32"), ("others", ["--precision", "auto"], "auto"), ("train.py", [], "auto")],
)
def test_imported_weights_detect_in_float32(author, flags, precision, trained, tmp_path, monkeypatch):
    """As in infer.py: their scores are those of their own program."""
    model = tmp_path / "model"
    shutil.copytree(trained, model)
    if author == "others":
        config.write_config(str(model), config.read_config(str(model))[0], None, {})
    opened = []
    monkeypatch.setattr(infer_many, "_ray", lambda: None)
    monkeypatch.setattr(infer_many, "_run", lambda ray, flags, output, opener, *_: opened.append(opener) or ())
    (tmp_path / "list.txt").write_text("a.jpg\n")
    with pytest.raises(UserError, match="lacks"):  # nobody worked
        infer_many.main([str(model), str(tmp_path / "list.txt"), str(tmp_path / "out"), *flags])
    assert [one.precision for one in opened] == [precision]


def test_without_ray_nothing_is_begun(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "list.txt").write_text("a.jpg\n")
    with pytest.raises(UserError, match=r"^infer_many\.py needs Ray: pip install -r requirements-scale\.txt$"):
        infer_many.main(["ssd300-coco", str(tmp_path / "list.txt"), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists() and capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_ray_makes_each_picture_once_while_workers_are_killed(trained, tars, tmp_path):
    pytest.importorskip("ray")
    parquet = pytest.importorskip("pyarrow.parquet")
    words = [str(trained), str(tars), str(tmp_path / "out"), "--shard-size", "25", "--workers", "2"]
    words += ["--threshold", "0.05", "--precision", "float32"]
    process = subprocess.Popen(command("infer_many.py", *words), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    over, killed = threading.Event(), []

    def kill():
        """Kill whoever works on a shard, each time that another one is done."""
        while not over.wait(0.1):
            parts = len(list((tmp_path / "out").glob("part-*")))
            if parts > len(killed) and (found := workers_of(process.pid)):
                os.kill(found[0], signal.SIGKILL)
                killed.append(found[0])

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        output, _ = process.communicate(timeout=900)
    finally:
        over.set()
        killer.join()
    assert process.returncode == 0 and killed
    assert "120 pictures: 119 done, 1 unreadable, 0 quarantined" in output
    rows = [row for path in sorted((tmp_path / "out").glob("part-*")) for row in parquet.read_table(path).to_pylist()]
    assert [row["id"] for row in rows] == [
        f"{number}.tar/{index:03d}.png" for number in range(3) for index in range(40)
    ]
    assert [row["id"] for row in rows if row["status"] == "unreadable"] == ["1.tar/007.png"]
    assert len({row["model"] for row in rows}) == 1
    assert run("infer_many.py", *words).stdout.startswith("120 pictures: 119 done")  # nothing is left to do


def workers_of(driver):
    """Processes of Ray's actors on this machine that a driver started."""
    found = subprocess.run(["pgrep", "-f", "ray::.*MapWorker"], capture_output=True, text=True).stdout.split()
    return [int(number) for number in found if driver in ancestors(int(number))]


def ancestors(process):
    found = []
    while process > 1:
        try:
            with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
                process = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            break
        found.append(process)
    return found
