"""ByteTrack as its paper (arXiv 2110.06864, algorithm 1) and its authors' code have it: one class, frame by frame.

Each track is an object with a Kalman filter of 8 × 8, and nothing is carried. Slow and obvious.
"""

import numpy as np

from oracles import iou
from tracking.assignment import assign


class Kalman:
    """The filter of one box: mean [8] and covariance [8,8] of x, y, width / height, height and their velocities."""

    def __init__(self, measured):
        height = measured[3]
        self.mean = np.concatenate([measured, np.zeros(4)])
        position, velocity = 2 * height / 20, 10 * height / 160
        self.covariance = np.diag(np.square([position, position, 1e-2, position, velocity, velocity, 1e-5, velocity]))

    def predict(self, steps=1):
        """`steps` whole frames of 1/30 s, one after the other."""
        move = np.eye(8) + np.eye(8, k=4)
        for _ in range(steps):
            height = self.mean[3]
            position, velocity = height / 20, height / 160
            noise = np.square([position, position, 1e-2, position, velocity, velocity, 1e-5, velocity])
            self.mean = move @ self.mean
            self.covariance = move @ self.covariance @ move.T + np.diag(noise)

    def correct(self, measured):
        """Take a measurement [4] in."""
        see = np.eye(4, 8)
        height = self.mean[3]
        noise = np.diag(np.square([height / 20, height / 20, 1e-1, height / 20]))
        gain = self.covariance @ see.T @ np.linalg.inv(see @ self.covariance @ see.T + noise)
        self.mean = self.mean + gain @ (measured - see @ self.mean)
        self.covariance = (np.eye(8) - gain @ see) @ self.covariance

    @property
    def box(self):
        x, y, ratio, height = self.mean[:4]
        return np.array([x - ratio * height / 2, y - height / 2, x + ratio * height / 2, y + height / 2])


def measured(box):
    x0, y0, x1, y1 = map(float, box)
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / (y1 - y0), y1 - y0])


class Track:
    def __init__(self, box, frame):
        self.filter, self.id = Kalman(measured(box)), None
        self.born = self.seen = frame
        self.lost = False


class ByteTrack:
    """high, first and so on as in tracking.tracker.Settings; keep is in frames."""

    def __init__(self, high=0.5, low=0.1, keep=30):
        self.high, self.low, self.keep = high, low, keep
        self.tracks, self.frame, self.count = [], 0, 0

    def match(self, tracks, boxes, scores, least):
        """Pair the best; returns (the tracks left, the indices of boxes left)."""
        gains = np.array(
            [[iou(t.filter.box, b) * s - least for b, s in zip(boxes, scores, strict=True)] for t in tracks]
        )
        rows, columns = assign(gains.reshape(len(tracks), len(boxes)))
        for row, column in zip(rows, columns, strict=True):
            track = tracks[row]
            track.filter.correct(measured(boxes[column]))
            track.seen, track.lost = self.frame, False
            if track.id is None:
                self.confirm(track)
        return (
            [track for row, track in enumerate(tracks) if row not in rows],
            [column for column in range(len(boxes)) if column not in columns],
        )

    def confirm(self, track):
        self.count += 1
        track.id = self.count

    def update(self, boxes, scores):
        """The (id, box) of the tracks that are seen in the next frame."""
        self.frame += 1
        high = [k for k in range(len(scores)) if scores[k] > self.high]
        low = [k for k in range(len(scores)) if self.low < scores[k] < self.high]
        certain = [track for track in self.tracks if track.id is not None]
        unsure = [track for track in self.tracks if track.id is None]
        for track in self.tracks:
            if track.lost:
                track.filter.mean[7] = 0
            track.filter.predict()
        left, free = self.match(certain, boxes[high], scores[high], 0.2)
        high = [high[k] for k in free]
        left, _ = self.match([t for t in left if not t.lost], boxes[low], np.ones(len(low)), 0.5)
        for track in left:
            track.lost = True
        gone, free = self.match(unsure, boxes[high], scores[high], 0.3)
        self.tracks = [t for t in self.tracks if t not in gone and not (t.lost and self.frame - t.seen > self.keep)]
        for k in (high[k] for k in free):
            if scores[k] >= self.high + 0.1:
                self.tracks.append(Track(boxes[k], self.frame))
                if self.frame == 1:
                    self.confirm(self.tracks[-1])
        self.remove_duplicates()
        return [(t.id, t.filter.box) for t in self.tracks if t.id is not None and not t.lost]

    def remove_duplicates(self):
        """Of a track that is seen and a lost one in the same place, the one that was seen for longer stays."""
        removed = []
        for one in [t for t in self.tracks if not t.lost]:
            for other in [t for t in self.tracks if t.lost]:
                if 1 - iou(one.filter.box, other.filter.box) < 0.15:
                    longer = one.seen - one.born > other.seen - other.born
                    removed.append(other if longer else one)
        self.tracks = [track for track in self.tracks if track not in removed]
