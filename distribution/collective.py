"""Sums over all ranks by TensorFlow's own runtime: its server in each process, and its all-reduce between them.

TensorFlow's keys: all operations of one group have the same group key, and each operation its own instance key, the
same on all ranks. The ranks must run graphs with these operations equally often and in the same order.
"""

import collections
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf
from tensorflow.python.ops import collective_ops

from distribution.connection import LOST_SECONDS
from distribution.group import Group
from structures import UserError

JOB = "worker"
GROUP_KEY = 1
FIRST_SECONDS = 120.0  # of the first sum, in which connections are made
FIRST_STEP_SECONDS = 600.0  # ... if a training step is part of it
LEAST_SECONDS, SLOWER = 9.0, 5.0  # later ones: at least this, and this many times the slowest before
PIECE_BYTES = 10e6  # one message of 105 MB took 0.39 s between two cores of an AMD EPYC, eight 0.14 s
ABORTED = "Collective ops is aborted"  # in what TensorFlow says on this rank of an error of another one
ANSWER_SECONDS = LOST_SECONDS + 3  # how long to wait for the reason of a failure, such as a silence


class Ranks:
    """This process's TensorFlow server, and sums over all ranks.

    group: the ranks. on_gpu: whether the tensors are on GPUs, whose NCCL then adds them; else gRPC carries them.
    settings: of the server and of sessions, which `prepare` makes of a tf.ConfigProto. is_own: whether an error of
    TensorFlow is this rank's own, such as full memory, and not a lost rank's or its port's.

    target: for tf.Session.
    """

    def __init__(
        self, group: Group, settings: tf.ConfigProto, on_gpu: bool, is_own: Callable[[tf.errors.OpError], bool]
    ) -> None:
        self._is_own = is_own
        self.group, self._hint = group, "nccl" if on_gpu else "ring"
        self._keys = 0
        self._paces: dict[tf.Operation, _Pace] = collections.defaultdict(_Pace)
        device = "GPU" if on_gpu else "CPU"
        facts = {"the version of TensorFlow": tf.__version__, "the device that TensorFlow computes on": device}
        group.compare(facts, "give all ranks the same TensorFlow, and the same kind of device with a driver that works")
        addresses = list(group.cluster.addresses)
        try:
            self._server = tf.train.Server(
                {JOB: addresses}, job_name=JOB, task_index=group.rank, config=self.prepare(settings)
            )
        except tf.errors.OpError as error:
            if self._is_own(error):
                raise
            raise UserError(
                f"{addresses[group.rank]}: TensorFlow's server cannot start there ({_reason(error)}); "
                f"{group.cluster.source.other_port}"
            ) from None
        self.target = self._server.target

    def prepare(self, settings: tf.ConfigProto) -> tf.ConfigProto:
        """Add to the settings of a session what it takes to run on the server."""
        settings.device_filters.append(f"/job:{JOB}/task:{self.group.rank}")  # everything else stays in this process
        settings.isolate_session_state = True
        settings.experimental.collective_group_leader = f"/job:{JOB}/replica:0/task:0"
        settings.experimental.collective_nccl = self._hint == "nccl"
        return settings

    def sum_into(
        self,
        variables: Sequence[tf.Variable],
        values: Sequence[tf.Tensor],
        exact: int = 0,
        wire: tf.DType = tf.float32,
        piece_bytes: float | None = None,
    ) -> tf.Operation:
        """The operation that gives variables the sums of float32 values over all ranks. Call it once all are built.

        They travel as vectors of about piece_bytes (None: PIECE_BYTES), each on its way as soon as its values are
        there. wire: the data type on the way, in which they are also added; the last `exact` values travel in float32
        in any case.
        """
        pairs = list(zip(variables, values, strict=True))
        rounded = len(pairs) - exact if wire != tf.float32 else len(pairs)
        pieces = [(wire, piece) for piece in _pieces(pairs[:rounded], (piece_bytes or PIECE_BYTES) / wire.size)]
        if rounded < len(pairs):
            pieces.append((tf.float32, pairs[rounded:]))
        sums: list[tf.Operation] = []
        for kind, piece in pieces:
            flat = tf.cast(_flat([value for _, value in piece]), kind)
            with tf.control_dependencies(sums[-1:]):  # NCCL needs one order on all ranks
                summed = self._all_reduce(flat)
            sums.append(_assign([variable for variable, _ in piece], summed))
        return tf.group(*sums)

    def _all_reduce(self, tensor):
        self._keys += 1
        return collective_ops.all_reduce(
            tensor, self.group.size, GROUP_KEY, self._keys, "Add", "Id", communication_hint=self._hint
        )

    def copy_from_first(self, session: tf.Session, variables: Sequence[tf.Variable]) -> None:
        """Give the variables the values of rank 0 on all ranks: its values plus the others' zeros."""
        with session.graph.as_default(), tf.name_scope("copy_from_first"):
            flat = _flat([variable.read_value() for variable in variables])
            copied = _assign(variables, self._all_reduce(flat if self.group.is_first else tf.zeros_like(flat)))
        self.group.share()  # rank 0 may have been busy with its weights
        self.run(session, copied)

    def run(
        self,
        session: tf.Session,
        operation: tf.Operation,
        fetches: Any = (),
        feeds: Mapping[Any, Any] | None = None,
        first_seconds: float = FIRST_SECONDS,
    ) -> Any:
        """Run an operation that has sums over all ranks; call it on all of them right after they met in `group`.

        first_seconds: the limit of its first run. Returns what is fetched beside it. Raises RankLost if a rank does not
        answer: TensorFlow by itself would wait forever for one that is stopped or behind a dead link. Only what the
        operation itself changes can be half done then. An error that is this rank's own is raised as it is.
        """
        pace, start = self._paces[operation], time.monotonic()
        try:
            options = tf.RunOptions(timeout_in_ms=int(1000 * pace.limit(first_seconds)))
            _, fetched = session.run((operation, fetches), feeds, options=options)
        except tf.errors.OpError as error:
            if self._is_own(error) and ABORTED not in error.message:
                raise
            doing = f"TensorFlow's sum over the ranks failed ({type(error).__name__}: {_reason(error)})"
            self.group.explain(doing, ANSWER_SECONDS, start)
        pace.note(time.monotonic() - start)
        return fetched


def _reason(error):
    """What TensorFlow says, in a line. Its session makes another error of it, which begins with words on the graph."""
    said = getattr(error.__context__, "message", error.message)
    return next((line.strip() for line in said.splitlines() if line.strip()), "without a reason")


@dataclasses.dataclass
class _Pace:
    """How long the runs of an operation take, and so how long the next one may."""

    runs: int = 0
    slowest: float = 0.0  # of the first run until there is a second, for preparations slow that one down

    def limit(self, first_seconds):
        return max(LEAST_SECONDS, SLOWER * self.slowest) if self.runs else first_seconds

    def note(self, seconds):
        self.runs += 1
        self.slowest = seconds if self.runs <= 2 else max(self.slowest, seconds)


def _pieces(pairs, numbers):
    """Lists of (variable, value), from the first one on, that each have at least so many numbers, but for the last."""
    pieces, size = [], math.inf
    for variable, value in pairs:
        if size >= numbers:
            pieces.append([])
            size = 0
        pieces[-1].append((variable, value))
        size += variable.shape.num_elements()
    return pieces


def _flat(tensors):
    """Tensors of any data type as one float32 vector."""
    return tf.concat([tf.reshape(tf.cast(one, tf.float32), [-1]) for one in tensors], axis=0)


def _assign(variables, flat):
    """The operation that gives variables the values of such a vector, of any data type."""
    parts = tf.split(tf.cast(flat, tf.float32), [v.shape.num_elements() for v in variables])
    return tf.group(
        *(
            v.assign(tf.cast(tf.reshape(part, v.shape), v.dtype.base_dtype), read_value=False)
            for v, part in zip(variables, parts, strict=True)
        )
    )
