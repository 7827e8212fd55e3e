"""The multibox loss and its gradients against the float64 oracle."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import losses
import oracles

CLASSES = 4  # with background


@pytest.fixture(scope="module", params=[False, True], ids=["sizes follow values", "fixed shapes"])
def evaluate(request):
    """A callable: arrays -> dict as the oracle gives it. One graph and session for each choice of options."""
    graphs = {}

    def run(logits, offsets, class_targets, offset_targets, **options):
        key = tuple(options.items())
        if key not in graphs:
            graphs[key] = _graph({**options, "fixed_shapes": request.param})
        session, feeds, fetches = graphs[key]
        arrays = (logits, offsets, class_targets, offset_targets)
        return session.run(fetches, dict(zip(feeds, arrays, strict=True)))

    yield run
    for session, _, _ in graphs.values():
        session.close()


def _graph(options):
    with tf.Graph().as_default() as graph:
        logits = tf.placeholder(tf.float32, [None, None, CLASSES])
        offsets = tf.placeholder(tf.float32, [None, None, 4])
        class_targets = tf.placeholder(tf.int32, [None, None])
        offset_targets = tf.placeholder(tf.float32, [None, None, 4])
        parts = losses.multibox_loss(logits, offsets, class_targets, offset_targets, **options)
        gradients = tf.gradients(parts["confidence"] + parts["localization"], [logits, offsets])
        fetches = {**parts, "d_logits": gradients[0], "d_offsets": gradients[1]}
        return tf.Session(graph=graph), (logits, offsets, class_targets, offset_targets), fetches


def case(seed, images=3, anchors=24, positives=(4, 1, 7)):
    """Random arguments with that many positives in each image."""
    rng = np.random.default_rng(seed)
    class_targets = np.zeros((images, anchors), np.int32)
    for row, count in zip(class_targets, positives, strict=True):
        row[rng.permutation(anchors)[:count]] = rng.integers(1, CLASSES, count)
    return (
        rng.normal(0, 3, (images, anchors, CLASSES)).astype(np.float32),
        rng.normal(0, 2, (images, anchors, 4)).astype(np.float32),  # errors on both sides of 1
        class_targets,
        rng.normal(0, 1, (images, anchors, 4)).astype(np.float32),
    )


def check(evaluate, arguments, **options):
    found = evaluate(*arguments, **options)
    expected = oracles.multibox_loss(*arguments, **options)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_values_and_gradients(evaluate, seed):
    check(evaluate, case(seed))


def test_image_without_positives_contributes_nothing(evaluate):
    found = check(evaluate, case(10, positives=(3, 0, 2)))
    assert not found["d_logits"][1].any()
    assert not found["d_offsets"][1].any()
    assert found["d_logits"][0].any()


def test_no_positives_at_all(evaluate):
    found = check(evaluate, case(11, positives=(0, 0, 0)))
    assert (found["confidence"], found["localization"], found["positives"]) == (0, 0, 0)
    assert not found["d_logits"].any()


def test_fewer_negatives_than_wanted(evaluate):
    found = check(evaluate, case(12, positives=(20, 24, 2)))  # 4 negatives for 60, none for 72
    assert np.count_nonzero(found["d_logits"][0].any(axis=-1)) == 24


def test_mining_is_per_image(evaluate):
    """One positive selects three negatives of its own image, even if another image has harder ones."""
    logits, offsets, class_targets, offset_targets = case(13, images=2, positives=(1, 1))
    logits[1, :, 0] -= 20
    found = check(evaluate, (logits, offsets, class_targets, offset_targets))
    assert np.count_nonzero(found["d_logits"].any(axis=-1), axis=1).tolist() == [4, 4]


def test_equal_losses_go_by_anchor(evaluate):
    logits, offsets, class_targets, offset_targets = case(14, images=1, positives=(2,))
    logits[:] = logits[0, 0]
    found = check(evaluate, (logits, offsets, class_targets, offset_targets))
    negatives = np.flatnonzero(class_targets[0] == 0)
    chosen = np.flatnonzero((class_targets[0] == 0) & found["d_logits"][0].any(axis=-1))
    assert chosen.tolist() == negatives[:6].tolist()


@pytest.mark.parametrize("negative_ratio", [0, 1])
def test_other_ratios(evaluate, negative_ratio):
    check(evaluate, case(15), negative_ratio=negative_ratio)


def test_class_weights_count_for_positives_alone(evaluate):
    arguments = case(18)
    plain, weighted = check(evaluate, arguments), check(evaluate, arguments, class_weights=(0.25, 1.0, 8.0))
    factors = np.array([1, 0.25, 1, 8])[arguments[2]]  # of each anchor, by its target
    np.testing.assert_allclose(weighted["d_logits"], plain["d_logits"] * factors[:, :, None], rtol=1e-5)
    assert (weighted["localization"], weighted["positives"]) == (plain["localization"], plain["positives"])
    assert weighted["confidence"] != plain["confidence"]


def test_surely_wrong_scores_stay_finite(evaluate):
    logits, offsets, class_targets, offset_targets = case(16)
    logits[:, :, 0] = -200
    logits[:, :, 1] = 200
    found = evaluate(logits, offsets, class_targets, offset_targets)
    assert all(np.isfinite(value).all() for value in found.values())


def test_a_whole_batch_is_the_sum_of_its_images(evaluate):
    """Nothing is divided per image or per batch, which accumulation and several machines need."""
    arguments = case(17)
    whole = evaluate(*arguments)
    parts = [evaluate(*(a[n : n + 1] for a in arguments)) for n in range(3)]
    for name in ("confidence", "localization", "positives"):
        np.testing.assert_allclose(whole[name], sum(part[name] for part in parts), rtol=1e-5)
    np.testing.assert_allclose(whole["d_logits"], np.concatenate([p["d_logits"] for p in parts]), atol=1e-6)


def test_fixed_shapes_are_fixed():
    """XLA would compile the network anew for each size that follows from values, as the number of negatives does."""
    with tf.Graph().as_default() as graph:
        logits, offsets = tf.zeros([3, 24, 5]), tf.zeros([3, 24, 4])
        targets = tf.placeholder(tf.int32, [3, 24]), tf.placeholder(tf.float32, [3, 24, 4])
        sums = losses.multibox_loss(logits, offsets, *targets, fixed_shapes=True)
        tf.gradients([sums["confidence"], sums["localization"]], [logits, offsets])
    changing = [op.name for op in graph.get_operations() if not all(t.shape.is_fully_defined() for t in op.outputs)]
    assert changing == []


def test_a_negative_that_is_not_a_number_is_noticed(evaluate):
    logits, offsets, class_targets, offset_targets = case(19)
    logits[0, np.flatnonzero(class_targets[0] == 0)[-1], 0] = np.nan
    assert np.isnan(evaluate(logits, offsets, class_targets, offset_targets)["confidence"])


def test_tensors_that_have_values_already(evaluate):
    arrays = case(5)
    in_graph = evaluate(*arrays)
    with tf.init_scope():
        assert tf.executing_eagerly()
        for name, value in losses.multibox_loss(*map(tf.constant, arrays)).items():
            assert value.numpy() == pytest.approx(in_graph[name], rel=1e-6)


def test_smooth_l1_by_hand():
    with tf.Graph().as_default(), tf.Session() as session:
        summed = losses.smooth_l1(tf.constant([[0.5, -0.5, 2.0, -3.0], [1.0, 0, 0, 0]]))
        np.testing.assert_allclose(session.run(summed), [0.125 + 0.125 + 1.5 + 2.5, 0.5])


@pytest.mark.parametrize("options", [{}, {"negative_ratio": 1, "class_weights": (2.0, 0.5, 1.0)}], ids=str)
def test_each_image_may_count_alike(evaluate, options):
    """One image has no positives, the others very different numbers."""
    check(evaluate, case(11, positives=(9, 0, 1)), normalize="image", **options)
    assert evaluate(*case(11, positives=(9, 0, 1)), normalize="image")["positives"] == 2
