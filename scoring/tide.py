"""What each kind of error costs: the AP that would be gained if it were fixed (TIDE, arXiv 2008.08115).

The rules are those of the authors' package tidecv 1.0.1 (github dbolya/tide), whose figures these equal: boxes are
continuous edges; the 100 best detections of a picture count; by falling score each takes the free object of its class
that it overlaps most, if by `iou` or more; AP is the mean precision at 101 recalls. It is not VOC's AP, and so has its
own base. A false positive is of the first kind that applies, where t is `iou` and b is 0.1:

    localization    overlaps an object of its class by b to t
    classification  overlaps an object of another class by t or more
    duplicate       overlaps a taken object of its class by t or more
    background      overlaps no object by more than b
    both            all others: wrong class and too little overlap
    missed          an object that nothing took and no fixed error of localization or classification would take

Fixing an error of localization or classification makes the detection a hit if its object is free and no error of a
higher score has the same object; otherwise, as for the other kinds, the detection is removed. Fixing a missed object
removes the object. Beside that, "false_positive" fixes all false positives at once, "false_negative" all objects that
nothing took.

Objects that do not count (difficult ones) are regions: a detection of their class that lies in one by more than t and
took no object is ignored. The package also counts these among the errors; here the counts are without them. The mean
is over the classes that have objects, or it would change with classes that nobody can find.
"""

import dataclasses

import numpy as np

from scoring import matching

KINDS = ("classification", "localization", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALIZATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))
SPECIAL = ("false_positive", "false_negative")
NONE = -1
LOW = 0.1  # the package's background_threshold
MAX_DETECTIONS = 100
RECALLS = np.array([step / 100 for step in range(101)])


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """All detections [N], picture after picture by falling score, and the counting objects.

    labels, scores: [N].
    hit, ignored: bool [N].
    kinds: int8 [N], NONE for a hit.
    fixed: int64 [N], the class in which the detection is a hit once its error is fixed, -1 if it is removed.
    positives: int64 [C], objects of each class; untaken: those that nothing took; missed: those that are missed.
    """

    labels: np.ndarray
    scores: np.ndarray
    hit: np.ndarray
    ignored: np.ndarray
    kinds: np.ndarray
    fixed: np.ndarray
    positives: np.ndarray
    untaken: np.ndarray
    missed: np.ndarray


def costs(ground_truth, detections, classes, iou=0.5):
    """{"ap": …, "errors": {kind: {"count", "gain"}}} of KINDS and SPECIAL; ap, gains in 0..1, None without objects.

    ground_truth, detections: as the metric takes them; classes: their number.
    """
    matching.require_known(ground_truth, detections)
    judged = judge(ground_truth, detections, classes, iou)
    shown = ~judged.ignored
    base = None
    if judged.positives.any():
        base = _mean_ap(judged, judged.hit, judged.labels, shown, judged.positives, today=True)
    gains = {}
    for index, kind in enumerate(KINDS):
        fixed = _fix(judged, index)
        gains[kind] = None if base is None else max(fixed - base, 0.0)
    counts = {kind: int(((judged.kinds == index) & ~judged.ignored).sum()) for index, kind in enumerate(KINDS)}
    counts["missed"] = int(judged.missed.sum())
    if base is not None:
        gains["false_positive"] = _mean_ap(judged, judged.hit, judged.labels, judged.hit, judged.positives) - base
        positives = judged.positives - judged.untaken
        gains["false_negative"] = _mean_ap(judged, judged.hit, judged.labels, shown, positives) - base
    counts["false_positive"], counts["false_negative"] = int((shown & ~judged.hit).sum()), int(judged.untaken.sum())
    errors = {kind: {"count": counts[kind], "gain": gains.get(kind)} for kind in (*KINDS, *SPECIAL)}
    return {"ap": base, "errors": errors}


def judge(ground_truth, detections, classes, iou):
    """The Judged of a data set."""
    parts, missed, untaken = [], np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    positives = np.zeros(classes, np.int64)
    for key, sample in ground_truth.items():
        counts = ~sample.difficult
        objects_px, labels = sample.boxes_px[counts], sample.labels[counts]
        positives += np.bincount(labels, minlength=classes)
        found = detections.get(key)
        usable = np.zeros(len(labels), bool)
        taken = np.zeros(len(labels), bool)
        if found is not None and len(found.scores):
            order = np.argsort(-found.scores, kind="stable")[:MAX_DETECTIONS]
            regions = sample.boxes_px[sample.difficult], sample.labels[sample.difficult]
            picture = (found.boxes_px[order].astype(np.float64), found.labels[order], found.scores[order])
            *part, taken, usable = _judge_picture(*picture, objects_px, labels, regions, iou)
            parts.append((picture[1], picture[2], *part))
        untaken += np.bincount(labels[~taken], minlength=classes)
        missed += np.bincount(labels[~taken & ~usable], minlength=classes)
    empty = [np.zeros(0, kind) for kind in (np.int64, float, bool, bool, np.int8, np.int64)]
    columns = [np.concatenate(column) for column in zip(empty, *parts, strict=True)]
    return Judged(*columns, positives, untaken, missed)


def _judge_picture(found_px, found_labels, scores, objects_px, labels, regions, iou):
    """(hit, ignored, kinds, fixed) of the detections of a picture, by falling score; (taken, usable) of its objects.

    regions: (boxes, labels) of the objects that do not count.
    """
    overlap, _ = _overlaps(found_px, objects_px)
    same = found_labels[:, None] == labels
    own = overlap * same
    hit, target = _take(own, iou)
    ignored = np.zeros(len(scores), bool)
    if len(regions[1]):
        inside = _overlaps(found_px, regions[0])[1] > iou
        ignored = ~hit & (inside & (found_labels[:, None] == regions[1])).any(axis=1)
    kinds, fixed = np.full(len(scores), NONE, np.int8), np.full(len(scores), -1)
    taken, usable = np.zeros(len(labels), bool), np.zeros(len(labels), bool)
    taken[target[hit]] = True
    wrong = np.flatnonzero(~hit)
    if not len(labels):
        kinds[wrong] = BACKGROUND
        return hit, ignored, kinds, fixed, taken, usable
    near, other = own.argmax(axis=1), (overlap * ~same).argmax(axis=1)
    near_iou, other_iou = own.max(axis=1), (overlap * ~same).max(axis=1)
    conditions = [
        (near_iou >= LOW) & (near_iou <= iou),
        other_iou >= iou,
        (own * taken).max(axis=1) >= iou,
        overlap.max(axis=1) <= LOW,
    ]
    names = [LOCALIZATION, CLASSIFICATION, DUPLICATE, BACKGROUND]
    kinds[wrong] = np.select([condition[wrong] for condition in conditions], names, BOTH)
    for index in wrong:  # by falling score: the first error on a free object is the one that is fixed
        if kinds[index] in (LOCALIZATION, CLASSIFICATION):
            wanted = near[index] if kinds[index] == LOCALIZATION else other[index]
            if not taken[wanted] and not usable[wanted]:
                usable[wanted], fixed[index] = True, labels[wanted]
    return hit, ignored, kinds, fixed, taken, usable


def _overlaps(a, b):
    """(IoU [N,M], share of each a that lies in b [N,M]) of boxes [N,4] and [M,4]."""
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    area_a, area_b = (np.prod(some[:, 2:] - some[:, :2], axis=1) for some in (a, b))
    union = area_a[:, None] + area_b - common
    empty = np.zeros_like(common)
    iou = np.divide(common, union, out=empty.copy(), where=common > 0)
    return iou, np.divide(common, area_a[:, None], out=empty, where=common > 0)


def _take(own, iou):
    """(bool [N], int64 [N]): whether each detection, in order, takes an object; which one. own: IoU within a class."""
    hit, target, free = np.zeros(len(own), bool), np.full(len(own), -1), np.ones(own.shape[1], bool)
    for index in np.flatnonzero(own.max(axis=1, initial=0) >= iou):
        overlap = own[index] * free
        best = overlap.argmax()
        if overlap[best] >= iou:
            hit[index], target[index], free[best] = True, best, False
    return hit, target


def _fix(judged, kind):
    """The mean AP if all errors of a kind were fixed."""
    of_kind = judged.kinds == kind
    fixed = of_kind & (judged.fixed >= 0)
    shown = ~judged.ignored & ~of_kind | fixed
    labels = np.where(fixed, judged.fixed, judged.labels)
    positives = judged.positives - judged.missed if kind == MISSED else judged.positives
    return _mean_ap(judged, judged.hit | fixed, labels, shown, positives)


def _mean_ap(judged, hit, labels, shown, positives, today=False):
    """Mean AP of the detections `shown`. Classes that have objects today count, but for those without anything left."""
    values, errors = [], judged.kinds != NONE
    for label in np.flatnonzero(judged.positives):
        mine = np.flatnonzero(shown & (labels == label))
        if not len(mine) and not positives[label]:
            continue
        # Of equal scores the package has errors first, fixed or not, but for the base
        order = np.lexsort((~errors[mine] & (not today), -judged.scores[mine]))
        values.append(_ap(hit[mine[order]], positives[label]))
    return float(np.mean(values)) if values else 0.0


def _ap(hit, positives):
    if positives == 0 or not len(hit):
        return 0.0
    true = np.cumsum(hit)
    precision = np.maximum.accumulate((true / np.arange(1, len(hit) + 1))[::-1])[::-1]
    reached = np.searchsorted(true / positives, RECALLS, side="left")
    return float(np.append(precision, 0.0)[reached].mean())
