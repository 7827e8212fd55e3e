"""The graph of a training: first values, and which weights are evaluated."""

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import config
import ssd_utils
from exports.opened import RESULT
from settings.training_settings import TrainingSettings
from training import training_graph


@pytest.fixture
def averaging():
    """A TrainingGraph of a training with --ema, initialized, with a given first value."""
    preset = dataclasses.replace(ssd_utils.get_preset("vgg300"), width=1 / 32)
    settings = TrainingSettings(data="", train="", batch_size=1, ema=0.9)
    with tf.Graph().as_default():
        graph = training_graph.build(config.ModelDescription(preset, ("disc",)), settings, tf.float32)
        with graph.session:
            graph.initialize({"conv1_1/biases": np.float32([7, 8])})
            yield graph


def test_averages_begin_as_the_weights(averaging):
    """And these as the values given, or at random."""
    session, step = averaging.session, averaging.training_step
    weights = session.run({one.op.name: one for one in step.trained})
    assert weights["conv1_1/biases"].tolist() == [7, 8] and weights["conv1_1/weights"].std() > 0
    averages = session.run(step.averages)
    assert averages.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(averages[name], value)


def test_with_averages_they_are_evaluated(averaging):
    session, step = averaging.session, averaging.training_step
    image = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), dtype=np.uint8)

    def predicted():
        return averaging.detector._run(image)[RESULT]

    def double(variable):
        training_graph.set_values(session, [variable], {variable.op.name: 2 * session.run(variable)})

    first, name = predicted(), "conv1_1/weights"
    double(next(one for one in step.trained if one.op.name == name))
    np.testing.assert_array_equal(predicted(), first)
    double(step.averages[name])
    assert (predicted() != first).any()
