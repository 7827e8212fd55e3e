"""The network against a NumPy twin, at 1/32 of the width; its full size by counting."""

import dataclasses
import math
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import oracles
import ssd_layers
import ssd_utils
import ssd_vgg
from kernels import cpu

CLASSES = 3
SLIM = 1 / 32


def slim(name, **changes):
    return dataclasses.replace(ssd_utils.get_preset(name), width=SLIM, **changes)


def build(preset, *, num_classes=CLASSES, **options):
    """Into a new graph -> (graph, images, logits, offsets)."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.uint8, [None, *preset.image_shape], "image_input")
        return graph, images, *ssd_vgg.build(images, preset, num_classes, **options)


def shapes_of(graph):
    return {v.op.name: tuple(v.shape.as_list()) for v in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)}


def picture(size, seed=0, count=1):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def twin(image, weights, preset, **options):
    return oracles.network(
        image, weights, num_classes=CLASSES, ratios=preset.anchors_per_cell, scale=preset.input_scale, **options
    )


@dataclasses.dataclass
class Network:
    """A graph of variables with known values, shared by the tests that only read it."""

    preset: ssd_utils.SSDPreset
    weights: dict
    graph: tf.Graph
    session: tf.Session
    images: tf.Tensor
    outputs: tuple

    def run(self, batch):
        return self.session.run(self.outputs, {self.images: batch})


@pytest.fixture(scope="module")
def vgg300():
    preset = slim("vgg300", input_scale=1 / 60)
    graph, images, *outputs = build(preset)
    weights = oracles.random_weights(shapes_of(graph))
    with tf.Session(graph=graph) as session:
        for variable in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES):
            variable.load(weights[variable.op.name], session)
        yield Network(preset, weights, graph, session, images, tuple(outputs))


def run_constants(preset, weights, batch, **options):
    graph, images, *outputs = build(preset, weights=weights, **options)
    with tf.Session(graph=graph) as session:
        return session.run(outputs, {images: batch})


def close(found, expected, tolerance=2e-4):
    """Values agree within a fraction of their standard deviation, which is not 0."""
    spread = np.std(expected)
    assert spread > 1e-3
    np.testing.assert_allclose(found, expected, atol=tolerance * spread, rtol=0)


# Size
# With full fc6 and fc7: 102,764,544 + 16,781,312 of their own in place of 4,719,616 + 1,049,600; and 3072 more inputs
# of conv8_1's 256 channels and of the 9 × 150 numbers of fc7's heads for each input
@pytest.mark.parametrize(
    ("name", "fc_form", "parameters"),
    [
        ("vgg300", "subsampled", 26_285_486),
        ("vgg512", "subsampled", 27_188_676),
        ("vgg300", "full", 26_285_486 + 98_044_928 + 15_731_712 + 3072 * (256 + 9 * 150)),
    ],
)
def test_parameter_counts_at_full_width(name, fc_form, parameters):
    preset = dataclasses.replace(ssd_utils.get_preset(name), fc_form=fc_form)
    graph, _, logits, offsets = build(preset, num_classes=20)
    assert sum(math.prod(shape) for shape in shapes_of(graph).values()) == parameters
    assert logits.shape.as_list() == [None, preset.num_anchors, 21]
    assert offsets.shape.as_list() == [None, preset.num_anchors, 4]
    assert len(graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES)) == len(shapes_of(graph))


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("vgg300", {"conv4_3": 38, "fc7": 19, "conv8_2": 10, "conv9_2": 5, "conv10_2": 3, "conv11_2": 1}),
        (
            "vgg512",
            {"conv4_3": 64, "fc7": 32, "conv8_2": 16, "conv9_2": 8, "conv10_2": 4, "conv11_2": 2, "conv12_2": 1},
        ),
    ],
)
def test_feature_map_sizes(name, sides):
    graph, *_ = build(slim(name))
    heads = {f"head_{layer}" for layer in sides}
    found = {op.name: op.outputs[0].shape[1] for op in graph.get_operations() if op.type == "Conv2D"}
    for layer, side in sides.items():
        assert found[f"head_{layer}/Conv2D"] == side
    assert heads == {op.split("/")[0] for op in found if op.startswith("head_")}


def test_a_preset_of_other_maps_is_refused():
    with pytest.raises(ValueError, match="conv8_2 has 10×10 cells, preset vgg300 says 11×11"):
        build(slim("vgg300", feature_maps=(38, 19, 11, 5, 3, 1)))


def test_width_slims_all_but_the_heads_outputs():
    shapes = shapes_of(build(slim("vgg300"))[0])
    assert shapes["conv1_1/weights"] == (3, 3, 3, 2)
    assert shapes["conv5_3/weights"] == (3, 3, 16, 16)
    assert shapes["fc6/weights"] == (3, 3, 16, 32)
    assert shapes["fc7/weights"] == (1, 1, 32, 32)
    assert shapes["conv8_1/weights"] == (1, 1, 32, 8)
    assert shapes["conv8_2/weights"] == (3, 3, 8, 16)
    assert shapes["norm_conv4_3/scale"] == (16,)
    assert shapes["head_conv4_3_logits/weights"] == (3, 3, 16, 4 * (CLASSES + 1))
    assert shapes["head_fc7_offsets/weights"] == (3, 3, 32, 6 * 4)


# Values
def test_vgg300_equals_its_twin(vgg300):
    batch = picture(300, count=2)
    logits, offsets = vgg300.run(batch)
    assert logits.dtype == offsets.dtype == np.float32
    for n in range(2):
        expected = twin(batch[n], vgg300.weights, vgg300.preset)
        close(logits[n], expected[0])
        close(offsets[n], expected[1])
        for first, last in ((0, 5776), (5776, 7942), (7942, 8542), (8542, 8692), (8692, 8728), (8728, 8732)):
            close(logits[n, first:last], expected[0][first:last], 1e-3)


def test_full_fc6_and_fc7_equal_their_twin():
    preset = slim("vgg300", input_scale=1 / 60, fc_form="full")
    weights = oracles.random_weights(shapes_of(build(preset)[0]))
    assert weights["fc6/weights"].shape == (7, 7, 16, 128)
    batch = picture(300)
    found = run_constants(preset, weights, batch)
    for values, wanted in zip(found, twin(batch[0], weights, preset), strict=True):
        close(values[0], wanted)
        close(values[0, 5776:7942], wanted[5776:7942], 1e-3)  # fc7's map alone


@pytest.mark.parametrize("name", ["vgg512", "vgg512-article"])
def test_vgg512_equals_its_twin(name):
    preset = slim(name, input_scale=1 / 60)
    weights = oracles.random_weights(shapes_of(build(preset)[0]))
    batch = picture(512)
    expected = twin(batch[0], weights, preset)
    found = run_constants(preset, weights, batch)
    for values, wanted in zip(found, expected, strict=True):
        close(values[0], wanted)
        close(values[0, -4:], wanted[-4:], 1e-3)  # conv12_2 alone


def test_constants_give_what_variables_give(vgg300):
    batch = picture(300, seed=1)
    graph, images, *outputs = build(vgg300.preset, weights=vgg300.weights)
    assert not graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    with tf.Session(graph=graph) as session:
        for found, expected in zip(session.run(outputs, {images: batch}), vgg300.run(batch), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-5)


def test_constants_of_another_shape_are_refused(vgg300):
    weights = {**vgg300.weights, "fc7/biases": np.zeros(5, np.float32)}
    with pytest.raises(ValueError, match=r"fc7/biases has shape \[5\], the network needs \[32\]"):
        build(vgg300.preset, weights=weights)


def test_bgr_weights_see_blue_first(vgg300):
    preset = dataclasses.replace(vgg300.preset, channel_order="BGR")
    batch = picture(300, seed=2)
    logits, offsets = run_constants(preset, vgg300.weights, batch)
    expected = twin(batch[0], vgg300.weights, preset, bgr=True)
    close(logits[0], expected[0])
    close(offsets[0], expected[1])


def test_preprocessing_by_hand():
    preset = ssd_utils.get_preset("vgg300")
    image = np.array([[[[130, 120, 110]]]], np.uint8)
    with tf.Graph().as_default(), tf.Session() as session:
        changed = (dataclasses.replace(preset, channel_order="BGR"), dataclasses.replace(preset, input_scale=0.5))
        rgb, bgr, scaled = session.run([ssd_vgg.preprocess(image, p) for p in (preset, *changed)])
    assert rgb.ravel().tolist() == [7, 3, 6]
    assert bgr.ravel().tolist() == [6, 3, 7]
    assert scaled.ravel().tolist() == [3.5, 1.5, 3]


def test_bfloat16_is_close_and_keeps_float32_variables(vgg300):
    batch = picture(300, seed=3)
    graph, images, *outputs = build(vgg300.preset, compute_dtype=tf.bfloat16)
    variables = graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
    assert {v.dtype.base_dtype for v in variables} == {tf.float32}
    convolutions = [op for op in graph.get_operations() if op.type == "Conv2D"]
    assert {op.outputs[0].dtype for op in convolutions} == {tf.bfloat16}
    with tf.Session(graph=graph) as session:
        for variable in variables:
            variable.load(vgg300.weights[variable.op.name], session)
        found = session.run(outputs, {images: batch})
    for values, wanted in zip(found, vgg300.run(batch), strict=True):
        assert values.dtype == np.float32
        assert np.abs(values - wanted).max() > 0  # it is another type
        assert np.sqrt(np.mean((values - wanted) ** 2)) < 0.05 * np.std(wanted)


def test_no_layer_adds_up_the_gradient_of_its_biases_in_bfloat16(monkeypatch):
    """TensorFlow's own does on a CPU; `convolution.bias_add` says where oneDNN takes its place, as in no layer here."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    monkeypatch.setattr(cpu, "flags", lambda: {"avx2"})
    graph, _, *outputs = build(slim("vgg300"), compute_dtype=tf.bfloat16)
    with graph.as_default():
        assert None not in tf.gradients(outputs, graph.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES))
    assert "BiasAddGrad" not in {op.type for op in graph.get_operations()}


# Heads
def test_heads_go_by_row_column_anchor_and_class(vgg300):
    """Biases identify every output's anchor and class; one output, of a picture of columns, identifies its cell."""
    weights = dict(vgg300.weights)
    for kind, values in (("logits", CLASSES + 1), ("offsets", 4)):
        name = f"head_conv4_3_{kind}"
        weights[f"{name}/weights"] = np.zeros_like(weights[f"{name}/weights"])
        weights[f"{name}/weights"][1, 1, :, 0] = 1  # anchor 0, value 0
        weights[f"{name}/biases"] = np.arange(4 * values, dtype=np.float32)
    image = np.zeros((1, 300, 300, 3), np.uint8)
    image[0, :, 150:] = 255
    for found in run_constants(vgg300.preset, weights, image):
        values = found.shape[2]
        cells = found[0, : 38 * 38 * 4].reshape(38, 38, 4, values)
        for anchor in range(4):
            for value in range(values):
                if (anchor, value) != (0, 0):
                    assert (cells[:, :, anchor, value] == anchor * values + value).all()
        lit = cells[14:24, :, 0, 0]  # rows that see neither border
        np.testing.assert_allclose(lit, np.broadcast_to(lit[0], lit.shape), atol=1e-4)
        assert np.ptp(lit[0]) > 1


def test_only_fc6_is_a_trous():
    graph, *_ = build(slim("vgg300"))
    dilations = {op.name: op.get_attr("dilations") for op in graph.get_operations() if op.type == "Conv2D"}
    assert dilations.pop("fc6/Conv2D") == [1, 6, 6, 1]
    assert {tuple(d) for d in dilations.values()} == {(1, 1, 1, 1)}


def test_no_stride_rests_on_same_padding():
    for name in ("vgg300", "vgg512"):
        operations = build(slim(name))[0].get_operations()
        strided = [op for op in operations if op.type == "Conv2D" and op.get_attr("strides") != [1, 1, 1, 1]]
        assert len(strided) == {"vgg300": 2, "vgg512": 4}[name]
        assert {op.get_attr("padding") for op in strided} == {b"VALID"}


def test_cells_of_small_features_are_scaled_to_unit_length():
    """The epsilon of the original's layer is far below them, and keeps a cell of zeros at zero."""
    cells = np.zeros((1, 1, 2, 512), np.float32)
    cells[0, 0, 0] = 1e-4
    with tf.Graph().as_default(), tf.Session() as session:
        scaled = ssd_vgg._l2_normalize(types.SimpleNamespace(dtype=tf.float32), tf.constant(cells), "norm")
        session.run(tf.global_variables_initializer())
        found = session.run(scaled)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1)[0, 0], [20, 0], rtol=1e-3)


# Variables
def test_second_call_reuses_the_variables(vgg300):
    with vgg300.graph.as_default():
        before = len(vgg300.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES))
        outputs = ssd_vgg.build(vgg300.images, vgg300.preset, CLASSES)
        assert len(vgg300.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)) == before
    batch = picture(300, seed=4)
    for again, once in zip(vgg300.session.run(outputs, {vgg300.images: batch}), vgg300.run(batch), strict=True):
        np.testing.assert_allclose(again, once, rtol=1e-5, atol=5e-5)  # not every CPU's kernels add in one order


@pytest.mark.parametrize(("initializer", "variance"), [("he", 2.0), ("xavier", 1.0)])
def test_initial_values(initializer, variance):
    graph, *_ = build(slim("vgg300"), initializer=initializer)
    with tf.Session(graph=graph) as session:
        session.run(tf.variables_initializer(graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)))
        variables = graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
        values = dict(zip([v.op.name for v in variables], session.run(variables), strict=True))
    fc6 = values["fc6/weights"]  # 3·3·16 inputs, 4,608 values
    assert fc6.var() == pytest.approx(variance / (9 * 16), rel=0.1)
    if initializer == "xavier":
        assert np.abs(fc6).max() <= math.sqrt(3 / (9 * 16))
    heads = np.concatenate([v.ravel() for n, v in values.items() if n.startswith("head_") and n.endswith("weights")])
    assert heads.std() == pytest.approx(0.01, rel=0.05)
    assert not any(v.any() for n, v in values.items() if n.endswith("/biases"))
    assert (values["norm_conv4_3/scale"] == 20).all()


@pytest.mark.parametrize("name", list(ssd_utils.PRESETS))
def test_the_names_known_without_a_graph_are_the_networks(name):
    assert set(ssd_layers.variable_names(slim(name))) == set(shapes_of(build(slim(name))[0]))


@pytest.mark.parametrize(("name", "height"), [("vgg300", 288), ("vgg512", 288), ("vgg512-article", 416)])
def test_a_wide_network_is_the_square_one_on_another_grid(name, height):
    """It has the same variables, an output for each anchor, and what repeats along the picture repeats in it."""
    square = slim(name)
    wide = ssd_layers.for_input(square, 512, height)
    graph, images, logits, offsets = build(wide)
    assert logits.shape[1:] == (wide.num_anchors, CLASSES + 1) and offsets.shape[1:] == (wide.num_anchors, 4)
    assert shapes_of(graph) == shapes_of(build(square)[0])
    turned, other, turned_logits, _ = build(ssd_layers.for_input(square, height, 512))
    x = picture(512)[:, :height]
    with tf.Session(graph=graph) as session, tf.Session(graph=turned) as turned_session:
        with graph.as_default():
            session.run(tf.global_variables_initializer())
        values = {v.op.name: session.run(v) for v in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)}
        for variable in turned.get_collection(tf.GraphKeys.GLOBAL_VARIABLES):
            kernel = values[variable.op.name]
            variable.load(kernel.transpose(1, 0, 2, 3) if kernel.ndim == 4 else kernel, turned_session)
        found = session.run(logits, {images: x})[0]
        expected = turned_session.run(turned_logits, {other: x.transpose(0, 2, 1, 3)})[0]
    starts = np.cumsum([0, *wide.anchors_per_map])
    for (rows, columns), shapes, start, end in zip(wide.grids, wide.anchors_per_cell, starts, starts[1:], strict=False):
        one = found[start:end].reshape(rows, columns, shapes, -1)
        two = expected[start:end].reshape(columns, rows, shapes, -1)
        np.testing.assert_allclose(one, two.transpose(1, 0, 2, 3), rtol=1e-4, atol=1e-3)
