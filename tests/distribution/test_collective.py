"""What travels together, the pieces of the gradients, and which errors are this rank's own.

tests/test_train_together.py sends the pieces and loses ranks.
"""

import math
import types

import pytest
import tensorflow.compat.v1 as tf

from distribution import cluster, collective
from kernels import devices
from structures import UserError

FULL_GPU = tf.errors.InternalError(None, None, "CUDA error: : CUDA_ERROR_OUT_OF_MEMORY: out of memory")
FULL = [FULL_GPU, tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[8,64,300,300]")]


def sizes(numbers, *lengths):
    """How many numbers each piece has, of variables with so many each."""
    with tf.Graph().as_default():
        variables = [tf.get_variable(f"v{index}", [length]) for index, length in enumerate(lengths)]
        pieces = collective._pieces([(variable, None) for variable in variables], numbers)
    assert [variable for piece in pieces for variable, _ in piece] == variables
    return [[variable.shape.num_elements() for variable, _ in piece] for piece in pieces]


def test_pieces_are_as_large_as_asked_for_and_keep_the_order():
    assert sizes(10, 4, 6, 3, 30, 1, 9, 2) == [[4, 6], [3, 30], [1, 9], [2]]
    assert sizes(1, 4, 6) == [[4], [6]]
    assert sizes(math.inf, 4, 6, 3) == [[4, 6, 3]]
    assert sizes(10) == []


class StubGroup:
    """Rank 0 of two. Its explanation of a failure is the loss of the other one."""

    rank, size, cluster = 0, 2, cluster.Cluster(("127.0.0.1:1", "127.0.0.1:2"), 0, "127.0.0.1:3")

    def explain(self, doing, seconds, since):
        raise UserError(f"rank 1 is lost: {doing}")

    def compare(self, facts, remedy):
        self.facts = facts


class FailingSession:
    def __init__(self, error):
        self._error = error

    def run(self, *arguments, **options):
        raise self._error


def make_ranks(monkeypatch, error=None):
    """The Ranks of a StubGroup, without a server, which fails to start with the error if there is one."""

    def server(*arguments, **options):
        if error:
            raise error
        return types.SimpleNamespace(target="grpc://127.0.0.1:1")

    monkeypatch.setattr(tf.train, "Server", server)
    return collective.Ranks(StubGroup(), tf.ConfigProto(), False, devices.says_memory_is_full)


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_full_memory_of_this_rank_is_no_lost_rank(monkeypatch, error):
    with pytest.raises(type(error), match=r"(?i)memory|oom"):
        make_ranks(monkeypatch).run(FailingSession(error), None)
    with pytest.raises(type(error), match=r"(?i)memory|oom"):
        make_ranks(monkeypatch, error)


@pytest.mark.parametrize("kind", [tf.errors.InternalError, tf.errors.ResourceExhaustedError])
def test_full_memory_of_another_rank_is_explained_by_that_one(monkeypatch, kind):
    error = kind(None, None, "Collective ops is aborted by: CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    with pytest.raises(UserError, match=f"rank 1 is lost: .*{kind.__name__}"):
        make_ranks(monkeypatch).run(FailingSession(error), None)


def test_other_internal_errors_are_lost_ranks(monkeypatch):
    error = tf.errors.InternalError(None, None, "Connection reset by peer")
    with pytest.raises(UserError, match=r"rank 1 is lost: .*\(InternalError: Connection reset by peer\)$"):
        make_ranks(monkeypatch).run(FailingSession(error), None)
    longer = tf.errors.InternalError(None, None, "Graph execution error:\n\nConnection reset by peer")
    longer.__context__ = error  # as its session raises it
    with pytest.raises(UserError, match=r"rank 1 is lost: .*\(InternalError: Connection reset by peer\)$"):
        make_ranks(monkeypatch).run(FailingSession(longer), None)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1: TensorFlow's server cannot start there .*; free the port"):
        make_ranks(monkeypatch, error)


def test_ranks_with_another_tensorflow_or_without_their_gpu_are_found_at_once(monkeypatch):
    """Otherwise the first sum fails, with words that name no rank."""
    facts = make_ranks(monkeypatch).group.facts
    assert facts == {"the version of TensorFlow": tf.__version__, "the device that TensorFlow computes on": "CPU"}


class TimedSession:
    """Runs that take so many seconds of a clock; keeps their limits."""

    def __init__(self, seconds):
        self._seconds, self.now, self.limits = iter(seconds), 0.0, []

    def run(self, *arguments, options):
        self.limits.append(options.timeout_in_ms / 1000)
        self.now += next(self._seconds)
        return None, None


def test_the_limit_follows_what_an_operation_takes(monkeypatch):
    """A step of 20 s is a slow machine, not a lost rank, although other sums take a second."""
    ranks, session = make_ranks(monkeypatch), TimedSession([1, 1, 60, 20, 22, 21])
    monkeypatch.setattr(collective.time, "monotonic", lambda: session.now)
    for operation in ("copy", "copy", "step", "step", "step", "step"):
        ranks.run(session, operation, first_seconds=600)
    assert session.limits == [600, 9, 600, 300, 100, 110]


@pytest.mark.parametrize(("wire", "travels"), [(tf.float32, [6, 5]), (tf.bfloat16, [10, 1])])
def test_sums_travel_in_messages_of_a_moderate_size(monkeypatch, wire, travels):
    """In float32 two vectors of at least 20 bytes; in bfloat16 one, and what must be exact by itself."""
    monkeypatch.setattr(collective, "PIECE_BYTES", 20)
    ranks = make_ranks(monkeypatch)
    with tf.Graph().as_default() as graph:
        variables = [
            tf.get_variable(f"v{index}", [length], use_resource=True) for index, length in enumerate((4, 2, 4))
        ]
        count = tf.get_variable("count", [], use_resource=True)
        every = [*variables, count]
        ranks.sum_into(every, [one.read_value() for one in every], 1, wire)
        sent = [op.inputs[0] for op in graph.get_operations() if op.type == "CollectiveReduce"]
    assert [one.shape.num_elements() for one in sent] == travels
