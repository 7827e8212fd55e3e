"""Runs with random weights, as training saves them, whose scores differ from box to box, and pictures for them."""

import dataclasses

import cv2
import numpy as np
import tensorflow.compat.v1 as tf

import config
import runs
import ssd_utils
from training import optimization

# Standard deviations of the heads' weights at 1/32 of the channels, which give logits of about 2 on every map; on
# conv4_3, whose cells have unit length, at any width
SPREADS = {"head_conv4_3": 0.03, "head_fc7": 0.2}


def make_run(path, preset_name, width=1 / 32):
    """A run with a random model of two classes, saved as training saves it."""
    preset = dataclasses.replace(ssd_utils.get_preset(preset_name), width=width, input_scale=1 / 60)
    description = config.ModelDescription(preset, ("car", "bus"))
    settings = config.TrainingSettings(data="", train="")
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(3)
        optimization.TrainingStep(description, settings, tf.float32)
        session.run(tf.global_variables_initializer())
        for variable in tf.trainable_variables():
            if variable.op.name.startswith("head_"):
                feature = variable.op.name.split("_logits")[0].split("_offsets")[0]
                spread = SPREADS.get(feature, 0.5)
                spread *= 1 if feature == "head_conv4_3" else (32 * width) ** -0.5
                values = np.random.default_rng(0).normal(0, spread, variable.shape.as_list())
                variable.load(values.astype(np.float32), session)
        runs.create(str(path), description, settings)
        runs.Checkpoints(str(path)).save(session, runs.TrainingState(step=1))
    return path


def pictures(count=3):
    """Pictures with something in them, of different sizes."""
    rng = np.random.default_rng(5)
    drawn = []
    for index in range(count):
        cells = rng.integers(0, 256, (6 + index, 9, 3), dtype=np.uint8)
        drawn.append(cv2.resize(cells, (320 + 90 * index, 240), interpolation=cv2.INTER_CUBIC))
    return drawn
