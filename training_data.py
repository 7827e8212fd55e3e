"""Samples -> augmented, encoded batches, made by worker processes in shared memory.

The randomness of a sample depends on (seed, epoch, index of the sample) alone, so a model sees the same batches
whatever the number of workers, and from the middle of an epoch on after a resume.
"""

import contextlib
import ctypes
import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np

import ssd_utils
import transforms
from config import TrainingSettings
from media import images
from structures import Sample, UserError
from system import cli
from system.data_queue import DataQueue, Field, WorkerError

LARGEST_AUTO_WEIGHT = 10.0  # a handful of objects must not decide the gradient
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES, LARGEST_MMAP_THRESHOLD = 256 * 2**20, 32 * 2**20  # more than the second is refused

Job = tuple[int, int]  # (epoch, index into the samples)

# Unreadable pictures in a row, of one process, that are no longer put down to the pictures
LONGEST_GAP = 50

_warned: set[str] = set()  # paths of unreadable pictures, in this process
_in_a_row = 0  # unreadable pictures since the last good one, in this process


@dataclasses.dataclass(frozen=True)
class MakeTrainingItem:
    """Callable (job, out): reads, augments and encodes one sample into a row of the batch.

    job: (epoch, index into samples). samples: list of Sample; anchors: float32 [A,4] (cx, cy, w, h).
    A picture that cannot be read is told of on stderr, once by each worker, and becomes a row without objects,
    which adds nothing to the loss. Raises WorkerError if no picture can be read any more.
    """

    samples: Sequence[Sample]
    preset: ssd_utils.SSDPreset
    anchors: np.ndarray
    transform: transforms.TrainTransforms
    matching: str
    seed: int

    def __call__(self, job: Job, out: Mapping[str, np.ndarray]) -> None:
        epoch, index = job
        sample = self.samples[index]
        rng = np.random.default_rng([self.seed, epoch, index])
        plan = self.transform.plan(sample.width, sample.height, sample.boxes, sample.labels, rng)
        try:
            image = images.read(sample.image_path, sample.exif, plan.max_reduce)
        except images.ImageError as error:
            _note_unreadable(error)
            for array in out.values():
                array[...] = 0
            return
        _note_readable()
        out["images"][...] = self.transform.render(plan, image)
        matches = ssd_utils.match_columns(self._columns, plan.boxes, bipartite=self.matching == "bipartite")
        out["class_targets"][...], out["offset_targets"][...] = ssd_utils.encode_targets(
            self.anchors, plan.boxes, plan.labels, matches, self.preset.variances
        )

    def describe(self, job: Job) -> str:
        """What a job makes, for messages."""
        epoch, index = job
        return f"the sample of {self.samples[index].image_path} for epoch {epoch + 1}"

    @functools.cached_property
    def _columns(self):
        return ssd_utils.anchor_columns(self.anchors)


def make_queue(
    samples: Sequence[Sample], preset: ssd_utils.SSDPreset, settings: TrainingSettings, *, workers: int
) -> DataQueue:
    """A DataQueue of batches {images uint8 [B,S,S,3], class_targets int32 [B,A], offset_targets [B,A,4]}.

    settings: config.TrainingSettings. Its jobs are those of `epoch_jobs`.
    """
    anchors = ssd_utils.make_anchors(preset)
    side = preset.input_size
    augmentation = transforms.AUGMENTATIONS[settings.augmentation]
    make_item = MakeTrainingItem(
        samples,
        preset,
        anchors,
        transforms.train_transforms(preset, augmentation),
        settings.matching,
        settings.seed,
    )
    fields = [
        Field("images", (side, side, 3), np.uint8),
        Field("class_targets", (len(anchors),), np.int32),
        Field("offset_targets", (len(anchors), 4), np.float32),
    ]
    return DataQueue(fields, make_item, batch_size=settings.batch_size, workers=workers, initializer=prepare_worker)


def epoch_jobs(num_samples: int, seed: int, epoch: int, first: int = 0) -> list[Job]:
    """The jobs of an epoch, shuffled, from sample number `first` on: a list of (epoch, index)."""
    order = np.random.default_rng([seed, epoch]).permutation(num_samples)
    return [(epoch, int(index)) for index in order[first:]]


def limited(samples: Sequence[Sample], limit: int | None) -> Sequence[Sample]:
    """At most `limit` of the samples (None: all), in their order; the same ones every time, and more of them with more.

    They are drawn, not the first: lists often go by class or by scene.
    """
    if limit is None:
        return samples
    chosen = np.random.default_rng(0).permutation(len(samples))[:limit]
    return [samples[index] for index in sorted(chosen)]


def class_weights(
    choice: str | Sequence[str] | None, class_names: Sequence[str], samples: Iterable[Sample] = ()
) -> tuple[float, ...] | None:
    """A factor on the confidence loss of each class's positives, a tuple; None for no weights.

    choice: of the settings: None, texts NAME=WEIGHT (1 for classes not named), or "auto": with n objects of a class in
    the samples, sum(n) / (sum(sqrt(n)) · sqrt(n)), at most LARGEST_AUTO_WEIGHT. So one object of a class with a
    hundredth of another's counts ten times as much, and the mean over all objects is 1. A class without objects has 1.
    Raises UserError for an unknown or repeated class and for what is no number above 0.
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
        name, _, text = pair.partition("=")
        if name not in class_names:
            raise UserError(f"--class-weights {pair}: no class {name!r}; there are {', '.join(class_names)}")
        if name in weights:
            raise UserError(f"--class-weights {pair}: {name!r} stands there twice; remove one")
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
    """Tell of an unreadable picture, once; WorkerError if it is not the picture's fault."""
    global _in_a_row
    _in_a_row += 1
    if images.folder_is_gone(error.path):
        raise WorkerError(f"{error.path}: its folder is gone; bring the data back")
    if _in_a_row >= LONGEST_GAP:
        raise WorkerError(f"{_in_a_row} pictures in a row cannot be read, the last is {error.path} ({error.reason})")
    if error.path not in _warned:
        _warned.add(error.path)
        cli.warn(f"training goes on without {error.path}: {error.reason}")


def _note_readable():
    global _in_a_row
    _in_a_row = 0


def prepare_worker() -> None:
    """Once in a process that does nothing but make batches: use one thread, keep memory.

    Workers share the cores already; OpenCV's own threads would only fight for them. Pictures come and go: without the
    limits glibc gives their memory back and fetches it anew, page by page, which took a twentieth of the time.
    """
    cv2.setNumThreads(1)
    with contextlib.suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
