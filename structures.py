"""What the packages exchange: a sample of a data set, and the detections on one image.

Boxes are float32 [N,4] (xmin, ymin, xmax, ymax) as fractions of the image unless a name ends in `_px`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np


class UserError(Exception):
    """An error that the user can correct. Programs print its message on one line and exit with code 1.

    The message names the file or flag and says what to do.
    """


def no_boxes() -> np.ndarray:
    """An empty float32 [0,4] array of boxes."""
    return np.zeros((0, 4), np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """One picture of a data set with its ground truth.

    id: the stem of the file name, unique within a split.
    image_path: the picture.
    boxes: float32 [N,4] (xmin, ymin, xmax, ymax) in 0..1.
    labels: int32 [N], 0-based indices into the class list.
    difficult: bool [N], objects that the VOC metric ignores.
    width, height: pixels of the picture as `images.read` decodes it with this sample's `exif`.
    exif: whether EXIF orientation must be applied for the boxes to fit.
    crowd: bool [N], regions of many objects that are not counted one by one, or None for none; also `difficult`.
    area: float64 [N], square pixels, the size of each object for COCO's metric, or None to take the boxes' areas.
    """

    id: str
    image_path: str
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    width: int
    height: int
    exif: bool = False
    crowd: np.ndarray | None = None
    area: np.ndarray | None = None

    @property
    def boxes_px(self) -> np.ndarray:
        """Ground truth as float64 [N,4] continuous edges in pixels.

        Rounded to a thousandth of a pixel: float32 fractions are off by about 1e-5 pixels, and an IoU of exactly one
        half must not depend on that.
        """
        size = np.array([self.width, self.height, self.width, self.height], np.float64)
        return np.round(self.boxes.astype(np.float64) * size, 3)


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """Detections on one image, best first.

    boxes_px: float32 [N,4] (xmin, ymin, xmax, ymax), continuous edges in pixels of the original image, clipped to it.
    scores: float32 [N] in 0..1, descending.
    labels: int32 [N], 0-based indices into the class list.
    """

    boxes_px: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> "Detections":
        """No detections."""
        return cls(no_boxes(), np.zeros(0, np.float32), np.zeros(0, np.int32))

    def rows(self, class_names: Sequence[str]) -> list[dict[str, Any]]:
        """A dict for each detection, the rows of a table: class (its name), score, xmin, ymin, xmax, ymax.

        Edges are rounded to hundredths of a pixel, which is beyond what a detector knows.
        """
        columns = ("class", "score", "xmin", "ymin", "xmax", "ymax")
        values = zip(self.labels.tolist(), self.scores.tolist(), self.boxes_px.tolist(), strict=True)
        return [
            dict(zip(columns, (class_names[label], score, *(round(edge, 2) for edge in box)), strict=True))
            for label, score, box in values
        ]

    def where(self, mask: np.ndarray) -> "Detections":
        """The detections that a bool [N] mask or an index array selects, in order."""
        return Detections(self.boxes_px[mask], self.scores[mask], self.labels[mask])
