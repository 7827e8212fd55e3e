"""What the metrics share: the same images on both sides, means over classes, the object that a box overlaps most."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np

import boxes
from structures import UserError


def require_known(ground_truth: Collection[str], detections: Iterable[str]) -> None:
    """Raise UserError for an image id of `detections` that `ground_truth` does not have."""
    for key in detections:
        if key not in ground_truth:
            raise UserError(f"image {key!r} has detections but is not in the ground truth")


def mean(per_class: Mapping[str, float | None]) -> float | None:
    """The mean of {class: figure} over the classes that have the figure; None if no class has it."""
    known = [value for value in per_class.values() if value is not None]
    return float(np.mean(known)) if known else None


def most_overlapped(
    found_px: np.ndarray,
    first: np.ndarray,
    count: np.ndarray,
    objects_px: np.ndarray,
    *,
    allowed: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The object that each of N boxes overlaps most: (IoU float64 [N], index into the objects int64 [N]).

    found_px: [N,4], and objects_px: [M,4], in VOC's inclusive pixels.
    first, count: int [N], a box looks at the objects first .. first + count - 1 only.
    allowed: bool [M], the objects that may be chosen, or None for all.
    Of equal overlaps the first object wins; without any overlap the IoU is 0 and the index -1. Works on the k-th object
    of every box at once, so memory does not grow with the number of pairs.
    """
    overlap, target = np.zeros(len(found_px)), np.full(len(found_px), -1)
    active, k = np.flatnonzero(count), 0
    while active.size:
        candidates = first[active] + k
        iou = boxes.inclusive_iou(found_px[active], objects_px[candidates])
        better = iou > overlap[active]
        if allowed is not None:
            better &= allowed[candidates]
        overlap[active[better]], target[active[better]] = iou[better], candidates[better]
        k += 1
        active = active[count[active] > k]
    return overlap, target


def overlapping_pairs(
    found_px: np.ndarray, first: np.ndarray, count: np.ndarray, objects_px: np.ndarray, at_least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of a box and an object whose IoU is enough: (box int64 [P], object int64 [P], IoU float64 [P]).

    Arguments as of `most_overlapped`; at_least: the smallest IoU, above 0.
    """
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    active, k = np.flatnonzero(count), 0
    while active.size:
        candidates = first[active] + k
        iou = boxes.inclusive_iou(found_px[active], objects_px[candidates])
        near = iou >= at_least
        parts.append((active[near], candidates[near], iou[near]))
        k += 1
        active = active[count[active] > k]
    found, target, iou = (np.concatenate(column) for column in zip(*parts, strict=True))
    return found, target, iou
