"""A run directory: created once, checkpointed atomically, resumed exactly.

A checkpoint is a folder that is written under a temporary name, renamed when it is complete, and only then
named in `checkpoints/index.json`. So the index names only complete checkpoints, whatever stops the program.
"""

import system.quiet_tensorflow  # noqa: F401

import contextlib
import dataclasses
import os
import shutil
import sys
from collections.abc import Iterator

import cv2
import numpy as np
import tensorflow.compat.v1 as tf

import config
from settings.training_settings import TrainingSettings
from structures import UserError
from system import atomic, cli, files, locks, schema, wording, write_errors

LOCK = ".lock"  # a file in the run


@dataclasses.dataclass
class TrainingState:
    """The position of a training; a resume needs this and the variables, and nothing else.

    The data's randomness follows from seed, epoch and sample, so the position is also the random state.

    step: optimizer steps done.
    epoch: the current one, 0-based.
    batch: batches of the epoch that are done.
    sums: loss sums and positives of the epoch so far.
    seconds: spent on the epoch so far.
    rows: metrics of the finished epochs.
    best: the highest VOC07 mean AP of a validation, or None.
    stale: validations of complete epochs since then.
    data: {"pictures": number, "ids": hash, "objects": hash} of the pictures that it is trained on
        (same_pictures.identity); without objects in older versions, None in the first ones.
    diagnosis: what was seen of the training (diagnostics.Memory); empty in older versions.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    rows: list[dict[str, float | None]] = dataclasses.field(default_factory=list)
    best: float | None = None
    stale: int = 0
    data: dict | None = None
    diagnosis: dict = dataclasses.field(default_factory=dict)

    def begin_next_epoch(self) -> None:
        """Go on to the first batch of the next epoch."""
        self.epoch, self.batch, self.sums, self.seconds = self.epoch + 1, 0, {}, 0.0


STATE_LIMITS = {name: schema.Limits(0) for name in ("step", "epoch", "batch", "seconds", "stale")}
STATE_LIMITS["best"] = schema.Limits(0, 1)


def create(run: str, description: config.ModelDescription, training: TrainingSettings | None) -> None:
    """Make a run directory with its config.json.

    description: config.ModelDescription; training: TrainingSettings, or None for imported weights. config.json
    is written first: a folder with other files but without it would be neither new nor a run. Raises UserError if the
    directory exists and is not empty, or cannot be written; a failure leaves nothing behind.
    """
    config.check_new(run)
    try:
        atomic.make_folders(run)
        config.write_config(run, description, training, versions())
    except BaseException as error:
        shutil.rmtree(run, ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(f"--run {write_errors.unwritable(run, error)}") from None
        raise


def versions() -> dict[str, str]:
    """{name: version} of Python and the packages that influence a result."""
    return {
        "python": sys.version.split()[0],
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


@contextlib.contextmanager
def lock(run: str) -> Iterator[None]:
    """Context manager: no other process can train this run meanwhile; two would delete each other's checkpoints.

    Raises UserError if another process holds the lock. Warns where the file system has no locks.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.locked(os.path.join(run, LOCK), lambda reason: cli.warn(f"{run}: {reason}")))
        except BlockingIOError:
            raise UserError(f"--run {run}: another process is training it; wait for it, or stop it") from None
        except OSError as error:
            raise UserError(f"--run {write_errors.unwritable(run, error)}") from None
        yield


class Checkpoints:
    """Saves and restores the variables of the default graph and the TrainingState of a run."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._folder = os.path.join(run, "checkpoints")
        # XLA numbers what it compiles: with these among it, a resume would find nothing of a new run in the cache
        with tf.xla.experimental.jit_scope(compile_ops=False):
            self._saver = tf.train.Saver(tf.global_variables(), max_to_keep=None)

    def save(self, session: tf.Session, state: TrainingState, best: bool = False, kept: str | None = None) -> None:
        """Write a checkpoint and make it the last one; with best, also the best.

        kept: a name under which it stays, such as epoch-40; None to delete it when another is the last and the best.

        Raises UserError if the disk is full or not writable; the earlier checkpoints stay.
        """
        name = config.checkpoint_name(state.step)
        while name in config.read_index(self._run).values():
            name += "+"
        temporary = os.path.join(self._folder, f"tmp-{name}")
        try:
            atomic.make_folders(self._folder)
            self._remove_unnamed()  # what a failed or killed save left: this one may need the space
            os.mkdir(temporary)
            self._saver.save(session, os.path.join(temporary, "model"), write_meta_graph=False, write_state=False)
            files.write_json(os.path.join(temporary, "state.json"), dataclasses.asdict(state))
            roles = ["last", "best"] if best else ["last"]
            self._publish(temporary, name, [*roles, kept] if kept else roles)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise UserError(f"checkpoint {write_errors.unwritable(temporary, error)}") from None

    def _publish(self, temporary, name, roles):
        """Give a complete checkpoint its name, enter it in the index, delete those that are not in the index."""
        atomic.publish(temporary, os.path.join(self._folder, name))
        index = {**config.read_index(self._run), **dict.fromkeys(roles, name)}
        files.write_json(os.path.join(self._folder, "index.json"), index)
        self._remove_unnamed()

    def _remove_unnamed(self):
        """Delete the checkpoints, complete or not, that are not in the index."""
        named = config.read_index(self._run).values()
        for entry in os.listdir(self._folder):
            if entry.startswith(("step-", "tmp-")) and entry not in named:
                shutil.rmtree(os.path.join(self._folder, entry), ignore_errors=True)

    def restore_last(self, session: tf.Session) -> TrainingState | None:
        """Load the last checkpoint's variables; returns its TrainingState, or None if there is no checkpoint yet.

        Raises UserError if the checkpoint is damaged or from another model.
        """
        state = last_state(self._run)
        if state is None:
            return None
        prefix = config.checkpoint_prefix(self._run, "last")
        try:
            self._saver.restore(session, prefix)
        except (tf.errors.OpError, ValueError) as error:
            raise _damaged(prefix, error) from None
        return state


def last_state(run: str) -> TrainingState | None:
    """The TrainingState of the last checkpoint, None if there is none yet. Raises UserError if it is damaged."""
    if not config.read_index(run).get("last"):
        return None
    prefix = config.checkpoint_prefix(run, "last")
    path = os.path.join(os.path.dirname(prefix), "state.json")
    values = files.read_json(path)
    schema.check(path, values, TrainingState, STATE_LIMITS, config.RESTORE)
    state = TrainingState(**values)
    if wrong := _contradiction(state, os.path.basename(os.path.dirname(prefix))):
        raise UserError(f"{path}: {wrong}; {config.RESTORE}")
    return state


def _contradiction(state, name):
    """What in a TrainingState of the right types cannot be, or None. name: of its checkpoint."""
    if name.rstrip("+") != config.checkpoint_name(state.step):
        return f"'step' is {state.step}, in the checkpoint {name}"
    if state.epoch != len(state.rows):
        return f"'epoch' is {state.epoch}, with the rows of {len(state.rows)}"
    if any(row.get(key) is None for row in state.rows for key in ("epoch", "step")):
        return "a row has no 'epoch' or no 'step'"
    if state.data is not None:
        kinds = {key: type(value) for key, value in state.data.items()}
        if {"objects": str, **kinds} != {"pictures": int, "ids": str, "objects": str}:
            return f"'data' is {wording.shorten(state.data)}, not a number of pictures and hashes"
    return None


def _damaged(prefix, error):
    return UserError(f"{prefix}: checkpoint is damaged or from another model ({wording.reason(error)})")
