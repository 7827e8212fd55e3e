"""The confusion matrix at a threshold: which objects were detected as what, with background on both sides.

Rows are classes of objects, columns classes of detections; the last row, "background", holds detections without an
object, the last column objects without a detection. Only detections that score above the threshold take part.

The diagonal holds the metric's hits (average_precision.ClassCurve), so each class has the same precision and recall
as in thresholds. The detections left over, by falling score, each take the free object of another class that they
overlap most, if the overlap is enough for a hit; without one they are of the row "background", duplicates too.
Detections on difficult objects of their class, and difficult objects, count for nothing.
"""

import dataclasses

import numpy as np

from results import comp4
from scoring import matching
from scoring.error_report import Case, Objects, missed_case
from structures import Detections

BACKGROUND = "background"


@dataclasses.dataclass(frozen=True, eq=False)
class Confusion:
    """A matrix, and what is in its cells but for the diagonal.

    thresholds: float [C], of each class.
    counts: int64 [C+1,C+1], objects × detections.
    rows, columns: int64 [E], the cell of each entry, the best of a cell first: false positives by falling score, missed
        objects by falling size.
    images: int64 [E], which image of the ground truth, by its order.
    objects: int64 [E], the object's row in its Sample, -1 for background.
    boxes_px: [E,4] and scores: [E], of the detection; for a missed object the object's box and NaN.
    overlaps: float64 [E], IoU of the two.
    """

    thresholds: np.ndarray
    counts: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    images: np.ndarray
    objects: np.ndarray
    boxes_px: np.ndarray
    scores: np.ndarray
    overlaps: np.ndarray


def confuse(ground_truth, curves, thresholds, iou_threshold):
    """The Confusion of some ClassCurves. thresholds: a number for each; ground_truth, iou_threshold: the metric's."""
    objects = Objects(ground_truth.values())
    classes = len(curves)
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    free = ~objects.difficult
    for label, (curve, threshold) in enumerate(zip(curves, thresholds, strict=True)):
        hits = curve.true & (curve.scores > threshold)
        counts[label, label] = hits.sum()
        free[objects.first[curve.images[hits]] + curve.objects[hits]] = False
    left = _left_over(curves, thresholds)
    taken, overlaps = _take_others(objects, left, free, iou_threshold)
    rows = np.where(taken >= 0, objects.labels[taken] if len(objects.labels) else 0, classes)
    missed = np.flatnonzero(free)
    missed = missed[np.argsort(-objects.sizes[missed], kind="stable")]
    rows = np.concatenate([rows, objects.labels[missed]]).astype(np.int64)
    columns = np.concatenate([left.labels, np.full(len(missed), classes)]).astype(np.int64)
    np.add.at(counts, (rows, columns), 1)
    own_rows = np.append(objects.rows, -1)  # the last for background
    return Confusion(
        thresholds=np.array(thresholds, np.float64),
        counts=counts,
        rows=rows,
        columns=columns,
        images=np.concatenate([left.images, objects.images[missed]]),
        objects=np.concatenate([own_rows[taken], objects.rows[missed]]),
        boxes_px=np.concatenate([left.boxes_px, objects.boxes_px[missed]]),
        scores=np.concatenate([left.scores, np.full(len(missed), np.nan)]),
        overlaps=np.concatenate([overlaps, np.zeros(len(missed))]),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _LeftOver:
    """False positives above their thresholds, by falling score: labels, images, scores [L] and boxes_px [L,4]."""

    labels: np.ndarray
    images: np.ndarray
    scores: np.ndarray
    boxes_px: np.ndarray


def _left_over(curves, thresholds):
    masks = [curve.false & (curve.scores > threshold) for curve, threshold in zip(curves, thresholds, strict=True)]
    labels = np.repeat(np.arange(len(curves)), [int(mask.sum()) for mask in masks])
    columns = [np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 4))]
    for index, field in enumerate(("images", "scores", "boxes_px")):
        parts = [getattr(curve, field)[mask] for curve, mask in zip(curves, masks, strict=True)]
        columns[index] = np.concatenate([columns[index], *parts])
    images, scores, boxes_px = columns
    order = np.argsort(-scores, kind="stable")
    return _LeftOver(labels[order], images[order], scores[order], boxes_px[order])


def _take_others(objects, left, free, iou_threshold):
    """Which object each detection takes, int64 [L], -1 for none, and the IoU [L]. Changes `free`, bool [M]."""
    taken, overlaps = np.full(len(left.labels), -1), np.zeros(len(left.labels))
    pairs = matching.overlapping_pairs(
        comp4.to_comp4_px(left.boxes_px),
        objects.first[left.images],
        objects.count[left.images],
        objects.comp4_px,
        iou_threshold,
    )
    found, target, iou = pairs
    wanted = free[target] & (objects.labels[target] != left.labels[found])
    # By detection, then falling overlap, then the order of the objects
    for index in np.lexsort((target, -iou, found)):
        detection, candidate = found[index], target[index]
        if wanted[index] and taken[detection] < 0 and free[candidate]:
            taken[detection], overlaps[detection] = candidate, iou[index]
            free[candidate] = False
    return taken, overlaps


def cells(confusion, class_names):
    """Yield (object's class, detection's class, entries int64 [N]) of the cells that are no hits, the fullest first."""
    names = [*class_names, BACKGROUND]
    size = len(names)
    flat = confusion.rows * size + confusion.columns
    order = np.argsort(flat, kind="stable")
    values, starts = np.unique(flat[order], return_index=True)
    groups = np.split(order, starts[1:]) if len(starts) else []
    for value, entries in sorted(zip(values, groups, strict=True), key=lambda cell: -len(cell[1])):
        yield names[value // size], names[value % size], entries


def to_json(confusion, ground_truth, class_names, listed):
    """The matrix as plain JSON types, with up to `listed` pictures of each cell that is no hit."""
    ids = list(ground_truth)
    return {
        "thresholds": dict(zip(class_names, confusion.thresholds.tolist(), strict=True)),
        "classes": [*class_names, BACKGROUND],
        "matrix": confusion.counts.tolist(),
        "errors": [
            {
                "object": row,
                "detection": column,
                "count": len(entries),
                "pictures": list(dict.fromkeys(ids[image] for image in confusion.images[entries]))[:listed],
            }
            for row, column, entries in cells(confusion, class_names)
        ],
    }


def case(confusion, entry, ground_truth, detections, ids, class_names):
    """The error_report.Case of an entry. detections: all, by id; ids: of the ground truth, a list."""
    image_id, box_px = ids[confusion.images[entry]], confusion.boxes_px[entry]
    if confusion.columns[entry] == len(class_names):
        found = detections.get(image_id, Detections.empty())
        above = found.where(found.scores > confusion.thresholds[found.labels])
        return missed_case(image_id, box_px, above, class_names)
    score, row = float(confusion.scores[entry]), confusion.objects[entry]
    if row < 0:
        return Case(BACKGROUND, image_id, box_px, score)
    partner, partner_px = class_names[confusion.rows[entry]], ground_truth[image_id].boxes_px[row]
    return Case("confusion", image_id, box_px, score, partner, partner_px, overlap=float(confusion.overlaps[entry]))
