"""YOLO's text files."""

import os
import types

import numpy as np
import pytest

from result_cases import NAMES, assert_same
from results import detection_files, yolo_text
from structures import Detections, UserError


def yolo(numbered, stems, width, height):
    """A YOLO data set as far as the reader asks: class names by number, and pictures of one size."""
    samples = dict.fromkeys(stems, types.SimpleNamespace(width=width, height=height))
    names = {"class_names": numbered, "numbered_names": numbered}
    return types.SimpleNamespace(format="yolo", samples=lambda names: samples, path="yolo", **names)


def test_yolo_round_trip_is_exact(tmp_path, images):
    with yolo_text.Writer(tmp_path, [2, 0, 1]) as writer:
        for key, found in images.items():
            writer.add(f"{key}.jpg", 499, 4000, found)
    numbered = ("traffic light", "été", "car")
    assert sorted(os.listdir(tmp_path)) == ["none.txt", "one.txt", "two words.txt"]
    assert detection_files.choose(tmp_path) == "yolo"
    read = yolo_text.read(tmp_path, NAMES, yolo(numbered, images, 499, 4000))
    for key, found in images.items():
        assert_same(read.detections[key], found)


def test_yolo_results_in_folders_below(tmp_path, images):
    """As infer.py --recursive writes them."""
    yolo_text.Writer(tmp_path, [0, 1, 2]).add("deep/down/one.jpg", 499, 4000, images["one"])
    assert detection_files.choose(tmp_path) == "yolo"
    data = yolo(NAMES, images, 499, 4000)
    assert_same(yolo_text.read(tmp_path, NAMES, data).detections["one"], images["one"])
    yolo_text.Writer(tmp_path, [0, 1, 2]).add("one.jpg", 499, 4000, images["one"])
    with pytest.raises(UserError, match=r"one\.txt"):
        yolo_text.read(tmp_path, NAMES, data)


def test_yolo_line_is_in_fractions(tmp_path):
    found = Detections(np.float32([[10, 0, 30, 20]]), np.float32([0.75]), np.int32([0]))
    yolo_text.Writer(tmp_path, [5]).add("sub/a.jpg", 40, 80, found)
    assert (tmp_path / "sub" / "a.txt").read_text() == "5 0.5 0.125 0.5 0.25 0.75\n"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("0 0.5 0.5 0.1 0.1", "'class cx cy width height confidence'"),
        ("car 0.5 0.5 0.1 0.1 0.9", "'class cx cy width height confidence'"),
        ("3 0.5 0.5 0.1 0.1 0.9", "class 3 "),
        ("0.5 0.5 0.5 0.1 0.1 0.9", "class 0.5 "),
        ("0 0.5 0.5 -0.1 0.1 0.9", "'0 0.5 0.5 -0.1 0.1 0.9'"),
        ("0 0.5 0.5 0.1 -0.1 0.9", "'0 0.5 0.5 0.1 -0.1 0.9'"),
        ("0 0.5 nan 0.1 0.1 0.9", "'0 0.5 nan 0.1 0.1 0.9'"),
        (b"\xff", "UTF-8"),
    ],
)
def test_malformed_yolo_names_the_line(tmp_path, line, named):
    line = line if isinstance(line, bytes) else line.encode()
    (tmp_path / "a.txt").write_bytes(b"0 0.5 0.5 0.1 0.1 0.9\n" + line)
    with pytest.raises(UserError) as error:
        yolo_text.read(tmp_path, NAMES, yolo(NAMES, ["a"], 9, 9))
    assert f"{tmp_path / 'a.txt'}, line 2" in str(error.value) and named in str(error.value)
    with pytest.raises(UserError, match=r"a\.txt: .*'a'"):
        yolo_text.read(tmp_path, NAMES, yolo(NAMES, ["b"], 9, 9))
