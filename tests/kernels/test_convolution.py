"""The filter gradient as matrix products against TensorFlow's own, and where it is used; the gradient of biases."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from kernels import convolution, cpu

ROOT = Path(__file__).parents[2]


FORMS = (convolution.tap_products, convolution.row_products, convolution.flat_products)


def filter_gradients(form, size, dilation, dtype):
    """(ours, TensorFlow's) for random pictures of 7 × 9 cells."""
    rng = np.random.default_rng(size + dilation)
    x, dy = rng.normal(size=(2, 7, 9, 4)), rng.normal(size=(2, 7, 9, 5))
    with tf.Graph().as_default(), tf.Session() as session:
        x, dy = tf.constant(x, dtype), tf.constant(dy, dtype)
        ours = form(x, dy, size, dilation)
        theirs = tf.nn.conv2d_backprop_filter(
            tf.cast(x, tf.float32),
            [size, size, 4, 5],
            tf.cast(dy, tf.float32),
            [1, 1, 1, 1],
            "SAME",
            dilations=[1, dilation, dilation, 1],
        )
        return session.run((tf.cast(ours, tf.float32), theirs))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size, dilation", [(1, 1), (3, 1), (3, 2), (3, 6), (5, 1)])
def test_the_filter_gradient_is_tensorflows(form, size, dilation):
    ours, theirs = filter_gradients(form, size, dilation, tf.float32)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    ours, theirs = filter_gradients(form, size, dilation, tf.bfloat16)
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
def avx2(no_gpu, monkeypatch):
    monkeypatch.setattr(cpu, "flags", lambda: {"avx2"})


@pytest.fixture
def avx512(no_gpu, monkeypatch):
    monkeypatch.setattr(cpu, "flags", lambda: {"avx2", "avx512f", "avx512_bf16"})


# bfloat16 keeps 8 bits, and without AVX-512 sums are kept in them too
@pytest.mark.parametrize("dtype, dilation, share", [(tf.bfloat16, 1, 0.04), (tf.float32, 6, 1e-5)])
def test_both_gradients_reach_the_loss_through_the_override(avx512, monkeypatch, dtype, dilation, share):
    types, ours = training_graph(dtype, 9, dilation=dilation)
    assert "MatMul" in types and not types & {"Conv2DBackpropFilter", "Conv2DBackpropInput"}
    monkeypatch.setattr(convolution, "_GRADIENT", "Conv2D")  # overridden by itself
    types, theirs = training_graph(dtype, 9, dilation=dilation)
    assert "MatMul" not in types and types >= {"Conv2DBackpropFilter", "Conv2DBackpropInput"}
    for a, b in zip(ours(), theirs(), strict=True):
        np.testing.assert_allclose(a, b, atol=share * np.abs(b).max())


def test_a_dilated_convolution_trains_without_onednn():
    """TensorFlow's own kernels refuse its gradients; oneDNN is off by default on a CPU without AVX512-VNNI."""
    program = (
        "from kernels import convolution; import tensorflow.compat.v1 as tf; tf.disable_eager_execution();"
        "x, w = tf.ones([1, 9, 9, 2]), tf.ones([3, 3, 2, 2]);"
        "print(sum(g.sum() for g in tf.Session().run(tf.gradients(convolution.conv2d(x, w, dilation=2), [x, w]))))"
    )
    settings = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # A filter's value meets 9·9 cells of its input, or 7·9 or 7·7 where the tap leaves the picture; each sum is of 2·2
    assert float(done.stdout) == 2 * 4 * (81 + 4 * 63 + 4 * 49)


def form_of(dtype, side, channels=(128, 128), size=3, dilation=1):
    with tf.Graph().as_default():
        x = tf.placeholder(dtype, [None, side, side, channels[0]])
        weights = tf.placeholder(dtype, [size, size, *channels])
        return convolution._filter_gradient_form(x, weights, dilation)


def test_forms_with_avx512(avx512):
    assert form_of(tf.bfloat16, 38) is convolution.tap_products
    assert form_of(tf.bfloat16, 75) is form_of(tf.bfloat16, 38, (64, 128)) is form_of(tf.float32, 38) is None
    assert form_of(tf.float32, 19, dilation=6) is convolution.tap_products


def test_forms_with_avx2(avx2):
    assert form_of(tf.float32, 38) is form_of(tf.float32, 19, dilation=6) is convolution.row_products
    assert form_of(tf.float32, 75) is form_of(tf.float32, 300, (64, 64)) is convolution.flat_products
    assert form_of(tf.float32, 300, (3, 64)) is form_of(tf.float32, 38, size=4) is None
    assert form_of(tf.float32, 19, (8, 16), dilation=6) is convolution.tap_products


@pytest.mark.parametrize("options", [{"padding": "VALID"}, {"stride": 2}])
def test_elsewhere_the_gradient_is_tensorflows_own(avx2, options):
    types, _ = training_graph(tf.float32, 9, **options)
    assert "Conv2DBackpropFilter" in types and "MatMul" not in types


def bias_gradient(dtype):
    """(types of the ops, gradient of the biases, what it should be) for 30,000 cells whose gradients are mostly > 0."""
    loss_gradients = np.random.default_rng(0).normal(0.2, 1, (3, 100, 100, 8))
    with tf.Graph().as_default() as graph, tf.Session() as session:
        biases, dy = tf.ones([8], dtype), tf.constant(loss_gradients, dtype)
        y = convolution.bias_add(tf.ones(dy.shape, dtype), biases)
        (gradient,) = tf.gradients(y, biases, dy)
        found = session.run(tf.cast(gradient, tf.float32))
    return {op.type for op in graph.get_operations()}, found, loss_gradients.sum(axis=(0, 1, 2))


@pytest.mark.parametrize(("dtype", "share"), [(tf.float32, 1e-5), (tf.bfloat16, 0.005)])
def test_the_gradient_of_biases_is_the_sum_over_all_cells(no_gpu, dtype, share):
    """TensorFlow's own sum in bfloat16 was off by two thirds here."""
    types, found, expected = bias_gradient(dtype)
    assert ("BiasAddGrad" in types) == (dtype == tf.float32)
    np.testing.assert_allclose(found, expected, atol=share * np.abs(expected).max())


def layer(side, channels):
    """(types of the ops, gradient of the biases, what it should be) of a layer in bfloat16 whose filter learns too."""
    rng = np.random.default_rng(0)
    loss_gradients = rng.normal(0.2, 1, (4, side, side, channels)).astype(np.float32)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        x = tf.constant(rng.normal(size=loss_gradients.shape), tf.bfloat16)
        filters, biases = tf.ones([3, 3, channels, channels], tf.bfloat16), tf.ones([channels], tf.bfloat16)
        y = convolution.bias_add(convolution.conv2d(x, filters), biases)
        dy = tf.placeholder(tf.float32, loss_gradients.shape)
        gradients = tf.gradients(y, [biases, filters], tf.cast(dy, tf.bfloat16))
        found, _ = session.run([tf.cast(one, tf.float32) for one in gradients], {dy: loss_gradients})
    return {op.type for op in graph.get_operations()}, found, loss_gradients.sum(axis=(0, 1, 2))


@pytest.mark.parametrize(("side", "channels"), [(38, 128), (50, 32)], ids=["products", "TensorFlow's"])
def test_biases_are_right_beside_both_forms_of_the_filter_gradient(no_gpu, side, channels):
    """On any CPU. oneDNN adds them up together with its own form, which a graph without filters does not show."""
    types, found, expected = layer(side, channels)
    assert ("Conv2DBackpropFilter" in types) == (channels == 32)
    np.testing.assert_allclose(found, expected, atol=0.005 * np.abs(expected).max())


def test_what_onednn_adds_up_anyway_is_not_added_up_again(avx512, monkeypatch):
    """It took 27 ms of conv1_1's 43 at batch 4."""
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    assert "BiasAddGrad" in layer(50, 32)[0]
    assert "BiasAddGrad" not in layer(38, 128)[0]
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert "BiasAddGrad" not in layer(50, 32)[0]
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setattr(cpu, "flags", lambda: {"avx2", "avx512f"})
    assert "BiasAddGrad" not in layer(50, 32)[0]


def test_a_gpu_keeps_its_own(avx2, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0"])
    types, _ = training_graph(tf.float32, 9)
    assert "MatMul" not in types
    assert "BiasAddGrad" in layer(38, 128)[0]
