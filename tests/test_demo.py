"""What the demo calls, and whether its detector learns (minutes: `pytest -m slow`)."""

import json
import os
from pathlib import Path

import pytest

import demo
from programs import run, value_of
from structures import UserError
from system import chain, files
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
    "drive_tracks.png",
)
DRIVE = {
    "timing": {"end_to_end": {"frames_per_second": 9.0}},
    "tracks": [{}, {}, {}],
    "counts": {"lines": [{"in": {"car": 2}, "out": {}}]},
    "track_scores": {"hota": 0.8},
}


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """calls(*flags): the arguments of the programs that a demo below tmp_path calls, {program: [argument]}."""
    monkeypatch.setattr(demo.cpu, "bfloat16_is_faster", lambda: False)
    place = demo.Place(tmp_path)
    files.write_json(place.scores, {"voc07": {"mean": 0.8, "per_class": {"car": 0.8}}, "images": 1})
    files.write_json(place.timeline, DRIVE)

    def run_demo(*flags):
        called = {}

        def call(program, *arguments):
            called[program] = [str(one) for one in arguments]
            if program == "train.py":
                files.write(os.path.join(place.run, "config.json"), "{}")
                files.write(os.path.join(place.run, "metrics.csv"), "step,images_per_second\n1,1\n")

        monkeypatch.setattr(chain, "call", call)
        demo.main(["--root", str(tmp_path), *flags])
        return called

    return run_demo


def test_more_steps_continue_the_run(calls):
    first, more, again = (calls(*flags)["train.py"] for flags in ((), ("--steps", "1000"), ()))
    assert value_of(first, "--max-steps") == str(demo.SLOW.steps) and "--resume" not in first
    assert value_of(more, "--max-steps") == "1000" and "--resume" in more
    assert "--resume" in again and "--max-steps" not in again  # up to the number that the run has stored


def test_pictures_that_were_drawn_are_used(tmp_path, calls):
    """Otherwise a trial with --images would block `make demo` for good."""
    called = calls("--images", "3", "--steps", "9")
    assert (value_of(called["toy_road"], "--train"), value_of(called["train.py"], "--max-steps")) == ("3", "9")
    dataset.write_dataset(demo.Place(tmp_path).data, train=3, test=1, workers=0)
    assert value_of(calls()["toy_road"], "--train") == "3"
    with pytest.raises(UserError, match=r"--images 4: .* 3\b.*--root"):
        calls("--images", "4")


@pytest.mark.parametrize("text", ["{}", '{"train": "x"}', "[" * 100_000, '{"train": 0}'])
def test_a_damaged_manifest_is_named(tmp_path, calls, text):
    manifest = Path(demo.Place(tmp_path).data) / dataset.MANIFEST
    manifest.parent.mkdir(parents=True)
    manifest.write_text(text)
    with pytest.raises(UserError, match=rf"^{manifest}: ") as error:
        calls()
    assert "\n" not in str(error.value)


def test_the_end_says_what_to_look_at_and_what_to_do_next(tmp_path, calls, capsys):
    calls()
    end = capsys.readouterr().out.partition("Look first at")[2]
    place = demo.Place(tmp_path)
    assert end.index(place.annotated) < end.index(f"{place.plots}/errors.html") < end.index("then at")
    for path in (f"{place.inference}/images", f"{place.plots}/report.html", place.model):
        assert path in end
    assert f"{place.run}/plots/learning_curves.png" in end and place.tracks in end
    for program in ("infer.py ssd300-coco", "check_dataset.py --data", "train.py --data"):
        assert program in end.partition("With your own pictures")[2]


@pytest.mark.slow
def test_demo_learns_and_leaves_what_the_interface_names(tmp_path):
    run("demo.py", "--root", tmp_path)
    scores = json.loads((tmp_path / "ap.json").read_text("utf-8"))
    assert scores["voc07"]["mean"] >= 0.80
    assert not [name for name in LEFT if not (tmp_path / name).exists()]
    drive = json.loads((tmp_path / "drive.json").read_text("utf-8"))
    assert len(drive["frames"]) == 250 and drive["track_scores"]["hota"] >= 0.7
    assert drive["counts"]["lines"][0]["in"].get("car", 0) >= 2  # three come from the left


def test_a_file_is_no_folder_for_the_demo(tmp_path):
    (tmp_path / "model.pb").write_bytes(b"")
    with pytest.raises(UserError, match=r"^--root: .*model.pb"):
        demo.main(["--root", str(tmp_path / "model.pb")])
