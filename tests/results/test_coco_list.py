"""COCO's list of results."""

import json
import os
import types

import numpy as np
import pytest

from result_cases import NAMES, assert_same
from results import coco_list, detection_files
from results.result_files import Origin, Source
from structures import Detections, UserError

COCO_IDS = {"one": 17, "two words": 4, "none": "x"}, {"car": 3, "traffic light": 9, "été": 1}
CATEGORIES = [COCO_IDS[1][name] for name in NAMES]
COCO = types.SimpleNamespace(format="coco", coco_ids=COCO_IDS, class_names=NAMES, path="coco")


def test_coco_round_trip_is_exact(tmp_path, images):
    path = tmp_path / coco_list.NAME
    with coco_list.Writer(path, CATEGORIES, COCO_IDS[0]) as writer:
        for key, found in images.items():
            writer.add(f"sub/{key}.jpg", 500, 375, found)
    assert detection_files.choose(path) == "coco"
    read = coco_list.read(path, NAMES, COCO)
    assert set(read.detections) == {"one", "two words"} and not read.complete
    for key, found in read.detections.items():
        assert_same(found, images[key])
    lights = coco_list.read(path, ("traffic light",), COCO).detections["one"]
    assert len(lights) == sum(images["one"].labels == 1) and set(lights.labels.tolist()) == {0}


def test_coco_list_has_cocos_layout(tmp_path):
    found = Detections(np.float32([[1, 2, 3.5, 4]]), np.float32([0.5]), np.int32([1]))
    path = tmp_path / "c.json"
    with coco_list.Writer(path, CATEGORIES, COCO_IDS[0]) as writer:
        writer.add("one.jpg", 9, 9, found)
    entry = {"image_id": 17, "category_id": 9, "bbox": [1.0, 2.0, 2.5, 2.0], "score": 0.5}
    assert json.loads(path.read_text()) == [entry]
    without_data = Origin(Source("runs/mine"), NAMES, range(len(NAMES)), 0.5)
    with coco_list.open_writer(tmp_path, without_data) as writer:
        writer.add("000042.jpg", 9, 9, found)
        writer.add("shot.jpg", 9, 9, found)
    changes = {"image_id": 42, "category_id": 2}, {"image_id": "shot", "category_id": 2}
    path = tmp_path / coco_list.NAME
    assert json.loads(path.read_text()) == [{**entry, **change} for change in changes]
    with coco_list.open_writer(tmp_path, without_data):
        pass
    assert json.loads(path.read_text()) == []


def test_coco_picture_whose_name_is_a_number(tmp_path):
    """As in COCO itself: the id is the data set's, which need not be that number."""
    data = types.SimpleNamespace(format="coco", coco_ids=({"000042": 7}, COCO_IDS[1]), ids={"000042"})
    origin = Origin(Source("runs/mine"), NAMES, range(len(NAMES)), 0.5, data)
    with coco_list.open_writer(tmp_path, origin) as writer:
        writer.add("000042.jpg", 9, 9, Detections(np.float32([[1, 2, 3, 4]]), np.float32([0.5]), np.int32([1])))
    (entry,) = json.loads((tmp_path / coco_list.NAME).read_text())
    assert (entry["image_id"], entry["category_id"]) == (7, 9)


def test_coco_class_without_category(tmp_path):
    data = types.SimpleNamespace(format="coco", coco_ids=({}, {"car": 1, "traffic light": 2}))
    with pytest.raises(UserError, match="'été'"):
        coco_list.open_writer(tmp_path, Origin(Source("runs/mine"), NAMES, range(len(NAMES)), 0.5, data))
    assert os.listdir(tmp_path) == []


COCO_ENTRY = {"image_id": 17, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"image_id": 5}, "[1]: image_id 5"),
        ({"image_id": None}, "[1]: 'image_id' is None"),
        ({"category_id": 5}, "[1]: category_id 5"),
        ({"bbox": [1, 2, -3, 4]}, "[1]: bbox [1, 2, -3, 4]"),
        ({"bbox": [1, 2, 3, -4]}, "[1]: bbox [1, 2, 3, -4]"),
        ({"bbox": [1, 2, 3]}, "[1]: bbox [1, 2, 3]"),
        ({"score": float("nan")}, "[1]: score nan"),
        ({"score": "high"}, "[1]: 'score' is 'high'"),
    ],
)
def test_malformed_coco_names_the_entry(tmp_path, change, named):
    path = tmp_path / "c.json"
    path.write_text(json.dumps([COCO_ENTRY, {**COCO_ENTRY, **change}]))
    with pytest.raises(UserError) as error:
        coco_list.read(path, NAMES, COCO)
    assert str(path) in str(error.value) and named in str(error.value) and "\n" not in str(error.value)
    for text in ("[1]", "{}", "["):
        path.write_text(text)
        with pytest.raises(UserError, match=r"c\.json"):
            coco_list.read(path, NAMES, COCO)


def test_coco_list_needs_a_coco_data_set(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps([COCO_ENTRY]))
    for data in (None, types.SimpleNamespace(format="voc")):
        with pytest.raises(UserError, match=r"c\.json.*--data"):
            coco_list.read(path, NAMES, data)
