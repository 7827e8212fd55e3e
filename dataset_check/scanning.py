"""Every picture of a data set in Pascal VOC layout, read once by worker processes: what check_dataset.py judges.

Nothing here is an error: what cannot be read is written down. Memory does not grow with the size of the pictures.
"""

import concurrent.futures
import concurrent.futures.process
import contextlib
import dataclasses
import functools
import hashlib
import multiprocessing
import os
import re
import sys
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

import source_pascal_voc
from formats import annotations
from media import images
from structures import UserError
from system import worker_processes

# Decoded at a quarter of its size a JPEG costs a third, and damage shows all the same.
REDUCE = 4
SIGNATURE_SIDE = 16
# Rounding of the colour transform, and of encoders, stays below this
GRAY_TOLERANCE = 3
# What libjpeg and libpng print when they fill in what they cannot decode
DAMAGE = ("Corrupt JPEG data", "Premature end", "libpng error")
# A few bytes between picture and end mark are harmless and common; hundreds were meant to be picture
HARMLESS = re.compile(r"Corrupt JPEG data: \d{1,2} extraneous bytes")


class Split(NamedTuple):
    """One list of pictures. ids: as listed, repetitions too; folder, path: the VOC-layout folder and the list."""

    name: str
    folder: str
    path: str
    ids: tuple


@dataclasses.dataclass(frozen=True)
class Picture:
    """What is known of one picture after reading it and its annotation.

    image_path, annotation_path: None and missing if there is no such file. width, height: pixels as stored, None if
    unreadable. problem: why it cannot be decoded, or None. damage: what the decoder had to fill in, or None.
    digest: of the file's bytes. signature: a tiny gray copy, uint8 bytes. annotation: source_pascal_voc.Annotation
    or None, and then annotation_problem says why, and annotation_missing whether there is no such file.
    """

    id: str
    folder: str
    splits: tuple
    image_path: str | None
    annotation_path: str
    width: int | None = None
    height: int | None = None
    orientation: int = 1
    problem: str | None = None
    damage: str | None = None
    digest: bytes | None = None
    gray: bool = False
    signature: bytes | None = None
    annotation: source_pascal_voc.Annotation | None = None
    annotation_problem: str | None = None
    annotation_missing: bool = False

    @property
    def readable(self):
        """Whether the picture can be decoded and its annotation read: then train.py can learn from it."""
        return self.problem is None and self.image_path is not None and self.annotation is not None

    @property
    def exif(self):
        """Whether the boxes were drawn on the picture turned by EXIF."""
        return self._sized.exif

    @property
    def size(self):
        """(width, height) of the picture that the boxes belong to."""
        return self._sized[:2]

    @property
    def _sized(self):
        one = self.annotation
        stated = (one.width, one.height) if one else (None, None)
        return annotations.size_as_stated((self.width, self.height, self.orientation), stated)


@dataclasses.dataclass(frozen=True)
class Scan:
    """A data set as it was read. unlisted: paths of pictures that no split lists."""

    data: str
    splits: tuple
    pictures: tuple
    unlisted: tuple = ()


def scan(data, splits=None, *, workers=2, progress=False):
    """Read every picture of some splits: Scan.

    data: a VOCdevkit or one VOC-layout folder; splits: '2007:trainval,2007:test', or None for all there are; workers:
    processes. Raises UserError if the data set or a split is missing.
    """
    names = [name.strip() for name in splits.split(",")] if splits else source_pascal_voc.split_names(data)
    if not names:
        raise UserError(f"--data {data}: ImageSets/Main holds no lists; write one image id a line into train.txt")
    if repeated := [name for at, name in enumerate(names) if name in names[:at]]:
        raise UserError(f"--split {splits}: {repeated[0]} stands there twice; remove one")
    lists, tasks, image_of = [], {}, {}
    for name in names:
        folder, path, ids, image_of[str(folder)] = source_pascal_voc.listed(data, name)
        lists.append(Split(name, str(folder), str(path), tuple(ids)))
        for image_id in ids:
            tasks.setdefault((str(folder), image_id), []).append(name)
    pending = [
        Picture(
            image_id,
            folder,
            tuple(dict.fromkeys(in_splits)),
            image_of[folder].get(image_id),
            os.path.join(folder, "Annotations", f"{image_id}.xml"),
        )
        for (folder, image_id), in_splits in tasks.items()
    ]
    unlisted = [
        path
        for folder, paths in image_of.items()
        for stem, path in sorted(paths.items())
        if splits is None and (folder, stem) not in tasks
    ]
    return Scan(str(data), tuple(lists), tuple(_read_all(pending, workers, progress)), tuple(unlisted))


def _read_all(pending, workers, progress):
    """`read` of each Picture, in their order, by worker processes; with one worker, by this process."""
    bar = functools.partial(
        tqdm, desc="reading", total=len(pending), unit="img", dynamic_ncols=True, disable=not progress, leave=False
    )
    if workers == 1:
        return list(bar(map(read, pending)))
    context = multiprocessing.get_context("forkserver")  # no thread of the parent is copied half way
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_start_worker)
    try:
        with worker_processes.interrupts_held():
            found = pool.map(read, pending, chunksize=max(1, min(16, len(pending) // (4 * workers))))
        return list(bar(found))
    except concurrent.futures.process.BrokenProcessPool:
        raise UserError("a worker process was killed, perhaps for want of memory; try --workers 1") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker():
    worker_processes.follow_parent()
    cv2.setNumThreads(1)


def read(picture):
    """A Picture with all that its files tell."""
    found = {}
    try:
        found["annotation"] = source_pascal_voc.parse_annotation(picture.annotation_path)
    except UserError as error:
        found["annotation_problem"] = str(error).removeprefix(f"{picture.annotation_path}: ")
        found["annotation_missing"] = not os.path.exists(picture.annotation_path)
    if picture.image_path is not None:
        try:
            found |= _read_image(picture.image_path)
        except images.ImageError as error:
            found["problem"] = error.reason
    return dataclasses.replace(picture, **found)


def _read_image(path):
    """Fields of a Picture that the image file tells. Raises ImageError."""
    with decoder_messages() as messages:
        image = images.read(path, exif=False, reduce=REDUCE)
    width, height, orientation = images.header(path)
    with open(path, "rb") as file:
        digest = hashlib.blake2b(file.read(), digest_size=16).digest()
    low, high = image.min(axis=2), image.max(axis=2)
    small = cv2.resize(image, (SIGNATURE_SIDE, SIGNATURE_SIDE), interpolation=cv2.INTER_AREA)
    return {
        "width": width,
        "height": height,
        "orientation": orientation,
        "digest": digest,
        "gray": int((high - low).max()) <= GRAY_TOLERANCE,
        "signature": cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).tobytes(),
        "damage": messages[0] if messages else None,
    }


@contextlib.contextmanager
def decoder_messages():
    """A list that afterwards holds what the C decoders printed of damage: they go on, and tell nobody else."""
    messages = []
    sys.stderr.flush()
    before, held = os.dup(2), os.memfd_create("decoder messages")
    os.dup2(held, 2)
    try:
        yield messages
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.lseek(held, 0, os.SEEK_SET)
        lines = os.read(held, 4096).decode("utf-8", "replace").splitlines()
        os.close(held)
        messages += [line for line in lines if line.startswith(DAMAGE) and not HARMLESS.match(line)]


def pixels(signature):
    """The tiny gray copy of a Picture as float32 [256]."""
    return np.frombuffer(signature, np.uint8).astype(np.float32)
