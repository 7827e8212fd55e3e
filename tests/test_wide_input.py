"""--input: networks for pictures that are not square, from training to exported files."""

import json
import shutil

import cv2
import numpy as np
import pytest

import config
import detector
from export_cases import assert_three_detections, lines_of_the_documents
from media import images
from programs import ROOT, TINY, error_of, run


@pytest.fixture(scope="module")
def wide(shapes, tmp_path_factory):
    """A run of 2 steps whose network takes 448×288 pixels."""
    path = tmp_path_factory.mktemp("wide") / "run"
    flags = ["--data", shapes, "--train", "train", "--valid", "val", *TINY, "--input", "448x288", "--max-steps", "2"]
    done = run("train.py", *flags, "--run", path)
    assert done.stdout.startswith("vgg300-448x288, width 0.03")
    return path


def test_detections_cover_the_picture(wide, shapes, tmp_path):
    preset = config.find_model(str(wide)).description.preset
    assert (preset.input_wh, preset.grids[0], preset.grids[-1]) == ((448, 288), (36, 56), (1, 3))
    picture = images.read(str(shapes / "JPEGImages" / "val_000.png"))
    with detector.load(str(wide), threshold=0.01, precision="float32") as loaded:
        assert loaded.prepare(picture).shape == (288, 448, 3)
        found = loaded.detect(picture)
        prepared = loaded.detect_prepared(loaded.prepare(picture)[None], [(120, 90)])[0]
    assert len(found) == 200
    np.testing.assert_array_equal(found.boxes_px, prepared.boxes_px)
    assert (found.boxes_px >= 0).all() and (found.boxes_px <= (120, 90, 120, 90)).all()
    centers = (found.boxes_px[:, :2] + found.boxes_px[:, 2:]) / 2
    assert (np.ptp(centers, axis=0) > (60, 45)).all()
    run("infer.py", wide, shapes / "JPEGImages" / "val_000.png", "--output", tmp_path, "--threshold", "0.01")
    assert len(json.loads((tmp_path / "detections.json").read_text())["images"][0]["detections"]) == 200


def test_exported_files_take_the_input_of_the_run(wide, shapes, tmp_path):
    picture = tmp_path / "pictures" / "val_000.png"
    picture.parent.mkdir()
    shutil.copy(shapes / "JPEGImages" / picture.name, picture)
    flags = ["--format", "frozen,savedmodel", "--output", tmp_path / "model", "--check-data", picture.parent]
    done = run("export_model.py", wide, *flags)  # which refuses a file that detects other things than the run
    assert done.stdout.count("200 detections on 1 picture matched, 0 not") == 2, done.stdout
    with detector.load(str(tmp_path / "model.pb")) as loaded:
        assert loaded.prepare(images.read(str(picture))).shape == (288, 448, 3)


def test_the_lines_of_the_documents_take_the_input_of_the_run(wide, shapes, tmp_path, capsys):
    run("export_model.py", wide, "--output", tmp_path / "model.pb", "--precision", "float32", "--no-check")
    picture = shapes / "JPEGImages" / "val_000.png"
    exec(lines_of_the_documents(picture, tmp_path / "model.pb"), {})
    assert_three_detections(capsys.readouterr().out, wide, picture)


def test_the_file_for_opencv_has_both_sides_of_the_input(wide, tmp_path, monkeypatch):
    """docs/deploy.md writes them, docs/detect.cpp reads them; tests/exports/test_model_files.py compiles it."""
    page = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    (lines,) = (block.split("```")[0] for block in page.split("```python\n")[1:])
    monkeypatch.chdir(tmp_path)
    exec(lines.replace('"RUN"', repr(str(wide))), {})
    about = cv2.FileStorage("street.yml", cv2.FILE_STORAGE_READ)
    assert [about.getNode(name).real() for name in ("width", "height")] == [448, 288]
    read = (ROOT / "docs" / "detect.cpp").read_text("utf-8")
    assert 'cv::Size((int)about["width"], (int)about["height"])' in read


def test_a_resume_keeps_the_input(wide):
    error = error_of("train.py", "--run", wide, "--resume", "--input", "320x288")
    assert error == "error: --input 320x288: the run was started with 448x288; leave it out to resume"


def test_weights_of_another_input_are_a_start(wide, shapes, tmp_path):
    flags = ["--data", shapes, "--train", "train", "--batch-size", "4", "--workers", "1", "--max-steps", "1"]
    done = run("train.py", *flags, "--init-from", wide, "--input", "320x288", "--run", tmp_path / "run")
    assert "\nvgg300-320x288, width 0.03" in done.stdout


def test_anchors_are_fitted_to_the_input(wide, shapes, tmp_path):
    path = tmp_path / "anchors.json"
    run("check_dataset.py", "--data", shapes, "--input", "448x288", "--anchors", path)
    assert json.loads(path.read_text())["input_size"] == [448, 288]
    error = error_of(
        "train.py", "--data", shapes, "--train", "train", *TINY, "--anchors", path, "--run", tmp_path / "r"
    )
    assert "these anchors are for an input of [448, 288], vgg300 has 300" in error
