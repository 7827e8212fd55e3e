"""The scaled first weights: sizes of all outputs, and the first loss against that of uniform scores."""

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import config
import ssd_layers
import ssd_utils
import ssd_vgg
from training import layer_scaling

NAMES = ("car", "bus", "person")
LIMIT = 1.2  # of the first loss, as a multiple of that of uniform scores


def describe(name, width=1 / 32, **changes):
    preset = dataclasses.replace(ssd_utils.get_preset(name), width=width, **changes)
    return config.ModelDescription(preset, NAMES)


def pictures(side, count=2):
    """Smooth pictures with noise, as photographs are: uint8 [N,side,side,3]."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 6, 6, 3))
    index = np.arange(side) * 6 // side
    noisy = coarse[:, index][:, :, index] + rng.normal(0, 20, (count, side, side, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def trained_vgg(preset):
    """Stand-ins for VGG-16's convolutions, whose outputs are far larger than their inputs' and all above 0."""
    rng, values, depth = np.random.default_rng(1), {}, 3
    for layer in (layer for group in ssd_layers.VGG_GROUPS for layer in group):
        channels = max(1, round(layer.channels * preset.width))
        values[f"{layer.name}/weights"] = rng.normal(0.01, 0.2, (3, 3, depth, channels)).astype(np.float32)
        values[f"{layer.name}/biases"] = rng.uniform(0, 2, channels).astype(np.float32)
        depth = channels
    return values


def start(description, images, given=None):
    """{layer or head's name: array} of what the network makes of the images at its first values; and these."""
    preset = description.preset
    values = layer_scaling.scaled(description, given or {}, images, seed=0)
    return outputs(preset, images, values), values


def outputs(preset, images, values):
    """Logits and offsets, and each layer's outputs after ReLU by name."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        fed = tf.placeholder(tf.uint8, images.shape)
        logits, offsets = ssd_vgg.build(fed, preset, len(NAMES), weights=values)
        found = {op.name.removesuffix("/relu"): op.outputs[0] for op in graph.get_operations() if "/relu" in op.name}
        return session.run({**found, "logits": logits, "offsets": offsets}, {fed: images})


def he_values(description, given):
    with tf.Graph().as_default(), tf.Session() as session:
        preset = description.preset
        fed = tf.placeholder(tf.uint8, [None, preset.input_size, preset.input_size, 3])
        ssd_vgg.build(fed, preset, len(NAMES), initializer="he")
        session.run(tf.global_variables_initializer())
        return {**{v.op.name: session.run(v) for v in tf.trainable_variables()}, **given}


def first_loss(logits, offsets):
    """{part: loss per positive} for 9 objects an image and the hardest 27 other anchors."""
    rng, confidence, localization = np.random.default_rng(2), 0.0, 0.0
    errors = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    for row, boxes in zip(-errors, offsets, strict=True):
        order = rng.permutation(len(row))
        positives, others = order[:9], order[9:]
        confidence += row[positives, rng.integers(1, 1 + len(NAMES), 9)].sum() + np.sort(row[others, 0])[-27:].sum()
        distance = np.abs(boxes[positives] - rng.normal(0, 1, (9, 4)))
        localization += np.where(distance < 1, distance**2 / 2, distance - 0.5).sum()
    return {"confidence": confidence / (9 * len(logits)), "localization": localization / (9 * len(logits))}


def ratios(found):
    """{part: loss over that of uniform scores and of boxes on their anchors}."""
    uniform = first_loss(0 * found["logits"], 0 * found["offsets"])
    assert uniform["confidence"] == pytest.approx(4 * np.log(1 + len(NAMES)))
    return {part: loss / uniform[part] for part, loss in first_loss(found["logits"], found["offsets"]).items()}


@pytest.mark.parametrize("trained", [False, True], ids=["random", "vgg"])
@pytest.mark.parametrize("name", ssd_utils.PRESETS)
def test_the_first_loss_is_that_of_uniform_scores(name, trained):
    description = describe(name) if trained else describe(name, input_scale=1 / 60)
    images = pictures(description.preset.input_size)
    given = trained_vgg(description.preset) if trained else {}
    found, values = start(description, images, given)
    assert max(ratios(found).values()) <= LIMIT
    for layer, value in given.items():
        np.testing.assert_array_equal(values[layer], value)


def test_without_scaling_the_first_loss_is_far_larger():
    description = describe("vgg300")
    images, given = pictures(300), trained_vgg(description.preset)
    found = outputs(description.preset, images, he_values(description, given))
    assert ratios(found)["confidence"] > 2 * LIMIT


@pytest.mark.parametrize("trained", [False, True], ids=["random", "vgg"])
def test_all_random_layers_have_outputs_of_one_size(trained):
    description = describe("vgg300", width=1 / 8)
    images = pictures(300)
    given = trained_vgg(description.preset) if trained else {}
    found, values = start(description, images, given)
    sizes = {layer: np.sqrt(np.mean(np.square(value))) for layer, value in found.items()}
    heads = [sizes.pop("logits"), sizes.pop("offsets")]
    assert heads == pytest.approx([layer_scaling.HEAD_RMS] * 2, rel=0.01)
    random = {layer: size for layer, size in sizes.items() if f"{layer}/weights" not in given}
    assert len(random) == (10 if trained else 23)
    assert list(random.values()) == pytest.approx([layer_scaling.FEATURE_RMS] * len(random), rel=0.01)
    other, again = (layer_scaling.scaled(description, given, images, seed=seed) for seed in (1, 0))
    assert (other["fc6/weights"] != values["fc6/weights"]).any()
    np.testing.assert_allclose(again["fc6/weights"], values["fc6/weights"], rtol=1e-4)


def test_a_given_layer_after_random_ones_keeps_its_values():
    """As with --init-from of a run of another preset, which may lack layers in between."""
    description = describe("vgg300", width=1 / 8)
    images = pictures(300)
    whole = layer_scaling.scaled(description, {}, images, seed=0)
    given = {name: value + ("biases" in name) for name, value in whole.items() if not name.startswith(("fc", "head_"))}
    given["fc7/weights"], given["fc7/biases"] = whole["fc7/weights"], whole["fc7/biases"] + 1
    found, values = start(description, images, given)
    assert np.sqrt(np.mean(found["fc6"] ** 2)) == pytest.approx(layer_scaling.FEATURE_RMS, rel=0.01)
    assert np.sqrt(np.mean(found["logits"] ** 2)) == pytest.approx(layer_scaling.HEAD_RMS, rel=0.1)
    assert all((values[name] == value).all() for name, value in given.items())


def test_a_layer_without_outputs_keeps_its_weights():
    description = describe("vgg300", width=1 / 32)
    images, given = pictures(300), he_values(describe("vgg300", width=1 / 32), {})
    given = {name: -np.abs(value) for name, value in given.items() if name == "fc6/weights"}
    given["fc6/biases"] = np.float32([-1e9] * 32)
    found, values = start(description, images, given)
    assert not found["fc7"].any() and all(np.isfinite(value).all() for value in values.values())


@pytest.mark.parametrize("size", [np.inf, np.nan, 0.0])
def test_a_layer_whose_outputs_have_no_size_keeps_its_weights(size):
    """Factors of 0 or not a number would make all layers behind it useless."""
    factors = layer_scaling._factors({"fc6": np.float32(size), "fc7": np.float32(4.0)}, {})
    assert factors == {"fc7/weights": layer_scaling.FEATURE_RMS / 4}
