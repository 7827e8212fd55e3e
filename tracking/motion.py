"""Where boxes will be: ByteTrack's Kalman filter with constant velocity, in seconds instead of frames.

A box is (center x, center y, width / height, height). ByteTrack's filter (arXiv 2110.06864; the noise is DeepSORT's)
has a mean of 8 and a covariance of 8 × 8. Its matrices couple each of the four values with that value's velocity only,
so it is four filters with a covariance of 2 × 2, whose entries are arrays over all tracks here.

ByteTrack's noise is that of a step of one frame, at 30 frames/s. Here it is noise per time that adds up to the same in
1/30 s, and two steps have the uncertainty of one step of their sum: frames may come at any time.
"""

from typing import NamedTuple

import numpy as np

STEP = 1 / 30  # seconds of a frame for which the noise is stated
# Standard deviations of (x, y, width / height, height); all but the third in heights of the box
POSITION, VELOCITY = np.array([[1 / 20, 1 / 20, 1e-2, 1 / 20], [1 / 160, 1 / 160, 1e-5, 1 / 160]])
MEASURED = np.array([1 / 20, 1 / 20, 1e-1, 1 / 20])
FIRST_POSITION, FIRST_VELOCITY = np.array([[2 / 20, 2 / 20, 1e-2, 2 / 20], [10 / 160, 10 / 160, 1e-5, 10 / 160]])


class State(NamedTuple):
    """What is believed of N boxes; each is float64 [N,4] over (x, y, width / height, height).

    position, velocity: pixels (and ratio), and these per STEP.
    pp, pv, vv: variance of the position, its covariance with the velocity, variance of the velocity.
    """

    position: np.ndarray
    velocity: np.ndarray
    pp: np.ndarray
    pv: np.ndarray
    vv: np.ndarray

    def where(self, index: np.ndarray) -> "State":
        """The boxes of a bool mask or an index array."""
        return State(*(part[index] for part in self))

    def joined(self, other: "State") -> "State":
        """These boxes, then the others."""
        return State(*(np.concatenate(parts) for parts in zip(self, other, strict=True)))

    @property
    def boxes_px(self) -> np.ndarray:
        """float64 [N,4] (xmin, ymin, xmax, ymax)."""
        center, half = self.position[:, :2], self.position[:, 2:] / 2
        half[:, 0] *= self.position[:, 3]
        return np.concatenate([center - half, center + half], axis=1)


def measure(boxes_px: np.ndarray) -> np.ndarray:
    """Boxes [N,4] (xmin, ymin, xmax, ymax) -> float64 [N,4] (center x, center y, width / height, height)."""
    boxes_px = boxes_px.astype(np.float64)
    low, high = boxes_px[:, :2], boxes_px[:, 2:]
    size = np.maximum(high - low, 1e-3)  # a box without area has no ratio
    return np.concatenate([(low + high) / 2, size[:, :1] / size[:, 1:], size[:, 1:]], axis=1)


def _variance(parts, height):
    """float64 [N,4] of standard deviations as above and heights [N]."""
    deviations = np.multiply.outer(height, parts)
    deviations[:, 2] = parts[2]
    return deviations**2


def start(boxes_px: np.ndarray) -> State:
    """The State of boxes [N,4] that are seen for the first time."""
    position = measure(boxes_px)
    pp, vv = (_variance(parts, position[:, 3]) for parts in (FIRST_POSITION, FIRST_VELOCITY))
    return State(position, np.zeros_like(position), pp, np.zeros_like(pp), vv)


def predict(state: State, seconds: float) -> State:
    """The State that many seconds later.

    The noise is white, with a spectral density [[a, b], [b, d]] of position and velocity that moves with the box: in t
    steps it adds [[a t + b t² + d t³/3, b t + d t²/2], [., d t]], which for t = 1 is ByteTrack's diagonal matrix.
    """
    t = seconds / STEP
    noise, drift = (_variance(parts, state.position[:, 3]) for parts in (POSITION, VELOCITY))
    return State(
        state.position + t * state.velocity,
        state.velocity,
        state.pp + 2 * t * state.pv + t**2 * state.vv + t * noise + (t - 3 * t**2 + 2 * t**3) / 6 * drift,
        state.pv + t * state.vv + (t**2 - t) / 2 * drift,
        state.vv + t * drift,
    )


def correct(state: State, boxes_px: np.ndarray) -> State:
    """The State after boxes [N,4] were seen there."""
    total = state.pp + _variance(MEASURED, state.position[:, 3])
    surprise = measure(boxes_px) - state.position
    gain, velocity_gain = state.pp / total, state.pv / total
    return State(
        state.position + gain * surprise,
        state.velocity + velocity_gain * surprise,
        (1 - gain) * state.pp,
        (1 - gain) * state.pv,
        state.vv - velocity_gain * state.pv,
    )
