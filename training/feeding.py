"""How batches enter the training graph: fed in step with it, or copied to the GPU one step ahead."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import tensorflow.compat.v1 as tf

from system.data_queue import Batch

Arrays = Mapping[str, np.ndarray]


class Inputs:
    """The tensors that a network takes a batch from, built into the default graph.

    With `ahead`, each run also copies the following batch into a staging area on the GPU, from which the next run takes
    it. A run then has the same feeds and fetches whether a batch follows or not, since TensorFlow prepares each
    combination anew. Such a graph is for one session.

    specs: {name of an array: shape [N or None, …], dtype and graph name of its tensor}.
    ahead: whether batches are copied one run ahead.

    tensors: {name of an array: tensor}. A tensor that is fed takes the fed value instead of a staged one. With `ahead`,
    int32 becomes int64, because TensorFlow computes with int32 on the host.
    """

    def __init__(self, specs: Mapping[str, tf.TensorSpec], ahead: bool = False) -> None:
        self.ahead = ahead
        self._staged: Arrays | None = None  # the batch that the staging area holds
        if not ahead:
            self.tensors = {name: tf.placeholder(spec.dtype, spec.shape, spec.name) for name, spec in specs.items()}
            return
        with tf.name_scope("staging"):
            self._following = {name: tf.placeholder(s.dtype, [None, *s.shape[1:]], name) for name, s in specs.items()}
            with tf.device("/GPU:0"):
                staged = self._build_area([spec.dtype for spec in specs.values()])
        self.tensors = {
            name: tf.placeholder_with_default(value, spec.shape, spec.name)
            for (name, spec), value in zip(specs.items(), staged, strict=True)
        }

    def _build_area(self, dtypes):
        """The ops of the staging area; returns the tensors that it gives out."""
        area = {"shared_name": "batches", "capacity": 0, "memory_limit": 0}  # no limits: a run never waits for room
        values = list(self._following.values())
        self._put = tf.raw_ops.Stage(values=values, **area)
        with tf.control_dependencies([tf.raw_ops.StageClear(dtypes=dtypes, **area)]):
            self._replace = tf.raw_ops.Stage(values=values, **area)
        taken = tf.raw_ops.Unstage(dtypes=dtypes, **area)
        return [tf.cast(value, tf.int64) if value.dtype == tf.int32 else value for value in taken]

    def prepare(
        self, session: tf.Session, batch: Arrays, following: Arrays | None
    ) -> tuple[dict[tf.Tensor, np.ndarray], list[tf.Operation]]:
        """What a run with a batch has to feed, and what to fetch beside its results.

        following: the batch of the next run, or None.
        A batch that was not the `following` of the last successful run is copied first, and what that run staged is
        dropped. Call `confirm` after the run.
        """
        if not self.ahead:
            return self.feeds(batch), []
        if batch is not self._staged:
            session.run(self._replace, self._feeds_of(batch, self._following))
        self._staged = None  # unless the run succeeds
        nothing = {name: array[:0] for name, array in batch.items()}
        return self._feeds_of(nothing if following is None else following, self._following), [self._put]

    def confirm(self, following: Arrays | None) -> None:
        """Note that a run succeeded, and so staged the batch that follows."""
        self._staged = following

    def feeds(self, batch: Arrays) -> dict[tf.Tensor, np.ndarray]:
        """{tensor: array} that feeds a batch, or some arrays of one, directly.

        Where the tensors have a fixed number of rows, zeros fill a smaller batch up: images without objects, which add
        nothing to loss or gradient.
        """
        return self._feeds_of(batch, self.tensors)

    def _feeds_of(self, batch, targets):
        return {targets[name]: _filled_up(array, self.tensors[name].shape[0]) for name, array in batch.items()}


def _filled_up(array, rows):
    """The array with zeros behind it up to so many rows; as it is if it has no rows or `rows` is None."""
    missing = (rows or len(array)) - len(array)
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing and len(array) else array


def in_pairs(batches: Iterable[Batch], ahead: bool) -> Iterator[tuple[Batch, Batch | None]]:
    """Yield (batch, the batch after it) for each batch; None after the last, and always None without `ahead`.

    If the batch after cannot be made, the batch before it still comes, with None; only then the exception is raised.
    """
    if not ahead:
        yield from ((batch, None) for batch in batches)
        return
    batches, failure = iter(batches), None
    batch = next(batches, None)
    while batch is not None:
        try:
            following = next(batches, None)
        except Exception as error:
            following, failure = None, error
        yield batch, following
        batch = following
    if failure:
        raise failure
