"""What would make a GPU wait for the host, found without one; and that this project's graphs have none of it."""

import sys
from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import gpu_placement
from gpu_placement import LOOPS, NO_KERNEL, READS, WRITES

WIDTH = 0.03


def found(build):
    """{(operation, reason)} of a graph whose tensor `build` returns."""
    with tf.Graph().as_default() as graph:
        fetched = build(tf.placeholder(tf.float32, [3, 4], "x"))
    return {(stall.operation, stall.reason) for stall in gpu_placement.stalls(graph, [fetched])}


def test_a_sum_of_int32_is_done_on_the_host_and_one_of_floats_is_not():
    assert found(lambda x: tf.cast(tf.reduce_sum(tf.cast(x > 0, tf.float32)), tf.int32)) == set()
    positives = found(lambda x: x * tf.cast(tf.reduce_sum(tf.cast(x > 0, tf.int32)) > 2, tf.float32))
    assert positives == {("Sum(int32)", READS), ("Greater(int32, bool)", WRITES)}


def test_an_operation_without_a_gpu_kernel_is_found():
    def suppressed(x):
        boxes = tf.reshape(x, [1, 3, 1, 4])
        return tf.image.combined_non_max_suppression(boxes, x[None, :, :1], 2, 2).nmsed_scores

    assert {reason for _, reason in found(suppressed)} == {NO_KERNEL}


def test_fixed_shapes_and_constants_are_computed_once():
    assert found(lambda x: tf.reshape(x, [tf.shape(x)[0] * tf.reduce_prod(tf.shape(x)[1:])])) == set()


@pytest.mark.parametrize(("count", "stalls"), [(300, set()), (400, {("Less(int32, bool)", WRITES)})])
def test_a_large_constant_is_computed_in_every_run(count, stalls):
    ranks = list(range(count))
    assert found(lambda x: x[0, 0] * tf.cast(tf.range(count)[:, None] < tf.constant(ranks), tf.float32)) == stalls


def test_loops_and_what_is_in_them_is_found():
    def halved(x):
        return tf.while_loop(lambda x: tf.reduce_sum(tf.cast(x > 1, tf.int32)) > 0, lambda x: x / 2, [x])

    assert found(halved) == {("StatelessWhile", LOOPS), ("Sum(int32)", READS)}


@pytest.mark.parametrize(
    ("precision", "changes"),
    [("bfloat16", {"accumulate": 2, "ema": 0.9}), ("float32", {"optimizer": "momentum"})],
)
def test_a_training_step_runs_without_the_host(precision, changes):
    assert gpu_placement.of_training(precision, WIDTH, **changes) == []


def test_what_needs_the_host_in_float16_is_known():
    stalls = gpu_placement.of_training("float16", WIDTH)
    assert {(stall.operation, stall.reason) for stall in stalls} == gpu_placement.KNOWN["float16"]
    assert gpu_placement.unknown_ones("float16", stalls) == []


def test_detections_need_the_host_for_their_loop_only_and_convolutions_are_fused_with_bias_and_relu():
    graph, fetched = gpu_placement.detection_graph("float32", WIDTH)
    stalls = gpu_placement.stalls(graph, fetched)
    assert {(stall.operation, stall.reason) for stall in stalls} == gpu_placement.KNOWN["detections"]
    counts = gpu_placement.optimized(graph, fetched)
    # The heads have no ReLU; two maps feed a head and the next layer
    assert counts["_FusedConv2D"] >= 18
    assert counts["Conv2D"] == 29 - counts["_FusedConv2D"] == counts["BiasAdd"]
