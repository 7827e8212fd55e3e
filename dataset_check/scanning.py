"""Read every picture and annotation of a data set in Pascal VOC layout once, in worker processes.

A file that cannot be read is no error here; the reason is recorded. Only a tiny copy of each picture stays in memory.
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

# A JPEG decoded at a quarter of its size takes a third of the time, and damage is still detected
REDUCE = 4
SIGNATURE_SIDE = 16
GRAY_TOLERANCE = 3  # largest difference of channels that rounding causes in a gray picture, of 255
# What libjpeg and libpng print when they fill in what they cannot decode
DAMAGE = ("Corrupt JPEG data", "Premature end", "libpng error")
# A few bytes between the pixels and the end marker are common and harmless; hundreds are lost pixels
HARMLESS = re.compile(r"Corrupt JPEG data: \d{1,2} extraneous bytes")


class Split(NamedTuple):
    """One list of pictures.

    name: as source_pascal_voc.find takes it, such as '2007:train'.
    folder: the VOC-layout folder.
    path: the list.
    ids: as listed; they may repeat.
    """

    name: str
    folder: str
    path: str
    ids: tuple


@dataclasses.dataclass(frozen=True)
class Picture:
    """What is known of one picture after reading it and its annotation.

    id: the stem of its files.
    folder: the VOC-layout folder.
    splits: names of the splits that list it.
    image_path: the picture, or None if there is no such file.
    annotation_path: the annotation; there may be no such file.
    width, height: pixels as stored, or None if it cannot be read.
    orientation: EXIF's, 1 to 8.
    problem: why it cannot be decoded, or None.
    damage: the decoder's message about pixels that it filled in, or None.
    digest: a hash of the file's bytes.
    gray: whether it has no color.
    signature: a tiny gray copy, uint8 bytes, 16 × 16; see `pixels`.
    annotation: source_pascal_voc.Annotation, or None if it cannot be read.
    annotation_problem: why the annotation cannot be read, or None.
    annotation_missing: whether there is no annotation file.
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
        """Whether picture and annotation can both be read, so that train.py can learn from it."""
        return self.problem is None and self.image_path is not None and self.annotation is not None

    @property
    def exif(self):
        """Whether the boxes were drawn on the picture with EXIF orientation applied."""
        return self._sized.exif

    @property
    def size(self):
        """(width, height) in pixels of the picture as the boxes were drawn on it."""
        return self._sized[:2]

    @property
    def _sized(self):
        stated = self.annotation.stated_size if self.annotation else (None, None)
        return annotations.size_as_stated((self.width, self.height, self.orientation), stated)


@dataclasses.dataclass(frozen=True)
class Scan:
    """A data set as it was read.

    data: its path.
    splits: the Splits.
    pictures: a Picture for each that a split lists.
    unlisted: paths of pictures that no split lists.
    """

    data: str
    splits: tuple
    pictures: tuple
    unlisted: tuple = ()

    @property
    def picture_of(self):
        """{(folder, id): Picture}."""
        return {(picture.folder, picture.id): picture for picture in self.pictures}


def scan(data, splits=None, *, workers=2, progress=False):
    """Read every picture of some splits -> Scan.

    data: a VOCdevkit or one VOC-layout folder.
    splits: such as '2007:trainval,2007:test', or None for all splits.
    workers: the number of processes.
    progress: show a bar.
    Raises UserError if the data set or a split does not exist.
    """
    names = [name.strip() for name in splits.split(",")] if splits else source_pascal_voc.split_names(data)
    if not names:
        raise UserError(f"--data {data}: ImageSets/Main has no lists; write train.txt there, one image id per line")
    if repeated := [name for at, name in enumerate(names) if name in names[:at]]:
        raise UserError(f"--split {splits}: {repeated[0]} is listed twice; remove one")
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
            source_pascal_voc.annotation_path(folder, image_id),
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
    """`read` each Picture, in order, in worker processes; with one worker, in this process."""
    bar = functools.partial(
        tqdm, desc="reading", total=len(pending), unit="img", dynamic_ncols=True, disable=not progress, leave=False
    )
    if workers == 1:
        return list(bar(map(read, pending)))
    context = multiprocessing.get_context("forkserver")  # fork would copy locks that threads hold
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_start_worker)
    try:
        with worker_processes.interrupts_held():
            found = pool.map(read, pending, chunksize=max(1, min(16, len(pending) // (4 * workers))))
        return list(bar(found))
    except concurrent.futures.process.BrokenProcessPool:
        raise UserError("a worker process was killed, perhaps because memory ran out; try --workers 1") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker():
    worker_processes.follow_parent()
    cv2.setNumThreads(1)


def read(picture):
    """A Picture, completed with what its files contain."""
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
    """The fields of a Picture that come from the image file, a dict. Raises ImageError."""
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
    """Context that gives a list; after it, the list has the C decoders' messages about damage.

    They print these to stderr, fill in the damaged pixels and report no error.
    """
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
    """The signature of a Picture as float32 [256], gray levels 0..255."""
    return np.frombuffer(signature, np.uint8).astype(np.float32)
