"""The demo, with its real settings: does the detector learn? (Minutes: `pytest -m slow`.)"""

import json

import pytest

from programs import run

LEFT = ("data/VOC2007", "data/drive.mp4", "run/config.json", "inference/detections.json", "ap.json", "model.pb",
        "drive_annotated.mp4", "drive.json")  # fmt: skip


@pytest.mark.slow
def test_demo_learns_and_leaves_what_the_interface_names(tmp_path):
    run("demo.py", "--root", tmp_path)
    scores = json.loads((tmp_path / "ap.json").read_text("utf-8"))
    assert scores["voc07"]["mean"] >= 0.80
    assert not [name for name in LEFT if not (tmp_path / name).exists()]
    assert len(json.loads((tmp_path / "drive.json").read_text("utf-8"))["frames"]) == 250
