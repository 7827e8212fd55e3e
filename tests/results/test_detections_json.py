"""detections.json: nothing is lost, nothing malformed is accepted."""

import json
import os

import numpy as np
import pytest

from result_cases import NAMES, assert_same_to_a_hundredth
from results import detections_json
from results.result_files import Source
from structures import Detections, UserError


def write_json(path, images, **settings):
    settings = {"model": "runs/x", "class_names": NAMES, "threshold": 0.01, **settings}
    with detections_json.Writer(path, **settings) as writer:
        for key, found in images.items():
            writer.add(f"sub/{key}.jpg", 500, 375, found)
        writer.error("broken.jpg", "cut short")


def test_json_keeps_everything_but_the_third_decimal_of_boxes(tmp_path, images):
    path = tmp_path / "new" / "detections.json"
    write_json(path, images)
    read = detections_json.read(path)
    assert (read.class_names, read.threshold, read.source) == (NAMES, 0.01, Source("runs/x"))
    assert read.errors == {"broken": "cut short"}
    assert read.sizes == dict.fromkeys(images, (500, 375))
    assert list(read.detections) == list(images)
    for key, found in images.items():
        assert_same_to_a_hundredth(read.detections[key], found)


def test_json_says_what_made_it_and_from_what(tmp_path):
    source = {"model": "runs/x", "checkpoint": "step-5", "precision": "float32", "data": "/data", "split": "val"}
    write_json(tmp_path / "d.json", {}, **source)
    assert detections_json.read(tmp_path / "d.json").source == Source(**source)
    assert detections_json.is_ours(tmp_path / "d.json")
    assert str(Source(**source)) == "runs/x (step-5, float32) on val of /data"
    # Of another program, and damaged
    path = tmp_path / "other.json"
    for more, found in (({}, None), ({"model": 3}, None), ({"model": "m", "split": [1]}, Source("m"))):
        path.write_text(json.dumps({"class_names": [], "images": [], **more}), "utf-8")
        assert detections_json.read(path).source == found


def test_json_has_the_layout_of_the_interface(tmp_path):
    path = tmp_path / "d.json"
    found = Detections(np.float32([[1, 2, 3.5, 4]]), np.float32([0.5]), np.int32([1]))
    write_json(path, {"a": found})
    assert json.loads(path.read_text()) == {
        "model": "runs/x",
        "class_names": list(NAMES),
        "threshold": 0.01,
        "images": [
            {
                "file": "sub/a.jpg",
                "width": 500,
                "height": 375,
                "detections": [{"class": "traffic light", "score": 0.5, "box": [1.0, 2.0, 3.5, 4.0]}],
            }
        ],
        "errors": [{"file": "broken.jpg", "reason": "cut short"}],
    }


def test_json_appears_only_when_complete(tmp_path, images):
    path = tmp_path / "d.json"
    writer = detections_json.Writer(path, model="m", class_names=NAMES, threshold=0)
    writer.add("a.jpg", 1, 1, images["one"])
    assert not path.exists()
    writer.close()
    assert os.listdir(tmp_path) == ["d.json"]


def test_interrupted_json_keeps_what_is_there(tmp_path, images):
    path = tmp_path / "d.json"
    with (
        pytest.raises(KeyboardInterrupt),
        detections_json.Writer(path, model="m", class_names=NAMES, threshold=0) as writer,
    ):
        writer.add("one.jpg", 9, 9, images["one"])
        raise KeyboardInterrupt
    assert_same_to_a_hundredth(detections_json.read(path).detections["one"], images["one"])


def test_earlier_file_survives_a_failure(tmp_path, images):
    write_json(tmp_path / "d.json", images)
    before = (tmp_path / "d.json").read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "d.json", {"a": Detections(np.full((1, 4), np.nan), np.ones(1), np.zeros(1, int))})
    assert (tmp_path / "d.json").read_bytes() == before


def test_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file") as error:
        detections_json.Writer(tmp_path / "file" / "d.json", model="m", class_names=NAMES, threshold=0)
    assert "\n" not in str(error.value) and str(tmp_path / "file") in str(error.value)


def damaged(**changes):
    """A valid file with parts replaced; a path like images.0.detections.1.score names the part."""
    box = [1, 2, 3, 4]
    entries = [{"class": "car", "score": score, "box": list(box)} for score in (0.9, 0.8)]
    images = [{"file": f"{name}.jpg", "width": 5, "height": 5, "detections": entries} for name in "ab"]
    data = json.loads(json.dumps({"class_names": ["car"], "threshold": 0.1, "images": images, "errors": []}))
    for path, value in changes.items():
        *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        target = data
        for key in parents:
            target = target[key]
        target[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("class_names", None, "'class_names'"),
        ("class_names", ["car", "car"], "'class_names' ['car', 'car']"),
        ("class_names", ["car", 7], "'class_names' ['car', 7]"),
        ("class_names", ["bus"], "images[0] (a.jpg): detections[0]: class 'car'"),
        ("images", {}, "'images'"),
        ("images", None, "no 'images'; give a detections.json or the folder"),
        ("images.1", 7, "images[1]"),
        ("images.1", {}, "images[1] has no 'file'"),
        ("images.1.file", "b/a.png", "images[1] (b/a.png)"),
        ("images.1.file", 7, "images[1]: 'file' is 7"),
        ("images.1.width", "5", "images[1] (b.jpg): 'width' is '5'"),
        ("images.1.detections", None, "images[1] (b.jpg): 'detections' is None"),
        ("images.1.detections.1", None, "images[1] (b.jpg): detections[1]"),
        ("images.1.detections.1", {"class": "car", "score": 1}, "detections[1] has no 'box'"),
        ("images.1.detections.1.score", "high", "detections[1]: 'score' is 'high'"),
        ("images.1.detections.1.score", float("nan"), "detections[1]: score nan"),
        ("images.1.detections.1.score", 10**400, "detections[1]: score 1000"),
        ("images.1.detections.1.box", [1, 2, 3], "detections[1]: box [1, 2, 3]"),
        ("images.1.detections.1.box", [1, 2, 3, None], "detections[1]: box [1, 2, 3, None]"),
        ("images.1.detections.1.box", [1, 2, 3, float("inf")], "detections[1]: box [1, 2, 3, inf]"),
        ("images.1.detections.1.box", [9, 2, 3, 4], "detections[1]: box [9, 2, 3, 4]"),
        ("images.1.detections.1.box", [1, 9, 3, 4], "detections[1]: box [1, 9, 3, 4]"),
        ("images.1.detections.1.class", ["car"], "detections[1]: 'class' is ['car']"),
        ("threshold", "low", "'threshold' is 'low'"),
        ("errors", [7], "errors[0]"),
        ("errors", [{"file": "c/a.png"}], "errors[0] (c/a.png)"),
        ("errors", [{"file": "c.png"}, {"file": "c.jpg"}], "errors[1] (c.jpg)"),
        ("errors", "none", "'errors' is 'none'"),
    ],
)
def test_malformed_json_names_the_entry(tmp_path, path, value, named):
    file = tmp_path / "d.json"
    file.write_text(json.dumps(damaged()))
    assert len(detections_json.read(file).detections) == 2
    file.write_text(json.dumps(damaged(**{path: value})))
    with pytest.raises(UserError) as error:
        detections_json.read(file)
    message = str(error.value)
    assert str(file) in message and named in message and "\n" not in message


def test_a_box_may_have_no_area(tmp_path):
    """A small one is written with two decimals."""
    (tmp_path / "d.json").write_text(json.dumps(damaged(**{"images.1.detections.1.box": [1, 2, 1, 2]})))
    assert detections_json.read(tmp_path / "d.json").detections["b"].boxes_px[1].tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize("text", ["", "{", '{"images": [', "[]", "7", "\x00", "[" * 100_000])
def test_not_a_detections_file(tmp_path, text):
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(UserError, match=r"d\.json") as error:
        detections_json.read(tmp_path / "d.json")
    assert len(str(error.value).splitlines()) == 1
