"""The comp4 files of the VOC devkit."""

import os

import numpy as np
import pytest

from result_cases import NAMES, assert_same
from results import comp4
from structures import Detections, UserError
from system import atomic


def test_comp4_round_trip_is_exact(tmp_path, images):
    with comp4.Writer(tmp_path, NAMES) as writer:
        for key, found in images.items():
            writer.add(f"{key}.jpg", 500, 375, found)
    read = comp4.read(tmp_path, NAMES)
    assert read.class_names == NAMES and read.threshold is None
    assert set(read.detections) == {"one", "two words"}
    for key, found in read.detections.items():
        assert_same(found, images[key])
    assert comp4.read(tmp_path).class_names == tuple(sorted(NAMES))


def test_comp4_line_is_one_based_and_inclusive(tmp_path):
    found = Detections(np.float32([[0, 9, 10, 20]]), np.float32([0.75]), np.int32([0]))
    with comp4.Writer(tmp_path, ["car", "bus"]) as writer:
        writer.add("000005.jpg", 500, 375, found)
    assert (tmp_path / "comp4_det_test_car.txt").read_text() == "000005 0.75 1.0 10.0 10.0 20.0\n"
    assert (tmp_path / "comp4_det_test_bus.txt").read_text() == ""


def test_comp4_of_another_detector(tmp_path):
    (tmp_path / "comp4_det_test_dog.txt").write_text("b 0.90000001 1 1 5 5\n\nb 0.90000002 2 2 6 6\na -3e0 1 1 2 2\n")
    read = comp4.read(tmp_path)
    assert read.class_names == ("dog",)
    # Equal as float32, so they stay float64
    assert read.detections["b"].scores.tolist() == [0.90000002, 0.90000001]
    assert read.detections["b"].boxes_px.tolist() == [[1, 1, 6, 6], [0, 0, 5, 5]]
    assert read.detections["a"].scores.tolist() == [-3]


@pytest.mark.parametrize("corners", ["9 1 5 5", "1 9 5 5", "5.5 1 4.4 5"])
def test_inverted_box(tmp_path, corners):
    """As in the other formats of results; from our own boxes without area xmax is xmin - 1."""
    (tmp_path / "comp4_det_test_dog.txt").write_text(f"a 0.5 5 1 4 5\nb 0.5 {corners}\n")
    with pytest.raises(UserError) as error:
        comp4.read(tmp_path)
    line = f"{tmp_path}/comp4_det_test_dog.txt, line 2: 'b 0.5 {corners}' is inverted, "
    assert str(error.value) == line + "'stem score xmin ymin xmax ymax' is needed"


def test_boxes_without_area_come_back(tmp_path):
    found = Detections(np.float32([[0.1, 9, 0.1, 20], [3, 7.3, 4, 7.3]]), np.float32([0.75, 0.5]), np.int32([0, 0]))
    with comp4.Writer(tmp_path, ["car"]) as writer:
        writer.add("a.jpg", 500, 375, found)
    assert_same(comp4.read(tmp_path).detections["a"], found)


def test_boxes_without_area_may_be_rounded(tmp_path):
    """By another detector; in binary 1.1 - 1 is more than 0.1."""
    (tmp_path / "comp4_det_test_dog.txt").write_text("a 0.5 1.1 3 0.1 9\na 0.25 5 5 5 5\n")
    assert comp4.read(tmp_path).detections["a"].scores.tolist() == [0.5, 0.25]


def test_class_that_cannot_be_a_file_name(tmp_path):
    for name in ("n/a", ""):
        with pytest.raises(UserError, match=f"class '{name}'"):
            comp4.Writer(tmp_path, ["car", name])
        assert os.listdir(tmp_path) == []


def test_a_class_whose_file_cannot_be_opened_leaves_no_others_behind(tmp_path, monkeypatch):
    class Full(atomic.PendingFile):
        def __init__(self, path):
            if path.endswith("bus.txt"):
                raise UserError(f"{path}: no space left on device")
            super().__init__(path)

    monkeypatch.setattr(atomic, "PendingFile", Full)
    with pytest.raises(UserError, match="no space"):
        comp4.Writer(tmp_path, ["car", "bus"])
    assert os.listdir(tmp_path) == []


def test_comp4_in_a_folder_whose_name_has_brackets(tmp_path):
    with comp4.Writer(tmp_path / "run[1]", ["car", "bus"]):
        pass
    assert comp4.fits(tmp_path / "run[1]") and comp4.read(tmp_path / "run[1]").class_names == ("bus", "car")


@pytest.mark.parametrize("line", ["a 0.5 1 2 3", "0.5 1 2 3 4", "a high 1 2 3 4", "a 0.5 1 2 3 nan", "a inf 1 2 3 4"])
def test_malformed_comp4_names_the_line(tmp_path, line):
    (tmp_path / "comp4_det_test_car.txt").write_text(f"a 0.5 1 2 3 4\n{line}\n")
    with pytest.raises(UserError, match=r"comp4_det_test_car\.txt, line 2") as error:
        comp4.read(tmp_path)
    assert "\n" not in str(error.value)
