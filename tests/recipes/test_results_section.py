"""The page of a recipe's results: errors are counted as the metric does, and pictures are sorted by them."""

import re
import sys

import cv2
import numpy as np
import pytest

from programs import ROOT
from voc_tree import write_voc

sys.path.insert(0, str(ROOT / "recipes"))

import recipe
import results_section

from results import detections_json
from system import files
from voc_cases import detected, sample

BOX, FAR = [10, 10, 40, 40], [60, 60, 90, 90]


def test_errors_of_a_picture():
    truth = {
        "right": sample("right", [BOX, FAR], [0, 1]),
        "missed": sample("missed", [BOX, FAR], [0, 1]),
        "doubled": sample("doubled", [BOX], [0]),
        "confused": sample("confused", [BOX], [0]),
        "difficult": sample("difficult", [BOX], [0], [True]),
        "empty": sample("empty", []),
        "unread": sample("unread", [BOX], [1]),
    }
    found = {
        "right": detected([BOX, FAR], [0.9, 0.8], [0, 1]),
        "missed": detected([BOX], [0.9], [0]),
        "doubled": detected([BOX, BOX, BOX], [0.9, 0.8, 0.7], [0, 0, 0]),
        "confused": detected([BOX], [0.9], [1]),
        "difficult": detected([BOX, FAR], [0.9, 0.8], [0, 1]),
        "empty": detected([BOX, FAR], [0.9, 0.8], [0, 1]),
    }
    expected = {"right": 0, "missed": 1, "doubled": 2, "confused": 2, "difficult": 1, "empty": 2, "unread": 1}
    assert results_section.count_errors(truth, found, ["car", "bus"]) == expected


@pytest.fixture
def place(tmp_path):
    """Place of a training on pictures of one gray each, with 0 to 7 false positives."""
    grays = {f"p{errors}": (20 + 30 * errors, errors) for errors in range(8)}
    inclusive = (11, 11, 40, 40)  # BOX in the annotation's pixels
    pictures = {key: (np.full((75, 100, 3), gray, np.uint8), [("car", inclusive)]) for key, (gray, _) in grays.items()}
    write_voc(tmp_path / "data", pictures, suffix=".png")
    place = recipe.Place(str(tmp_path / "out"))
    with detections_json.Writer(
        f"{place.inference}/detections.json", model="m", class_names=["car"], threshold=0.01
    ) as writer:
        for key, (_, errors) in grays.items():
            scores = [0.9, *[0.6] * errors, *[0.4] * 3]  # low scores are not judged
            writer.add(f"{key}.png", 100, 75, detected([BOX, *[[60, 40, 90, 70]] * (errors + 3)], scores))
    return place


def test_pictures_are_in_order(place, tmp_path):
    broken = tmp_path / "data/JPEGImages/p7.png"  # its tile stays empty
    content = bytearray(broken.read_bytes())
    at = content.find(b"IDAT") + 8
    content[at : at + 20] = bytes(20)
    broken.write_bytes(content)
    page = results_section.write(place.root, ["# head"], place, str(tmp_path / "data"), "trainval", "error")
    text = files.read_text(page)
    assert text.startswith("# head\n\n![Learning curves](run/plots/learning_curves.png)\n")
    links = re.findall(r"\]\((.*?)\)", text)
    assert links[-2:] == ["best.jpg", "worst.jpg"] and not any(link.startswith("/") for link in links)
    width, height = results_section.TILE
    for name, grays in (("best", [20, 50, 80, 110, 140, 170]), ("worst", [235, 200, 170, 140, 110, 80])):
        sheet = cv2.imread(f"{place.root}/{name}.jpg")
        assert sheet.shape == (2 * height, 3 * width, 3)
        corners = [sheet[row * height + 5, column * width + 5, 0] for row in range(2) for column in range(3)]
        np.testing.assert_allclose(corners, grays, atol=4)


def test_without_any_error(place, tmp_path):
    with detections_json.Writer(
        f"{place.inference}/detections.json", model="m", class_names=["car"], threshold=0.01
    ) as writer:
        for key in range(8):
            writer.add(f"p{key}.png", 100, 75, detected([BOX], [0.9]))
    page = results_section.write(place.root, [], place, str(tmp_path / "data"), "trainval", "error")
    text = files.read_text(page)
    assert "(best.jpg)" in text and "worst.jpg" not in text
