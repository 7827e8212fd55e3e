"""Schedules by hand, and training steps against updates written out in NumPy.

The updates run on a stand-in for the network, two layers on pictures of 4×4, whose graph is built in a moment. The
expected updates (normalization, decay, clipping, rates, optimizer) are computed in float64 from the gradients of the
loss sums; test_losses checks these gradients.
"""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import config
import losses
import ssd_utils
import ssd_vgg
from settings.training_settings import TrainingSettings
from system import compiled_code
from training import optimization, probes

SIDE, ANCHORS, NAMES = 4, 32, ("car", "bus")
STAND_IN = config.ModelDescription(types.SimpleNamespace(image_shape=(SIDE, SIDE, 3), num_anchors=ANCHORS), NAMES)
SHAPES = {
    "conv1_1/weights": (3, 3, 3, 4),
    "conv1_1/biases": (4,),
    "norm_conv4_3/scale": (4,),
    "conv10_1/weights": (1, 1, 4, 6),
    "conv10_1/biases": (6,),
    "head_conv10_1_logits/weights": (3, 3, 6, 2 * (1 + len(NAMES))),
    "head_conv10_1_logits/biases": (2 * (1 + len(NAMES)),),
    "head_conv10_1_offsets/weights": (3, 3, 6, 2 * 4),
    "head_conv10_1_offsets/biases": (2 * 4,),
}


def settings(**changes):
    """Momentum at a constant rate, without warm-up, clipping and decay."""
    plain = {
        "optimizer": "momentum",
        "schedule": "constant",
        "warmup_steps": 0,
        "clip_norm": 0.0,
        "weight_decay": 0.0,
    }
    return TrainingSettings(data="", train="", **{**plain, **changes})


def test_the_last_batch_of_an_epoch_may_have_fewer_images():
    plan = optimization.Plan(settings(batch_size=4), 9)
    assert [plan.images_before(batch) for batch in range(4)] == [0, 4, 8, 9]


# Schedules
def rates(steps, steps_per_epoch=10, total_steps=100, **changes):
    chosen = settings(**{"learning_rate": 1.0, **changes})
    return [optimization.learning_rate(chosen, step, steps_per_epoch, total_steps) for step in steps]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (3, 3, 12, 4)),
        ({"accumulate": 2}, (3, 2, 8, 4)),  # the last step of an epoch takes what is left
        ({"accumulate": 5}, (3, 1, 4, 4)),
        ({"max_steps": 7}, (3, 3, 7, 3)),
        ({"max_steps": 70}, (3, 3, 12, 4)),
    ],
)
def test_plan_counts_batches_steps_and_epochs(changes, expected):
    plan = optimization.Plan(settings(batch_size=4, epochs=4, **changes), num_images=9)
    assert (plan.batches_per_epoch, plan.steps_per_epoch, plan.total_steps, plan.epochs) == expected


def test_plan_has_the_rates_of_its_own_steps():
    plan = optimization.Plan(settings(schedule="exponential", learning_rate=1.0, batch_size=4, accumulate=2), 9)
    assert [plan.rate(step) for step in range(5)] == pytest.approx([1, 1, 0.97, 0.97, 0.9409])


def test_constant_schedule():
    assert rates([0, 50, 99], learning_rate=0.25) == [0.25, 0.25, 0.25]


def test_exponential_schedule_falls_once_an_epoch():
    assert rates([0, 9, 10, 25, 99], schedule="exponential") == pytest.approx([1, 1, 0.97, 0.9409, 0.97**9], rel=1e-12)


def test_step_schedule_drops_at_its_steps():
    found = rates([0, 79_999, 80_000, 99_999, 100_000, 119_999], schedule="step", learning_rate=1e-3)
    assert found == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5], rel=1e-12)
    assert rates([2, 3], schedule="step", schedule_steps=(3,)) == pytest.approx([1, 0.1])


def test_step_schedule_with_rates_of_its_own():
    """The article's code: tf.train.piecewise_constant, which begins a rate after its boundary; ours begins at it."""
    chosen = {"schedule": "step", "schedule_steps": (3, 5), "schedule_rates": (0.5, 2.0, 0.125)}
    assert rates(range(7), **chosen) == [0.5, 0.5, 0.5, 2.0, 2.0, 0.125, 0.125]
    assert rates([0, 3], warmup_steps=4, **chosen) == [0.125, 2.0]


def test_cosine_schedule():
    assert rates([0, 25, 50, 75, 100, 120], schedule="cosine") == pytest.approx(
        [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0, 0], abs=1e-12
    )


def test_cosine_begins_after_the_warm_up():
    found = rates([19, 20, 60, 100], schedule="cosine", warmup_steps=20)
    assert found == pytest.approx([1, 1, 0.5, 0], abs=1e-12)


def test_warm_up_is_linear_and_never_0():
    assert rates([0, 1, 3, 4], warmup_steps=4) == pytest.approx([0.25, 0.5, 1, 1])
    found = rates([0, 10], warmup_steps=20, schedule="exponential")
    assert found == pytest.approx([0.05, 0.55 * 0.97])


def test_a_cosine_shorter_than_its_warm_up_stays_finite():
    assert rates([0, 4], schedule="cosine", warmup_steps=10, total_steps=5) == pytest.approx([0.1, 0.5])


def test_unknown_schedule():
    with pytest.raises(ValueError, match="'linear'"):
        rates([0], schedule="linear")


# The stand-in
def network(images, preset, num_classes, *, compute_dtype, initializer):
    assert (num_classes, initializer) == (len(NAMES), "lsuv")
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        get = {name: tf.cast(tf.get_variable(name, shape), compute_dtype) for name, shape in SHAPES.items()}

    def conv(x, name):
        return tf.nn.conv2d(x, get[f"{name}/weights"], 1, "SAME") + get[f"{name}/biases"]

    x = tf.nn.relu(conv(tf.cast(images, compute_dtype) / 255, "conv1_1")) * get["norm_conv4_3/scale"]
    x = tf.nn.relu(conv(x, "conv10_1"))
    logits, offsets = (tf.cast(conv(x, f"head_conv10_1_{kind}"), tf.float32) for kind in ("logits", "offsets"))
    return tf.reshape(logits, [-1, ANCHORS, 1 + num_classes]), tf.reshape(offsets, [-1, ANCHORS, 4])


def start(seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0.1, 0.3, shape).astype(np.float32) for name, shape in SHAPES.items()}


def make_batch(seed, positives):
    """Arrays of len(positives) images with that many positives each."""
    rng = np.random.default_rng(seed)
    count = len(positives)
    class_targets = np.zeros((count, ANCHORS), np.int32)
    for row, wanted in zip(class_targets, positives, strict=True):
        row[rng.permutation(ANCHORS)[:wanted]] = rng.integers(1, 1 + len(NAMES), wanted)
    return {
        "images": rng.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8),
        "class_targets": class_targets,
        "offset_targets": rng.normal(0, 1, (count, ANCHORS, 4)).astype(np.float32),
    }


def halves(batch, first):
    """A batch as two: its first images, and the rest."""
    return {k: v[:first] for k, v in batch.items()}, {k: v[first:] for k, v in batch.items()}


def loss_scale():
    """The loss scale's variable, in a list that is empty if there is none."""
    return [v for v in tf.global_variables() if v.op.name == "loss_scale"]


@pytest.fixture
def train(monkeypatch):
    """Callable: settings, [(batch, rate, update)] -> (values by name, returned sums, the graph).

    The values are those of weights, averages and loss scale. before: called with the session before the steps; may
    change variables.
    """
    monkeypatch.setattr(ssd_vgg, "build", network)

    def run(chosen, steps, dtype=tf.float32, before=lambda session: None, **options):
        with tf.Graph().as_default() as graph, tf.Session() as session:
            step = optimization.TrainingStep(STAND_IN, chosen, dtype, **options)
            session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            before(session)
            for variable in tf.trainable_variables():
                variable.load(start()[variable.op.name], session)
            step.start_averages(session)
            sums = [step.run(session, batch, rate, update) for batch, rate, update in steps]
            variables = [*tf.trainable_variables(), *step.averages.values(), *loss_scale()]
            return {v.op.name: session.run(v) for v in variables}, sums, graph

    return run


@pytest.fixture(scope="module")
def gradient_sums():
    """Callable: values, batch -> (gradients of the loss sums by name, number of positives), in float64."""
    with tf.Graph().as_default(), tf.Session() as session:
        batch = {
            "images": tf.placeholder(tf.uint8, [None, SIDE, SIDE, 3]),
            "class_targets": tf.placeholder(tf.int32, [None, ANCHORS]),
            "offset_targets": tf.placeholder(tf.float32, [None, ANCHORS, 4]),
        }
        outputs = network(batch["images"], None, len(NAMES), compute_dtype=tf.float32, initializer="lsuv")
        parts = losses.multibox_loss(*outputs, batch["class_targets"], batch["offset_targets"])
        variables = tf.trainable_variables()
        gradients = tf.gradients(parts["confidence"] + parts["localization"], variables)

        def compute(values, arrays):
            for variable in variables:
                variable.load(values[variable.op.name].astype(np.float32), session)
            found, positives = session.run((gradients, parts["positives"]), {batch[k]: v for k, v in arrays.items()})
            names = [v.op.name for v in variables]
            return {n: g.astype(np.float64) for n, g in zip(names, found, strict=True)}, float(positives)

        yield compute


def expected_values(gradient_sums, chosen, steps):
    """The values that steps with whole batches [(batch, rate)] should give from `start()`."""
    values = {name: value.astype(np.float64) for name, value in start().items()}
    first = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    second = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for t, (batch, rate) in enumerate(steps, 1):
        gradients, positives = gradient_sums(values, batch)
        for name in gradients:
            gradients[name] /= max(1, positives)
            if name.endswith("weights") and chosen.optimizer != "adamw":
                gradients[name] += chosen.weight_decay * values[name]
        norm = np.sqrt(sum(np.sum(g**2) for g in gradients.values()))
        if chosen.clip_norm and norm > chosen.clip_norm:
            gradients = {name: g * chosen.clip_norm / norm for name, g in gradients.items()}
        for name, g in gradients.items():
            own = rate * (chosen.bias_lr_multiplier if name.endswith("biases") else 1)
            own *= chosen.vgg_lr_multiplier if name.startswith("conv1_") else 1
            if name.endswith("weights") and chosen.optimizer == "adamw":
                values[name] *= 1 - own * chosen.weight_decay
            if chosen.optimizer == "momentum" and chosen.momentum_form == "caffe":
                first[name] = chosen.momentum * first[name] + own * g
                values[name] -= first[name]
            elif chosen.optimizer == "momentum":
                first[name] = chosen.momentum * first[name] + g
                values[name] -= own * first[name]
            else:
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g**2
                own *= np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
                values[name] -= own * first[name] / (np.sqrt(second[name]) + chosen.adam_epsilon)
    return values


def assert_moved_alike(found, expected, rtol=1e-4):
    """Every variable changed alike, within a fraction of its largest change."""
    for name, before in start().items():
        change = expected[name] - before
        assert np.abs(change).max() > 0, name
        np.testing.assert_allclose(
            found[name] - before, change, rtol=0, atol=rtol * np.abs(change).max() + 2e-7, err_msg=name
        )


# Updates
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.5},
        {"momentum_form": "caffe", "bias_lr_multiplier": 2.0, "weight_decay": 0.05},
        {"bias_lr_multiplier": 2.0},
        {"weight_decay": 0.05},
        {"clip_norm": 0.5},
        {"clip_norm": 0.5, "weight_decay": 0.05, "bias_lr_multiplier": 2.0},
        {"optimizer": "adam", "adam_epsilon": 0.1},
        {"optimizer": "adam", "adam_epsilon": 0.1, "momentum_form": "caffe"},  # --recipe original --optimizer adam
        {"optimizer": "adamw", "adam_epsilon": 1e-3, "weight_decay": 5.0, "momentum_form": "caffe"},
        {"optimizer": "adam", "adam_epsilon": 1e-3, "bias_lr_multiplier": 2.0, "weight_decay": 0.05},
        {"optimizer": "adamw", "adam_epsilon": 1e-3, "weight_decay": 5.0, "clip_norm": 0.5},
        {"optimizer": "adamw", "adam_epsilon": 1e-3, "weight_decay": 5.0, "vgg_lr_multiplier": 0.1},
        {"vgg_lr_multiplier": 0.1, "bias_lr_multiplier": 2.0, "weight_decay": 0.05},
    ],
    ids=str,
)
def test_update(train, gradient_sums, changes):
    """Three steps at different rates, on batches whose images have very different numbers of positives."""
    chosen = settings(**changes)
    steps = [(make_batch(n, (1 + n, 9, 0)), 0.01 * (1 + n)) for n in range(3)]
    found, _, _ = train(chosen, [(batch, rate, True) for batch, rate in steps])
    assert_moved_alike(found, expected_values(gradient_sums, chosen, steps))


def test_a_high_clip_norm_changes_nothing(train):
    steps = [(make_batch(0, (3, 5)), 0.01, True)]
    clipped, free = (train(settings(clip_norm=norm), steps)[0] for norm in (1e6, 0.0))
    assert_moved_alike(clipped, free)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_biases_have_a_multiple_of_the_rate(train, optimizer):
    steps = [(make_batch(0, (3, 5)), 0.01, True)]
    once, twice = (train(settings(optimizer=optimizer, bias_lr_multiplier=factor), steps)[0] for factor in (1.0, 2.0))
    for name, before in start().items():
        factor = 2 if name.endswith("/biases") else 1
        np.testing.assert_allclose(twice[name] - before, factor * (once[name] - before), atol=3e-7, err_msg=name)


def test_the_factor_for_vgg16_is_for_its_convolutions_alone():
    """Not for fc6 and fc7, which usually start at random, as all layers behind them do."""
    names = ("conv1_2/weights", "conv5_3/biases", "norm_conv4_3/scale", "fc6/weights", "fc7/biases", "conv10_1/weights")
    variables = [types.SimpleNamespace(op=types.SimpleNamespace(name=name)) for name in names]
    chosen = settings(vgg_lr_multiplier=0.1, bias_lr_multiplier=2.0)
    step = types.SimpleNamespace(_settings=chosen, trained=variables)
    groups = optimization.TrainingStep._groups(step, [0.0] * len(names))
    factors = {v.op.name: factor for (_, factor), members in groups.items() for _, v in members}
    assert factors == pytest.approx(dict(zip(names, (0.1, 0.2, 1, 1, 2, 1), strict=True)))


def test_only_weights_decay(train):
    """Without positives there is no loss: weights shrink, biases and scale stay."""
    found, sums, _ = train(settings(weight_decay=0.5), [(make_batch(0, (0, 0)), 0.1, True)])
    assert sums == [{"confidence": 0, "localization": 0, "positives": 0}]
    for name, before in start().items():
        factor = 0.95 if name.endswith("/weights") else 1
        np.testing.assert_allclose(found[name], before * factor, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("names", "value", "sound"),
    [
        (["conv1_1/biases"], 0.5, True),
        (["conv1_1/biases"], np.nan, False),
        (["norm_conv4_3/scale"], np.inf, False),
        (["conv1_1/weights"], 3e38, False),
        (list(SHAPES), 1e3, True),
        (list(SHAPES), 1e13, False),  # four such layers overflow
    ],
)
def test_soundness(monkeypatch, names, value, sound):
    monkeypatch.setattr(ssd_vgg, "build", network)
    with tf.Graph().as_default(), tf.Session() as session:
        step = optimization.TrainingStep(STAND_IN, settings(), tf.float32)
        session.run(tf.global_variables_initializer())
        for variable in step.trained:
            if variable.op.name in names:
                variable.load(np.full(SHAPES[variable.op.name], value, np.float32), session)
        assert step.is_sound(session) == sound


# What a probe reads
@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"clip_norm": 6.0}, {}),
        ({"clip_norm": 6.0, "weight_decay": 0.05, "ema": 0.9, "freeze": ("conv1",)}, {}),
        ({"accumulate": 2, "clip_norm": 6.0}, {}),
        ({}, {}),
        ({"clip_norm": 6.0}, {"fixed_shapes": True, "xla": "whole"}),
    ],
    ids=str,
)
def test_a_probe_reads_what_updates_did(monkeypatch, gradient_sums, changes, options):
    """Against the gradients of whole batches in float64, and the weights before and after the last of three steps."""
    monkeypatch.setattr(ssd_vgg, "build", network)
    chosen = settings(batch_size=3, **changes)
    norms, values = [], []
    with tf.Graph().as_default(), tf.Session() as session:
        step = optimization.TrainingStep(STAND_IN, chosen, tf.float32, **options)
        probe = probes.StepProbe(step.trained, step.gradient_probe)
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        variables = tf.trainable_variables()
        for variable in variables:
            variable.load(start()[variable.op.name], session)
        for number in range(3):
            batch = make_batch(number, (1, 9, 0))
            values.append({v.op.name: session.run(v) for v in variables})
            gradients, positives = gradient_sums(values[-1], batch)
            trained = {v.op.name: gradients[v.op.name] / positives for v in step.trained}
            for name in trained:
                trained[name] += chosen.weight_decay * values[-1][name] * name.endswith("/weights")
            norms.append(np.sqrt(sum(np.sum(g**2) for g in trained.values())))
            if number == 2:
                probe.remember(session)
            for part, last in (
                zip(halves(batch, 2), (False, True), strict=True) if changes.get("accumulate") else [(batch, True)]
            ):
                step.run(session, part, 0.01, last)
        values.append({v.op.name: session.run(v) for v in variables})
        clipped = sum(norm > 6 for norm in norms) if "clip_norm" in changes else 0
        assert probe.count(session) == (clipped, 3)
        found, again = probe.read(session), probe.read(session)
    assert clipped < 3 and (clipped or "clip_norm" not in changes)  # the batches test both
    assert (found.clipped, found.updates, again.clipped, again.updates) == (clipped, 3, 0, 0)
    assert found.gradient_norm == pytest.approx(norms[-1], rel=1e-4)
    layers = {name.split("/")[0]: name for name in trained if not name.endswith("/biases")}
    assert found.weight_norms == pytest.approx({k: np.linalg.norm(values[3][n]) for k, n in layers.items()}, rel=1e-5)
    moved = {layer: np.linalg.norm(values[3][name] - values[2][name]) for layer, name in layers.items()}
    assert found.update_norms == pytest.approx(moved, rel=1e-3)
    assert again.update_norms == {}  # nothing was remembered for it
    assert found.bias_gradients.keys() == {name.split("/")[0] for name in trained if name.endswith("/biases")}
    for layer, gradient in found.bias_gradients.items():
        np.testing.assert_allclose(gradient, trained[f"{layer}/biases"], rtol=1e-3, atol=1e-5, err_msg=layer)


def test_a_probe_does_not_count_what_float16_skips(monkeypatch):
    monkeypatch.setattr(ssd_vgg, "build", network)
    with tf.Graph().as_default(), tf.Session() as session:
        step = optimization.TrainingStep(STAND_IN, settings(clip_norm=1e-6), tf.float16)
        probe = probes.StepProbe(step.trained, step.gradient_probe)
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        for scale, counts in ((2.0**100, (0, 0)), (1.0, (1, 1))):
            loss_scale()[0].load(scale, session)
            step.run(session, make_batch(1, (3, 5)), 0.01)
            assert probe.count(session) == counts


# Accumulation
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adam", "weight_decay": 0.05, "clip_norm": 0.5, "bias_lr_multiplier": 2.0},
        {"optimizer": "adamw", "weight_decay": 5.0, "clip_norm": 0.5},
    ],
    ids=str,
)
def test_two_halves_make_a_whole(train, changes):
    """With 1 and 11 positives in the halves; a second step shows that the sums start from 0 again."""
    wholes = [make_batch(1, (1, 0, 8, 3)), make_batch(2, (5, 2, 0, 0))]
    whole, _, _ = train(settings(**changes), [(batch, 0.02, True) for batch in wholes])
    parts = [(half, 0.02, last) for b in wholes for half, last in zip(halves(b, 2), (False, True), strict=True)]
    found, sums, _ = train(settings(accumulate=2, **changes), parts)
    assert_moved_alike(found, whole)
    assert [s["positives"] for s in sums] == [1, 11, 7, 0]


def test_uneven_halves_make_a_whole(train):
    batch = make_batch(3, (2, 9, 4))
    whole, _, _ = train(settings(), [(batch, 0.02, True)])
    first, second = halves(batch, 1)
    found, _, _ = train(settings(accumulate=2), [(first, 0.02, False), (second, 0.02, True)])
    assert_moved_alike(found, whole)


def test_the_last_group_may_be_short(train):
    """With --accumulate 3, the last batch of an epoch alone makes an effective batch too."""
    batch = make_batch(4, (2, 9))
    whole, _, _ = train(settings(), [(batch, 0.02, True)])
    found, _, _ = train(settings(accumulate=3), [(batch, 0.02, True)])
    assert_moved_alike(found, whole)


def test_adding_up_gradients_changes_no_weight(train):
    found, _, _ = train(settings(accumulate=2, weight_decay=0.5), [(make_batch(5, (2, 9)), 1.0, False)])
    for name, before in start().items():
        np.testing.assert_array_equal(found[name], before)


# float16
@pytest.mark.parametrize("accumulate", [1, 2])
def test_float16_steps_equal_those_of_float32(train, accumulate):
    batches = [(make_batch(n, (3, 5)), 0.05, n % accumulate == accumulate - 1) for n in range(2)]
    chosen = settings(accumulate=accumulate, weight_decay=0.05, clip_norm=5.0)
    wide, _, _ = train(chosen, batches)
    half, _, _ = train(chosen, batches, tf.float16, lambda session: loss_scale()[0].load(128.0, session))
    assert half.pop("loss_scale") == 128
    for name, before in start().items():
        moved = wide[name] - before
        np.testing.assert_allclose(half[name] - before, moved, atol=0.02 * np.abs(moved).max(), err_msg=name)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_float16_overflow_changes_no_weight_and_halves_the_scale(train, optimizer):
    def overflow(session):
        loss_scale()[0].load(2.0**100, session)

    chosen = settings(optimizer=optimizer, weight_decay=0.5)
    found, sums, graph = train(chosen, [(make_batch(1, (3, 5)), 1.0, True)], tf.float16, overflow)
    assert found.pop("loss_scale") == 2.0**99
    assert all(np.isfinite(value) for value in sums[0].values())
    for name, before in start().items():
        np.testing.assert_array_equal(found[name], before)
    saved = {v.op.name for v in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)}
    assert {"loss_scale", "good_steps"} <= saved  # so that a resume continues with them


def test_float16_doubles_the_scale_after_good_steps(train, monkeypatch):
    monkeypatch.setattr(optimization._LossScale, "START", 8.0)
    monkeypatch.setattr(optimization._LossScale, "DOUBLE_AFTER", 3)
    steps = [(make_batch(n, (3, 5)), 0.01, True) for n in range(7)]
    scales = [train(settings(), steps[:count], tf.float16)[0]["loss_scale"] for count in (2, 3, 5, 6)]
    assert scales == [8, 16, 16, 32]


def test_float16_counts_good_steps_in_a_row(monkeypatch):
    """One that overflows begins the count anew."""
    monkeypatch.setattr(optimization._LossScale, "START", 8.0)
    monkeypatch.setattr(optimization._LossScale, "DOUBLE_AFTER", 3)
    scales = []
    with tf.Graph().as_default(), tf.Session() as session:
        finite = tf.placeholder(tf.bool, [])
        update = optimization._LossScale().update(finite)
        session.run(tf.global_variables_initializer())
        for is_finite in (True, True, False, True, True, True):
            session.run(update, {finite: is_finite})
            scales += session.run(loss_scale())
    assert scales == [8, 8, 4, 4, 4, 8]


@pytest.mark.parametrize(("before", "after"), [(1.0, 0.5), (2.0**-14, 2.0**-14)])
def test_float16_scale_goes_below_one(before, after):
    """Sums of gradients may leave float16's range as they are; such a training would else never move a weight."""
    with tf.Graph().as_default(), tf.Session() as session:
        scale = optimization._LossScale()
        halved = scale.update(tf.constant(False))
        session.run(tf.global_variables_initializer())
        loss_scale()[0].load(before, session)
        session.run(halved)
        assert session.run(loss_scale()) == [after]


# Moving averages
@pytest.mark.parametrize("accumulate", [1, 2])
def test_averages_follow_the_weights(train, accumulate):
    """Against the recurrence in float64, from the weights after each step; a batch that only adds is no step."""
    chosen = settings(ema=0.25, accumulate=accumulate, freeze=("conv1",))
    steps = [(make_batch(n, (3, 5)), 0.05, (n + 1) % accumulate == 0) for n in range(3 * accumulate)]
    after = [train(chosen, steps[:n])[0] for n in range(0, len(steps) + 1, accumulate)]
    plain, _, _ = train(settings(accumulate=accumulate, freeze=("conv1",)), steps)
    for name, value in plain.items():
        np.testing.assert_array_equal(after[-1][name], value, err_msg=name)  # averaging changes no step
        if name.startswith("conv1_"):
            assert f"{name}/average" not in after[-1]
            continue
        average = after[0][name].astype(np.float64)
        for share, values in zip((1 / 10, 2 / 11, 3 / 12), after[1:], strict=True):
            average = share * average + (1 - share) * values[name]
        np.testing.assert_allclose(after[-1][f"{name}/average"], average, atol=1e-6, err_msg=name)
    capped, _, _ = train(dataclasses.replace(chosen, ema=0.05), steps)
    assert any((capped[name] != value).any() for name, value in after[-1].items())


def test_averages_start_as_the_weights(train):
    values, _, _ = train(settings(ema=0.5), [])
    for name, before in start().items():
        np.testing.assert_array_equal(values[f"{name}/average"], before)


# What is trained
def count(graph, kind):
    return sum(op.type == kind for op in graph.get_operations())


def test_frozen_layers_stay(train):
    """conv1 means conv1_1 but not conv10_1."""
    chosen = settings(freeze=("conv1", "norm_conv4_3"), weight_decay=0.05, bias_lr_multiplier=2.0)
    found, _, graph = train(chosen, [(make_batch(n, (3, 5)), 0.05, True) for n in range(2)])
    frozen = {name for name, before in start().items() if (found[name] == before).all()}
    assert frozen == {"conv1_1/weights", "conv1_1/biases", "norm_conv4_3/scale"}
    assert count(graph, "Conv2DBackpropFilter") == 3
    slots = [v.op.name for v in graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)]
    assert not any(name.startswith("conv1_1/") and "momentum" in name for name in slots)


@pytest.mark.parametrize(("freeze", "frozen"), [((), 0), (("conv1", "conv2"), 4)])
def test_one_backward_pass_serves_both_rates(freeze, frozen):
    """One filter gradient for each trained convolution of the real network, whatever the multiplier."""
    preset = dataclasses.replace(ssd_utils.get_preset("vgg300"), width=1 / 32)
    description = config.ModelDescription(preset, NAMES)
    chosen = settings(bias_lr_multiplier=2.0, weight_decay=5e-4, clip_norm=10.0, freeze=freeze)
    with tf.Graph().as_default() as graph:
        step = optimization.TrainingStep(description, chosen, tf.float32)
    # A map's logits and offsets are one convolution; on a CPU, fc6's gradients are products and a convolution
    forward = [op for op in graph.get_operations() if op.type == "Conv2D" and not op.name.startswith("gradients/")]
    assert len(forward) == 15 + 8 + 6
    dilated = 0 if tf.config.list_physical_devices("GPU") else 1
    assert count(graph, "Conv2DBackpropFilter") == len(forward) - frozen - dilated
    assert count(graph, "Conv2DBackpropInput") <= len(forward) - frozen - dilated
    assert count(graph, "Conv2D") == len(forward) + dilated
    assert len(step.trained) == 2 * (15 + 8 + 12 - frozen) + 1
    assert step.images.name == "image_input:0"


def test_mean_losses():
    means = optimization.mean_losses({"confidence": 6.0, "localization": 2.0, "positives": 4.0})
    assert means == {"confidence": 1.5, "localization": 0.5, "loss": 2.0}
    nothing = optimization.mean_losses({"confidence": 0.0, "localization": 0.0, "positives": 0.0})
    assert nothing == {"confidence": 0, "localization": 0, "loss": 0}


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "optimizer": "adam", "ema": 0.9, "clip_norm": 0.1}])
def test_a_batch_filled_up_to_a_fixed_size_counts_for_what_is_in_it(train, changes):
    """The last, smaller batch of an epoch, beside a whole one."""
    steps = [
        (make_batch(0, [3, 2, 0, 1]), 0.1, not changes),
        (make_batch(1, [4, 1]), 0.1, True),
        (make_batch(2, [0]), 0.1, True),
    ]
    chosen = settings(batch_size=4, weight_decay=1e-3, **changes)
    (plain, sums, _), (filled, filled_sums, graph) = (
        train(chosen, steps, fixed_shapes=fixed) for fixed in (False, True)
    )
    assert graph.get_tensor_by_name("image_input:0").shape[0] == 4
    for one, other in zip(sums, filled_sums, strict=True):
        assert other == pytest.approx(one, rel=1e-5)
    for name, value in plain.items():
        np.testing.assert_allclose(filled[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_soundness_is_judged_in_a_graph_of_fixed_shapes(monkeypatch):
    monkeypatch.setattr(ssd_vgg, "build", network)
    with tf.Graph().as_default(), tf.Session() as session:
        step = optimization.TrainingStep(STAND_IN, settings(batch_size=3), tf.float32, fixed_shapes=True)
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        assert step.is_sound(session)
        step.trained[0].load(np.full(step.trained[0].shape, np.nan, np.float32), session)
        assert not step.is_sound(session)


@pytest.mark.parametrize(
    ("form", "changes", "dtype"),
    [
        ("whole", {}, tf.float32),
        ("whole", {"accumulate": 2, "optimizer": "adam", "ema": 0.9, "clip_norm": 0.1}, tf.float32),
        ("whole", {"optimizer": "adam", "bias_lr_multiplier": 2.0}, tf.float16),
        ("update", {"accumulate": 2, "optimizer": "adam", "ema": 0.9, "clip_norm": 0.1}, tf.float32),
        ("update", {"optimizer": "adam", "bias_lr_multiplier": 2.0}, tf.float16),
        ("update", {"optimizer": "adamw", "clip_norm": 0.1}, tf.float32),
        ("on", {"optimizer": "adam", "clip_norm": 0.1}, tf.float32),  # its own network; XLA itself: test_xla.py
    ],
)
def test_every_form_for_xla_moves_the_weights_alike(train, form, changes, dtype):
    if dtype == tf.float16 and compiled_code.tensorflow_version() < (2, 21):
        pytest.skip("TensorFlow 2.16 overflows float16 on a CPU where XLA does not, and skips that step")
    steps = [(make_batch(0, [3, 2, 0, 1]), 0.1, "accumulate" not in changes), (make_batch(1, [4, 1]), 0.1, True)]
    chosen = settings(batch_size=4, weight_decay=1e-3, freeze=("conv10_1",), **changes)
    plain, sums, plain_graph = train(chosen, steps, dtype)
    compiled, compiled_sums, graph = train(chosen, steps, dtype, fixed_shapes=True, xla=form)
    functions = [op.name for op in graph.get_operations() if "_XlaMustCompile" in op.node_def.attr]
    update = int(form != "on" and dtype != tf.float16)  # in float16 it is in a branch, which is a function itself
    assert len(functions) == update + (form == "whole")
    names = [{v.op.name for v in one.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)} for one in (plain_graph, graph)]
    assert names[0] == names[1]  # so that a checkpoint of one resumes in the other
    tolerance = 1e-4 if dtype == tf.float32 else 1e-2
    for one, other in zip(sums, compiled_sums, strict=True):
        assert other == pytest.approx(one, rel=tolerance)
    for name, value in plain.items():
        np.testing.assert_allclose(compiled[name], value, rtol=tolerance, atol=tolerance / 10, err_msg=name)
