"""The tap-by-tap filter gradient against TensorFlow's own, and where it is used."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import convolution


def filter_gradients(size, dilation, dtype):
    """(ours, TensorFlow's) for random pictures of 7 × 7 cells."""
    rng = np.random.default_rng(size + dilation)
    x, dy = rng.normal(size=(2, 7, 7, 4)), rng.normal(size=(2, 7, 7, 5))
    with tf.Graph().as_default(), tf.Session() as session:
        x, dy = tf.constant(x, dtype), tf.constant(dy, dtype)
        ours = convolution.filter_gradient(x, dy, size, dilation)
        theirs = tf.nn.conv2d_backprop_filter(
            tf.cast(x, tf.float32), [size, size, 4, 5], tf.cast(dy, tf.float32), [1, 1, 1, 1], "SAME",
            dilations=[1, dilation, dilation, 1],
        )  # fmt: skip
        return session.run((tf.cast(ours, tf.float32), theirs))


@pytest.mark.parametrize("size, dilation", [(1, 1), (3, 1), (3, 2), (3, 6)])
def test_the_filter_gradient_is_tensorflows(size, dilation):
    ours, theirs = filter_gradients(size, dilation, tf.float32)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    ours, theirs = filter_gradients(size, dilation, tf.bfloat16)
    np.testing.assert_allclose(ours, theirs, atol=0.15)  # bfloat16 keeps 8 bits of sums of up to 98 terms


def training_graph(dtype, side, **options):
    """Loss = sum(conv * ramp) -> (types of the gradient graph's ops, session function giving both gradients)."""
    graph = tf.Graph()
    with graph.as_default():
        rng = np.random.default_rng(1)
        x = tf.constant(rng.normal(size=(2, side, side, 128)), dtype)
        weights = tf.constant(rng.normal(size=(3, 3, 128, 128)), dtype)
        y = convolution.conv2d(x, weights, **options)
        ramp = tf.constant(rng.normal(size=y.shape), dtype)
        gradients = [tf.cast(g, tf.float32) for g in tf.gradients(tf.reduce_sum(y * ramp), [x, weights])]
    return {op.type for op in graph.get_operations()}, lambda: tf.Session(graph=graph).run(gradients)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])


def test_both_gradients_reach_the_loss_through_the_override(no_gpu, monkeypatch):
    types, ours = training_graph(tf.bfloat16, 9, dilation=2)
    assert "MatMul" in types and "Conv2DBackpropFilter" not in types
    monkeypatch.setattr(convolution, "MAX_SIDE", 0)
    types, theirs = training_graph(tf.bfloat16, 9, dilation=2)
    assert "MatMul" not in types and "Conv2DBackpropFilter" in types
    for a, b in zip(ours(), theirs(), strict=True):
        np.testing.assert_allclose(a, b, atol=0.02 * np.abs(b).max())


@pytest.mark.parametrize(
    "dtype, side, options",
    [
        (tf.float32, 9, {}),
        (tf.bfloat16, 41, {}),
        (tf.bfloat16, 9, {"padding": "VALID"}),
        (tf.bfloat16, 9, {"stride": 2}),
    ],
)
def test_elsewhere_the_gradient_is_tensorflows_own(no_gpu, dtype, side, options):
    types, _ = training_graph(dtype, side, **options)
    assert "Conv2DBackpropFilter" in types and "MatMul" not in types


def test_a_gpu_keeps_its_own(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0"])
    types, _ = training_graph(tf.bfloat16, 9)
    assert "MatMul" not in types
