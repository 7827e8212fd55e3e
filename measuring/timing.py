"""One model in a process of its own: loaded, timed, and run on pictures, so that no other model's memory counts."""

import contextlib
import math
import time
from typing import NamedTuple

import numpy as np

from structures import UserError
from system import load, memory, tensorflow_loading, worker_processes

WARM_UP = 3  # calls of each batch size that are not timed
FACTS = ("class_names", "checkpoint", "checkpoint_bytes", "precision", "preset")


class Task(NamedTuple):
    """What to measure.

    model: MODEL of the programs.
    precision, threshold: as of `detector.load`.
    batches: sizes of batches to time, rising.
    images: how many pictures are timed in batches of each size, at least.
    frames: the pictures that are timed, uint8 RGB [H,W,3] of any size, taken in turn.
    files: (path, whether to apply EXIF orientation) of the pictures to detect in after that.
    """

    model: str
    precision: str
    threshold: float
    batches: tuple
    images: int
    frames: list
    files: list


def steps(task):
    """How many pictures a Task runs through the network: what ("progress", …) adds up to."""
    return sum((WARM_UP + _calls(task, batch)) * batch for batch in task.batches) + len(task.files)


def measure(connection, task):
    """The main function of the process. connection: the sending end of a pipe, for pairs of a kind and its content:

    ("loaded", dict) with FACTS of the Detector and load_seconds, once;
    ("progress", int), the pictures done since the last one, many times;
    ("timed", dict) with batches, peak_mb, gpu_peak_mb, others_busy and stolen, once;
    ("detected", list) of Detections, or of the reason where a picture cannot be read, once, at the end;
    ("error", str), a UserError's message, in place of what would follow.
    """
    worker_processes.follow_parent()
    try:
        with load.Others() as others:
            loaded, facts = _load(task)
            connection.send(("loaded", facts))
            loaded, timed = _time_batches(task, loaded, lambda count: connection.send(("progress", count)))
        connection.send(("timed", {**timed, **others.to_json()}))
        with loaded, _full_memory_explained(task, 1):
            connection.send(("detected", _detect(task, loaded, lambda: connection.send(("progress", 1)))))
    except UserError as error:
        connection.send(("error", str(error)))


def _load(task):
    """(the Detector, facts of it). Importing TensorFlow, which is the same for all models, is not timed."""
    tensorflow_loading.import_tensorflow()
    import detector
    from kernels import devices

    settings = {"precision": task.precision, "threshold": task.threshold}
    first = task.batches[0] if devices.has_gpu() else None  # where a graph is built for batches of one size
    with _full_memory_explained(task, first or 1):
        start = time.perf_counter()
        try:
            loaded = detector.load(task.model, **settings, batch_size=first)
        except detector.TooLargeBatch:  # the file has no figures for any size, but is scored
            start = time.perf_counter()
            loaded = detector.load(task.model, **settings)
        loaded.detect([task.frames[0]])
    seconds = time.perf_counter() - start
    return loaded, {**{name: getattr(loaded, name) for name in FACTS}, "load_seconds": seconds}


def _time_batches(task, loaded, tick):
    """(the Detector that ran last, {"batches": {size: dict, or None where a file takes fewer}, …})."""
    import detector
    from kernels import devices

    found = {}
    for batch in task.batches:
        if loaded.file_batch and loaded.file_batch < batch:
            found[batch] = None
            tick((WARM_UP + _calls(task, batch)) * batch)
            continue
        with _full_memory_explained(task, batch):
            if devices.has_gpu() and batch != loaded.batch_size:  # as in `_load`
                loaded.close()
                settings = {"precision": task.precision, "threshold": task.threshold}
                loaded = detector.load(task.model, **settings, batch_size=batch)
            found[batch] = summary(_time(task, loaded, batch, tick), batch)
    gpu = devices.peak_memory()
    return loaded, {
        "batches": found,
        "peak_mb": memory.peak() / 1e6,
        "gpu_peak_mb": None if gpu is None else gpu / 1e6,
    }


@contextlib.contextmanager
def _full_memory_explained(task, batch):
    """Where there is no memory for batches of a size, name the flag that benchmark_model.py has; for 1, none helps."""
    from kernels import devices

    try:
        yield
    except devices.OutOfMemory as error:
        at, smaller = (f" at batches of {batch}", "give smaller --batch-sizes, or ") if batch > 1 else ("", "")
        raise UserError(
            f"{task.model}: {devices.full_memory(error)}{at}; {smaller}end other programs that hold memory"
        ) from None


def _calls(task, batch):
    return math.ceil(task.images / batch)


def _time(task, loaded, batch, tick):
    """Seconds of each call that turns a batch of resized pictures into Detections."""
    prepared = np.stack([loaded.prepare(frame) for frame in task.frames])
    sizes = [frame.shape[1::-1] for frame in task.frames]
    seconds = []
    for call in range(-WARM_UP, _calls(task, batch)):
        rows = (call * batch + np.arange(batch)) % len(sizes)
        pictures, their_sizes = prepared[rows], [sizes[row] for row in rows]
        start = time.perf_counter()
        loaded.detect_prepared(pictures, their_sizes)
        if call >= 0:
            seconds.append(time.perf_counter() - start)
        tick(batch)
    return seconds


def summary(seconds, batch):
    """{"calls", "images_per_second", "latency_ms": {"p50", "p95", "p99"}} of calls that took so many seconds each.

    Percentiles lie on straight lines between the calls in their order (NumPy's default).
    """
    latency = {f"p{share}": 1000 * float(np.percentile(seconds, share)) for share in (50, 95, 99)}
    return {"calls": len(seconds), "images_per_second": batch * len(seconds) / sum(seconds), "latency_ms": latency}


def _detect(task, loaded, tick):
    """A list of Detections, or of the reason where a picture cannot be read, for each of the Task's files."""
    found = []
    for _, read, detections in loaded.detect_files(task.files, keep=lambda index: False):
        found.append(read.reason if detections is None else detections)
        tick()
    return found
