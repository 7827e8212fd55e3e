"""At which score a detector is run best: precision, recall and F1 at every score, and what its scores are worth.

Programs keep the detections that score above a threshold. Every verdict of the metric (average_precision.ClassCurve)
stays the same when detections of lower scores are left out, so one pass over the scores gives all thresholds:

    precision   hits / (hits + false positives)
    recall      hits / objects that count
    F1          2 · precision · recall / (precision + recall)

Detections on difficult objects count for nothing. "All" is the pool of all classes under one threshold.

Calibration compares scores with hits: among detections that score about 0.7, about seven in ten should be hits. The
expected calibration error is the mean distance between the two, over ten bins of scores weighted by their detections
(Guo et al., On Calibration of Modern Neural Networks, arXiv 1706.04599).
"""

import dataclasses

import numpy as np

BINS = 10
GRID = np.linspace(0, 1, 101)  # thresholds of the curves in thresholds.json
ALL = "all"


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """Counts at every score of one class, or of all classes pooled.

    positives: number of objects that count.
    scores: float64 [K], falling, all different.
    true, false: int64 [K], hits and false positives among the detections that score scores[k] or more.
    """

    positives: int
    scores: np.ndarray
    true: np.ndarray
    false: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """float64 [K]."""
        return self.true / (self.true + self.false)

    @property
    def recall(self) -> np.ndarray:
        """float64 [K]; NaN without objects."""
        return self.true / self.positives if self.positives else np.full(len(self.true), np.nan)

    @property
    def f1(self) -> np.ndarray:
        """float64 [K]."""
        return 2 * self.true / (self.true + self.false + self.positives)


def sweep(curves):
    """The Sweep of some ClassCurves, pooled."""
    scores, true = _counted(curves)
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order].astype(np.float64), np.cumsum(true[order])
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True)[: len(scores)])  # of equal scores
    return Sweep(sum(curve.positives for curve in curves), scores[last], hits[last], last + 1 - hits[last])


def _counted(curves):
    """(scores, bool: which are hits) of the detections of some ClassCurves that count, class after class."""
    counted = [(curve, curve.true | curve.false) for curve in curves]
    scores = np.concatenate([np.zeros(0), *(curve.scores[mask] for curve, mask in counted)])
    return scores, np.concatenate([np.zeros(0, bool), *(curve.true[mask] for curve, mask in counted)])


def operating_points(curves, precision, recall, floor=0.0):
    """{"all": points, "per_class": {class: points}}, points as of `points_of`."""
    return {
        ALL: points_of(sweep(curves), precision, recall, floor),
        "per_class": {curve.name: points_of(sweep([curve]), precision, recall, floor) for curve in curves},
    }


def points_of(swept, precision, recall, floor=0.0):
    """The thresholds to choose from, a dict of dicts; None where there is none.

    best_f1: of the highest F1. precision_X: where precision is X or more, of highest recall. recall_X: the highest
    where recall is X or more. Each has threshold, precision, recall, f1, hits, false_positives, missed.
    floor: the detections were cut at this score, so a threshold below it means more than was scored.
    """
    if swept.positives == 0 or not len(swept.scores) or swept.true[-1] == 0:
        chosen = {"best_f1": None, f"precision_{precision:g}": None, f"recall_{recall:g}": None}
    else:
        precise, found = np.flatnonzero(swept.precision >= precision), np.flatnonzero(swept.recall >= recall)
        precise = precise[swept.true[precise] > 0]
        chosen = {
            "best_f1": int(swept.f1.argmax()),
            f"precision_{precision:g}": int(precise[-1]) if len(precise) else None,
            f"recall_{recall:g}": int(found[0]) if len(found) else None,
        }
    return {name: None if index is None else _point(swept, index, floor) for name, index in chosen.items()}


def _point(swept, index, floor):
    high = float(swept.scores[index])
    low = float(swept.scores[index + 1]) if index + 1 < len(swept.scores) else min(floor, np.nextafter(high, -np.inf))
    return {
        "threshold": between(low, high),
        "precision": float(swept.precision[index]),
        "recall": float(swept.recall[index]),
        "f1": float(swept.f1[index]),
        "hits": int(swept.true[index]),
        "false_positives": int(swept.false[index]),
        "missed": int(swept.positives - swept.true[index]),
    }


def between(low, high):
    """The number with the fewest decimals that is at least `low` and less than `high`, near their middle.

    So the detections that score above it are those that score `high` or more. It stays between them as a float32.
    """
    for decimals in range(18):
        number = round((low + high) / 2, decimals)
        if low <= number < high and low <= float(np.float32(number)) < high:
            return number
    return low


def on_grid(swept):
    """{"score": GRID, "precision": …, "recall": …, "f1": …}: lists of what scores above each; None for 0/0."""
    count = np.searchsorted(-swept.scores, -GRID, side="left")  # scores above
    true, false = (np.concatenate([[0], counts])[count] for counts in (swept.true, swept.false))
    columns = {
        "precision": (true, true + false),
        "recall": (true, np.full(len(GRID), swept.positives)),
        "f1": (2 * true, true + false + swept.positives),
    }
    shares = {
        name: [int(a) / int(b) if b else None for a, b in zip(part, whole, strict=True)]
        for name, (part, whole) in columns.items()
    }
    return {"score": [round(float(score), 2) for score in GRID], **shares}


def calibration(curves):
    """{"expected_error": …, "bins": [{"score", "hits", "detections"}, …]} of some ClassCurves pooled.

    bins: those of the ten with detections; score: their mean score; hits: the share of hits. None without detections,
    or where scores are not in 0..1. A score on the edge of two bins is in the lower one.
    """
    scores, true = _counted(curves)
    if not len(scores) or scores.min() < 0 or scores.max() > 1:
        return None
    which = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], scores)
    count, hits, total = (np.bincount(which, weights, BINS) for weights in (None, true, scores))
    bins = [
        {"score": float(total[k] / count[k]), "hits": float(hits[k] / count[k]), "detections": int(count[k])}
        for k in np.flatnonzero(count)
    ]
    error = sum(one["detections"] * abs(one["score"] - one["hits"]) for one in bins) / len(scores)
    return {"expected_error": float(error), "bins": bins}


def calibrations(curves):
    """{"all": …, "per_class": {class: …}}, as of `calibration`."""
    return {ALL: calibration(curves), "per_class": {curve.name: calibration([curve]) for curve in curves}}
