"""The table of formats: every format passes the same tests, and the format of a path is detected."""

import os
import types

import numpy as np
import pytest

from result_cases import NAMES, assert_same_to_a_hundredth
from results import comp4, detection_files, detections_json, result_files, yolo_text
from results.result_files import Origin, Source
from structures import Detections, UserError
from system import wording


def test_chosen_classes_are_read_in_their_order(tmp_path, images):
    with detections_json.open_writer(tmp_path, origin()) as writer:
        for key, found in images.items():
            writer.add(f"{key}.jpg", 500, 375, found)
    read = detection_files.read(tmp_path / "detections.json", ("traffic light", "car"))
    one = images["one"]
    kept = one.where(one.labels != 2)
    assert_same_to_a_hundredth(read.detections["one"], Detections(kept.boxes_px, kept.scores, 1 - kept.labels))
    with pytest.raises(UserError, match="'dog'"):
        detection_files.read(tmp_path / "detections.json", ("car", "dog"))
    with comp4.Writer(tmp_path, ["car"]):
        pass
    with pytest.raises(UserError, match=r"comp4_det_test_dog\.txt"):
        detection_files.read(tmp_path, ("car", "dog"))


def test_equal_scores_keep_their_order():
    rows = [(0, 0.5, 1, 1, 2, 2), (1, 0.75, 1, 1, 2, 2), (2, 0.5, 1, 1, 2, 2), (3, 0.75, 1, 1, 2, 2)]
    found = result_files.from_rows(rows)
    assert found.labels.tolist() == [1, 3, 0, 2] and found.scores.tolist() == [0.75, 0.75, 0.5, 0.5]


def origin(class_names=NAMES, data=None):
    numbers = tuple(range(len(class_names)))
    return Origin(Source("m"), class_names=tuple(class_names), class_numbers=numbers, threshold=0, data=data)


def written(folder):
    """Names of all files below a folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


IN_ONE_PLACE = ["json", "voc", "coco", "csv"]  # whose files appear when the writer closes


@pytest.mark.parametrize("name", detection_files.FORMATS)
def test_a_format_owns_what_it_writes_and_only_that(tmp_path, images, name):
    with detection_files.FORMATS[name].open_writer(tmp_path, origin()) as writer:
        for key, found in images.items():
            writer.add(f"{key}.jpg", 500, 375, found)
        writer.error("broken.jpg", "cut short")
    names = os.listdir(tmp_path)
    assert names
    for other, module in detection_files.FORMATS.items():
        assert [module.owns(one) for one in names] == [other == name] * len(names), other
    (place,) = [tmp_path] if name == "voc" else tmp_path.iterdir()
    assert detection_files.choose(place) == name


def test_the_folder_of_infer_py_is_read_as_its_json(tmp_path, images):
    for module in (detections_json, yolo_text):
        with module.open_writer(tmp_path, origin()) as writer:
            for key, found in images.items():
                writer.add(f"{key}.jpg", 500, 375, found)
    read = detection_files.read(tmp_path)
    assert read.complete and read.class_names == NAMES
    for key, found in images.items():
        assert_same_to_a_hundredth(read.detections[key], found)
    with comp4.open_writer(tmp_path, origin()):
        pass
    assert detection_files.choose(tmp_path) == "voc"  # as in 0.1.0


@pytest.mark.parametrize("name", detection_files.FORMATS)
def test_pictures_of_one_key_are_those_that_reading_mixes(name):
    """'a/same.png' and 'b/same.png' have one stem; only formats that keep folders tell them apart."""
    key = detection_files.FORMATS[name].picture_key
    assert (key("a/same.png", None) == key("b/same.png", None)) == (name in ("voc", "coco"))
    assert key("a/same.png", None) != key("a/other.png", None)


@pytest.mark.parametrize("name", IN_ONE_PLACE)
def test_interrupted_and_failed_writers(tmp_path, name):
    def open_writer():
        return detection_files.FORMATS[name].open_writer(tmp_path, origin())

    with pytest.raises(ZeroDivisionError), open_writer():
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []
    with pytest.raises(UserError), open_writer():
        raise UserError("before anything is done")
    assert os.listdir(tmp_path) == []
    for stop in (KeyboardInterrupt, UserError, OSError):
        with pytest.raises(stop), open_writer() as writer:
            writer.begun = True
            raise stop
        path = tmp_path if name == "voc" else tmp_path / os.listdir(tmp_path)[0]
        data = types.SimpleNamespace(format="coco", coco_ids=({}, {}), class_names=NAMES)
        assert detection_files.read(path, data=data).detections == {}
        for one in os.listdir(tmp_path):
            (tmp_path / one).unlink()


def test_yolo_files_are_whole_when_they_appear(tmp_path, images):
    """So what was written before a failure stays."""
    with pytest.raises(ZeroDivisionError), yolo_text.open_writer(tmp_path, origin()) as writer:
        writer.add("one.jpg", 500, 375, images["one"])
        assert written(tmp_path) == ["one.txt"]
        raise ZeroDivisionError
    assert written(tmp_path) == ["one.txt"]


def test_a_writer_that_cannot_finish_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="No space"), comp4.Writer(tmp_path, NAMES):
        pass
    assert os.listdir(tmp_path) == []


def test_file_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    found = Detections(np.float32([[0, 0, 1, 1]]), np.float32([1]), np.int32([0]))
    with detections_json.Writer(tmp_path / "d.json", model="m", class_names=["a"], threshold=0) as writer:
        writer.add(name, 1, 1, found)
    with comp4.Writer(tmp_path, ["a"]) as writer:
        writer.add(name, 1, 1, found)
    for path in (tmp_path / "d.json", tmp_path):
        assert list(detection_files.read(path).detections) == [wording.stem(name)]


@pytest.mark.parametrize("name", ["json", "voc", "csv"])
def test_a_byte_order_mark_is_no_part_of_results(tmp_path, images, name):
    """Editors and Excel write it at the beginning of a file."""
    with detection_files.FORMATS[name].open_writer(tmp_path, origin()) as writer:
        for key, found in images.items():
            writer.add(f"{key}.jpg", 500, 375, found)
    paths = list(tmp_path.iterdir())
    place = tmp_path if name == "voc" else paths[0]
    before = detection_files.read(place, NAMES)
    for path in paths:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert detection_files.choose(place) == name
    after = detection_files.read(place, NAMES)
    assert after.detections.keys() == before.detections.keys()
    for key, found in before.detections.items():
        np.testing.assert_array_equal(after.detections[key].boxes_px, found.boxes_px)


def test_a_byte_order_mark_of_a_list(tmp_path):
    for mark in ("utf-8-sig", "utf-8"):
        (tmp_path / "d.json").write_text('[{"image_id": 1}]', mark)
        assert result_files.parse_json(tmp_path / "d.json", list) == [{"image_id": 1}]


def test_unreadable_paths(tmp_path):
    (tmp_path / "latin.json").write_bytes(b'{"model": "\xe9"}')
    for name in ("latin.json", "missing.json"):
        with pytest.raises(UserError, match=name):
            detection_files.read(tmp_path / name)
    with pytest.raises(UserError, match="comp4_det_test_CLASS"):
        detection_files.read(tmp_path)


def test_kinds_of_results(tmp_path):
    path = tmp_path / "d.json"
    for text, expected in ((" \n[", "coco"), ("\ufeff[]", "coco"), ('{"images": []}', "json")):
        path.write_text(text, "utf-8")
        assert detection_files.choose(path) == expected
    path.write_text("")
    for place in (path, tmp_path / "missing"):
        with pytest.raises(UserError, match=place.name):
            detection_files.choose(place)
    path.unlink()
    with pytest.raises(UserError, match=r"comp4_det_test_CLASS.*YOLO"):
        detection_files.choose(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("")
    assert detection_files.choose(tmp_path) == "yolo"
    (tmp_path / "comp4_det_test_car.txt").write_text("")
    assert detection_files.choose(tmp_path) == "voc"
