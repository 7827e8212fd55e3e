"""A run directory: created once, checkpointed atomically, resumed exactly.

A checkpoint is a folder that is written under a temporary name, renamed when it is complete, and only then
named in `checkpoints/index.json`. So whatever stops the program, the index names whole checkpoints.
"""

import dataclasses
import os
import shutil
import sys

import cv2
import numpy as np
import tensorflow.compat.v1 as tf

import config
import files
from structures import UserError


@dataclasses.dataclass
class TrainingState:
    """Where a training stands; with the variables it is all that a resume needs.

    The data's randomness follows from seed, epoch and sample, so the position is the random state.

    step: optimiser steps done; epoch: the current one, 0-based; batch: batches of it that are done; sums: loss
    sums and positives of the epoch so far; seconds: spent on the epoch so far; rows: metrics of the finished
    epochs; best: the highest validation VOC07 mean, or None; stale: validations of complete epochs since then; data:
    what tells the pictures it is trained on from others, None in older versions.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    sums: dict = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    rows: list = dataclasses.field(default_factory=list)
    best: float | None = None
    stale: int = 0
    data: dict | None = None


def create(run, description, training):
    """Make a run directory with its config.json.

    Raises UserError if it exists with something in it, or cannot be written; then nothing of it is left. config.json
    comes first: a folder without it is neither new nor a run.
    """
    if os.path.exists(run) and (not os.path.isdir(run) or os.listdir(run)):
        raise UserError(f"--run {run}: exists already; choose another name, or continue it with --resume")
    try:
        os.makedirs(run, exist_ok=True)
        config.write_config(run, description, training, versions())
    except BaseException as error:
        shutil.rmtree(run, ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(f"--run {run}: cannot be created ({error.strerror}); choose another place") from None
        raise


def versions():
    """Versions of what decides a result."""
    return {
        "python": sys.version.split()[0],
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


class Checkpoints:
    """Saves and restores the variables of the default graph and the TrainingState of a run."""

    def __init__(self, run):
        self._run = run
        self._folder = os.path.join(run, "checkpoints")
        self._saver = tf.train.Saver(tf.global_variables(), max_to_keep=None)

    def save(self, session, state, best=False):
        """Write a checkpoint and make it the last one; with best, also the best.

        Raises UserError if the disk is full or not writable: the checkpoints before stay.
        """
        name = f"step-{state.step:08d}"
        while name in config.read_index(self._run).values():
            name += "+"
        temporary = os.path.join(self._folder, f"tmp-{name}")
        try:
            os.makedirs(self._folder, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            os.mkdir(temporary)
            self._saver.save(
                session, os.path.join(temporary, "model"), write_meta_graph=False, write_state=False
            )
            files.write_json(os.path.join(temporary, "state.json"), dataclasses.asdict(state))
            _flush_folder(temporary)
            self._publish(temporary, name, best)
        except (OSError, tf.errors.OpError) as error:
            raise UserError(
                f"{temporary}: checkpoint cannot be written ({files.reason(error)}); the last one is unharmed, "
                "--resume goes on"
            ) from None

    def _publish(self, temporary, name, best):
        """Give a complete checkpoint its name, put it into the index, delete those that nothing names."""
        final = os.path.join(self._folder, name)
        shutil.rmtree(final, ignore_errors=True)  # a leftover that the index does not name
        os.rename(temporary, final)
        index = {**config.read_index(self._run), "last": name}
        if best:
            index["best"] = name
        files.write_json(os.path.join(self._folder, "index.json"), index)
        for entry in os.listdir(self._folder):
            if entry.startswith(("step-", "tmp-")) and entry not in index.values():
                shutil.rmtree(os.path.join(self._folder, entry), ignore_errors=True)

    def restore_last(self, session):
        """Load the last checkpoint's variables; returns its TrainingState, or None if there is none yet."""
        if not config.read_index(self._run).get("last"):
            return None
        prefix = config.checkpoint_prefix(self._run, "last")
        values = files.read_json(os.path.join(os.path.dirname(prefix), "state.json"))
        try:
            self._saver.restore(session, prefix)
            return TrainingState(**values)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{prefix}: checkpoint is damaged or of another model ({reason})") from None


def _flush_folder(folder):
    """Have the disk hold every file of a folder: a power cut must not leave a named but empty checkpoint."""
    for entry in os.listdir(folder):
        descriptor = os.open(os.path.join(folder, entry), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
