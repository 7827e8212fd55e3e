"""One row of deploy.py, in a process of its own: a model is loaded, detects, and is timed."""

import contextlib
import time

import numpy as np
from bench_paths import ROOT  # noqa: F401, lets the next lines find the project
from bench_worker import serve

from media import images
from structures import Detections, UserError
from system import tensorflow_loading

CALLS = {1: 4, 8: 1}  # {pictures at a time: calls that a round times}
stack = contextlib.ExitStack()  # the model stays open as long as the process


def model(model, precision, threshold, pictures, found):
    """Facts: load_seconds, until a first picture has its detections; unreadable, the reason of each picture that is.

    A round: {"rates": {"1": images/s, …}}. model: MODEL of the programs. pictures: (path, whether EXIF orientation is
    applied). found: where to write the detections of all pictures, for `read`; unreadable ones have none.
    """
    tensorflow_loading.import_tensorflow()
    import detector

    timed = _some(pictures)
    start = time.perf_counter()
    loaded = stack.enter_context(detector.load(model, precision=precision, threshold=threshold))
    loaded.detect(timed[:1])
    facts, detections = {"load_seconds": time.perf_counter() - start, "unreadable": []}, []
    for _, read, one in loaded.detect_files(pictures, keep=lambda _: False):
        if one is None:
            facts["unreadable"].append(str(read))
        detections.append(Detections.empty() if one is None else one)
    _write(found, detections)
    prepared = np.stack([loaded.prepare(timed[index % len(timed)]) for index in range(max(CALLS))])
    sizes = [loaded.preset.input_wh] * max(CALLS)

    def run():
        rates = {}
        for batch, calls in CALLS.items():
            start = time.perf_counter()
            for _ in range(calls):
                loaded.detect_prepared(prepared[:batch], sizes[:batch])
            rates[str(batch)] = batch * calls / (time.perf_counter() - start)
        return {"items": sum(batch * calls for batch, calls in CALLS.items()), "rates": rates}

    return facts, run


def _some(pictures):
    """As many pictures as are detected at a time, uint8 RGB [H,W,3], or fewer. Raises UserError if none can be read."""
    found, error = [], None
    for path, _ in pictures:
        try:
            found.append(images.read(path))
        except images.ImageError as unreadable:
            error = unreadable
        if len(found) == max(CALLS):
            break
    if not found:
        raise UserError(f"none of the pictures can be read ({error})")
    return found


def _write(path, detections):
    """Write a list of Detections, for `read`."""
    counts = [len(one) for one in detections]
    fields = {name: np.concatenate([getattr(one, name) for one in detections]) for name in ("boxes_px", "scores")}
    np.savez(path, counts=counts, labels=np.concatenate([one.labels for one in detections]), **fields)


def read(path):
    """The list of Detections that a worker wrote."""
    with np.load(path) as arrays:
        ends = np.cumsum(arrays["counts"])[:-1]
        columns = [np.split(arrays[name], ends) for name in ("boxes_px", "scores", "labels")]
    return [Detections(*one) for one in zip(*columns, strict=True)]


if __name__ == "__main__":
    serve({"model": model})
