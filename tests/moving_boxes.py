"""Boxes that move, as a detector would find them, and who follows them."""

import numpy as np

from oracles_tracking import ByteTrack
from structures import Detections
from tracking.mot_file import Objects, objects
from tracking.tracker import Settings

# With which a Tracker is ByteTrack, on one class
BYTETRACK = Settings(low=0.1, duplicate=1.0, carry=0.0, complete=False)


def moving(rng, count=12, frames=60, times=None, size=(640, 480)):
    """[Objects] of boxes that cross a picture at constant speeds, with the time of each frame (default: 30 a second).

    They come and go: each is there for two thirds of the frames.
    """
    times = np.arange(frames) / 30 if times is None else np.asarray(times)
    start, speed = rng.uniform(0.1, 0.9, (count, 2)) * size, rng.normal(0, 60, (count, 2))
    half = rng.uniform(15, 50, (count, 2)) / 2
    born = rng.uniform(0, times[-1] / 3, count)
    found = []
    for time in times:
        there = np.flatnonzero((born <= time) & (time <= born + times[-1] * 2 / 3))
        center = start[there] + speed[there] * time
        boxes = np.concatenate([center - half[there], center + half[there]], axis=1)
        found.append(objects(there + 1, there % 2, boxes, np.ones(len(there))))
    return found, times


def detected(rng, truth, dropped=0.2, jitter=0.05, low=0.2):
    """Detections of Objects: a share is dropped, edges move by a share of the box's sides, a share has low scores."""
    kept = rng.random(len(truth.ids)) >= dropped
    boxes = truth.boxes_px[kept]
    size = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    boxes = boxes + rng.normal(0, jitter, boxes.shape) * size
    scores = np.where(
        rng.random(len(boxes)) < low, rng.uniform(0.15, 0.45, len(boxes)), rng.uniform(0.65, 1, len(boxes))
    )
    order = np.argsort(-scores)
    return Detections(
        boxes[order].astype(np.float32), scores[order].astype(np.float32), truth.labels[kept][order].astype(np.int32)
    )


def followed(tracker, times, detections):
    """What a tracker outputs at once: [Objects] of the tracks that were seen in each frame."""
    found = []
    for time, one in zip(times, detections, strict=True):
        seen = [s for s in tracker.update(float(time), one) if s.track.id and not s.carried]
        found.append(tracked([(s.track.id, s.box) for s in seen], [s.track.label for s in seen]))
    return found


def followed_by_bytetrack(detections):
    """The same of ByteTrack as its authors have it, for frames at 30 a second."""
    slow = ByteTrack()
    return [tracked(slow.update(one.boxes_px.astype(float), one.scores.astype(float))) for one in detections]


def tracked(pairs, labels=None):
    """Objects of (id, box) pairs; labels: of all 0 by default."""
    ids, boxes = [key for key, _ in pairs], [box for _, box in pairs]
    return objects(ids, labels or [0] * len(ids), boxes, [True] * len(ids))


def as_one_class(frames):
    """The same [Objects] with label 0."""
    return [Objects(one.ids, np.zeros_like(one.labels), one.boxes_px, one.counts) for one in frames]
