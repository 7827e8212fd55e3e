"""The demo, with its real settings: does the detector learn? (Minutes: `pytest -m slow`.)"""

import dataclasses
import json

import pytest

import demo
from programs import run
from structures import UserError
from system import chain
from toy_road import dataset

LEFT = (
    "data/VOC2007",
    "data/drive.mp4",
    "run/config.json",
    "inference/detections.json",
    "ap.json",
    "model.pb",
    "drive_annotated.mp4",
    "drive.json",
)


def test_more_steps_go_on_from_where_it_stands(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(chain, "call", lambda *arguments: calls.append([str(one) for one in arguments]))
    place = demo.Place(tmp_path)
    demo._train(place, [], demo.SLOW, None)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").touch()
    demo._train(place, [], dataclasses.replace(demo.SLOW, steps=1000), 1000)
    limits = [call[call.index("--max-steps") + 1] for call in calls]
    assert limits == [str(demo.SLOW.steps), "1000"] and "--resume" in calls[1]
    demo._train(place, [], demo.SLOW, None)  # to what the run remembers
    assert "--resume" in calls[2] and "--max-steps" not in calls[2]


def test_pictures_that_were_drawn_are_used(tmp_path):
    """Else a trial with --images would be in the way of `make demo` for good."""
    flags = demo._parse(["--root", str(tmp_path), "--images", "3", "--steps", "9"])
    assert (demo._plan(flags).images, demo._plan(flags).steps) == (3, 9)
    dataset.write_dataset(demo.Place(tmp_path).data, train=3, test=1, workers=0)
    assert demo._plan(demo._parse(["--root", str(tmp_path)])).images == 3
    with pytest.raises(UserError, match=r"--images 4: .* holds 3; leave it out, or give a new --root"):
        demo._plan(demo._parse(["--root", str(tmp_path), "--images", "4"]))


@pytest.mark.slow
def test_demo_learns_and_leaves_what_the_interface_names(tmp_path):
    run("demo.py", "--root", tmp_path)
    scores = json.loads((tmp_path / "ap.json").read_text("utf-8"))
    assert scores["voc07"]["mean"] >= 0.80
    assert not [name for name in LEFT if not (tmp_path / name).exists()]
    assert len(json.loads((tmp_path / "drive.json").read_text("utf-8"))["frames"]) == 250
