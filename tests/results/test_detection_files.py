"""Detections to disk and back: nothing is lost, nothing malformed is taken."""

import json
import os

import numpy as np
import pytest

from results import detection_files
from structures import Detections, UserError
from system import wording

NAMES = ("car", "traffic light", "été")


def some_detections(rng, count):
    boxes = np.sort(rng.random((count, 2, 2), np.float32), axis=1).reshape(count, 4) * np.float32(499)
    boxes[:1] = [0, 1e-3, 4000, 1 / 3]
    scores = np.sort(rng.random(count, np.float32))[::-1]
    return Detections(boxes, scores, rng.integers(0, len(NAMES), count, np.int32))


def assert_same(a, b):
    for name in ("boxes_px", "scores", "labels"):
        one, other = getattr(a, name), getattr(b, name)
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.fixture
def images():
    rng = np.random.default_rng(5)
    return {"one": some_detections(rng, 30), "two words": some_detections(rng, 1), "none": Detections.empty()}


def write_json(path, images, **settings):
    settings = {"model": "runs/x", "class_names": NAMES, "threshold": 0.01, **settings}
    with detection_files.DetectionsWriter(path, **settings) as writer:
        for key, found in images.items():
            writer.add(f"sub/{key}.jpg", 500, 375, found)
        writer.error("broken.jpg", "cut short")


def test_json_round_trip_is_exact(tmp_path, images):
    path = tmp_path / "new" / "detections.json"
    write_json(path, images)
    read = detection_files.read(path)
    assert (read.class_names, read.threshold, read.model) == (NAMES, 0.01, "runs/x")
    assert read.errors == {"broken": "cut short"}
    assert read.sizes == dict.fromkeys(images, (500, 375))
    assert list(read.detections) == list(images)
    for key, found in images.items():
        assert_same(read.detections[key], found)


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


def test_comp4_round_trip_is_exact(tmp_path, images):
    with detection_files.Comp4Writer(tmp_path, NAMES) as writer:
        for key, found in images.items():
            writer.add(f"{key}.jpg", found)
    read = detection_files.read(tmp_path, NAMES)
    assert read.class_names == NAMES and read.threshold is None
    assert set(read.detections) == {"one", "two words"}
    for key, found in read.detections.items():
        assert_same(found, images[key])
    assert detection_files.read(tmp_path).class_names == tuple(sorted(NAMES))


def test_comp4_line_is_one_based_and_inclusive(tmp_path):
    found = Detections(np.float32([[0, 9, 10, 20]]), np.float32([0.75]), np.int32([0]))
    with detection_files.Comp4Writer(tmp_path, ["car", "bus"]) as writer:
        writer.add("000005.jpg", found)
    assert (tmp_path / "comp4_det_test_car.txt").read_text() == "000005 0.75 1.0 10.0 10.0 20.0\n"
    assert (tmp_path / "comp4_det_test_bus.txt").read_text() == ""


def test_comp4_of_another_detector(tmp_path):
    (tmp_path / "comp4_det_test_dog.txt").write_text("b 0.90000001 1 1 5 5\n\nb 0.90000002 2 2 6 6\na -3e0 1 1 2 2\n")
    read = detection_files.read(tmp_path)
    assert read.class_names == ("dog",)
    # Equal as float32, so they stay float64
    assert read.detections["b"].scores.tolist() == [0.90000002, 0.90000001]
    assert read.detections["b"].boxes_px.tolist() == [[1, 1, 6, 6], [0, 0, 5, 5]]
    assert read.detections["a"].scores.tolist() == [-3]


def test_chosen_classes_are_read_in_their_order(tmp_path, images):
    write_json(tmp_path / "d.json", images)
    read = detection_files.read(tmp_path / "d.json", ("traffic light", "car"))
    one = images["one"]
    kept = one.where(one.labels != 2)
    assert_same(read.detections["one"], Detections(kept.boxes_px, kept.scores, 1 - kept.labels))
    with pytest.raises(UserError, match="'dog'"):
        detection_files.read(tmp_path / "d.json", ("car", "dog"))
    with detection_files.Comp4Writer(tmp_path, ["car"]):
        pass
    with pytest.raises(UserError, match=r"comp4_det_test_dog\.txt"):
        detection_files.read(tmp_path, ("car", "dog"))


def test_json_appears_only_when_complete(tmp_path, images):
    path = tmp_path / "d.json"
    writer = detection_files.DetectionsWriter(path, model="m", class_names=NAMES, threshold=0)
    writer.add("a.jpg", 1, 1, images["one"])
    assert not path.exists()
    writer.close()
    assert os.listdir(tmp_path) == ["d.json"]


@pytest.mark.parametrize(
    "writer_of",
    [
        lambda folder: detection_files.DetectionsWriter(folder / "d.json", model="m", class_names=NAMES, threshold=0),
        lambda folder: detection_files.Comp4Writer(folder, NAMES),
    ],
)
def test_interrupted_and_failed_writers(tmp_path, writer_of):
    with pytest.raises(ZeroDivisionError), writer_of(tmp_path):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []
    with pytest.raises(UserError), writer_of(tmp_path):
        raise UserError("before anything is done")
    assert os.listdir(tmp_path) == []
    for stop in (KeyboardInterrupt, UserError, OSError):
        with pytest.raises(stop), writer_of(tmp_path) as writer:
            writer.begun = True
            raise stop
        path = tmp_path / "d.json" if (tmp_path / "d.json").exists() else tmp_path
        assert detection_files.read(path).detections == {}
        for name in os.listdir(tmp_path):
            (tmp_path / name).unlink()


def test_a_writer_that_cannot_finish_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="No space"), detection_files.Comp4Writer(tmp_path, NAMES):
        pass
    assert os.listdir(tmp_path) == []


def test_interrupted_json_keeps_what_is_there(tmp_path, images):
    path = tmp_path / "d.json"
    with (
        pytest.raises(KeyboardInterrupt),
        detection_files.DetectionsWriter(path, model="m", class_names=NAMES, threshold=0) as writer,
    ):
        writer.add("one.jpg", 9, 9, images["one"])
        raise KeyboardInterrupt
    assert_same(detection_files.read(path).detections["one"], images["one"])


def test_earlier_file_survives_a_failure(tmp_path, images):
    write_json(tmp_path / "d.json", images)
    before = (tmp_path / "d.json").read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "d.json", {"a": Detections(np.full((1, 4), np.nan), np.ones(1), np.zeros(1, int))})
    assert (tmp_path / "d.json").read_bytes() == before


def test_file_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    found = Detections(np.float32([[0, 0, 1, 1]]), np.float32([1]), np.int32([0]))
    with detection_files.DetectionsWriter(tmp_path / "d.json", model="m", class_names=["a"], threshold=0) as writer:
        writer.add(name, 1, 1, found)
    with detection_files.Comp4Writer(tmp_path, ["a"]) as writer:
        writer.add(name, found)
    for path in (tmp_path / "d.json", tmp_path):
        assert list(detection_files.read(path).detections) == [wording.stem(name)]


def test_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written") as error:
        detection_files.DetectionsWriter(tmp_path / "file" / "d.json", model="m", class_names=NAMES, threshold=0)
    assert "\n" not in str(error.value) and str(tmp_path / "file") in str(error.value)


def test_class_that_cannot_be_a_file_name(tmp_path):
    with pytest.raises(UserError, match="'n/a'"):
        detection_files.Comp4Writer(tmp_path, ["car", "n/a"])
    assert os.listdir(tmp_path) == []


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
        ("images.1", 7, "images[1]"),
        ("images.1", {}, "images[1] has no 'file'"),
        ("images.1.file", "b/a.png", "images[1] (b/a.png) has the same stem as a.jpg"),
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
        ("images.1.detections.1.box", [9, 2, 3, 4], "detections[1]: box [9, 2, 3, 4] is inverted"),
        ("images.1.detections.1.class", ["car"], "detections[1]: 'class' is ['car']"),
        ("threshold", "low", "'threshold' is 'low'"),
        ("errors", [7], "errors[0]"),
        ("errors", [{"file": "c/a.png"}], "errors[0] (c/a.png) has the same stem as a.jpg"),
        ("errors", [{"file": "c.png"}, {"file": "c.jpg"}], "errors[1] (c.jpg) has the same stem as c.png"),
        ("errors", "none", "'errors' is 'none'"),
    ],
)
def test_malformed_json_names_the_entry(tmp_path, path, value, named):
    file = tmp_path / "d.json"
    file.write_text(json.dumps(damaged()))
    assert len(detection_files.read(file).detections) == 2
    file.write_text(json.dumps(damaged(**{path: value})))
    with pytest.raises(UserError) as error:
        detection_files.read(file)
    message = str(error.value)
    assert str(file) in message and named in message and "\n" not in message


@pytest.mark.parametrize("text", ["", "{", '{"images": [', "[]", "7", "\x00", "[" * 100_000])
def test_not_a_detections_file(tmp_path, text):
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(UserError, match=r"d\.json") as error:
        detection_files.read(tmp_path / "d.json")
    assert len(str(error.value).splitlines()) == 1


def test_unreadable_paths(tmp_path):
    (tmp_path / "latin.json").write_bytes(b'{"model": "\xe9"}')
    for name in ("latin.json", "missing.json"):
        with pytest.raises(UserError, match=name):
            detection_files.read(tmp_path / name)
    with pytest.raises(UserError, match="comp4_det_test_CLASS"):
        detection_files.read(tmp_path)


@pytest.mark.parametrize("line", ["a 0.5 1 2 3", "0.5 1 2 3 4", "a high 1 2 3 4", "a 0.5 1 2 3 nan", "a inf 1 2 3 4"])
def test_malformed_comp4_names_the_line(tmp_path, line):
    (tmp_path / "comp4_det_test_car.txt").write_text(f"a 0.5 1 2 3 4\n{line}\n")
    with pytest.raises(UserError, match=r"comp4_det_test_car\.txt, line 2") as error:
        detection_files.read(tmp_path)
    assert "\n" not in str(error.value)


COCO_IDS = {"one": 17, "two words": 4, "none": "x"}, {"car": 3, "traffic light": 9, "été": 1}


def test_coco_round_trip_is_exact(tmp_path, images):
    path = tmp_path / detection_files.COCO_NAME
    with detection_files.CocoWriter(path, NAMES, *COCO_IDS) as writer:
        for key, found in images.items():
            writer.add(f"sub/{key}.jpg", found)
    assert detection_files.kind(path) == "coco"
    read = detection_files.read_coco(path, NAMES, *COCO_IDS)
    assert set(read.detections) == {"one", "two words"} and not read.complete
    for key, found in read.detections.items():
        assert_same(found, images[key])
    lights = detection_files.read_coco(path, ("traffic light",), *COCO_IDS).detections["one"]
    assert len(lights) == sum(images["one"].labels == 1) and set(lights.labels.tolist()) == {0}


def test_coco_list_has_cocos_layout(tmp_path):
    found = Detections(np.float32([[1, 2, 3.5, 4]]), np.float32([0.5]), np.int32([1]))
    path = tmp_path / "c.json"
    with detection_files.CocoWriter(path, NAMES, *COCO_IDS) as writer:
        writer.add("one.jpg", found)
    entry = {"image_id": 17, "category_id": 9, "bbox": [1.0, 2.0, 2.5, 2.0], "score": 0.5}
    assert json.loads(path.read_text()) == [entry]
    numbers = {name: number for number, name in enumerate(NAMES, start=1)}
    with detection_files.CocoWriter(path, NAMES, None, numbers) as writer:  # without a data set
        writer.add("000042.jpg", found)
        writer.add("shot.jpg", found)
    changes = {"image_id": 42, "category_id": 2}, {"image_id": "shot", "category_id": 2}
    assert json.loads(path.read_text()) == [{**entry, **change} for change in changes]
    with detection_files.CocoWriter(path, NAMES, None, numbers):
        pass
    assert json.loads(path.read_text()) == []


def test_coco_class_without_category(tmp_path):
    with pytest.raises(UserError, match="no category 'été'"):
        detection_files.CocoWriter(tmp_path / "c.json", NAMES, {}, {"car": 1, "traffic light": 2})
    assert os.listdir(tmp_path) == []


COCO_ENTRY = {"image_id": 17, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"image_id": 5}, "[1]: image_id 5 is not in the data set"),
        ({"image_id": None}, "[1]: 'image_id' is None"),
        ({"category_id": 5}, "[1]: category_id 5 is not in the data set"),
        ({"bbox": [1, 2, -3, 4]}, "[1]: bbox [1, 2, -3, 4] has a negative size"),
        ({"bbox": [1, 2, 3]}, "[1]: bbox [1, 2, 3] is not four"),
        ({"score": float("nan")}, "[1]: score nan"),
        ({"score": "high"}, "[1]: 'score' is 'high'"),
    ],
)
def test_malformed_coco_names_the_entry(tmp_path, change, named):
    path = tmp_path / "c.json"
    path.write_text(json.dumps([COCO_ENTRY, {**COCO_ENTRY, **change}]))
    with pytest.raises(UserError) as error:
        detection_files.read_coco(path, NAMES, *COCO_IDS)
    assert str(path) in str(error.value) and named in str(error.value) and "\n" not in str(error.value)
    for text in ("[1]", "{}", "["):
        path.write_text(text)
        with pytest.raises(UserError, match=r"c\.json"):
            detection_files.read_coco(path, NAMES, *COCO_IDS)


def test_yolo_round_trip_is_exact(tmp_path, images):
    for key, found in images.items():
        detection_files.write_yolo(tmp_path, f"{key}.jpg", 499, 4000, found, [2, 0, 1])
    numbered = ("traffic light", "été", "car")
    assert sorted(os.listdir(tmp_path)) == ["none.txt", "one.txt", "two words.txt"]
    assert detection_files.kind(tmp_path) == "yolo"
    read = detection_files.read_yolo(tmp_path, NAMES, numbered, dict.fromkeys(images, (499, 4000)))
    for key, found in images.items():
        assert_same(read.detections[key], found)


def test_yolo_results_in_folders_below(tmp_path, images):
    """As infer.py --recursive writes them."""
    detection_files.write_yolo(tmp_path, "deep/down/one.jpg", 499, 4000, images["one"], [0, 1, 2])
    assert detection_files.kind(tmp_path) == "yolo"
    sizes = dict.fromkeys(images, (499, 4000))
    assert_same(detection_files.read_yolo(tmp_path, NAMES, NAMES, sizes).detections["one"], images["one"])
    detection_files.write_yolo(tmp_path, "one.jpg", 499, 4000, images["one"], [0, 1, 2])
    with pytest.raises(UserError, match=r"there is another one\.txt"):
        detection_files.read_yolo(tmp_path, NAMES, NAMES, sizes)


def test_yolo_line_is_in_fractions(tmp_path):
    found = Detections(np.float32([[10, 0, 30, 20]]), np.float32([0.75]), np.int32([0]))
    detection_files.write_yolo(tmp_path, "sub/a.jpg", 40, 80, found, [5])
    assert (tmp_path / "sub" / "a.txt").read_text() == "5 0.5 0.125 0.5 0.25 0.75\n"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("0 0.5 0.5 0.1 0.1", "is not 'class cx cy width height confidence'"),
        ("car 0.5 0.5 0.1 0.1 0.9", "is not 'class cx cy width height confidence'"),
        ("3 0.5 0.5 0.1 0.1 0.9", "class 3 is unknown, there are 3 from 0"),
        ("0.5 0.5 0.5 0.1 0.1 0.9", "class 0.5 is unknown"),
        ("0 0.5 0.5 -0.1 0.1 0.9", "negative size"),
        ("0 0.5 nan 0.1 0.1 0.9", "NaN"),
        (b"\xff", "not a text file in UTF-8"),
    ],
)
def test_malformed_yolo_names_the_line(tmp_path, line, named):
    line = line if isinstance(line, bytes) else line.encode()
    (tmp_path / "a.txt").write_bytes(b"0 0.5 0.5 0.1 0.1 0.9\n" + line)
    with pytest.raises(UserError) as error:
        detection_files.read_yolo(tmp_path, NAMES, NAMES, {"a": (9, 9)})
    assert f"{tmp_path / 'a.txt'}, line 2" in str(error.value) and named in str(error.value)
    with pytest.raises(UserError, match=r"a\.txt: the data set has no picture 'a'"):
        detection_files.read_yolo(tmp_path, NAMES, NAMES, {"b": (9, 9)})


def test_kinds_of_results(tmp_path):
    path = tmp_path / "d.json"
    for text, expected in ((" \n[", "coco"), ("\ufeff[]", "coco"), ('{"images": []}', "json"), ("", "json")):
        path.write_text(text, "utf-8")
        assert detection_files.kind(path) == expected
    assert detection_files.kind(tmp_path) == "comp4"  # whose reader says what is missing
