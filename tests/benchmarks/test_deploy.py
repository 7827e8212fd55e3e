"""benchmarks/deploy.py: every format that can run has a row, and what is left out is named. No times are checked."""

import json
import shutil
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import deploy
import deploy_worker

import average_precision
import detector
import export_model
import source_pascal_voc
from structures import Detections, UserError
from system import load


class InThisProcess:
    """A bench_harness.Side that needs no process of its own: TensorFlow is loaded once for all."""

    def __init__(self, script, task, options):
        assert (script, task) == ("deploy_worker.py", "model")
        self.facts, self._run = deploy_worker.model(**json.loads(json.dumps(options)))

    def run(self):
        return {"peak_mb": 1.0, **self._run()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        deploy_worker.stack.close()


@pytest.fixture
def measured(monkeypatch, shapes, trained, tmp_path):
    """(header, lines, page) of a benchmark of two formats, of which one is exported wrongly and one has no package."""

    def export(flags, path, name, precision):
        export_model.main(deploy._export_words(flags, path, name, precision))

    form = deploy.formats.FORMATS["onnx"]._replace(to_run=("no_such_package",))
    monkeypatch.setitem(deploy.formats.FORMATS, "onnx", form)
    monkeypatch.setattr(deploy, "Side", InThisProcess)
    monkeypatch.setattr(deploy, "_export", export)
    output = tmp_path / "formats"
    flags = ["--data", str(shapes), "--split", "val", "--limit", "3", "--rounds", "1", "--output", str(output)]
    deploy.main([str(trained), *flags, "--format", "tflite,onnx", "--precision", "float32,float16"])
    header, *lines = map(json.loads, (tmp_path / "formats.jsonl").read_text("utf-8").splitlines())
    return header, lines, (tmp_path / "formats.md").read_text("utf-8")


def test_each_row_has_its_figures(measured, shapes, trained):
    header, lines, page = measured
    assert [(line["format"], line["precision"]) for line in lines] == [
        ("run", "float32"),
        ("tflite", "float32"),
        ("tflite", "float16"),
    ]
    assert lines[1]["mb"] > 1.7 * lines[2]["mb"] > 0
    for line in lines:
        assert line["load_seconds"] > 0 and line["images_per_second"].keys() == {"1", "8"}
    run, whole, half = (line["difference"] for line in lines)
    assert run is None and whole["matched"] > 0 and whole["unmatched"] == 0
    assert whole["score"] < 1e-4 and half["score"] > whole["score"]
    assert header["pictures"] == 3 and header["left_out"].keys() == {"onnx"}
    assert lines[0]["map"] == pytest.approx(100 * score(shapes, trained), abs=0.006)
    assert "Left out: onnx (needs " in page and "no_such_package" in page
    assert page.count("\n| tflite | float") == 2


def score(shapes, trained):
    """The run's mAP on every second picture of the split, picture by picture."""
    names = ("disc", "square")
    samples = source_pascal_voc.load(str(shapes), "val", names)[::2]
    with detector.load(str(trained), precision="float32", threshold=deploy.THRESHOLD) as loaded:
        found = {sample.id: loaded.detect(sample.image_path) for sample in samples}
    return average_precision.evaluate({sample.id: sample for sample in samples}, found, names)["area"]["mean"]


def test_detections_reach_the_program_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    written = [
        Detections(rng.random((count, 4), np.float32), rng.random(count, np.float32), np.arange(count, dtype=np.int32))
        for count in (2, 0, 3)
    ]
    deploy_worker._write(tmp_path / "found.npz", written)
    read = deploy_worker.read(tmp_path / "found.npz")
    assert len(read) == 3
    for one, other in zip(written, read, strict=True):
        for name in ("boxes_px", "scores", "labels"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_loaded_machine_is_said():
    line = {
        "format": "run",
        "precision": "float32",
        "mb": 1.0,
        "load_seconds": 1.0,
        "images_per_second": {"1": {"median": 2.0}, "8": {"median": 3.0}},
        "map": 50.0,
        "difference": None,
        "machine": {"others_busy": 0.01},
    }
    header = {"command": "c", "commit": "a", "pictures": 1, "split": "val", "left_out": {}}
    header["machine"] = load.machine()
    assert "cores busy" not in deploy.page(header, [line])
    busy = {**line, "machine": {"others_busy": 1.5}}
    assert "up to 1.50 cores busy: the times mean little" in deploy.page(header, [line, busy])


def test_an_export_that_fails_ends_with_its_message(tmp_path):
    with pytest.raises(UserError, match=r"frozen float32: not exported: error: .*nowhere"):
        flags = types.SimpleNamespace(model=str(tmp_path / "nowhere"))
        deploy._export(flags, str(tmp_path / "m.pb"), "frozen", "float32")


def test_an_export_that_is_killed_is_named(tmp_path, monkeypatch):
    done = types.SimpleNamespace(returncode=-9, stderr="", stdout="")
    monkeypatch.setattr(deploy.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(UserError, match="frozen float32: not exported: exit code -9"):
        deploy._export(types.SimpleNamespace(model="m"), str(tmp_path / "m.pb"), "frozen", "float32")


def test_formats_that_fail_and_pictures_that_cannot_be_read_cost_no_other_row(
    shapes, trained, tmp_path, monkeypatch, capsys
):
    data = shutil.copytree(shapes, tmp_path / "data")
    cut = next(path for path in sorted((data / "JPEGImages").iterdir()) if path.stem in _ids(data, "val"))
    jpeg = cv2.imencode(".jpg", cv2.imread(str(cut)))[1].tobytes()
    cut.write_bytes(jpeg[: len(jpeg) // 2])  # whose header is whole

    def export(flags, path, name, precision):
        if precision == "float16":
            raise UserError("tflite float16: not exported: no memory")
        export_model.main(deploy._export_words(flags, path, name, precision))

    class Killed(InThisProcess):
        def __init__(self, script, task, options):
            if options["precision"] == "bfloat16":
                raise RuntimeError("deploy_worker.py model ended with exit code -9")
            super().__init__(script, task, options)

    monkeypatch.setattr(deploy, "Side", Killed)
    monkeypatch.setattr(deploy, "_export", export)
    flags = ["--data", str(data), "--split", "val", "--rounds", "1", "--output", str(tmp_path / "f")]
    deploy.main([str(trained), *flags, "--format", "tflite,frozen", "--precision", "float32,float16,bfloat16"])
    page, said = (tmp_path / "f.md").read_text("utf-8"), capsys.readouterr().err
    assert "\n| run | float32 |" in page and "\n| tflite | float32 |" in page and "\n| frozen | float32 |" in page
    assert "tflite float16 (tflite float16: not exported: no memory)" in page
    assert "frozen bfloat16 (deploy_worker.py model ended with exit code -9)" in page
    assert (
        said.count(f"warning: 1 picture that could not be read, counted as without detections: cannot read {cut}") == 1
    )


def _ids(data, split):
    return (data / "ImageSets" / "Main" / f"{split}.txt").read_text().split()


def test_pictures_of_which_none_can_be_read_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r"none of the pictures can be read \(.*a\.jpg"):
        deploy_worker._some([(str(tmp_path / "a.jpg"), False)])


def test_precisions_that_no_format_has(shapes, trained, tmp_path):
    flags = ["--data", str(shapes), "--split", "val", "--output", str(tmp_path / "x")]
    with pytest.raises(UserError, match="--precision bfloat16: tflite has none of them"):
        deploy.main([str(trained), *flags, "--format", "tflite", "--precision", "bfloat16"])


def test_int8_is_exported_with_the_same_pictures(shapes, trained, tmp_path, monkeypatch):
    """Where it loses too much, or what it needs is missing, the table says so and has the other rows."""
    exported = []

    def export(flags, path, name, precision):
        if precision == "int8":
            exported.append(deploy._export_words(flags, path, name, precision))
            raise UserError("loses 9.00 points")
        export_model.main(deploy._export_words(flags, path, name, precision))

    monkeypatch.setattr(deploy, "Side", InThisProcess)
    monkeypatch.setattr(deploy, "_export", export)
    flags = ["--data", str(shapes), "--split", "val", "--limit", "2", "--rounds", "1", "--output", str(tmp_path / "f")]
    flags = [str(trained), *flags, "--format", "tflite", "--precision", "float32,int8"]
    deploy.main([*flags, "--calibration-split", "train"])
    (words,) = exported
    assert export_model._parse(words).limit == 2 and export_model._parse(words).calibration_split == "train"
    page = (tmp_path / "f.md").read_text("utf-8")
    assert "Left out: tflite int8 (loses 9.00 points)." in page and "\n| tflite | float32 |" in page
    form = deploy.formats.FORMATS["tflite"]._replace(to_write_int8=("no_such_package",))
    assert deploy._needs_for_int8(form, deploy._parse(flags)) == "no_such_package"
    assert deploy._plan(deploy._parse(flags))[1] == {"tflite int8": "needs --calibration-split"}
