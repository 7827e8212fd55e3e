"""A detector for the pictures of shards. TensorFlow is imported when it is opened."""

import contextlib
import dataclasses
import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import config
from many import shard
from many.inputs import Entry, is_remote, open_file
from media import images
from structures import Detections, UserError
from system import cli, files
from tiling import tiles as tiling


@dataclasses.dataclass(frozen=True)
class Opener:
    """Callable that opens a detector; it can be sent to another process.

    model: as `config.find_model` takes it. threshold: of `detector.load`. wanted: names of classes, None for all.
    precision, batch_size, tiles, tile_size, overlap: of `detector.load`.
    """

    model: str
    threshold: Any
    wanted: tuple[str, ...] | None = None
    precision: str = "auto"
    batch_size: int | None = None
    tiles: tuple[int, int] | None = None
    tile_size: int | None = None
    overlap: float = tiling.OVERLAP

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Callable[[Sequence[Entry]], list[shard.Row]]]:
        """Context manager: entries -> their rows, in their order, until the block ends."""
        cli.import_tensorflow()
        import detector

        settings = {"precision": self.precision, "threshold": self.threshold, "batch_size": self.batch_size}
        settings |= {"tiles": self.tiles, "tile_size": self.tile_size, "overlap": self.overlap}
        with detector.load(self.model, **settings) as loaded:
            yield lambda entries: _rows(loaded, entries, self.wanted)


def model_hash(source: config.ModelSource) -> str:
    """A hash of the files of a model, which all results carry."""
    if source.checkpoint:
        paths = sorted(glob.glob(f"{glob.escape(source.checkpoint)}.*"))
    elif os.path.isdir(source.exported):
        paths = [os.path.join(parent, name) for parent, names in files.walk(source.exported) for name in names]
    else:
        paths = sorted(glob.glob(f"{glob.escape(os.path.splitext(source.exported)[0])}.*"))
        paths = paths if source.format == "openvino" else [source.exported]
    return hashlib.blake2b(b"".join(map(files.digest, paths)), digest_size=16).hexdigest()


def _rows(loaded, entries, wanted):
    """The rows of pictures, in their order."""
    with _as_files(entries) as paths:
        readable = ((path, True) for path in paths if isinstance(path, str))
        found = loaded.detect_files(readable, keep=lambda index: False)
        with contextlib.closing(found):
            return [_row(loaded, one, path, found, wanted) for one, path in zip(entries, paths, strict=True)]


def _row(loaded, entry, path, found, wanted):
    if isinstance(path, UserError):
        return shard.row(entry, shard.UNREADABLE, str(path))
    _, read, detections = next(found)
    if isinstance(read, images.ImageError):
        return shard.row(entry, shard.UNREADABLE, read.reason)
    width, height = read.size
    names = [loaded.class_names[label] for label in detections.labels]
    if wanted is not None:
        mask = np.array([name in wanted for name in names], bool)
        detections, names = detections.where(mask), [name for name in names if name in wanted]
    return shard.row(entry, shard.DONE, width=width, height=height, classes=names, **_lists(detections))


def _lists(detections: Detections):
    """Edges have the two decimals of detections.json, scores every digit of a float32."""
    boxes = [[round(edge, 2) for edge in box] for box in detections.boxes_px.tolist()]
    return {"boxes": boxes, "scores": detections.scores.tolist()}


@contextlib.contextmanager
def _as_files(entries):
    """Context manager: a path for each entry, or the UserError of one whose bytes cannot be had."""
    with contextlib.ExitStack() as stack:
        yield [_as_file(entry, stack) for entry in entries]


def _as_file(entry, stack):
    if entry.size < 0 and not is_remote(entry.address):
        return entry.address
    try:
        with open_file(entry.address) as source:
            source.seek(entry.start)
            content = source.read(entry.size)
    except UserError as error:
        return error
    except OSError as error:
        return UserError(f"cannot be read ({error.strerror or type(error).__name__})")
    # What reads pictures takes files; this one is in memory
    file = stack.enter_context(os.fdopen(os.memfd_create("picture"), "w+b", buffering=0))
    file.write(content)
    return f"/proc/self/fd/{file.fileno()}"
