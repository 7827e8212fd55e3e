"""The loss on validation pictures against the float64 twin of the loss and the matching of `ssd_utils`."""

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import config
import oracles
import ssd_utils
from settings.training_settings import TrainingSettings
from structures import Sample
from training import valid_loss

DESCRIPTION = config.ModelDescription(ssd_utils.get_preset("vgg300"), ("car", "bus"))
BOXES = np.array([(0.1, 0.1, 0.6, 0.5), (0.4, 0.3, 0.9, 0.95), (0.0, 0.5, 0.3, 1.0), (0.5, 0.1, 0.95, 0.6)], np.float32)
LABELS = np.array([0, 1, 1, 0], np.int32)
DIFFICULT, CROWD = np.array([0, 1, 0, 0], bool), np.array([0, 0, 1, 0], bool)


def sample(name, rows):
    rows = np.array(rows, bool)
    return Sample(name, name, BOXES[rows], LABELS[rows], DIFFICULT[rows], 999, 751, crowd=CROWD[rows])


SAMPLES = [sample("all", [1, 1, 1, 1]), sample("no object", [0, 0, 0, 0]), sample("one", [1, 0, 0, 0])]


@pytest.mark.parametrize(
    ("changes", "weights", "variances"),
    [
        ({}, None, ssd_utils.VARIANCES),
        (
            {"difficult": "ignore", "matching": "threshold", "normalize": "image", "negative_ratio": 1},
            (3.0, 0.5),
            (0.2, 0.3),
        ),
    ],
    ids=["default", "others"],
)
def test_the_loss_of_pictures_in_batches(changes, weights, variances):
    """Crowds never count, difficult objects by --difficult; the last batch is smaller than the others."""
    settings = TrainingSettings(data="", train="", batch_size=2, **changes)
    preset = dataclasses.replace(DESCRIPTION.preset, variances=variances)
    description = dataclasses.replace(DESCRIPTION, preset=preset)
    rng, anchors = np.random.default_rng(3), ssd_utils.make_anchors(DESCRIPTION.preset)
    spread = np.array([3, 1, 2]).reshape(3, 1, 1)  # the pictures differ in their losses
    logits = (spread * rng.normal(size=(3, len(anchors), 3))).astype(np.float32)
    offsets = (spread * rng.normal(size=(3, len(anchors), 4))).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
        with valid_loss.ValidationLoss(description, settings, weights).begin(session, SAMPLES) as loss:
            for index, predictions in enumerate(np.concatenate([shares, offsets], axis=2)):
                loss.add(index, predictions)
            found = loss.means()
    targets = []
    for one in SAMPLES:
        used = ~one.crowd & ~(one.difficult & (settings.difficult == "ignore"))
        boxes, labels = one.boxes[used], one.labels[used]
        matches = ssd_utils.match_anchors(anchors, boxes, bipartite=settings.matching == "bipartite")
        targets.append(ssd_utils.encode_targets(anchors, boxes, labels, matches, variances))
    classes, places = map(np.stack, zip(*targets, strict=True))
    positives = (classes > 0).sum(axis=1)
    assert 0 < positives[2] < positives[0]  # or both ways of --normalize would give the same
    expected = oracles.multibox_loss(
        logits, offsets, classes, places, settings.negative_ratio, weights, settings.normalize
    )
    for name in ("confidence", "localization"):
        assert found[name] == pytest.approx(expected[name] / expected["positives"], rel=1e-5)
    assert found["loss"] == pytest.approx(found["confidence"] + found["localization"])


def test_the_loss_of_a_confident_mistake_is_finite():
    """An object whose class has a probability of 0: its loss is the logarithm of the smallest that float32 has."""
    settings = TrainingSettings(data="", train="", batch_size=1)
    predictions = np.zeros((DESCRIPTION.preset.num_anchors, 3 + 4), np.float32)
    predictions[:, 0] = 1  # certain that nothing is there
    with tf.Graph().as_default(), tf.Session() as session:
        loss = valid_loss.ValidationLoss(DESCRIPTION, settings).begin(session, SAMPLES[2:])
        with loss:
            loss.add(0, predictions)
            found = loss.means()
    assert found["confidence"] == pytest.approx(-np.log(np.finfo(np.float32).tiny))
