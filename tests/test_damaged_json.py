"""Every JSON file with wrong types, wrong numbers and missing parts is read, or refused in one line that names it."""

import argparse
import copy
import dataclasses
import json
import random
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import config
import runs
import sources
import ssd_utils
from dataset_check import anchor_advisor
from exports import file_metadata
from formats import division
from results import detection_files
from scoring import score_threshold
from settings.training_settings import DEFAULTS
from structures import UserError
from training import augmentation_file, diagnostics

RELEASE = Path(__file__).parent / "fixtures" / "release_0_1_0"
VGG300 = ssd_utils.get_preset("vgg300")
WRONG = [
    None,
    True,
    -3,
    0,
    99,
    10**400,
    -1e308,
    1e999,
    float("nan"),
    "",
    "x",
    "\ud800",
    [],
    [[]],
    {},
    {"a": 1},
    [1] * 9,
]
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}],
    "categories": [{"id": 1, "name": "car", "supercategory": "x"}],
}
LABELME = {"shapes": [{"label": "car", "points": [[1, 2], [9, 8]], "shape_type": "rectangle", "flags": {}}]}
BDD = [{"name": "a.png", "labels": [{"category": "car", "box2d": {"x1": 1, "y1": 2, "x2": 3, "y2": 4}}]}]
PICTURE = cv2.imencode(".png", np.zeros((10, 20, 3), np.uint8))[1].tobytes()
RUN = Path("run") / "checkpoints" / "step-00000003"


def resumed(path):
    """What a resume reads: the state of a checkpoint and the memory of its diagnosis."""
    state = runs.last_state(str(path.parents[2]))
    diagnostics.Diagnosis(state.diagnosis, DEFAULTS, config.ModelDescription(VGG300, ("car",)))


def samples(source):
    """path -> the samples of a data set of one file beside its picture."""

    def read(path):
        data = str(path.parent if source == "labelme" else path)
        return sources.load(data, "all" if source == "labelme" else "train", ("car",), source=source)

    return read


def state():
    """A state.json, with a diagnosis."""
    values = json.loads((RELEASE / RUN / "state.json").read_text("utf-8"))
    return {**values, "diagnosis": dataclasses.asdict(diagnostics.Memory(dead={"a": 1}, confidence=[1.0]))}


def metadata():
    return file_metadata.describe(config.ModelDescription(VGG300, ("car", "bus")), (0.1, 0.2), "float32")


CASES = {
    "config.json": ("run/config.json", lambda path: config.read_config(str(path.parent)), None),
    "index.json": ("run/checkpoints/index.json", lambda path: config.find_model(str(path.parents[1])), None),
    "state.json": (str(RUN / "state.json"), resumed, state),
    "metadata": ("m.json", lambda path: file_metadata.parse(str(path), path.read_bytes()), metadata),
    "anchors": (
        "anchors.json",
        lambda path: anchor_advisor.read_anchors(path, VGG300),
        lambda: {"input_size": 300, **{name: getattr(VGG300, name) for name in anchor_advisor.ANCHOR_FIELDS}},
    ),
    "augmentation": ("a.json", augmentation_file.read, lambda: {"base": "light", "expand": 2, "crop_scale": [0.5, 1]}),
    "thresholds": ("t.json", lambda path: score_threshold.parse(str(path)), lambda: {"car": 0.5, "bus": 0.25}),
    "scoring": (
        "scoring.json",
        lambda path: score_threshold.parse(str(path)),
        lambda: {"checkpoint": "x", "thresholds": {"all": 0.5, "per_class": {"car": 0.5, "bus": None}}},
    ),
    "division": ("division.json", division.read, lambda: {"train": ["a.png"], "valid": ["b.png"]}),
    "detections": ("detections.json", lambda path: detection_files.read(str(path)), None),
    "coco": ("data/train.json", samples("coco"), lambda: COCO),
    "labelme": (
        "data/a.json",
        samples("labelme"),
        lambda: {**LABELME, "imageWidth": 20, "imageHeight": 10, "imagePath": "a.png"},
    ),
    "bdd100k": ("data/det_train.json", samples("bdd100k"), lambda: BDD),
}


def places(value, at=()):
    """The keys that lead to every value in a JSON value."""
    found = [at]
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += places(inner, (*at, key))
    return found


def changed(value, source):
    """A copy with one or two values that are wrong, missing or too many."""
    value = json.loads(json.dumps(value))
    for _ in range(source.choice((1, 1, 2))):
        place = source.choice(places(value))
        new = copy.deepcopy(source.choice(WRONG))
        if not place:
            value = new if source.random() < 0.2 else value
            continue
        holder = value
        for key in place[:-1]:
            holder = holder[key]
        if source.random() < 0.2:
            del holder[place[-1]]
        elif source.random() < 0.1 and isinstance(holder, dict):
            holder["unknown"] = new
        else:
            holder[place[-1]] = new
    return value


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_read_or_gets_one_line(name, tmp_path):
    inside, read, make = CASES[name]
    shutil.copytree(RELEASE / "run", tmp_path / "run")
    shutil.copy(RELEASE / "detections.json", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(PICTURE)
    path = tmp_path / inside
    whole = make() if make else json.loads(path.read_text("utf-8"))
    if name == "detections":
        whole["images"] = whole["images"][:2]
    path.write_text(json.dumps(whole), "utf-8")
    read(path)
    source, refused = random.Random(name), 0
    for _ in range(150):
        content = changed(whole, source)
        path.write_text(json.dumps(content), "utf-8")
        try:
            read(path)
        except (UserError, argparse.ArgumentTypeError) as error:  # the latter of a flag's file
            refused += 1
            named = (path, path.parent, path.parents[1], path.name)
            assert any(str(one) in str(error) for one in named), content
            assert "\n" not in str(error)
    assert refused > 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 99}, "'epoch' is 99, with the rows of 1"),
        ({"batch": -3}, "'batch' is -3, not a whole number from 0"),
        ({"step": -1}, "'step' is -1, not a whole number from 0"),
        ({"step": 4}, "'step' is 4, in the checkpoint step-00000003"),
        ({"rows": [{"step": 3}]}, "a row has no 'epoch'"),
        ({"rows": [{"epoch": 1}]}, "a row has no 'epoch' or no 'step'"),
        ({"data": {"pictures": "10"}}, "'data' is"),
        ({"data": {"pictures": 10, "ids": 7}}, "'data' is"),
        ({"data": {"pictures": 10, "ids": "0", "names": []}}, "'data' is"),
        ({"data": {"pictures": 10, "ids": "0", "objects": None}}, "'data' is"),
        ({"data": {"ids": "0", "objects": "0"}}, "'data' is"),
        ({"best": 1.5}, "'best'"),
        ({"diagnosis": {"sums": 5}}, "'sums' is 5, not an object"),
    ],
)
def test_a_state_that_cannot_be_is_refused(change, message, tmp_path):
    shutil.copytree(RELEASE / "run", tmp_path / "run")
    path = tmp_path / RUN / "state.json"
    path.write_text(json.dumps({**state(), **change}), "utf-8")
    with pytest.raises(UserError, match=message):
        resumed(path)
