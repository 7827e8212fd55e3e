"""A detector for the pictures of shards. TensorFlow is imported when it is opened."""

import contextlib
import dataclasses
import glob
import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import config
from formats import class_lists
from many import fetching, shard
from many.inputs import is_remote
from media import images
from structures import Detections, UserError
from system import files, folder_tree, tensorflow_loading


@dataclasses.dataclass(frozen=True)
class Opener:
    """Callable that opens the detector of a job; it can be sent to another process, which has another current folder.

    model: as `config.find_model` takes it; model_hash: of the job. wanted: names of classes, None for all.
    settings: of `detector.load`.
    """

    model: str
    model_hash: str
    wanted: tuple[str, ...] | None
    settings: Mapping[str, Any]

    @contextlib.contextmanager
    def __call__(self) -> Iterator[shard.Detect]:
        """Context manager: entries and those that follow -> rows of the entries, in their order, until the block ends.

        Raises UserError as `detector.load`, for a class that the model does not have, and if the model is not that of
        the job any more.
        """
        tensorflow_loading.import_tensorflow()
        import detector

        with detector.load(self.model, **self.settings) as loaded, fetching.open_fetcher() as fetcher:
            # After it is loaded: what is replaced in between is noticed, too
            self._compare(dataclasses.replace(config.find_model(self.model), checkpoint=loaded.checkpoint))
            labels = None if self.wanted is None else class_lists.labels_of(self.wanted, loaded.class_names)
            yield lambda entries, following=(): _rows(loaded, entries, labels, fetcher, following)

    def _compare(self, source):
        """Raise UserError unless the model that was loaded is that of the job."""
        try:
            same = model_hash(source) == self.model_hash
        except OSError:  # a training has removed the checkpoint
            same = False
        if not same:
            raise UserError(
                f"{self.model}: is not the model that the job began with; it was trained or exported again: restore "
                "that one, or choose another folder for the results"
            )


def model_hash(source: config.ModelSource) -> str:
    """A hash of the files of a model, which all results carry. Raises OSError."""
    if source.checkpoint:
        paths = sorted(glob.glob(f"{glob.escape(source.checkpoint)}.*"))
    elif os.path.isdir(source.exported):
        paths = [os.path.join(parent, name) for parent, names in folder_tree.walk(source.exported) for name in names]
    else:
        paths = sorted(glob.glob(f"{glob.escape(os.path.splitext(source.exported)[0])}.*"))
        paths = paths if source.format == "openvino" else [source.exported]
    return hashlib.blake2b(b"".join(map(files.digest, paths)), digest_size=16).hexdigest()


def _rows(loaded, entries, labels, fetcher, following):
    """The rows of pictures, in their order. labels: those to keep, None for all."""
    with _as_files(entries, fetcher, following) as paths:
        readable = ((path, True) for path in paths if isinstance(path, str))
        found = loaded.detect_files(readable, keep=lambda index: False)
        with contextlib.closing(found):
            return [
                _row(entry, path, found, labels, loaded.class_names) for entry, path in zip(entries, paths, strict=True)
            ]


def _row(entry, path, found, labels, class_names):
    if isinstance(path, UserError):
        return shard.row(entry, shard.UNREADABLE, str(path))
    _, read, detections = next(found)
    if isinstance(read, images.ImageError):
        return shard.row(entry, shard.UNREADABLE, read.reason)
    width, height = read.size
    if labels is not None:
        detections = detections.where(np.isin(detections.labels, list(labels)))
    return shard.row(entry, shard.DONE, width=width, height=height, **_lists(detections, class_names))


def _lists(detections: Detections, class_names):
    """Every digit of the float32 numbers is kept: other files of results are made of them."""
    numbers = detections.labels.tolist()
    return {
        "boxes": detections.boxes_px.tolist(),
        "scores": detections.scores.tolist(),
        "labels": numbers,
        "classes": [class_names[label] for label in numbers],
    }


@contextlib.contextmanager
def _as_files(entries, fetcher, following=()):
    """Context manager: a path for each entry, or the UserError of one whose bytes cannot be had."""
    paths = [None if entry.size >= 0 or is_remote(entry.address) else entry.address for entry in entries]
    elsewhere = [place for place, path in enumerate(paths) if path is None]
    wanted = [entries[place] for place in elsewhere]
    with contextlib.ExitStack() as stack:
        for place, content in zip(elsewhere, fetcher.contents(wanted, following), strict=True):
            paths[place] = content if isinstance(content, UserError) else _as_file(content, stack)
        yield paths


def _as_file(content, stack):
    """What reads pictures takes files; this one is in memory."""
    file = stack.enter_context(os.fdopen(os.memfd_create("picture"), "w+b", buffering=0))
    file.write(content)
    return f"/proc/self/fd/{file.fileno()}"
