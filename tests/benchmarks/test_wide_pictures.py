"""benchmarks/wide_pictures.py: what it cuts is a data set for train.py, and a pair differs in the input alone."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import bench_harness
import wide_pictures

import sources
import ssd_layers
import ssd_utils
from conversion import coco_writer, records
from structures import Sample
from system import chain, files
from toy_road.town import CLASSES


def test_objects_keep_their_place_in_the_rows_that_are_cut_out(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (360, 480, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image[:, :, ::-1])
    boxes_px = np.array([[10, 100, 50, 200], [0, 20, 90, 80], [0, 0, 90, 85], [100, 300, 140, 360]])
    boxes = (boxes_px / [480, 360, 480, 360]).astype(np.float32)
    labels = np.array([2, 1, 0, 3], np.int32)
    sample = Sample("a", str(tmp_path / "a.png"), boxes, labels, np.zeros(4, bool), 480, 360)
    (tmp_path / "wide" / "test").mkdir(parents=True)
    (tmp_path / "wide" / "annotations").mkdir()
    cut = wide_pictures.cut(sample, 16 / 9, str(tmp_path / "wide" / "test"))
    assert (cut.width, cut.height) == (480, 270)  # rows 45 to 315
    # The third lies above them by 45 of its 85 rows, the last below them by 45 of 60
    coco_writer.write(str(tmp_path / "wide"), [records.Part("test", [cut])], CLASSES)
    (read,) = sources.load(str(tmp_path / "wide"), "test", CLASSES)
    assert read.labels.tolist() == [2, 1]
    np.testing.assert_allclose(read.boxes_px, [[10, 55, 50, 155], [0, 0, 90, 35]], atol=1e-3)
    np.testing.assert_array_equal(cv2.imread(read.image_path)[:, :, ::-1], image[45:315])


def test_both_networks_of_a_pair_cost_the_same():
    across, down = map(int, wide_pictures.SQUARE.split("x"))
    for wanted in wide_pictures.INPUTS.values():
        width, height = map(int, wanted.split("x"))
        assert width * height == pytest.approx(across * down, rel=0.03)
        assert ssd_layers.for_input(ssd_utils.PRESETS["vgg300"], width, height).input_wh == (width, height)


def test_a_pair_differs_in_the_input_alone(tmp_path, monkeypatch, capsys):
    called = []

    def call(program, *words):
        called.append([program, *map(str, words)])
        if program == "average_precision.py":
            ap = {"mean": 0.5, "per_class": {**dict.fromkeys(CLASSES, 0.25), CLASSES[-1]: None}}
            files.write_json(words[words.index("--json") + 1], {"voc07": ap})
        if program == "train.py":
            Path(words[words.index("--run") + 1]).mkdir()

    at = bench_harness.named(bench_harness.commit())
    monkeypatch.setattr(chain, "call", call)
    monkeypatch.setattr(chain, "last_metrics", lambda run: {"images_per_second": "7"})
    monkeypatch.setattr(wide_pictures.dataset, "write_dataset", lambda *_: None)
    (tmp_path / "16:9").mkdir()
    wide_pictures.main(["--root", str(tmp_path), "--steps", "5", "--shapes", "16:9,16:9"])
    wide, square = (
        [word.replace(name, "INPUT") for word in words]
        for name, words in zip(("512x288", "384x384"), called[::3], strict=True)
    )
    assert wide == square and "--input" in wide
    flags = [word for word in wide if word.startswith("--")]
    assert len(set(flags)) == len(flags)
    rows = json.loads((tmp_path / "wide_pictures.json").read_text("utf-8"))["rows"]
    assert [row["input"] for row in rows] == ["512x288", "384x384"]
    assert "| 16:9 | 512x288 | 0 | 0.500 | 0.250 | 0.250 | 0.250 | n/a | 7.0 |" in capsys.readouterr().out
    # What is trained is skipped, and keeps its commit
    monkeypatch.setattr(bench_harness, "commit", lambda: "later")
    wide_pictures.main(["--root", str(tmp_path), "--steps", "5", "--shapes", "16:9"])
    assert len(called) == 6 and f"commit later (trained at {at})" in capsys.readouterr().out
