"""Feeding one step ahead gives the numbers of plain feeding, in the same order, and never a batch of an earlier epoch.

The staging area is on the CPU here, where no GPU is.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import config as tf_config

import config
import train
from kernels import devices
from programs import TINY
from structures import UserError
from system import data_queue, files
from system.data_queue import WorkerError
from training import feeding, optimization

SPECS = {
    "images": tf.TensorSpec([3, 2], tf.uint8, "image_input"),
    "class_targets": tf.TensorSpec([3], tf.int32, "class_targets"),
}


def batch(number, rows=3):
    return {"images": np.full((rows, 2), number, np.uint8), "class_targets": np.full(rows, number, np.int32)}


class Area:
    """A graph with Inputs, a total of all images, and a session."""

    def __init__(self, session, ahead):
        self.session = session
        self.inputs = feeding.Inputs(SPECS, ahead)
        self.factor = tf.placeholder(tf.float32, [])
        images = tf.cast(self.inputs.tensors["images"], tf.float32)
        self.fetches = {"sum": self.factor * tf.reduce_sum(images), **self.inputs.tensors}
        self.size = tf.raw_ops.StageSize(
            dtypes=[spec.dtype for spec in SPECS.values()], shared_name="batches", capacity=0, memory_limit=0
        )

    def run(self, arrays, following, factor=1.0):
        feeds, staging = self.inputs.prepare(self.session, arrays, following)
        found, *_ = self.session.run((self.fetches, *staging), {**feeds, self.factor: factor})
        self.inputs.confirm(following)
        assert found["images"][:, 0].tolist() == found["class_targets"].tolist()
        return found["sum"]


@pytest.fixture
def area():
    with tf.Graph().as_default(), tf.Session(config=devices.session_config()) as session:
        yield Area(session, ahead=True)


def test_batches_arrive_in_order_and_none_is_left(area):
    batches = [batch(number) for number in range(1, 5)]
    for arrays, following in zip(batches, [*batches[1:], None], strict=True):
        assert area.run(arrays, following, 10) == 10 * arrays["images"].sum()
    assert area.run(batches[1], None) == batches[1]["images"].sum()


def test_a_staged_batch_is_copied_once(area, monkeypatch):
    batches, fed = [batch(number) for number in range(3)], []
    original = tf.Session.run

    def run(self, fetches, feeds=None):
        fed.extend(int(value.flat[0]) for value in feeds.values() if np.ndim(value) == 2 and value.size)
        return original(self, fetches, feeds)

    monkeypatch.setattr(tf.Session, "run", run)
    for arrays, following in zip(batches, [*batches[1:], None], strict=True):
        area.run(arrays, following)
    assert fed == [0, 1, 2]


def test_a_batch_staged_for_another_epoch_is_dropped(area):
    area.run(batch(1), batch(9))
    again = batch(2)
    assert area.run(again, again) == again["images"].sum()
    assert area.run(again, None) == again["images"].sum()
    assert area.session.run(area.size) == 1  # the empty arrays of the last run
    assert area.run(batch(3), None) == batch(3)["images"].sum()
    assert area.session.run(area.size) == 1


def test_a_run_that_failed_stages_nothing(area, monkeypatch):
    first, second = batch(1), batch(2)
    area.run(batch(0), first)
    with monkeypatch.context() as patch:
        patch.setattr(
            area, "fetches", tf.debugging.assert_less(area.inputs.tensors["images"], tf.constant(0, tf.uint8))
        )
        with pytest.raises(tf.errors.InvalidArgumentError):
            area.run(first, second)
    assert area.run(second, None) == second["images"].sum()
    assert area.session.run(area.size) == 1


def test_tensors_of_a_staging_area_can_be_fed(area):
    """Validation and the check of the weights do so; it takes nothing out of the area."""
    one, two = batch(1), batch(2)
    area.run(one, two)
    found = area.session.run(area.inputs.tensors, area.inputs.feeds(batch(7, rows=2)))
    assert found["images"][:, 0].tolist() == found["class_targets"].tolist() == [7, 7, 0]
    assert area.run(two, None) == two["images"].sum()


def test_a_smaller_batch_is_filled_up(area):
    small = batch(5, rows=1)
    assert area.run(batch(1), small) == 6
    assert area.run(small, None) == 10
    assert {name: tensor.shape.as_list() for name, tensor in area.inputs.tensors.items()} == {
        "images": [3, 2],
        "class_targets": [3],
    }


def test_plain_feeding_ignores_what_follows():
    with tf.Graph().as_default() as graph, tf.Session(config=devices.session_config()) as session:
        plain = Area(session, ahead=False)
        assert plain.run(batch(1), batch(2)) == 6
        assert not [op for op in graph.get_operations() if op.type in ("Stage", "Unstage")]


def test_pairs():
    assert list(feeding.in_pairs("abc", ahead=True)) == [("a", "b"), ("b", "c"), ("c", None)]
    assert list(feeding.in_pairs("abc", ahead=False)) == [("a", None), ("b", None), ("c", None)]
    assert list(feeding.in_pairs("", ahead=True)) == []


@pytest.mark.parametrize("ahead", [False, True])
def test_a_failure_comes_after_the_batches_before_it(ahead):
    batches = [SimpleNamespace(number=number) for number in range(3)]

    def broken():
        yield from batches
        raise WorkerError("worker 1 died")

    pairs = feeding.in_pairs(broken(), ahead)
    assert [next(pairs)[0] for _ in range(3)] == batches
    with pytest.raises(WorkerError, match="worker 1 died"):
        next(pairs)


# Whole trainings
@pytest.fixture
def deterministic():
    """Allows --deterministic in this process, where it would otherwise last for all later tests."""
    yield
    tf_config.disable_op_determinism()


@pytest.fixture
def training(shapes, tmp_path, monkeypatch, deterministic):
    """Callable: name, feed_ahead, flags -> the path of a run of 5 batches an epoch, the last of 2 pictures."""

    def call(name, ahead, *flags):
        start = optimization.TrainingStep.__init__

        def init(self, *arguments, feed_ahead, **options):
            assert not feed_ahead  # there is no GPU here
            start(self, *arguments, feed_ahead=ahead, **options)

        with monkeypatch.context() as patch:
            patch.setattr(optimization.TrainingStep, "__init__", init)
            run = tmp_path / name
            more = ["--resume"] if run.exists() else ["--data", str(shapes), "--train", "train", *QUICK]
            train.main([*more, "--run", str(run), *flags])
        return run

    return call


QUICK = [*TINY, "--workers", "0", "--augmentation", "none", "--deterministic", "--warmup-steps", "0"]


def outcome(run):
    """(sums of losses and rows of state.json, every variable of the last checkpoint)."""
    prefix = config.checkpoint_prefix(str(run), "last")
    reader = tf.train.load_checkpoint(prefix)
    state = files.read_json(prefix.removesuffix("model") + "state.json")
    timeless = [{k: v for k, v in row.items() if "second" not in k} for row in state["rows"]]
    return (state["step"], state["sums"], timeless), {
        name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
    }


def assert_equal(run, other):
    (mine, my_values), (theirs, their_values) = outcome(run), outcome(other)
    assert mine == theirs
    assert my_values.keys() == their_values.keys()
    for name, value in my_values.items():
        np.testing.assert_array_equal(value, their_values[name], err_msg=name)


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(["--epochs", "2", "--valid", "val", "--workers", "1"], id="validation"),
        pytest.param(["--accumulate", "2", "--max-steps", "4"], id="ends within an epoch", marks=pytest.mark.slow),
    ],
)
def test_feeding_ahead_changes_no_bit(flags, training):
    assert_equal(training("ahead", True, *flags), training("plain", False, *flags))


def test_a_training_fed_ahead_is_resumed_exactly(training, monkeypatch):
    """A worker fails while a batch is staged, in the middle of an effective batch."""
    flags = ["--epochs", "2", "--accumulate", "2"]
    plain = training("plain", False, *flags)
    original = data_queue.DataQueue.batches

    def batches(self, jobs):
        for index, one in enumerate(original(self, jobs)):
            if index == 3:
                raise WorkerError("worker 1 died")
            yield one

    with monkeypatch.context() as patch:
        patch.setattr(data_queue.DataQueue, "batches", batches)
        with pytest.raises(UserError, match=r"worker 1 died.*--resume"):
            training("ahead", True, *flags)
    assert outcome(plain.with_name("ahead"))[0][0] == 1
    assert_equal(training("ahead", True), plain)
