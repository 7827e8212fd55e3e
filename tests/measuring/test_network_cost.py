"""Parameters and operations against the graph itself: arrays that are summed, convolutions that are found in it."""

import dataclasses
import math

import pytest
import tensorflow.compat.v1 as tf

import config
import detector
import ssd_layers
import ssd_utils
import ssd_vgg
from measuring import network_cost

SLIM = 1 / 32


def counted(preset, classes):
    """(numbers in all variables, products of all convolutions) of a graph for one picture."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.uint8, [1, *preset.image_shape])
        ssd_vgg.build(images, preset, classes, portable=True)
        parameters = sum(math.prod(variable.shape.as_list()) for variable in tf.global_variables())
    products = 0
    for operation in graph.get_operations():
        if operation.type == "Conv2D":
            height, width, _, _ = operation.inputs[1].shape.as_list()
            _, rows, columns, outputs = operation.outputs[0].shape.as_list()
            products += rows * columns * outputs * height * width * operation.inputs[0].shape[-1]
    return parameters, products


@pytest.mark.parametrize("name", ["vgg300", "vgg512", "vgg512-article"])  # others have the layers of one of these
def test_a_preset_equals_its_graph(name):
    preset = dataclasses.replace(ssd_utils.get_preset(name), width=SLIM)
    parameters, products = counted(preset, 3)
    assert network_cost.parameters(preset, 3) == parameters
    assert network_cost.gflop(preset, 3) == pytest.approx(2 * products / 1e9, rel=1e-12)


@pytest.mark.parametrize("name", ["vgg300", "vgg512"])
def test_a_wide_input_equals_its_graph(name):
    preset = ssd_layers.for_input(dataclasses.replace(ssd_utils.get_preset(name), width=SLIM), 448, 288)
    assert network_cost.gflop(preset, 3) == pytest.approx(2 * counted(preset, 3)[1] / 1e9, rel=1e-12)


def test_full_layers_at_another_width_equal_their_graph():
    preset = dataclasses.replace(ssd_utils.get_preset("vgg300"), width=0.011, fc_form="full")
    parameters, products = counted(preset, 7)
    assert network_cost.parameters(preset, 7) == parameters
    assert network_cost.gflop(preset, 7) == pytest.approx(2 * products / 1e9, rel=1e-12)


def test_parameters_are_the_numbers_in_a_checkpoint(trained):
    source = config.find_model(str(trained))
    arrays = detector.read_weights(source.checkpoint)
    assert network_cost.parameters(source.description.preset, 2) == sum(array.size for array in arrays.values())


def test_ssd300_for_vocs_classes_has_the_size_that_is_known():
    """26.3 million parameters and 31.4 billion products are what others count for SSD300 with 21 outputs."""
    preset = ssd_utils.get_preset("vgg300")
    assert network_cost.parameters(preset, 20) == 26_285_486
    assert network_cost.gflop(preset, 20) / 2 == pytest.approx(31.37, abs=0.005)


def test_layers_come_in_the_order_of_the_network():
    names = [layer.name for layer in network_cost.layers(ssd_utils.get_preset("vgg300"), 20)]
    assert names[:2] == ["conv1_1", "conv1_2"] and names[-1] == "head_conv11_2_offsets"
    assert names.index("norm_conv4_3") == names.index("conv4_3") + 1 == names.index("conv5_1") - 1
    assert len(names) == len(set(names))
