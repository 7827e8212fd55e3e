"""How good tracks are: HOTA (Luiten et al., IJCV 2021), MOTA (CLEAR) and IDF1, as the TrackEval program computes them.

Each is computed from sums over frames, and the sums of classes add up to those of all classes together (TrackEval's
"cls_comb_det_av"). IoUs are of continuous edges.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

import boxes as box_geometry
from tracking.assignment import assign
from tracking.mot_file import Objects, objects

ALPHAS = np.arange(0.05, 0.99, 0.05)  # HOTA's 19 thresholds of the IoU
IOU = 0.5  # of MOTA, IDF1 and of objects that do not count
EPS = np.finfo(float).eps
NONE = objects([], [], [], [])


class Frame(NamedTuple):
    """What can be matched in a frame: truth [G] and found [T] as indices of identities, and IoUs [G,T]."""

    truth: np.ndarray
    found: np.ndarray
    iou: np.ndarray


class Sums(NamedTuple):
    """What the scores are made of; parts of HOTA are float64 [19], for ALPHAS.

    tp, fn, fp: matched, missed and false boxes. association, location: sums over the matched boxes of the overlap of
    the two tracks that are matched (TPA / (TPA + FNA + FPA)) and of the IoU.
    clear_tp, clear_fn, clear_fp, switches: of MOTA. id_tp, id_fn, id_fp: of IDF1. objects, tracks: identities.
    """

    tp: np.ndarray
    fn: np.ndarray
    fp: np.ndarray
    association: np.ndarray
    location: np.ndarray
    clear_tp: int
    clear_fn: int
    clear_fp: int
    switches: int
    id_tp: int
    id_fn: int
    id_fp: int
    objects: int
    tracks: int


def score(
    truth: Mapping[int, Objects],
    found: Sequence[Objects],
    class_names: Sequence[str],
    truth_names: Sequence[str] | None,
    wanted: Sequence[str] | None = None,
) -> dict:
    """The scores of tracks, {"hota", …, "per_class": {name: {…}}}; as fractions, 0 where nothing is right.

    truth: {frame index: Objects}, whose labels index truth_names, or are of one class where that is None. found: the
    tracks of each frame, whose labels index class_names. Truth beyond the last frame of `found` is left out. Only
    classes of both are scored, and of these those in `wanted` unless that is None; the others are ignored.
    """
    frames = [(truth.get(index, NONE), one) for index, one in enumerate(found)]
    if truth_names is None:
        return _figures(_sums(frames))
    names = [name for name in class_names if name in truth_names and (wanted is None or name in wanted)]
    each = {}
    for name in names:
        mine, theirs = truth_names.index(name), class_names.index(name)
        each[name] = _sums([(a.where(a.labels == mine), b.where(b.labels == theirs)) for a, b in frames])
    total = Sums(*(sum(parts) for parts in zip(*each.values(), strict=True)))
    return {**_figures(total), "per_class": {name: _figures(sums) for name, sums in each.items()}}


def _figures(sums):
    """Sums -> the scores."""
    detection = sums.tp / np.maximum(1, sums.tp + sums.fn + sums.fp)
    association = sums.association / np.maximum(1, sums.tp)
    location = np.where(sums.tp > 0, sums.location / np.maximum(1, sums.tp), 1.0)  # TrackEval's 1 for no match
    objects_ = max(1, sums.clear_tp + sums.clear_fn)
    return {
        "hota": float(np.sqrt(detection * association).mean()),
        "det_a": float(detection.mean()),
        "ass_a": float(association.mean()),
        "loc_a": float(location.mean()),
        "mota": (sums.clear_tp - sums.clear_fp - sums.switches) / objects_,
        "idf1": sums.id_tp / max(1, sums.id_tp + 0.5 * (sums.id_fn + sums.id_fp)),
        "id_switches": int(sums.switches),
        "boxes": int(sums.clear_tp + sums.clear_fn),
        "found": int(sums.clear_tp),
        "false": int(sums.clear_fp),
        "objects": int(sums.objects),
        "tracks": int(sums.tracks),
    }


def _sums(frames):
    """The Sums of [(truth Objects, found Objects)] of one class."""
    kept = [_without_ignored(truth, found) for truth, found in frames]
    truth_ids, found_ids = ({int(key) for pair in kept for key in pair[side].ids} for side in (0, 1))
    truth_at, found_at = ({key: at for at, key in enumerate(sorted(ids))} for ids in (truth_ids, found_ids))
    indexed = [
        Frame(
            np.array([truth_at[key] for key in truth.ids.tolist()], int),
            np.array([found_at[key] for key in found.ids.tolist()], int),
            box_geometry.iou(truth.boxes_px, found.boxes_px),
        )
        for truth, found in kept
    ]
    shape = len(truth_at), len(found_at)
    return Sums(*_hota(indexed, shape), *_clear(indexed, shape[0]), *_identity(indexed, shape), *shape)


def _without_ignored(truth, found):
    """A frame without the objects that do not count, and without the tracks that are matched with them."""
    if truth.counts.all():
        return truth, found
    overlap = box_geometry.iou(truth.boxes_px, found.boxes_px)
    rows, columns = assign(np.where(overlap >= IOU - EPS, overlap, 0))
    keep = np.ones(len(found.ids), bool)
    keep[columns[~truth.counts[rows]]] = False
    return truth.where(truth.counts), found.where(keep)


def _hota(frames, shape):
    """(tp, fn, fp, association, location), each [19]."""
    truth_boxes, found_boxes, likely = np.zeros((shape[0], 1)), np.zeros((1, shape[1])), np.zeros(shape)
    for truth, found, iou in frames:
        union = iou.sum(axis=0) + iou.sum(axis=1)[:, None] - iou
        likely[np.ix_(truth, found)] += np.divide(iou, union, out=np.zeros_like(iou), where=union > EPS)
        truth_boxes[truth] += 1
        found_boxes[0, found] += 1
    alignment = likely / np.maximum(EPS, truth_boxes + found_boxes - likely)
    matches, tp, location = np.zeros((len(ALPHAS), *shape), np.int32), np.zeros(len(ALPHAS)), np.zeros(len(ALPHAS))
    for truth, found, iou in frames:  # the pairs that agree best over the whole video, whatever the threshold
        rows, columns = assign(alignment[np.ix_(truth, found)] * iou)
        for index, alpha in enumerate(ALPHAS):
            good = iou[rows, columns] >= alpha - EPS
            tp[index] += good.sum()
            location[index] += iou[rows[good], columns[good]].sum()
            matches[index, truth[rows[good]], found[columns[good]]] += 1
    overlap = matches / np.maximum(1, truth_boxes + found_boxes - matches)
    association = (matches * overlap).sum(axis=(1, 2))
    return tp, truth_boxes.sum() - tp, found_boxes.sum() - tp, association, location


def _clear(frames, count):
    """(tp, fn, fp, switches). count: identities of the truth."""
    last, before = np.full(count, -1), np.full(count, -1)  # the track of each object: ever, and in the frame before
    tp = fn = fp = switches = 0
    for truth, found, iou in frames:
        if not len(truth) or not len(found):  # TrackEval goes on from the last frame that has both
            fn, fp = fn + len(truth), fp + len(found)
            continue
        gains = np.where(iou >= IOU - EPS, 1000 * (before[truth][:, None] == found) + iou, 0)
        rows, columns = assign(gains)
        objects_, tracks = truth[rows], found[columns]
        switches += ((last[objects_] >= 0) & (last[objects_] != tracks)).sum()
        last[objects_] = tracks
        before[:] = -1
        before[objects_] = tracks
        tp, fn, fp = tp + len(rows), fn + len(truth) - len(rows), fp + len(found) - len(rows)
    return tp, fn, fp, switches


def _identity(frames, shape):
    """(tp, fn, fp) of the one-to-one choice of tracks for objects that explains most boxes."""
    common, truth_boxes, found_boxes = np.zeros(shape), 0, 0
    for truth, found, iou in frames:
        rows, columns = np.nonzero(iou >= IOU)
        common[truth[rows], found[columns]] += 1
        truth_boxes, found_boxes = truth_boxes + len(truth), found_boxes + len(found)
    tp = common[assign(common)].sum()
    return tp, truth_boxes - tp, found_boxes - tp
