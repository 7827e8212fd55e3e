"""Read every picture and annotation of a data set in Pascal VOC layout once, in worker processes.

A file that cannot be read is no error here; the reason is recorded. Only a tiny copy of each picture stays in memory.
"""

import concurrent.futures
import concurrent.futures.process
import dataclasses
import functools
import multiprocessing
import os
import re
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

import source_pascal_voc
from formats import annotations
from media import decoder_messages, images
from structures import UserError
from system import files, worker_processes

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
    folder: the folder with its pictures and annotations.
    path: the list, or the folder of its pictures if there is no list.
    ids: as listed; they may repeat.
    list_path: the list, None if there is none.
    """

    name: str
    folder: str
    path: str
    ids: tuple
    list_path: str | None


@dataclasses.dataclass(frozen=True)
class Picture:
    """What is known of one picture after reading it and its annotation.

    id: the path of its files in their folders, without suffix.
    folder: the folder of its split.
    splits: names of the splits that list it.
    image_path: the picture, or None if there is no such file.
    annotation_path: the annotation; there may be no such file.
    place: where the picture belongs, a path without suffix.
    width, height: pixels as stored, or None if it cannot be read.
    orientation: EXIF's, 1 to 8.
    problem: why it cannot be decoded, or None.
    damage: the decoder's message about pixels that it filled in, or None.
    digest: a hash of the file's bytes.
    gray: whether it has no color.
    levels: the lowest and highest sample if they have 16 bits, else None.
    signature: a tiny gray copy, uint8 bytes, 16 × 16; see `pixels`.
    annotation: source_pascal_voc.Annotation, or None if it cannot be read; with its objects on the picture as it is.
    resized: whether the picture was resized after annotation: then the objects in the file are of another scale.
    annotation_problem: why the annotation cannot be read, or None.
    annotation_missing: whether there is no annotation file.
    """

    id: str
    folder: str
    splits: tuple
    image_path: str | None
    annotation_path: str
    place: str = ""
    width: int | None = None
    height: int | None = None
    orientation: int = 1
    problem: str | None = None
    damage: str | None = None
    digest: bytes | None = None
    gray: bool = False
    levels: tuple | None = None
    signature: bytes | None = None
    annotation: source_pascal_voc.Annotation | None = None
    resized: bool = False
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


def scan(data, splits=None, *, missing_annotations="error", workers=2, progress=False):
    """Read every picture of some splits -> Scan.

    data: a VOCdevkit or another folder with XML files.
    splits: such as '2007:trainval,2007:test', or None for all splits.
    missing_annotations: 'background' takes pictures without an annotation file as without objects.
    workers: the number of processes.
    progress: show a bar.
    Raises UserError if the data set or a split does not exist.
    """
    names = [name.strip() for name in splits.split(",")] if splits else None
    if names and (repeated := [name for at, name in enumerate(names) if name in names[:at]]):
        raise UserError(f"--split {splits}: {repeated[0]} is listed twice; remove one")
    found = source_pascal_voc.FORMAT.read_splits(data, names)
    if not found:
        raise UserError(f"--data {data}: ImageSets/Main has no lists; write train.txt there, one image id per line")
    tasks = {}
    for split in found:
        for image_id in split.ids:
            tasks.setdefault((split.home, image_id), []).append(split)
    pending = [
        Picture(
            image_id,
            folder,
            tuple(dict.fromkeys(split.name for split in of_splits)),
            of_splits[0].pictures.path_of.get(image_id),
            of_splits[0].annotation_path(image_id),
            os.path.join(of_splits[0].pictures.folder, image_id),
        )
        for (folder, image_id), of_splits in tasks.items()
    ]
    unlisted = [
        path
        for split in {split.home: split for split in found}.values()
        for image_id, path in sorted(split.pictures.path_of.items())
        if names is None and (split.home, image_id) not in tasks
    ]
    lists = (Split(one.name, one.home, one.where, tuple(one.ids), one.list_path) for one in found)
    step = functools.partial(read, missing_annotations=missing_annotations)
    return Scan(str(data), tuple(lists), tuple(_read_all(step, pending, workers, progress)), tuple(unlisted))


def _read_all(step, pending, workers, progress):
    """step(Picture) of each, in order, in worker processes; with one worker, in this process."""
    bar = functools.partial(
        tqdm, desc="reading", total=len(pending), unit="img", dynamic_ncols=True, disable=not progress, leave=False
    )
    if workers == 1:
        return list(bar(map(step, pending)))
    context = multiprocessing.get_context("forkserver")  # fork would copy locks that threads hold
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_start_worker)
    try:
        with worker_processes.interrupts_held():
            found = pool.map(step, pending, chunksize=max(1, min(16, len(pending) // (4 * workers))))
        return list(bar(found))
    except concurrent.futures.process.BrokenProcessPool:
        raise UserError("a worker process was killed, perhaps because memory ran out; try --workers 1") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker():
    worker_processes.follow_parent()
    cv2.setNumThreads(1)


def read(picture, missing_annotations="error"):
    """A Picture, completed with what its files contain. missing_annotations: as for `scan`."""
    found = {}
    try:
        found["annotation"] = source_pascal_voc.parse_annotation(picture.annotation_path)
    except annotations.MissingAnnotation as error:
        if missing_annotations == "background":
            found["annotation"] = source_pascal_voc.Annotation(None, None, [])
        else:
            found |= {"annotation_problem": _reason(error, picture), "annotation_missing": True}
    except UserError as error:
        found["annotation_problem"] = _reason(error, picture)
    if picture.image_path is not None:
        try:
            found |= _read_image(picture.image_path)
        except images.ImageError as error:
            found["problem"] = error.reason
    return _on_its_scale(dataclasses.replace(picture, **found))


def _reason(error, picture):
    return str(error).removeprefix(f"{picture.annotation_path}: ")


def _on_its_scale(picture):
    """The Picture with the objects scaled to it, if it was resized after annotation."""
    if not picture.readable or not picture.annotation.objects:
        return picture
    objects = picture.annotation.objects
    reach = max(item.xmax for item in objects), max(item.ymax for item in objects)
    scale = annotations.scale_to(picture.size, picture.annotation.stated_size, reach)
    if scale is None:
        return picture
    scaled = [
        item._replace(
            xmin=(item.xmin - 1) * scale[0] + 1,
            ymin=(item.ymin - 1) * scale[1] + 1,
            xmax=item.xmax * scale[0],
            ymax=item.ymax * scale[1],
        )
        for item in objects
    ]
    return dataclasses.replace(
        picture, annotation=dataclasses.replace(picture.annotation, objects=scaled), resized=True
    )


def _read_image(path):
    """The fields of a Picture that come from the image file, a dict. Raises ImageError."""
    with decoder_messages.collected() as lines:
        image = images.read(path, exif=False, reduce=REDUCE, gray16=images.STRETCH)
    messages = [line for line in lines if line.startswith(DAMAGE) and not HARMLESS.match(line)]
    width, height, orientation = images.header(path)
    low, high = image.min(axis=2), image.max(axis=2)
    small = cv2.resize(image, (SIGNATURE_SIDE, SIGNATURE_SIDE), interpolation=cv2.INTER_AREA)
    return {
        "width": width,
        "height": height,
        "orientation": orientation,
        "digest": files.digest(path),
        "gray": int((high - low).max()) <= GRAY_TOLERANCE,
        "levels": images.sixteen_bits(path),
        "signature": cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).tobytes(),
        "damage": messages[0] if messages else None,
    }


def pixels(signature):
    """The signature of a Picture as float32 [256], gray levels 0..255."""
    return np.frombuffer(signature, np.uint8).astype(np.float32)
