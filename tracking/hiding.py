"""Which sides of a box are hidden behind something nearer, and where they may be.

A detector boxes what it sees of an object. Of a car that passes behind a person that is first the part on one side of
the person, then the part on the other: to a Kalman filter the car gets narrow, stops, and jumps away. But a side of a
box that ends behind a nearer box is not the object's own side. Here it goes on behind, as far as the track is wide.

Of two objects on the ground, the one whose box reaches further down is nearer to the camera. Only the left and the
right side are completed: on a road, objects pass behind each other sideways.
"""

import numpy as np

BESIDE = 0.5  # share of a box's height that a nearer box must be beside to hide a side of it
NARROW = 0.9  # share of a track's width, below which a box is completed: others only waver
HEIGHT = 0.9  # share of the greater height that the lesser must be: what is hidden has the height of the track


def reach(boxes_px: np.ndarray, certain: np.ndarray) -> np.ndarray:
    """How far the left and the right side of boxes [N,4] may go on behind nearer ones: x, float64 [N,2].

    It is the side itself where nothing hides it, and otherwise the far side of what does. certain: bool [N], the boxes
    that may hide others.
    """
    left, top, right, bottom = boxes_px.T.astype(np.float64)
    # Each box is a row, what may hide it a column. A box over the left side of another has that one over its right side
    over_left = (left < left[:, None]) & (right > left[:, None]) & (right < right[:, None])
    if not over_left.any():  # as in half of the demo's frames
        return np.stack([left, right], axis=1)
    beside = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top) >= BESIDE * (bottom - top)[:, None]
    nearer = beside & (bottom >= bottom[:, None]) & certain
    far_left = np.where(over_left & nearer, left, left[:, None]).min(axis=1)
    far_right = np.where(over_left.T & nearer, right, right[:, None]).max(axis=1)
    return np.stack([far_left, far_right], axis=1)


def is_hidden(boxes_px: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """bool [N]: whether `sides`, as of `reach`, go beyond boxes [N,4]."""
    return (sides[:, 0] < boxes_px[:, 0]) | (sides[:, 1] > boxes_px[:, 2])


def completed(boxes_px: np.ndarray, sides: np.ndarray, tracks_px: np.ndarray) -> np.ndarray:
    """Boxes as wide as the tracks that they belong to, as far as their `sides` allow; float64 [...,4].

    boxes_px [...,4], sides [...,2] as of `reach`, and tracks_px [...,4], where tracks are expected, have shapes that
    broadcast. A box stays as it is that is as wide as its track, or of another height.
    """
    left, top, right, bottom = (boxes_px[..., side].astype(np.float64) for side in range(4))
    first, last, low, high = tracks_px[..., 0], tracks_px[..., 2], sides[..., 0], sides[..., 1]
    width, height, other = last - first, bottom - top, tracks_px[..., 3] - tracks_px[..., 1]
    part = (right - left < NARROW * width) & (height >= HEIGHT * other) & (other >= HEIGHT * height)
    # Of a box with one hidden side the other one tells where it is; with two, only the track does
    wide_left = np.maximum(np.minimum(np.where(high > right, first, right - width), left), np.minimum(low, left))
    wide_right = np.minimum(np.maximum(np.where(low < left, last, left + width), right), np.maximum(high, right))
    whole = np.empty((*part.shape, 4))
    whole[..., 0], whole[..., 1] = np.where(part, wide_left, left), top
    whole[..., 2], whole[..., 3] = np.where(part, wide_right, right), bottom
    return whole
