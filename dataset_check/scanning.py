"""Read every picture and annotation of a data set once, in worker processes.

A file that cannot be read is no error here; the reason is recorded. Only a tiny copy of each picture stays in memory.
"""

import concurrent.futures
import concurrent.futures.process
import dataclasses
import functools
import multiprocessing
import os
import re
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

import sources
from formats import annotations, folders
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


@dataclasses.dataclass(frozen=True)
class Picture:
    """What is known of one picture after reading it and its annotation.

    id: as in listing.Listed.
    folder: the folder of its split.
    splits: names of the splits that list it.
    image_path: the picture, or None if there is no such file.
    annotation_path: the annotation, with the entry in a file of many; there may be no such file.
    place, entry, owner: as in listing.Listed.
    width, height: pixels as stored, or None if it cannot be read.
    orientation: EXIF's, 1 to 8.
    problem: why it cannot be decoded, or None; of a missing picture what there is instead of it, for a message.
    damage: the decoder's message about pixels that it filled in, or None.
    digest: a hash of the file's bytes.
    gray: whether it has no color.
    levels: the lowest and highest sample if they have 16 bits, else None.
    signature: a tiny gray copy, uint8 bytes, 16 × 16; see `pixels`.
    annotation: annotations.Annotated, or None if it cannot be read; with its boxes in pixels of the picture as it is.
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
    entry: Any = None
    owner: str = ""
    width: int | None = None
    height: int | None = None
    orientation: int = 1
    problem: str | None = None
    damage: str | None = None
    digest: bytes | None = None
    gray: bool = False
    levels: tuple | None = None
    signature: bytes | None = None
    annotation: annotations.Annotated | None = None
    resized: bool = False
    annotation_problem: str | None = None
    annotation_missing: bool = False

    @property
    def key(self):
        """What tells it from all others; as in listing.Split.listed_of."""
        return self.folder, self.id, self.owner

    @property
    def stated_size(self):
        """(width, height) that the annotation states, (None, None) if it states none."""
        return (self.annotation and self.annotation.stated) or (None, None)

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
        header = self.width, self.height, self.orientation
        return annotations.size_as_stated(header, self.annotation.stated if self.annotation else (None, None))


@dataclasses.dataclass(frozen=True)
class Scan:
    """A data set as it was read.

    data: its path.
    format: its name, as in --source.
    splits: the listing.Splits.
    pictures: a Picture for each that a split lists.
    unlisted: paths of pictures that no split lists.
    first_pixel: what the format calls the first row and column, 0 or 1.
    """

    data: str
    format: str
    splits: tuple
    pictures: tuple
    unlisted: tuple = ()
    first_pixel: int = 0

    @property
    def picture_of(self):
        """{key: Picture}."""
        return {picture.key: picture for picture in self.pictures}


def scan(data, splits=None, *, source="auto", missing_annotations="error", workers=2, progress=False):
    """Read every picture of some splits -> Scan.

    data, splits, source: as for `sources`; None for all splits.
    missing_annotations: 'background' takes pictures without an annotation file as without objects.
    workers: the number of processes.
    progress: show a bar.
    Raises UserError if the data set or a split does not exist.
    """
    source = sources.choose(data, source)
    found = sources.survey(data, splits, source)
    listed = {}  # {key: (Listed, names of splits)}
    for split in found:
        for key, one in split.listed_of.items():
            listed.setdefault(key, (one, []))[1].append(split.name)
    pending = [
        Picture(
            one.id,
            folder,
            tuple(names),
            one.image_path,
            one.annotation_path,
            one.place,
            one.entry,
            one.owner,
        )
        for (folder, _, _), (one, names) in listed.items()
    ]
    reader = sources.reader(data, ",".join(split.name for split in found), source)
    _names_by_stem.cache_clear()
    step = functools.partial(read, reader=reader, missing_annotations=missing_annotations)
    unlisted = () if splits else _unlisted(found)
    pictures = tuple(_read_all(step, pending, workers, progress))
    return Scan(str(data), source, tuple(found), pictures, unlisted, sources.first_pixel(data, source))


def _unlisted(splits):
    """The pictures that no split lists: a table may leave out what another one names."""
    listed = {os.path.abspath(one.place) for split in splits for one in split.pictures}
    return tuple(
        dict.fromkeys(path for split in splits for path in split.unlisted if os.path.abspath(path) not in listed)
    )


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


def read(picture, reader, missing_annotations="error"):
    """A Picture, completed with what its files contain. reader, missing_annotations: as for `scan`."""
    found = {}
    try:
        found["annotation"] = reader(picture.entry)
    except annotations.MissingAnnotation as error:
        if missing_annotations == "background":
            found["annotation"] = annotations.Annotated([], (None, None))
        else:
            found |= {"annotation_problem": _reason(error, picture), "annotation_missing": True}
    except UserError as error:
        found["annotation_problem"] = _reason(error, picture)
    if picture.image_path is None:
        listing = _names_by_stem(os.path.dirname(picture.place))
        found["problem"] = folders.unread_hint(picture.place, listing=listing) or None
    else:
        try:
            found |= _read_image(picture.image_path)
        except images.ImageError as error:
            found["problem"] = error.reason
    picture = dataclasses.replace(picture, **found)
    if not picture.readable:
        return picture
    annotation, resized = annotations.on_picture(picture.annotation, picture._sized)
    return dataclasses.replace(picture, annotation=annotation, resized=resized)


_names_by_stem = functools.cache(folders.names_by_stem)  # for one scan: all pictures of a folder may be missing


def _reason(error, picture):
    text = str(error)
    for start in (f"{picture.annotation_path}: ", f"{picture.annotation_path}, ", f"{picture.owner}: "):
        text = text.removeprefix(start)
    return text


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
