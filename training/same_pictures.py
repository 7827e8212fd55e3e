"""Whether a training has the pictures that it began with, and those that its other ranks have.

Imports no TensorFlow.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import config
from structures import Sample, UserError
from system import cli
from system.wording import plural


def identity(samples: Sequence[Sample]) -> dict[str, Any]:
    """What tells pictures from others, as `data` of runs.TrainingState has it. Their files are not read."""
    ids = "\n".join(sample.id for sample in samples).encode("utf-8", "surrogatepass")
    objects = hashlib.sha256()
    for one in samples:
        objects.update(f"{one.width} {one.height} {len(one.boxes)}\n".encode())
        for array in (one.boxes, one.labels, one.difficult):
            objects.update(array.tobytes())
    return {"pictures": len(samples), "ids": hashlib.sha256(ids).hexdigest(), "objects": objects.hexdigest()}


def check(task: Any, state: Any) -> None:
    """Note the pictures of a trainer.Task in a runs.TrainingState, and compare a resume's with those that it has.

    Raises UserError for others, with which the position in the epoch would be meaningless. Other boxes or classes are
    those that the user has corrected, or those of another data set: it warns.
    """
    moved = _another_place(task) if task.resume else None
    if moved and state.data is None:  # of an earlier version, or nothing is saved yet
        raise UserError(f"{moved}, and has not noted its pictures to compare these with; leave it out to resume")
    now = identity(task.samples)
    before = state.data or now
    source = f"--train {task.settings.train} of {task.settings.data} has"
    if (before["pictures"], before["ids"]) != (now["pictures"], now["ids"]):
        change = f"{plural(before['pictures'], 'picture')}, {source} {now['pictures']} now"
        if before["pictures"] == now["pictures"]:
            change = f"other pictures than {source} now"
        raise UserError(
            f"--resume: {task.run} was trained on {change}; restore them, or start a new run with "
            f"--init-from {task.run}"
        )
    if state.batch > task.plan.batches_per_epoch:
        limit = task.plan.batches_per_epoch
        raise UserError(f"--resume: {task.run} is damaged: at batch {state.batch} of {limit}; {config.RESTORE}")
    if before.get("objects", now["objects"]) != now["objects"]:
        cli.warn(f"{source} other boxes, classes or sizes of its pictures than {task.run} was trained on until now")
    elif moved and "objects" not in before:  # of an earlier version
        cli.warn(f"{moved}; only the names of the pictures of --train are compared, not what they show")
    state.data = now


def _another_place(task):
    """The beginning of a message if a resume has its data set elsewhere; None if not."""
    _, stored = config.read_config(task.run)
    for name in ("data", "source"):
        if (value := getattr(task.settings, name)) != (first := getattr(stored, name)):
            return f"--{name} {value}: the run was started with {first}"
    return None
