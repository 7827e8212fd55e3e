"""A run and a graph of release 0.1.0 still work: they load, resume, are fine-tuned and exported, and detect the same.

tests/fixtures/release_0_1_0 was made at commit 1b1dd90: `train.py` for one epoch with `--ema 0.9` on the pictures of
`write_shapes(root, {"train": 10, "val": 4})` with `programs.TINY`, `export_model.py` of it, and the detections.json of
`infer.py --data … --split val --threshold 0.01`. `check_dataset.py --anchors` wrote the anchors, for the small objects
of `write_shapes(root, {"train": 10, "val": 4}, size=(900, 500))`.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest

import ssd_utils
from dataset_check import anchor_advisor
from programs import TINY, run, write_shapes

RELEASE = pathlib.Path(__file__).parent / "fixtures" / "release_0_1_0"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("release"), {"train": 10, "val": 4})


@pytest.fixture
def old_run(data, tmp_path):
    """A copy of the run that knows where the pictures are now."""
    shutil.copytree(RELEASE / "run", tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text("utf-8"))
    config["training"]["data"] = str(data)
    path.write_text(json.dumps(config), "utf-8")
    return tmp_path / "run"


def assert_same_detections(path):
    """The detections of a file are those that the release wrote."""
    found, wanted = (json.loads(file.read_text("utf-8"))["images"] for file in (path, RELEASE / "detections.json"))
    assert [image["file"] for image in found] == [image["file"] for image in wanted]
    for mine, theirs in zip(found, wanted, strict=True):
        assert [one["class"] for one in mine["detections"]] == [one["class"] for one in theirs["detections"]]
        for key, tolerance in (("score", 1e-4), ("box", 1e-2)):
            values = ([one[key] for one in image["detections"]] for image in (mine, theirs))
            np.testing.assert_allclose(*values, rtol=0, atol=tolerance)


@pytest.mark.parametrize("model", ["run", "model.pb"])
def test_a_model_detects_the_same(model, data, tmp_path):
    out = tmp_path / "found"
    run("infer.py", RELEASE / model, "--data", data, "--split", "val", "--output", out, "--no-draw")
    assert_same_detections(out / "detections.json")


def test_a_run_is_exported_to_the_same_detector(data, tmp_path):
    run("export_model.py", RELEASE / "run", "--output", tmp_path / "new.pb")
    run("infer.py", tmp_path / "new.pb", "--data", data, "--split", "val", "--output", tmp_path / "found", "--no-draw")
    assert_same_detections(tmp_path / "found" / "detections.json")


def test_a_run_goes_on(old_run):
    done = run("train.py", "--run", old_run, "--resume", "--epochs", "2")
    assert "done after 6 steps" in done.stdout
    rows = (old_run / "metrics.csv").read_text("utf-8").splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [["1", "3"], ["2", "6"]]


def test_a_run_is_fine_tuned(data, tmp_path):
    flags = [flag for flag in TINY if flag not in ("--width", "0.03")]
    at = tmp_path / "tuned"
    done = run(
        "train.py",
        "--data",
        data,
        "--train",
        "train",
        "--init-from",
        RELEASE / "run",
        *flags,
        "--max-steps",
        "1",
        "--run",
        at,
    )
    assert "classes kept: disc, square" in done.stdout
    assert (at / "checkpoints" / "index.json").exists()


def test_its_detections_are_scored(data, tmp_path):
    figures = tmp_path / "ap.json"
    run("average_precision.py", RELEASE / "detections.json", "--data", data, "--split", "val", "--json", figures)
    assert json.loads(figures.read_text("utf-8"))["images"] == 4


def test_its_anchors_are_read():
    preset = anchor_advisor.read_anchors(str(RELEASE / "anchors.json"), ssd_utils.get_preset("vgg300"))
    assert preset.min_sizes == (18.7, 22.6, 30.5, 68.2, 114.3, 191.5)
    assert preset.max_sizes == (22.6, 30.5, 68.2, 114.3, 191.5, 321.0)
    assert preset.aspect_ratios == ((1.5,), (2, 3), (2, 3), (2, 3), (2,), (2,))
