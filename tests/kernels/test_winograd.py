"""Winograd's convolution against the plain one, in values and gradients, and where it is used."""

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ssd_utils
import ssd_vgg
from kernels import winograd

SIZES = [(4, 4), (1, 2), (10, 10), (9, 14), (19, 7)]


def direct(x, weights):
    """The plain convolution in float64."""
    return tf.nn.conv2d(tf.cast(x, tf.float64), tf.cast(weights, tf.float64), 1, "SAME")


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def close(found, expected):
    """Up to the rounding of float32, as a share of the largest value."""
    assert found.shape == expected.shape
    if not found.size:
        return
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6 * np.abs(expected).max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("array", [True, False])
def test_values_are_those_of_a_convolution(size, batch, array):
    pictures, filters = random(1, batch, *size, 5), random(2, 3, 3, 5, 4)
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, *size, 5])  # of any number of pictures
        weights = filters if array else tf.placeholder_with_default(filters, filters.shape)
        both = winograd.conv2d(x, weights), direct(x, weights)
        assert both[0].shape.as_list() == [None, *size, 4]
        winograd.initialize(session)
        close(*session.run(both, {x: pictures}))


@pytest.mark.parametrize("size", SIZES)
def test_gradients_are_those_of_a_convolution(size):
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder_with_default(random(1, 2, *size, 5), [None, *size, 5])
        weights = tf.get_variable("weights", initializer=random(2, 3, 3, 5, 4))
        ramp = random(3, 2, *size, 4)
        ours = tf.gradients(tf.reduce_sum(winograd.conv2d(x, weights) * ramp), [x, weights])
        theirs = tf.gradients(tf.reduce_sum(direct(x, weights) * ramp), [x, weights])
        session.run(weights.initializer)
        for found, expected in zip(*session.run((ours, theirs)), strict=True):
            close(found, expected)


def test_the_first_example_by_hand():
    """A filter that shifts: each output is the cell above and to the left, zero at the edge."""
    shift = np.zeros((3, 3, 1, 1), np.float32)
    shift[0, 0] = 1
    picture = np.arange(1, 26, dtype=np.float32).reshape(1, 5, 5, 1)
    with tf.Graph().as_default(), tf.Session() as session:
        y = winograd.conv2d(tf.constant(picture), shift)
        winograd.initialize(session)
        found = session.run(y)[0, :, :, 0]
    np.testing.assert_allclose(found[1:, 1:], picture[0, :4, :4, 0], atol=1e-4)
    assert np.abs(found[0]).max() < 1e-4 and np.abs(found[:, 0]).max() < 1e-4


def faster(dtype=tf.float32, side=38, channels=(64, 128), size=3, **options):
    with tf.Graph().as_default():
        x = tf.placeholder(dtype, [None, side, side, channels[0]])
        return winograd.is_faster(x, tf.placeholder(dtype, [size, size, *channels]), **options)


@pytest.mark.parametrize("change", [{}, {"side": 10}, {"side": 150}, {"channels": (512, 84)}])
def test_wide_layers_in_float32_take_it(no_gpu, change):
    assert faster(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": tf.bfloat16},  # its 8 bits cannot bear the transforms
        {"dtype": tf.float16},
        {"side": 5},
        {"side": None},
        {"channels": (64, 64)},
        {"channels": (512, 20)},
        {"size": 1},
        {"stride": 2},
        {"dilation": 6},
        {"padding": "VALID"},
    ],
)
def test_others_do_not(no_gpu, change):
    assert not faster(**change)


def test_a_gpu_does_not(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0"])
    assert not faster()


@pytest.mark.parametrize("portable", [False, True])
def test_the_network_takes_it_unless_the_graph_is_to_leave(no_gpu, portable):
    """At a quarter of the channels: conv4_1 to conv5_3, and the heads at conv4_3, fc7 and conv8_2."""
    preset = dataclasses.replace(ssd_utils.get_preset("vgg300"), width=0.25)
    with tf.Graph().as_default() as graph:
        ssd_vgg.build(tf.placeholder(tf.uint8, [None, 300, 300, 3]), preset, 20, portable=portable)
        sizes = [tuple(op.inputs[1].shape.as_list()[2:]) for op in graph.get_operations() if op.type == "Conv2D"]
    assert ((128, 128) in sizes) == ((128, 100) in sizes) == ((256, 150) in sizes) == ((128, 150) in sizes) == portable
    assert (3, 16) in sizes and (64, 64) in sizes


def test_the_whole_network_and_its_gradients(no_gpu):
    """The same weights in either form give the same logits and offsets, and the same gradient of every variable."""
    preset = dataclasses.replace(ssd_utils.get_preset("vgg300"), width=0.25, input_scale=1 / 60)
    images = np.random.default_rng(0).integers(0, 256, (2, 300, 300, 3), dtype=np.uint8)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.set_random_seed(0)
        both, convolutions = [], []
        for portable in (True, False):
            outputs = ssd_vgg.build(tf.constant(images), preset, 3, portable=portable)  # the second reuses variables
            ramps = [random(seed, *output.shape) for seed, output in enumerate(outputs)]
            losses = [tf.reduce_sum(output * ramp) for output, ramp in zip(outputs, ramps, strict=True)]
            both.append([*outputs, *tf.gradients(losses, tf.trainable_variables())])
            convolutions.append(sum(op.type == "Conv2D" for op in graph.get_operations()))
        assert convolutions[1] - convolutions[0] == convolutions[0] - 6  # the second has none in conv4 and conv5
        session.run(tf.global_variables_initializer())
        for expected, found in zip(*session.run(both), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 * np.abs(expected).max())


def test_rounding_with_many_channels():
    pictures, filters = np.maximum(random(1, 1, 12, 12, 512), 0), random(2, 3, 3, 512, 128)
    with tf.Graph().as_default(), tf.Session() as session:
        x, weights = tf.constant(pictures), tf.placeholder_with_default(filters, filters.shape)
        close(*session.run((winograd.conv2d(x, weights), direct(x, weights))))


def test_the_transforms_are_exact():
    """In float64 a window and a filter give the tile's values to the last digits."""
    window, filter_ = random(1, 6, 6).astype(float), random(2, 3, 3).astype(float)
    points = (winograd.WINDOW_TO_POINTS @ window.ravel()) * (winograd.FILTER_TO_POINTS @ filter_.ravel())
    tile = [[(window[i : i + 3, j : j + 3] * filter_).sum() for j in range(4)] for i in range(4)]
    np.testing.assert_allclose((winograd.POINTS_TO_TILE @ points).reshape(4, 4), tile, atol=1e-12)
