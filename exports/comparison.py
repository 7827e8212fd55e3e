"""How far detections differ from others of the same pictures: by those that belong together."""

import dataclasses
from collections.abc import Sequence

import numpy as np

import boxes
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
    tied: how many of the unmatched are there because suppression has chosen another one of boxes that rounding ranks,
        or whose overlap it puts on the other side of the limit.
    score: largest difference in a pair.
    box: largest difference of an edge in a pair, as a fraction of the picture's side.
    """

    pictures: int
    matched: int
    unmatched: int
    explained: int
    tied: int
    score: float
    box: float

    def is_within(self, tolerance: Tolerance) -> bool:
        """Whether no more of the detections lack a partner than the tolerance, with which they were matched, allows."""
        share = self.unmatched / max(1, self.matched + self.unmatched)
        return share <= tolerance.unmatched and self.explained <= self.matched

    def __str__(self) -> str:
        tied = f" ({self.tied} of them where suppression may keep either)" if self.tied else ""
        return (
            f"{plural(self.matched, 'detection')} on {plural(self.pictures, 'picture')} matched, {self.unmatched} not"
            f"{tied}, {self.explained} at the limit; largest difference {self.score:.1e} in score, {self.box:.1e} of "
            "the side in boxes"
        )


def compare(
    wanted: Sequence[Detections],
    found: Sequence[Detections],
    sizes: Sequence[tuple[int, int]],
    threshold: Threshold,
    keep: int,
    nms_iou: float,
    tolerance: Tolerance,
) -> Difference:
    """Compare detections with those wanted, picture by picture.

    sizes: (width, height) of the pictures. threshold: of both sides' scores. keep: the most detections that a picture
    can have. nms_iou: the overlap above which suppression drops the worse of two boxes. A detection without partner is
    not counted if its score is within the tolerance of the threshold, or of the last one of a picture with `keep`
    detections: there a rounding error decides whether it is reported.
    """
    matched = unmatched = explained = tied = 0
    score = box = 0.0
    for mine, theirs, (width, height) in zip(wanted, found, sizes, strict=True):
        side = np.array([width, height, width, height], np.float32)
        pairs, far_box, far_score = _match(mine, theirs, side, tolerance)
        matched += len(pairs)
        score, box = max(score, far_score), max(box, far_box)
        last = max([0.0, *(d.scores[-1] for d in (mine, theirs) if len(d) == keep)])
        alone = [np.ones(len(mine), bool), np.ones(len(theirs), bool)]
        for detections, free, partners in zip(
            (mine, theirs), alone, np.array(pairs, int).reshape(-1, 2).T, strict=True
        ):
            free[partners] = False
            own = np.array(threshold)[detections.labels] if isinstance(threshold, tuple) else threshold
            at_limit = free & (detections.scores <= np.maximum(own, last) + tolerance.score)
            explained += int(at_limit.sum())
            free &= ~at_limit
        unmatched += int(alone[0].sum() + alone[1].sum())
        tied += _tied(mine, theirs, alone, side, nms_iou, tolerance)
    return Difference(len(wanted), matched, unmatched, explained, tied, score, box)


def _tied(mine, theirs, alone, side, nms_iou, tolerance):
    """How many detections without a partner are there because suppression chose otherwise by a rounding error.

    Such a one overlaps a box of the other side that has dropped it there. Either rounding decides which of the two is
    the better one, or whether they overlap too much; or the other box has no partner for such a reason itself.
    """
    overlap = boxes.iou(mine.boxes_px / side, theirs.boxes_px / side)
    slack = 10 * tolerance.box  # a box of a tenth of the picture, one edge of which is off by the tolerance
    rivals = (mine.labels[:, None] == theirs.labels) & (overlap > nms_iou - slack)
    decided = rivals & (np.abs(overlap - nms_iou) <= slack)
    decided |= rivals & (np.abs(mine.scores[:, None] - theirs.scores) <= tolerance.score)
    found = [alone[0] & decided.any(axis=1), alone[1] & decided.any(axis=0)]
    count = -1
    while count != (count := int(found[0].sum() + found[1].sum())):
        found[0] |= alone[0] & (rivals & found[1]).any(axis=1)
        found[1] |= alone[1] & (rivals & found[0][:, None]).any(axis=0)
    return count


def _match(mine, theirs, side, tolerance):
    """Pair detections one to one, the best first -> ([(index, index)], largest difference of boxes, of scores)."""
    edges = (np.abs(mine.boxes_px[:, None] - theirs.boxes_px[None]) / side).max(axis=2, initial=0)
    scores = np.abs(mine.scores[:, None] - theirs.scores[None])
    far = mine.labels[:, None] != theirs.labels[None]
    far |= (edges > tolerance.box) | (scores > tolerance.score)
    cost = np.where(far, np.inf, edges + scores)
    pairs = []
    for index in range(len(mine) if len(theirs) else 0):
        other = int(cost[index].argmin())
        if np.isfinite(cost[index, other]):
            pairs.append((index, other))
            cost[:, other] = np.inf
    places = tuple(np.array(pairs, int).reshape(-1, 2).T)
    return pairs, float(edges[places].max(initial=0)), float(scores[places].max(initial=0))
