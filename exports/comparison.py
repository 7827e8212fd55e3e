"""How far detections differ from others of the same pictures: by those that belong together."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from exports.file_metadata import Threshold
from structures import Detections
from system.wording import plural


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """What may differ. Two detections of a class belong together if they differ by no more than this:

    score: in score.
    box: in their edges, as fractions of the picture's sides.
    unmatched: share of the detections that may have no partner. One may have none although nothing is wrong: where an
        overlap is within a rounding error of suppression's limit, another box stays.
    """

    score: float
    box: float
    unmatched: float


@dataclasses.dataclass(frozen=True)
class Difference:
    """What differs.

    pictures: how many were compared.
    matched: pairs of detections that belong together.
    unmatched: detections of either side without a partner, but for those that a score within the tolerance explains.
    explained: those.
    score: largest difference in a pair.
    box: largest difference of an edge in a pair, as a fraction of the picture's side.
    """

    pictures: int
    matched: int
    unmatched: int
    explained: int
    score: float
    box: float

    def is_within(self, tolerance: Tolerance) -> bool:
        """Whether no more of the detections lack a partner than the tolerance, with which they were matched, allows."""
        share = self.unmatched / max(1, self.matched + self.unmatched)
        return share <= tolerance.unmatched and self.explained <= self.matched

    def __str__(self) -> str:
        return (
            f"{plural(self.matched, 'detection')} on {plural(self.pictures, 'picture')} matched, {self.unmatched} not, "
            f"{self.explained} at the limit; largest difference {self.score:.1e} in score, {self.box:.1e} of the side "
            "in boxes"
        )


def compare(
    wanted: Sequence[Detections],
    found: Sequence[Detections],
    sizes: Sequence[tuple[int, int]],
    threshold: Threshold,
    keep: int,
    tolerance: Tolerance,
) -> Difference:
    """Compare detections with those wanted, picture by picture.

    sizes: (width, height) of the pictures. threshold: of both sides' scores. keep: the most detections that a picture
    can have. A detection without partner is not counted if its score is within the tolerance of the threshold, or of
    the last one of a picture with `keep` detections: there a rounding error decides whether it is reported.
    """
    matched = unmatched = explained = 0
    score = box = 0.0
    for mine, theirs, (width, height) in zip(wanted, found, sizes, strict=True):
        side = np.array([width, height, width, height], np.float32)
        pairs, far_box, far_score = _match(mine, theirs, side, tolerance)
        matched += len(pairs)
        score, box = max(score, far_score), max(box, far_box)
        last = max([0.0, *(d.scores[-1] for d in (mine, theirs) if len(d) == keep)])
        for detections, column in ((mine, 0), (theirs, 1)):
            alone = np.ones(len(detections), bool)
            alone[[pair[column] for pair in pairs]] = False
            own = np.array(threshold)[detections.labels] if isinstance(threshold, tuple) else threshold
            above = int((alone & (detections.scores > np.maximum(own, last) + tolerance.score)).sum())
            unmatched, explained = unmatched + above, explained + int(alone.sum()) - above
    return Difference(len(wanted), matched, unmatched, explained, score, box)


def _match(mine, theirs, side, tolerance):
    """Pair detections one to one, the best first -> ([(index, index)], largest difference of boxes, of scores)."""
    boxes = (np.abs(mine.boxes_px[:, None] - theirs.boxes_px[None]) / side).max(axis=2, initial=0)
    scores = np.abs(mine.scores[:, None] - theirs.scores[None])
    far = mine.labels[:, None] != theirs.labels[None]
    far |= (boxes > tolerance.box) | (scores > tolerance.score)
    cost = np.where(far, np.inf, boxes + scores)
    pairs = []
    for index in range(len(mine) if len(theirs) else 0):
        other = int(cost[index].argmin())
        if np.isfinite(cost[index, other]):
            pairs.append((index, other))
            cost[:, other] = np.inf
    places = tuple(np.array(pairs, int).reshape(-1, 2).T)
    return pairs, float(boxes[places].max(initial=0)), float(scores[places].max(initial=0))
