"""Average precision and recall by COCO's rules (https://cocodataset.org/#detection-eval), as pycocotools computes them.

Boxes are continuous edges in pixels, without VOC's +1. The 100 best detections of each class in an image count. By
falling score, each is matched to the free object that it overlaps most, at ten thresholds of overlap from 0.5 to 0.95.
Ignored objects (crowds, difficult ones, those outside the range of areas) come second: a detection takes one only if
no object that counts is left for it, and is then neither a hit nor a false positive. A crowd takes any number of
detections, and the overlap with it is the share of the detection inside it.
"""

import dataclasses

import numpy as np

from scoring import matching
from system.wording import plural

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
# Square pixels, both ends included: an object of exactly 32 × 32 is small and medium
AREAS = np.array([(0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10)], np.float64)
ALL, SMALL, MEDIUM, LARGE = range(4)
MAX_DETECTIONS = 100
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def evaluate(ground_truth, detections, class_names):
    """COCO's twelve figures, of each class and their means: the dict that `average_precision.py --json` writes.

    ground_truth: dict id -> Sample, whose `crowd` and `area` are used if given.
    detections: dict id -> Detections; an id left out counts as no detections, an unknown one raises UserError.
    Equal scores are sorted by the order of ground_truth; pycocotools sorts by image id. Returns

        {"coco": {"mean": FIGURES, "per_class": {name: FIGURES}}, "images": N, "ground_truth": {name: N},
         "detections": {name: N}}

    where FIGURES is {"AP": …, "AP50": …, …}, each 0..1 or None without objects that count; means are over the classes
    that have a figure. ground_truth counts the objects that are not ignored, detections all that were given.
    """
    matching.require_known(ground_truth, detections)
    judged = _judge(ground_truth, detections, len(class_names))
    per_class = {name: _figures(one) for name, one in zip(class_names, judged, strict=True)}
    mean = {figure: matching.mean({name: one[figure] for name, one in per_class.items()}) for figure in FIGURES}
    return {
        "coco": {"mean": mean, "per_class": per_class},
        "images": len(ground_truth),
        "ground_truth": {name: int(one.positives[ALL]) for name, one in zip(class_names, judged, strict=True)},
        "detections": {name: one.given for name, one in zip(class_names, judged, strict=True)},
    }


@dataclasses.dataclass(eq=False)
class _Judged:
    """One class over all images, with A ranges of areas and T thresholds of overlap. Lists have an array per image.

    given: number of detections before the limit of 100.
    positives: int [A], objects that count.
    scores: list of [N], falling.
    hit: list of bool [A,T,N], whether a detection took an object.
    ignored: list of bool [A,T,N], whether a detection counts neither as hit nor as false positive.
    """

    given: int = 0
    positives: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(len(AREAS), np.int64))
    scores: list = dataclasses.field(default_factory=list)
    hit: list = dataclasses.field(default_factory=list)
    ignored: list = dataclasses.field(default_factory=list)


def _judge(ground_truth, detections, classes):
    """A _Judged for each class."""
    judged = [_Judged() for _ in range(classes)]
    for key, sample in ground_truth.items():
        found = detections.get(key)
        found_labels = np.zeros(0, np.int32) if found is None else found.labels
        labels = np.union1d(sample.labels, found_labels)
        if labels.size and not 0 <= labels[0] <= labels[-1] < classes:
            raise ValueError(f"labels reach from {labels[0]} to {labels[-1]}, there are {plural(classes, 'class')}")
        boxes_px, areas = sample.boxes_px, sample.area
        areas = _areas(boxes_px) if areas is None else areas
        crowd = np.zeros(len(boxes_px), bool) if sample.crowd is None else sample.crowd
        outside = crowd | sample.difficult | _is_outside(areas)  # [A,G]
        for label in labels.tolist():
            mine = sample.labels == label
            judged[label].positives += (~outside[:, mine]).sum(axis=1)
            if label in found_labels:
                own = np.flatnonzero(found_labels == label)
                judged[label].given += len(own)
                own = own[np.argsort(-found.scores[own], kind="stable")][:MAX_DETECTIONS]
                found_px = np.asarray(found.boxes_px[own], np.float64)
                hit, ignored = _match(_iou(found_px, boxes_px[mine], crowd[mine]), crowd[mine], outside[:, mine])
                judged[label].scores.append(found.scores[own])
                judged[label].hit.append(hit)
                judged[label].ignored.append(ignored | ~hit & _is_outside(_areas(found_px))[:, None])
    return judged


def _areas(boxes_px):
    return np.prod(boxes_px[:, 2:] - boxes_px[:, :2], axis=1)


def _is_outside(areas):
    """Bool [A,N]: which areas [N] are outside of each range."""
    return (areas < AREAS[:, :1]) | (areas > AREAS[:, 1:])


def _iou(found_px, gt_px, crowd):
    """IoU [D,G] of float64 pixel boxes; with a crowd, the share of the detection that is inside it."""
    low = np.maximum(found_px[:, None, :2], gt_px[:, :2])
    high = np.minimum(found_px[:, None, 2:], gt_px[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    found_areas = _areas(found_px)[:, None]
    union = np.where(crowd, found_areas, found_areas + _areas(gt_px) - common)
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def _match(iou, crowd, ignored):
    """One class of one image. iou: [D,G], best detection first; crowd: bool [G]; ignored: bool [A,G].

    Returns two bool [A,T,D]: whether the detection took an object, and whether that is an ignored one. All ranges of
    areas and all thresholds are handled together, one detection after the other.
    """
    shape = len(AREAS), len(THRESHOLDS)
    hit, on_ignored = np.zeros((2, *shape, len(iou)), bool)
    if not iou.size:
        return hit, on_ignored
    free = np.ones((*shape, len(crowd)), bool)
    area, threshold = np.ogrid[: shape[0], : shape[1]]
    for index in np.flatnonzero(iou.max(axis=1) >= THRESHOLDS[0]):
        overlap = iou[index]
        candidates = free & (overlap >= THRESHOLDS[:, None])  # [A,T,G]
        counted = candidates & ~ignored[:, None]
        candidates = np.where(counted.any(axis=2, keepdims=True), counted, candidates)
        taken = candidates.any(axis=2)
        # Of equal overlaps the last annotated: pycocotools replaces its choice unless the overlap is smaller
        best = len(crowd) - 1 - np.argmax(np.where(candidates, overlap, -1.0)[..., ::-1], axis=2)
        hit[..., index] = taken
        on_ignored[..., index] = taken & ignored[area, best]
        free[area, threshold, best] &= ~taken | crowd[best]
    return hit, on_ignored


def _figures(judged):
    """The twelve figures of a _Judged, each None where no object counts."""
    ap = [_average_precisions(judged, area) for area in range(len(AREAS))]  # [T] each, or None
    ar = [_average_recall(judged, area, MAX_DETECTIONS) for area in range(len(AREAS))]
    precision = [None if one is None else float(np.mean(one)) for one in ap]
    at = (None, None) if ap[ALL] is None else (float(ap[ALL][0]), float(ap[ALL][5]))  # thresholds 0.5 and 0.75
    recall = [_average_recall(judged, ALL, limit) for limit in (1, 10)]
    values = (precision[ALL], *at, *precision[SMALL:], *recall, ar[ALL], *ar[SMALL:])
    return dict(zip(FIGURES, values, strict=True))


def _average_precisions(judged, area):
    """AP [T] at each threshold: the mean over 101 recalls of the best precision at that recall or above; or None."""
    positives = judged.positives[area]
    if positives == 0:
        return None
    if not judged.scores:
        return np.zeros(len(THRESHOLDS))
    order = np.argsort(-np.concatenate(judged.scores), kind="stable")
    hit = np.concatenate([one[area] for one in judged.hit], axis=1)[:, order]
    counts = ~np.concatenate([one[area] for one in judged.ignored], axis=1)[:, order]
    true, false = np.cumsum(hit & counts, axis=1), np.cumsum(~hit & counts, axis=1)
    precision = np.divide(true, true + false, out=np.zeros(true.shape), where=true + false > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = [np.searchsorted(recall, RECALLS, side="left") for recall in true / positives]
    return np.array([np.append(line, 0.0)[at].mean() for line, at in zip(envelope, reached, strict=True)])


def _average_recall(judged, area, limit):
    """The recall of the `limit` best detections of each image, averaged over the thresholds; or None."""
    positives = judged.positives[area]
    if positives == 0:
        return None
    pairs = zip(judged.hit, judged.ignored, strict=True)
    true = sum((np.sum(hit[area, :, :limit] & ~ignored[area, :, :limit], axis=1) for hit, ignored in pairs), 0)
    return float(np.mean(true / positives))


def table(report):
    """The figures of `evaluate` as text, one class a line."""
    width = max(len(name) for name in ("class", *report["ground_truth"]))
    lines = [f"{'class':{width}}  objects  detections  " + " ".join(f"{figure:>6}" for figure in FIGURES)]
    rows = [
        (name, objects, report["detections"][name], report["coco"]["per_class"][name])
        for name, objects in report["ground_truth"].items()
    ]
    totals = [sum(report[count].values()) for count in ("ground_truth", "detections")]
    rows.append(("mean", *totals, report["coco"]["mean"]))
    for name, objects, found, figures in rows:
        shown = ("n/a" if figures[figure] is None else f"{figures[figure]:.4f}" for figure in FIGURES)
        lines.append(f"{name:{width}}  {objects:7}  {found:10}  " + " ".join(f"{text:>6}" for text in shown))
    counted = plural(report["images"], "image")
    return "\n".join([*lines, f"{counted}, IoU ≥ 0.5, 0.55, …, 0.95; s, m, l: up to 32², 96², beyond"])
