"""Samples -> augmented, encoded batches, made by worker processes in shared memory.

The randomness of a sample depends only on (seed, epoch, index of the sample). So a model gets the same batches with any
number of workers, and after a resume in the middle of an epoch.
"""

import contextlib
import ctypes
import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

import ssd_utils
import transforms
from media import images
from media.picture_cache import Picture, PictureCache
from settings.training_settings import TrainingSettings
from structures import Sample, UserError
from system import cli, wording
from system.data_queue import Batch, DataQueue, Field, WorkerError
from system.shared_arrays import block_bytes
from tiling import tiles, views

LARGEST_AUTO_WEIGHT = 10.0  # so that a handful of objects does not dominate the gradient
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
KEPT_BYTES, LARGEST_MMAP_THRESHOLD = 256 * 2**20, 32 * 2**20  # glibc's upper limit of the second

RESIZED = "resized"  # the kind of cached picture that is not decoded only, but resized to the network's input too

KEPT_TARGETS_BYTES = 64 * 2**20  # of each process that makes batches: the targets of 50,000 pictures or so
KEPT_TARGETS_OVERHEAD = 750  # bytes of Python's objects for one key, measured

REDRAWS = 50  # augmentations of a picture that are tried with --unmatched redraw, as in the article's code

Job = tuple[int, int]  # (epoch, index into the samples)

# From this many unreadable pictures in a row, in one process, the cause is the disk and not the pictures
MOST_UNREADABLE_IN_A_ROW = 50

_warned: set[str] = set()  # paths of unreadable pictures, in this process
_in_a_row = 0  # unreadable pictures since the last good one, in this process


@dataclasses.dataclass(frozen=True)
class MakeTrainingItem:
    """Callable (job, out): reads, augments and encodes one sample into a row of the batch.

    A picture that cannot be read is reported on stderr, once by each worker, and becomes a row without objects, which
    adds nothing to the loss. Raises WorkerError if no picture can be read any more.

    samples: the pictures with their ground truth.
    preset: of the network.
    anchors: float32 [A,4] (cx, cy, w, h).
    transform: the augmentation.
    matching: "bipartite" or "threshold", as in training_settings.CHOICES.
    seed: of the training.
    redraw: whether a picture with objects is augmented anew, up to REDRAWS times, until an anchor matches.
    cache: that pictures are read through, or None.
    cut: into tiles, in one of which or as a whole a picture is shown, as `tiling.views` says; None for always whole.
    """

    samples: Sequence[Sample]
    preset: ssd_utils.SSDPreset
    anchors: np.ndarray
    transform: transforms.TrainTransforms
    matching: str
    seed: int
    redraw: bool = False
    cache: PictureCache | None = None
    cut: tiles.Cut | None = None

    def sharing(self, cache: PictureCache) -> "MakeTrainingItem":
        """The same, with a cache."""
        return dataclasses.replace(self, cache=cache)

    def __call__(self, job: Job, out: Mapping[str, np.ndarray]) -> None:
        sample, targets = self.samples[job[1]], (out["class_targets"], out["offset_targets"])
        if self._resizes_whole(sample) and not self.redraw:
            plan = self._plan_kept(job, targets)
        else:
            plan, matches = self.plan(job)
            ssd_utils.encode_targets(self.anchors, plan.boxes, plan.labels, matches, self.preset.variances, targets)
        try:
            self.render(job, plan, out["images"])
        except images.ImageError as error:
            _note_unreadable(error)
            for array in out.values():
                array[...] = 0
            return
        _note_readable()

    def describe(self, job: Job) -> str:
        """The sample of a job, for messages."""
        epoch, index = job
        return f"the sample of {self.samples[index].image_path} for epoch {epoch + 1}"

    def plan(self, job: Job) -> tuple[transforms.Plan, np.ndarray]:
        """(how the sample of a job is augmented, the object that each anchor matches: int32 [A] of `match_anchors`)."""
        epoch, index = job
        sample, view = self.samples[index], self.view(job)
        labels = sample.labels[view.kept]
        rng = np.random.default_rng([self.seed, epoch, index])
        for _ in range(REDRAWS if self.redraw and len(view.boxes) else 1):
            plan = self.transform.plan(sample.width, sample.height, view.boxes, labels, rng, view.edges_px)
            matches = ssd_utils.match_columns(self._columns, plan.boxes, bipartite=self.matching == "bipartite")
            if (matches >= 0).any():
                break
        return plan, matches

    def view(self, job: Job) -> views.View:
        """What the sample of a job shows before it is augmented: all of its picture, or a tile."""
        epoch, index = job
        sample = self.samples[index]
        size = sample.width, sample.height
        if self.cut is None:
            return views.whole(size, sample.boxes)
        return views.in_epoch(self.cut, size, sample.boxes, self.seed, index, epoch)

    def render(self, job: Job, plan: transforms.Plan, out: np.ndarray | None = None) -> np.ndarray:
        """Read the picture of a job and render its plan, into `out` or a new array uint8 [h,w,3]. Raises ImageError."""
        sample = self.samples[job[1]]
        source = sample.image_path, sample.exif, plan.max_reduce
        if self.cache is None:
            return self.transform.render(plan, images.read(*source, self.preset.gray16), out)
        if self._resizes_whole(sample):
            resized = self.cache.made(RESIZED, functools.partial(self.transform.resized, plan), *source)
            return self.transform.finish(plan, resized, out)
        return self.transform.render(plan, self.cache.read(*source), out)

    def _plan_kept(self, job, targets):
        """Fill targets as those of `plan`, and return it, for a sample that is always resized as a whole.

        Its boxes have few places: mirrored or not, flipped or not. Their targets are computed once, since matching
        takes half the time of a picture that comes from the cache.
        """
        epoch, index = job
        sample = self.samples[index]
        choices = transforms.draw_choices(
            self.transform.augmentation, sample.boxes, np.random.default_rng([self.seed, epoch, index])
        )
        size = sample.width, sample.height
        if size not in self._whole:
            self._whole[size] = self.transform.compose(*size, sample.boxes[:0], sample.labels[:0], choices)
        key = index, choices.mirror, choices.flip
        if not self._kept.fill(key, targets):
            moved, matches = self.plan(job)
            ssd_utils.encode_targets(self.anchors, moved.boxes, moved.labels, matches, self.preset.variances, targets)
            self._kept.keep(key, targets)
        return dataclasses.replace(self._whole[size], choices=choices)

    def _resizes_whole(self, sample):
        return self.cut is None and self.transform.resizes_whole(sample.width, sample.height)

    @functools.cached_property
    def _columns(self):
        return ssd_utils.anchor_columns(self.anchors)

    @functools.cached_property
    def _kept(self):
        return KeptTargets()

    @functools.cached_property
    def _whole(self):
        return {}  # the plans of whole pictures, without boxes, by width and height


class KeptTargets:
    """Targets of `ssd_utils.encode_targets` by key, of which only the matched anchors take memory.

    limit: bytes, about, after which no more are kept.
    """

    def __init__(self, limit: int = KEPT_TARGETS_BYTES) -> None:
        self._limit = limit
        self._rows: dict[Any, tuple[np.ndarray, ...]] = {}

    def keep(self, key: Any, targets: tuple[np.ndarray, np.ndarray]) -> None:
        """Keep (class_targets int32 [A], offset_targets float32 [A,4]) if there is memory left."""
        class_targets, offset_targets = targets
        matched = np.flatnonzero(class_targets)
        rows = matched, class_targets[matched], offset_targets[matched]
        self._limit -= KEPT_TARGETS_OVERHEAD + sum(part.nbytes for part in rows)
        if self._limit >= 0:
            self._rows[key] = rows

    def fill(self, key: Any, targets: tuple[np.ndarray, np.ndarray]) -> bool:
        """Overwrite targets with those of the key; False if there are none."""
        rows = self._rows.get(key)
        if rows is None:
            return False
        class_targets, offset_targets = targets
        matched, classes, offsets = rows
        class_targets.fill(0)
        offset_targets.fill(0)
        class_targets[matched] = classes
        offset_targets[matched] = offsets
        return True


def make_queue(
    samples: Sequence[Sample],
    preset: ssd_utils.SSDPreset,
    settings: TrainingSettings,
    *,
    workers: int,
    cache: PictureCache | None = None,
    rows: int | None = None,
) -> DataQueue:
    """A DataQueue of batches {images uint8 [B,h,w,3], class_targets int32 [B,A], offset_targets float32 [B,A,4]}.

    Its jobs are those of `epoch_jobs`. The batches are the same with and without a cache. rows: B, None for that of
    the settings.
    """
    rows = rows or settings.batch_size
    item, fields = make_item(samples, preset, settings), _fields(preset)
    # Two batches are in the consumer's hands (one in training, the next on its way to the GPU), one is ready, and the
    # workers fill as many as it takes to give each of them a row: 14 workers at batch 8 need 5 slots, 18 MB for vgg300
    depth = 3 + math.ceil(workers / rows)
    return DataQueue(
        fields,
        item,
        batch_size=rows,
        workers=workers,
        depth=depth,
        initializer=prepare_worker,
        shared=cache,
    )


def cached_bytes(
    samples: Iterable[Sample], preset: ssd_utils.SSDPreset, settings: TrainingSettings
) -> tuple[list[Picture], dict[str, int]]:
    """What a `PictureCache` for `make_queue` may come to hold: its pictures, and at most how many bytes of each kind.

    The kinds that save the most time for a byte come first.
    """
    transform, cut = transforms.train_transforms(preset, settings.augmentation), settings.cut
    needed = dict.fromkeys((RESIZED, *map(str, reversed(transforms.REDUCTIONS))), 0)
    size_of = {Picture(one.image_path, one.exif): (one.width, one.height) for one in samples}
    for picture, (width, height) in size_of.items():
        if cut is None and transform.resizes_whole(width, height):
            needed[RESIZED] += block_bytes(*preset.input_wh)
            continue
        edges = cut.edges_px((width, height)) if cut else np.array([(0, 0, width, height)])
        sizes = {tuple(size) for size in (edges[:, 2:] - edges[:, :2]).tolist()}
        reductions = {reduce for size in sizes for reduce in transform.reductions(*size)}
        for reduce in reductions if images.is_jpeg(picture.path) else (1,):
            needed[str(reduce)] += block_bytes(-(-height // reduce), -(-width // reduce))
    return list(size_of), {kind: size for kind, size in needed.items() if size}


def first_images(
    samples: Sequence[Sample], preset: ssd_utils.SSDPreset, settings: TrainingSettings, count: int
) -> np.ndarray:
    """uint8 [N,h,w,3]: the first `count` images that training is going to see, or as many as an epoch has.

    Raises UserError if they cannot be read because their folder is gone.
    """
    item = make_item(samples, preset, settings)
    jobs = epoch_jobs(len(samples), settings.seed, epoch=0)[:count]
    rows = {field.name: np.zeros((len(jobs), *field.shape), field.dtype) for field in _fields(preset)}
    try:
        for number, job in enumerate(jobs):
            item(job, {name: array[number] for name, array in rows.items()})
    except WorkerError as error:
        raise UserError(str(error)) from None
    return rows["images"]


def make_item(samples: Sequence[Sample], preset: ssd_utils.SSDPreset, settings: TrainingSettings) -> MakeTrainingItem:
    """What makes the items of a training's batches, without a cache."""
    transform = transforms.train_transforms(preset, settings.augmentation)
    anchors = ssd_utils.make_anchors(preset)
    redraw = settings.unmatched == "redraw"
    return MakeTrainingItem(
        samples, preset, anchors, transform, settings.matching, settings.seed, redraw, cut=settings.cut
    )


def _fields(preset):
    """The arrays of a batch."""
    anchors = preset.num_anchors
    return [
        Field("images", preset.image_shape, np.uint8),
        Field("class_targets", (anchors,), np.int32),
        Field("offset_targets", (anchors, 4), np.float32),
    ]


def epoch_jobs(num_samples: int, seed: int, epoch: int, first: int = 0) -> list[Job]:
    """The jobs (epoch, index) of an epoch in shuffled order, without the first `first`."""
    order = np.random.default_rng([seed, epoch]).permutation(num_samples)
    return [(epoch, int(index)) for index in order[first:]]


def empty_batch(preset: ssd_utils.SSDPreset) -> Batch:
    """A batch of no job: one image without objects, which adds nothing to loss or gradient."""
    return Batch({field.name: np.zeros((1, *field.shape), field.dtype) for field in _fields(preset)}, [], lambda: None)


def limited(samples: Sequence[Sample], limit: int | None) -> Sequence[Sample]:
    """At most `limit` of the samples (None: all), in their order.

    They are drawn at random, since lists are often sorted by class or scene, and are the same in every call; a larger
    limit adds samples and drops none.
    """
    if limit is None:
        return samples
    chosen = np.random.default_rng(0).permutation(len(samples))[:limit]
    return [samples[index] for index in sorted(chosen)]


def class_weights(
    choice: str | Sequence[str] | None, class_names: Sequence[str], samples: Iterable[Sample] = ()
) -> tuple[float, ...] | None:
    """By label, a factor on the confidence loss of the positives of each class; None for no weights.

    choice: None; texts NAME=WEIGHT (other classes have 1); or "auto": with n objects of a class in the samples,
    sum(n) / (sum(sqrt(n)) · sqrt(n)), at most LARGEST_AUTO_WEIGHT. So an object of a class with a hundredth of the
    objects of another counts ten times as much, and the mean over all objects is 1. A class without objects has 1.
    Raises UserError for an unknown or repeated class, and for a weight that is not a number above 0.
    """
    if choice is None:
        return None
    if choice == "auto":
        counts = np.zeros(len(class_names))
        for sample in samples:
            np.add.at(counts, sample.labels, 1)
        roots = np.sqrt(counts)
        auto = np.where(counts > 0, counts.sum() / (max(roots.sum(), 1) * np.maximum(roots, 1)), 1)
        return tuple(np.minimum(auto, LARGEST_AUTO_WEIGHT).tolist())
    weights = {}
    for pair in choice:
        name, _, text = pair.rpartition("=")
        if name not in class_names:
            raise UserError(f"--class-weights {pair}: no class {name!r}; the classes are {', '.join(class_names)}")
        if name in weights:
            raise UserError(f"--class-weights {pair}: {name!r} is listed twice; remove one")
        weights[name] = _weight(pair, text)
    return tuple(weights.get(name, 1.0) for name in class_names)


def _weight(pair, text):
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise UserError(f"--class-weights {pair}: {text!r} is not a number above 0")
    return weight


def _note_unreadable(error):
    """Report an unreadable picture, once; raises WorkerError if the cause is not the picture."""
    global _in_a_row
    _in_a_row += 1
    if images.folder_is_gone(error.path):
        raise WorkerError(f"{error.path}: its folder is gone; restore the data")
    if _in_a_row >= MOST_UNREADABLE_IN_A_ROW:
        raise WorkerError(
            f"{wording.plural(_in_a_row, 'picture')} in a row cannot be read, the last is {error.path} ({error.reason})"
        )
    if error.path not in _warned:
        _warned.add(error.path)
        cli.warn(f"training continues without {error.path}: {error.reason}")


def _note_readable():
    global _in_a_row
    _in_a_row = 0


def prepare_worker() -> None:
    """To be called once in a process that only makes batches: use one thread, keep freed memory.

    The workers fill all cores, so that OpenCV's own threads would only slow them down. Without the limits glibc returns
    the memory of every picture to the system and requests it again, page by page, which took 5% of the time.
    """
    cv2.setNumThreads(1)
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
