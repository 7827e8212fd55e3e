"""Runs with random weights, as training saves them, whose scores differ from box to box, and pictures for them."""

import dataclasses
import re

import cv2
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import config
import detector
import runs
import ssd_layers
import ssd_utils
import ssd_vgg
from media import images
from programs import ROOT
from settings.training_settings import TrainingSettings
from training import optimization

SPREAD = 1.0  # standard deviation of the logits of each map, so that few scores are equal


def make_run(path, preset_name, width=1 / 32, **rules):
    """A run with a random model of two classes, saved as training saves it. rules: fields of the preset."""
    preset = dataclasses.replace(ssd_utils.get_preset(preset_name), width=width, input_scale=1 / 60, **rules)
    description = config.ModelDescription(preset, ("car", "bus"))
    settings = TrainingSettings(data="", train="")
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(3)
        optimization.TrainingStep(description, settings, tf.float32)
        session.run(tf.global_variables_initializer())
        _draw_heads(session, description)
        runs.create(str(path), description, settings)
        runs.Checkpoints(str(path)).save(session, runs.TrainingState(step=1))
    return path


def _draw_heads(session, description):
    """Give the heads of each map weights whose logits differ by SPREAD from cell to cell, at any width."""
    preset = description.preset
    images = tf.placeholder(tf.uint8, [None, *preset.image_shape])
    logits, _ = ssd_vgg.build(images, preset, len(description.class_names))
    heads = [one for one in tf.trainable_variables() if one.op.name.startswith("head_")]
    drawn = [np.random.default_rng(0).normal(0, 1, one.shape.as_list()) for one in heads]
    for one, values in zip(heads, drawn, strict=True):
        one.load(values * one.op.name.endswith("/weights"), session)
    shown = session.run(logits, {images: [cv2.resize(one, preset.input_wh) for one in pictures()]})
    maps = np.split(shown, np.cumsum(preset.anchors_per_map)[:-1], axis=1)
    scale = {name: SPREAD / part.std() for name, part in zip(ssd_layers.feature_names(preset), maps, strict=True)}
    for one, values in zip(heads, drawn, strict=True):
        layer, _, kind = one.op.name.rpartition("/")
        one.load(values * (scale[ssd_layers.head_feature(layer)] if kind == "weights" else 0.5), session)


def pictures(count=3):
    """Pictures with something in them, of different sizes."""
    rng = np.random.default_rng(5)
    drawn = []
    for index in range(count):
        cells = rng.integers(0, 256, (6 + index, 9, 3), dtype=np.uint8)
        drawn.append(cv2.resize(cells, (320 + 90 * index, 240), interpolation=cv2.INTER_CUBIC))
    return drawn


def lines_of_the_documents(picture, frozen):
    """The code of docs/formats.md that detects with an exported graph, with other names of the two files."""
    page = (ROOT / "docs" / "formats.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(import cv2.*?)```", page, re.S)
    for name, file in (("runs/demo/data/VOC2007/JPEGImages/test_000000.jpg", picture), ("runs/demo/model.pb", frozen)):
        assert code.count(name) == 1
        code = code.replace(name, str(file))
    return code


def assert_three_detections(printed, run, picture):
    """What the lines of the documents printed is the best three detections of the run in a picture of 120×90."""
    with detector.load(str(run), precision="float32") as loaded:
        resized = cv2.resize(images.read(picture), loaded.preset.input_wh)
        (found,) = loaded.detect_prepared(resized[None], [(120, 90)])
    lines = printed.splitlines()
    assert len(lines) == 3
    for line, box, score, label in zip(lines, found.boxes_px, found.scores, found.labels, strict=False):
        name, told, corners = re.fullmatch(r"(\w+) (\d\.\d\d) \[(.*)\]", line).groups()
        assert (name, float(told)) == (loaded.class_names[label], pytest.approx(score, abs=0.006))
        pixels = np.array(corners.split(), float).reshape(2, 2).clip(0, (120, 90)).ravel()
        np.testing.assert_allclose(pixels, box, atol=0.51)  # whole pixels
