"""What a detector does wrong, class by class: kinds of false positives, and which objects were missed.

It uses the metric's own verdicts (average_precision.ClassCurve). The kinds are those of Hoiem, Chodpathumwan and Dai,
"Diagnosing Error in Object Detectors" (ECCV 2012), but duplicates are a kind of their own, and other classes are
named instead of grouped. A false positive is of the first of these kinds that applies; overlaps are the metric's IoU:

    duplicate     overlaps an object of its class enough for a hit, but a detection of higher score has claimed it
    localization  overlaps an object of its class by BACKGROUND_IOU or more, but not enough for a hit
    confusion     overlaps an object of another class by BACKGROUND_IOU or more; with the one it overlaps most
    background    everything else

Difficult objects count as objects here. Objects of classes that are not scored are unknown: a detection on one
is background. An object (not difficult) is missed if no detection, of whatever score, hits it.

Many false positives have low scores and cost little. So everything is also counted among the best N detections
of a class with N objects ("top", as in Hoiem et al.): there a perfect detector makes no error.
"""

import dataclasses

import numpy as np

import boxes
from results import comp4
from scoring import matching
from structures import Detections

KINDS = ("localization", "duplicate", "confusion", "background")
MISSED = "missed"
LOCALIZATION, DUPLICATE, CONFUSION, BACKGROUND = range(len(KINDS))
NO_ERROR = -1  # a hit, or on a difficult object
BACKGROUND_IOU = 0.1  # Hoiem et al.'s: less is no overlap
# √(width · height) of objects in pixels of the picture
SIZE_EDGES = (0, 16, 32, 64, 128, 256, np.inf)
SIZE_NAMES = ("<16", "16-32", "32-64", "64-128", "128-256", ">=256")
HIT_TOP, HIT_LATER, NOT_HIT = range(3)


@dataclasses.dataclass(frozen=True, eq=False)
class ClassErrors:
    """The errors of one class: of its N detections, by falling score, and its M objects that are not difficult.

    curve: its average_precision.ClassCurve.
    kinds: int8 [N], NO_ERROR or an index into KINDS.
    top: bool [N], among the best curve.positives detections (those on difficult objects not counted).
    partners: int64 [N], the row in its Sample of the object that the kind is about (for a hit, the object that it
        hit), -1 for background.
    overlaps: float64 [N], the IoU with that object.
    object_images: int64 [M], which image of the ground truth, by its order.
    object_rows: int64 [M], the object's row in its Sample.
    sizes: float64 [M], as in SIZE_EDGES.
    fates: int8 [M], HIT_TOP, HIT_LATER (by a detection that is not among the top) or NOT_HIT.
    """

    curve: object
    kinds: np.ndarray
    top: np.ndarray
    partners: np.ndarray
    overlaps: np.ndarray
    object_images: np.ndarray
    object_rows: np.ndarray
    sizes: np.ndarray
    fates: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One error to look at: a false positive, or a missed object.

    kind: of KINDS, or MISSED.
    id: of the image.
    box_px: the detection's, or the missed object's.
    score: of the detection; None for a missed object.
    partner: class of the object that the kind is about, for a missed object that of the detection (of any class) that
        overlaps it most; None without.
    partner_px: box of the partner, or None.
    partner_score: score of the detection that overlaps a missed object most, or None.
    overlap: IoU of the two boxes.
    """

    kind: str
    id: str
    box_px: np.ndarray
    score: float | None = None
    partner: str | None = None
    partner_px: np.ndarray | None = None
    partner_score: float | None = None
    overlap: float = 0.0


def analyze(ground_truth, curves, iou_threshold):
    """A list with the ClassErrors of each ClassCurve. ground_truth, curves: what the metric took and returned."""
    objects = Objects(ground_truth.values())
    return [_class_errors(objects, curve, label, iou_threshold) for label, curve in enumerate(curves)]


class Objects:
    """All annotated objects in arrays [M], image after image: those of image i are count[i] from first[i] on.

    images, rows: which image, by its order, and the row in its Sample; labels; difficult: bool.
    boxes_px: float64 [M,4], continuous edges; comp4_px: the same in VOC's inclusive pixels.
    areas: square pixels; sizes: √(width · height) in pixels.
    """

    def __init__(self, samples):
        self.count = np.array([len(sample.labels) for sample in samples], np.int64)
        self.first = np.cumsum(self.count) - self.count
        self.images = np.repeat(np.arange(len(self.count)), self.count)
        self.rows = np.arange(len(self.images)) - self.first[self.images]
        self.labels = np.concatenate([np.zeros(0, np.int64), *(sample.labels for sample in samples)])
        self.difficult = np.concatenate([np.zeros(0, bool), *(sample.difficult for sample in samples)])
        self.boxes_px = np.concatenate([np.zeros((0, 4)), *(sample.boxes_px for sample in samples)])
        self.areas = boxes.area(self.boxes_px)
        self.sizes = np.sqrt(self.areas)
        self.comp4_px = comp4.to_comp4_px(self.boxes_px)


def _class_errors(objects, curve, label, iou_threshold):
    near = curve.false & (curve.overlaps >= min(BACKGROUND_IOU, iou_threshold))
    kinds = np.full(len(curve.scores), NO_ERROR, np.int8)
    kinds[near] = LOCALIZATION
    kinds[near & (curve.overlaps >= iou_threshold)] = DUPLICATE
    own = near | ~curve.false
    partners, overlaps = np.where(own, curve.objects, -1), np.where(own, curve.overlaps, 0.0)
    far = np.flatnonzero(~own)
    others, other_overlaps = _most_overlapped_others(objects, curve.images[far], curve.boxes_px[far], label)
    confused = other_overlaps >= BACKGROUND_IOU
    kinds[far] = np.where(confused, CONFUSION, BACKGROUND)
    partners[far[confused]], overlaps[far[confused]] = others[confused], other_overlaps[confused]
    counted = curve.true | curve.false
    top = counted & (np.cumsum(counted) <= curve.positives)
    mine = np.flatnonzero((objects.labels == label) & ~objects.difficult)
    images, rows = objects.images[mine], objects.rows[mine]
    return ClassErrors(
        curve=curve,
        kinds=kinds,
        top=top,
        partners=partners,
        overlaps=overlaps,
        object_images=images,
        object_rows=rows,
        sizes=objects.sizes[mine],
        fates=_fates(curve, top, images, rows),
    )


def _most_overlapped_others(objects, images, boxes_px, label):
    """For each detection the object of another class that it overlaps most: (its row int64 [D], IoU float64 [D]).

    images: [D], the detections' images; boxes_px: [D,4]. Of equal overlaps the object annotated first; -1 without.
    """
    first, found_px = objects.first[images], comp4.to_comp4_px(boxes_px)
    overlaps, targets = matching.most_overlapped(
        found_px, first, objects.count[images], objects.comp4_px, allowed=objects.labels != label
    )
    return np.where(targets >= 0, targets - first, -1), overlaps


def _fates(curve, top, images, rows):
    """int8 [M]: how well each object was found."""
    claimed = {}
    for index in np.flatnonzero(curve.true):
        claimed[curve.images[index], curve.objects[index]] = HIT_TOP if top[index] else HIT_LATER
    return np.array([claimed.get(key, NOT_HIT) for key in zip(images, rows, strict=True)], np.int8)


def false_positives(errors):
    """{kind: (among the top, all)} counts."""
    return {kind: _top_and_all(errors, errors.kinds == index) for index, kind in enumerate(KINDS)}


def confused_with(errors, ground_truth, class_names):
    """{class: (among the top, all)} of the confusions, the most frequent first."""
    samples, where = list(ground_truth.values()), np.flatnonzero(errors.kinds == CONFUSION)
    labels = np.full(len(errors.kinds), -1)
    labels[where] = [samples[errors.curve.images[index]].labels[errors.partners[index]] for index in where]
    counts = {class_names[label]: _top_and_all(errors, labels == label) for label in np.unique(labels[where])}
    return dict(sorted(counts.items(), key=lambda item: -item[1][1]))


def _top_and_all(errors, mask):
    return int((mask & errors.top).sum()), int(mask.sum())


def by_size(errors):
    """{size: (hit by the top, hit by others, missed)} counts of objects, in the order of SIZE_NAMES."""
    bins = np.digitize(errors.sizes, SIZE_EDGES[1:-1])
    return {
        name: tuple(int(((bins == index) & (errors.fates == fate)).sum()) for fate in (HIT_TOP, HIT_LATER, NOT_HIT))
        for index, name in enumerate(SIZE_NAMES)
    }


def worst_cases(errors, ground_truth, detections, class_names, count):
    """{kind: up to `count` Cases}, of KINDS those of highest score first, of MISSED the largest objects first."""
    ids, samples = list(ground_truth), list(ground_truth.values())
    cases = {}
    for kind_index, kind in enumerate(KINDS):
        chosen = np.flatnonzero(errors.kinds == kind_index)[:count]
        cases[kind] = [_false_case(errors, kind, index, ids, samples, class_names) for index in chosen]
    missed = np.flatnonzero(errors.fates == NOT_HIT)
    missed = missed[np.argsort(-errors.sizes[missed], kind="stable")][:count]
    cases[MISSED] = []
    for index in missed:
        image, row = errors.object_images[index], errors.object_rows[index]
        found = detections.get(ids[image])
        cases[MISSED].append(missed_case(ids[image], samples[image].boxes_px[row], found, class_names))
    return cases


def _false_case(errors, kind, index, ids, samples, class_names):
    image, row = errors.curve.images[index], errors.partners[index]
    case = Case(kind, ids[image], errors.curve.boxes_px[index], float(errors.curve.scores[index]))
    if row < 0:
        return case
    return dataclasses.replace(
        case,
        partner=class_names[samples[image].labels[row]],
        partner_px=samples[image].boxes_px[row],
        overlap=float(errors.overlaps[index]),
    )


def missed_case(image_id, box_px, found, class_names):
    """The Case of an object that was missed. found: the Detections on its image, or None."""
    case = Case(MISSED, image_id, box_px)
    found = Detections.empty() if found is None else found
    iou = boxes.inclusive_iou(comp4.to_comp4_px(box_px), comp4.to_comp4_px(found.boxes_px))
    if not iou.any():
        return case
    best = iou.argmax()
    return dataclasses.replace(
        case,
        partner=class_names[found.labels[best]],
        partner_px=found.boxes_px[best],
        partner_score=float(found.scores[best]),
        overlap=float(iou[best]),
    )


def to_json(all_errors, ground_truth, detections, class_names, iou_threshold, count):
    """All counts and the worst cases as plain JSON types."""
    classes = {}
    for errors in all_errors:
        cases = worst_cases(errors, ground_truth, detections, class_names, count)
        confused = confused_with(errors, ground_truth, class_names)
        classes[errors.curve.name] = {
            "objects": errors.curve.positives,
            "detections": len(errors.kinds),
            "hits": _named(_top_and_all(errors, errors.curve.true)),
            "false_positives": {kind: _named(pair) for kind, pair in false_positives(errors).items()},
            "confused_with": {name: _named(pair) for name, pair in confused.items()},
            "objects_by_size": {
                size: dict(zip(("hit_by_top", "hit_by_others", "missed"), counts, strict=True))
                for size, counts in by_size(errors).items()
            },
            "missed": int((errors.fates == NOT_HIT).sum()),
            "worst": {kind: [_case_json(case) for case in some] for kind, some in cases.items()},
        }
    return {"iou": float(iou_threshold), "background_iou": BACKGROUND_IOU, "classes": classes}


def _named(pair):
    return dict(zip(("top", "all"), pair, strict=True))


def _case_json(case):
    """A Case as JSON, without the fields that are None."""
    row = {"image": case.id, "box": _rounded(case.box_px)}
    if case.score is not None:
        row["score"] = case.score
    if case.partner is not None:
        row |= {"overlaps": case.partner, "overlapped_box": _rounded(case.partner_px), "iou": case.overlap}
    if case.partner_score is not None:
        row["overlapped_score"] = case.partner_score
    return row


def _rounded(box_px):
    return [round(float(edge), 3) for edge in box_px]
