"""Very many pictures: infer.py --shards and infer_many.py, on a few."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import types

import numpy as np
import pytest

import config
import detector
import infer
import infer_many
from many import job, shard
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


def hundredths(row):
    """(scores, boxes, classes) of a row as detections.json has them."""
    return row["scores"], [[round(edge, 2) for edge in box] for box in row["boxes"]], row["classes"]


def same_files(name, one, other):
    content = (one / name).read_bytes()
    return len(content) > 1000 and content == (other / name).read_bytes()


def work_here(folder, numbers, opener, format):
    """Stands in for processes: yields the shards that this one makes."""
    with opener() as detect:
        for number in numbers:
            yield number, shard.run(folder, number, detect, job.PUBLISH[format])


def test_coco_results_are_those_of_infer(trained, shapes, tmp_path, monkeypatch):
    """Also of a job that was done without them; a picture that cannot be read has none."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, path in enumerate(sorted((shapes / "JPEGImages").iterdir())[:6]):
        shutil.copy(path, pictures / (f"{number:06d}.png" if number < 3 else path.name))
    (pictures / "000009.png").write_bytes(b"no picture")
    flags = [str(trained), str(pictures), "--precision", "float32", "--coco-results"]  # with a low threshold
    infer.main([*flags, "--no-draw", "--output", str(tmp_path / "one")])
    monkeypatch.setattr(
        infer.workers, "run", lambda folder, numbers, opener, *_: work_here(folder, numbers, opener, "jsonl")
    )
    shards = [*flags, "--shards", "2", "--output", str(tmp_path / "many")]
    infer.main([*shards[:4], "--threshold", "0.01", *shards[5:]])
    assert not (tmp_path / "many" / "coco_results.json").exists()
    infer.main(shards)
    assert same_files("coco_results.json", tmp_path / "one", tmp_path / "many")
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(infer_many, "_ray", lambda: None)
    monkeypatch.setattr(
        infer_many, "_run", lambda ray, flags, opener, numbers, _: work_here(flags.output, numbers, opener, "parquet")
    )
    infer_many.main([*flags, str(tmp_path / "ray"), "--shard-size", "4"])
    assert same_files("coco_results.json", tmp_path / "one", tmp_path / "ray")


@pytest.mark.slow
def test_shards_have_what_infer_writes(trained, shapes, tmp_path):
    flags = [trained, shapes / "JPEGImages", "--threshold", "0.05", "--precision", "float32", "--coco-results"]
    run("infer.py", *flags, "--no-draw", "--output", tmp_path / "one")
    done = run("infer.py", *flags, "--shards", "2", "--output", tmp_path / "many")
    assert "24 pictures: 24 done, 0 unreadable, 0 quarantined" in done.stdout
    expected = as_rows(json.loads((tmp_path / "one" / "detections.json").read_text("utf-8")))
    lines = (tmp_path / "many" / "part-00000.jsonl").read_text("utf-8").splitlines()
    assert {row["id"]: hundredths(row) for row in map(json.loads, lines)} == expected
    assert same_files("coco_results.json", tmp_path / "one", tmp_path / "many")
    assert "was begun with threshold 0.05" in error_of(
        "infer.py", *flags, "--threshold", "0.3", "--shards", "2", "--output", tmp_path / "many"
    )


@pytest.mark.parametrize("flag", ["--csv", "--crops", "--overwrite"])
def test_shards_write_nothing_else(flag, trained, shapes, tmp_path):
    with pytest.raises(UserError, match="--shards: writes JSON Lines"):
        infer.main([str(trained), str(shapes / "JPEGImages"), "--shards", "2", flag, "--output", str(tmp_path / "x")])


@pytest.mark.parametrize("cut", [("--tiles", "2x1"), ("--tile-size", "64")], ids=" ".join)
@pytest.mark.parametrize("program", ["infer.py --shards", "infer_many.py"])
def test_what_decides_the_results_reaches_the_detector_and_cannot_change(
    program, cut, trained, shapes, tmp_path, monkeypatch
):
    opened = []
    pictures, output = str(shapes / "JPEGImages"), str(tmp_path / "out")
    if program == "infer_many.py":
        monkeypatch.setattr(infer_many, "_ray", lambda: None)
        monkeypatch.setattr(infer_many, "_run", lambda ray, flags, opener, *_: opened.append(opener) or ())
        main, words = infer_many.main, [str(trained), pictures, output]
    else:
        monkeypatch.setattr(infer.workers, "run", lambda folder, numbers, opener, *_: opened.append(opener) or ())
        main, words = infer.main, [str(trained), pictures, "--shards", "2", "--output", output]
    given = dict([cut], **{"--overlap": "0.3", "--threshold": "disc=0.2", "--classes": "disc"})
    given["--precision"] = "float32"
    with pytest.raises(UserError, match="lacks"):  # nobody worked
        main([*words, *itertools.chain(*given.items())])
    loaded = types.SimpleNamespace(
        checkpoint=config.find_model(str(trained)).checkpoint, class_names=("disc", "square")
    )
    monkeypatch.setattr(
        detector, "load", lambda model, **settings: contextlib.nullcontext(vars(loaded).update(settings) or loaded)
    )
    with opened[0]():
        expected = ((2, 1), None) if cut[0] == "--tiles" else (None, 64)
        assert (loaded.tiles, loaded.tile_size, loaded.overlap) == (*expected, 0.3)
        assert (loaded.threshold, loaded.precision) == ((0.2, 0.5), "float32")
    for flag in given.keys() - {"--overlap"}:
        others = {name: value for name, value in given.items() if name != flag}
        with pytest.raises(UserError, match=f"was begun with {'tiles' if flag == cut[0] else flag[2:]}"):
            main([*words, *itertools.chain(*others.items())])
    with pytest.raises(UserError, match="lacks"):
        main([*words, *itertools.chain(*given.items()), "--batch-size", "2"])


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
    monkeypatch.setattr(infer_many, "_run", lambda ray, flags, opener, *_: opened.append(opener) or ())
    (tmp_path / "list.txt").write_text("a.jpg\n")
    with pytest.raises(UserError, match="lacks"):  # nobody worked
        infer_many.main([str(model), str(tmp_path / "list.txt"), str(tmp_path / "out"), *flags])
    assert [one.settings["precision"] for one in opened] == [precision]


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
