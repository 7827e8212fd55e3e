"""benchmark_model.py: each figure against a slow twin or the program that users know it from. No times are judged."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import average_precision
import benchmark_model
import config
import detector
import export_model
import infer
from export_cases import make_run
from measuring import own_process, timing
from programs import run
from structures import UserError
from voc_tree import write_voc

THRESHOLD = 0.05


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run with random weights, whose detections differ from picture to picture."""
    return str(make_run(tmp_path_factory.mktemp("model") / "run", "vgg300"))


@pytest.fixture(scope="module")
def data(model, tmp_path_factory):
    """Pictures whose objects are detections of the run, and others: its mean AP is neither 0 nor 1."""
    rng = np.random.default_rng(5)
    cells = [rng.integers(0, 256, (6, 9, 3), dtype=np.uint8) for _ in range(6)]
    pictures = [cv2.resize(one, (240, 160), interpolation=cv2.INTER_CUBIC) for one in cells]
    names, drawn = ("car", "bus"), {}
    with detector.load(model, precision="float32", threshold=THRESHOLD) as loaded:
        for index, (picture, found) in enumerate(zip(pictures, loaded.detect(pictures), strict=True)):
            objects = []
            for box, label in list(zip(found.boxes_px, found.labels, strict=True))[: 9 : 2 + index % 2]:
                xmin, ymin, xmax, ymax = np.rint(box).astype(int).tolist()
                objects.append((names[label], (xmin + 1, ymin + 1, max(xmax, xmin + 2), max(ymax, ymin + 2))))
            drawn[f"{index:06d}"] = (picture, [*objects, ("bus", (1, 1, 20 + index, 30))])
    return str(write_voc(tmp_path_factory.mktemp("data") / "voc", drawn, {"val": list(drawn)}, suffix=".jpg"))


@pytest.fixture
def here(monkeypatch):
    """Models are measured in this process: spawning one each time would take seconds."""
    monkeypatch.setattr(timing.worker_processes, "follow_parent", lambda: None)

    class Sent(list):
        send = list.append

    def messages(task):
        sent = Sent()
        timing.measure(sent, task)
        for kind, content in sent:
            if kind == "error":
                raise UserError(content)
            yield kind, content

    monkeypatch.setattr(own_process, "messages", messages)


def scored_by_hand(model, data, folder):
    """What infer.py and average_precision.py say of a model."""
    settings = ["--precision", "float32", "--threshold", str(THRESHOLD), "--no-draw"]
    infer.main([model, "--data", data, "--split", "val", "--output", str(folder / "found"), *settings])
    place = str(folder / "ap.json")
    average_precision.main([str(folder / "found"), "--data", data, "--split", "val", "--json", place])
    report = json.loads((folder / "ap.json").read_text())
    return {metric: report[metric]["mean"] for metric in ("voc07", "area")}


def test_a_model_and_its_file_have_a_line_each(model, data, tmp_path):
    """In processes of their own, as a user sees it."""
    frozen = str(tmp_path / "m.pb")
    export_model.main([model, "--output", frozen, "--no-check", "--precision", "float32"])
    outputs = ["--json", tmp_path / "s.json", "--csv", tmp_path / "s.csv", "--plot", tmp_path / "s.png"]
    scoring = ["--data", data, "--split", "val", "--threshold", str(THRESHOLD)]
    flags = ["--precision", "float32", "--images", "4", "--batch-sizes", "1,2"]
    done = run("benchmark_model.py", model, frozen, *scoring, *flags, *outputs)
    report = json.loads((tmp_path / "s.json").read_text())
    one, other = report["models"]
    assert (one["format"], other["format"]) == ("run", "frozen")
    arrays = detector.read_weights(config.find_model(model).checkpoint)
    expected = scored_by_hand(model, data, tmp_path)
    assert 0.02 < expected["area"] < 0.98
    for row in (one, other):
        assert row["parameters"] == sum(array.size for array in arrays.values())
        assert row["map"] == pytest.approx(expected, abs=1e-9)
        assert {size: values["calls"] for size, values in row["batches"].items()} == {"1": 4, "2": 2}
        assert row["load_seconds"] > 0 and row["peak_mb"] > 100 and row["precision"] == "float32"
    assert one["file_mb"] == config.find_model(model).size() / 1e6 > other["file_mb"]
    assert report["data"]["pictures"] == 6 and report["machine"]["cores"] >= 1
    head, first, second, where = done.stdout.splitlines()
    assert re.split(r"  +", head.strip())[:2] == ["model", "precision"] and head.endswith("AP area")
    for line, row in zip((first, second), (one, other), strict=True):
        cells = line.split()
        assert cells[0] == row["model"] and cells[2] == f"{row['parameters']:,}"
        assert cells[-2:] == [f"{row['map'][metric]:.4f}" for metric in ("voc07", "area")]
        assert len(line) == len(head)
    assert where.startswith("on 6 pictures of val, ")
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == [model, frozen]
    assert float(rows[1]["batches_2_latency_ms_p95"]) == other["batches"]["2"]["latency_ms"]["p95"]
    assert float(rows[0]["map_area"]) == one["map"]["area"] and rows[0]["gpu_peak_mb"] == ""
    assert cv2.imread(str(tmp_path / "s.png")) is not None


def test_without_data_only_speed_is_measured(here, model, tmp_path, capsys):
    place = tmp_path / "s.json"
    benchmark_model.main([model, "--images", "1", "--batch-sizes", "1", "--json", str(place)])
    report = json.loads(place.read_text())
    assert report["data"] is None and report["models"][0]["map"] is None
    printed = capsys.readouterr()
    assert "AP" not in printed.out and "drawn pictures of the toy road" in printed.out


def test_a_limit_spreads_over_the_split_and_unreadable_pictures_count(here, model, data, tmp_path, capsys):
    broken = tmp_path / "voc"
    shutil.copytree(data, broken)
    picture = broken / "JPEGImages" / "000004.jpg"
    picture.write_bytes(picture.read_bytes()[:-1000])
    flags = ["--split", "val", "--images", "1", "--batch-sizes", "1", "--precision", "float32", "--limit", "3"]
    flags += ["--threshold", str(THRESHOLD)]
    benchmark_model.main([model, "--data", str(broken), *flags, "--json", str(tmp_path / "s.json")])
    report = json.loads((tmp_path / "s.json").read_text())
    assert report["data"]["pictures"] == 3
    assert "1 image that could not be read, counted as without detections: 000004 (" in capsys.readouterr().err
    with detector.load(model, precision="float32", threshold=THRESHOLD) as loaded:
        found = {key: loaded.detect(str(broken / "JPEGImages" / f"{key}.jpg")) for key in ("000000", "000002")}
    samples = benchmark_model.DataSet(str(broken), "val").samples(("car", "bus"))
    chosen = {key: samples[key] for key in ("000000", "000002", "000004")}
    expected = average_precision.evaluate(chosen, found, ("car", "bus"))
    assert report["models"][0]["map"]["area"] == pytest.approx(expected["area"]["mean"], abs=1e-9)


def test_a_file_of_fixed_batches_has_no_figures_for_larger_ones(here, model, tmp_path, capsys):
    path = str(tmp_path / "one.pb")
    export_model.main([model, "--output", path, "--batch", "1", "--no-check"])
    place = tmp_path / "s.json"
    benchmark_model.main([path, "--images", "1", "--batch-sizes", "1,2", "--json", str(place)])
    batches = json.loads(place.read_text())["models"][0]["batches"]
    assert batches["1"]["calls"] == 1 and batches["2"] is None
    printed = capsys.readouterr()
    assert "one.pb: takes no batch of 2; export it again with --batch free" in printed.err
    assert "n/a" in printed.out


def test_what_was_measured_is_kept_when_a_later_model_fails(here, model, data, tmp_path):
    """A file's classes are known when it is opened, so it is that late that others are seen."""
    other = tmp_path / "damaged.pb"
    other.write_bytes(b"no graph")
    place = tmp_path / "s.json"
    with pytest.raises(UserError, match=r"damaged\.pb: not a graph"):
        benchmark_model.main([model, str(other), "--images", "1", "--batch-sizes", "1", "--json", str(place)])
    assert [one["model"] for one in json.loads(place.read_text())["models"]] == [model]


def test_other_programs_that_work_meanwhile_are_said(here, model, monkeypatch, capsys):
    monkeypatch.setattr(timing.load.Others, "to_json", lambda self: {"others_busy": 1.26, "stolen": 0.0})
    benchmark_model.main([model, "--images", "1", "--batch-sizes", "1"])
    assert "other programs kept up to 1.3 cores busy meanwhile" in capsys.readouterr().err
    monkeypatch.setattr(timing.load.Others, "to_json", lambda self: {"others_busy": 0.1, "stolen": 0.0})
    benchmark_model.main([model, "--images", "1", "--batch-sizes", "1"])
    assert "cores busy" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such run directory or exported model"),
        (["MODEL", "--data", "DATA"], "--data and --split: give both"),
        (["MODEL", "--split", "val"], "--data and --split: give both"),
        (["MODEL", "--limit", "3"], "--limit: chooses pictures of a data set; give --data"),
        (["MODEL", "--valid-of", "MODEL"], "--valid-of: chooses pictures"),
        (["MODEL", "--source", "voc"], "--source: says how to read a data set; give --data"),
        (["MODEL", "--source", "auto"], "--source: says how to read a data set"),
        (["MODEL", "--other-classes", "ignore"], "--other-classes: says how to read a data set"),
        (["MODEL", "--missing-annotations", "background"], "--missing-annotations: says how to read a data set"),
        (["MODEL", "--data", "DATA", "--split", "tset"], "tset"),
        (["MODEL", "--batch-sizes", "8,1"], "--batch-sizes: '8,1' is not in rising order"),
        (["MODEL", "--batch-sizes", "1,x"], "--batch-sizes: 'x' is not a whole number above 0"),
        (["MODEL", "--images", "0"], "--images: '0' is not a whole number above 0"),
        (["MODEL", "--threshold", "2"], "--threshold: '2' is not a number from 0 to 1"),
        (["MODEL", "--plot", "x.png"], "--plot: shows accuracy against speed; give --data"),
        (["MODEL", "--data", "DATA", "--split", "val", "--plot", "x.jpg"], "--plot x.jpg: .*ends in .png"),
        (["MODEL", "--json", "x", "--csv", "x"], "--csv x: is the file of --json; choose another name"),
        (["m.onnx", "--json", "m.onnx"], "--json m.onnx: is the file of MODEL; choose another name"),
        (["MODEL", "--json", "."], "--json: '.' is not the name of a file"),
        (["MODEL", "--jsn", "x"], "--jsn: no such argument, did you mean --json"),
        ([], "MODEL"),
    ],
)
def test_wrong_calls_end_with_one_line_before_anything_loads(arguments, message, model, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark_model.formats, "missing", lambda packages: [])
    monkeypatch.setattr(own_process, "messages", lambda task: pytest.fail("a model was loaded"))
    (tmp_path / "m.onnx").write_bytes(b"")
    words = [{"MODEL": model, "DATA": data}.get(word, word) for word in arguments]
    with pytest.raises(UserError, match=message):
        benchmark_model.main(words)


def test_classes_that_a_model_does_not_have_are_said_before_it_is_loaded(trained, data, monkeypatch):
    monkeypatch.setattr(own_process, "messages", lambda task: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match="--other-classes ignore"):
        benchmark_model.main([str(trained), "--data", data, "--split", "val"])


def test_classes_of_a_file_are_compared_when_it_is_opened_and_end_its_process(data, monkeypatch, tmp_path):
    (tmp_path / "m.pb").write_bytes(b"")
    ended = []

    def messages(task):
        try:
            yield "loaded", {"class_names": ("disc", "square"), "checkpoint": None, "checkpoint_bytes": None}
            pytest.fail("the process goes on")
        finally:
            ended.append(task.model)

    monkeypatch.setattr(own_process, "messages", messages)
    with pytest.raises(UserError, match="--other-classes ignore") as held:  # as the program does until it has exited
        benchmark_model.main([str(tmp_path / "m.pb"), "--data", data, "--split", "val"])
    assert ended == [str(tmp_path / "m.pb")] and held.tb


def test_a_format_without_its_package_is_said_before_anything_is_measured(model, tmp_path, monkeypatch):
    (tmp_path / "m.onnx").write_bytes(b"")
    monkeypatch.setattr(benchmark_model.formats, "missing", list)
    with pytest.raises(UserError, match=r"m\.onnx: needs onnxruntime; pip install -r requirements-export.txt"):
        benchmark_model.main([model, str(tmp_path / "m.onnx")])


def test_a_file_is_tried_before_anything_is_measured(model, tmp_path, monkeypatch):
    """Its first run in a process with limits would count as time to load it."""
    (tmp_path / "m.tflite").write_bytes(b"any")
    monkeypatch.setattr(own_process, "messages", lambda task: pytest.fail("a model was measured"))
    monkeypatch.setattr(benchmark_model.file_probe, "COMMAND", (sys.executable, "-c", "print('no'); exit(3)"))
    with pytest.raises(UserError, match=r"^no$"):
        benchmark_model.main([model, str(tmp_path / "m.tflite")])


def test_the_checkpoint_is_the_one_that_was_loaded(model, tmp_path, monkeypatch):
    """A training that goes on replaces it while other models are measured, and then that one too."""
    run = tmp_path / "run"
    shutil.copytree(model, run)
    source = config.find_model(str(run))
    older = Path(source.checkpoint).parent
    newer = older.with_name("step-00000099")
    facts = {"class_names": source.class_names, "preset": source.description.preset, "precision": "float32"}
    rest = {"batches": {1: None}, "peak_mb": 1, "gpu_peak_mb": None, "others_busy": 0, "stolen": 0}

    def messages(task):
        older.rename(newer)
        loaded = {"checkpoint": str(newer / Path(source.checkpoint).name), "checkpoint_bytes": size + 1}
        shutil.rmtree(newer)
        yield "loaded", {**facts, **loaded, "load_seconds": 1}
        yield "timed", rest
        yield "detected", []

    monkeypatch.setattr(own_process, "messages", messages)
    place, size = tmp_path / "s.json", source.size()
    benchmark_model.main([str(run), "--batch-sizes", "1", "--json", str(place)])
    (measured,) = json.loads(place.read_text())["models"]
    assert (measured["checkpoint"], measured["file_mb"]) == (newer.name, (size + 1) / 1e6)
