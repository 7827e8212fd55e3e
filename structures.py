"""What travels between the rooms: a sample of a data set, and the detections on one image.

Boxes are float32 [N,4] (xmin, ymin, xmax, ymax) as fractions of the image unless a name ends in `_px`.
"""

import dataclasses

import numpy as np


class UserError(Exception):
    """Something only the user can mend. Programs print the message on one line and exit with code 1.

    The message names the file or flag and says what to do.
    """


def no_boxes():
    """An empty float32 [0,4] array of boxes."""
    return np.zeros((0, 4), np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """One picture of a data set with its ground truth.

    id: the file stem, unique within a split.
    image_path: where the picture lies.
    boxes: float32 [N,4] (xmin, ymin, xmax, ymax) in 0..1; labels: int32 [N], 0-based indices into the
    class list; difficult: bool [N], objects that the VOC metric ignores.
    width, height: pixels of the picture as `images.read` decodes it with this sample's `exif`.
    exif: whether EXIF orientation is applied before the boxes fit (True only where the annotation's size
    is that of the rotated picture).
    crowd: bool [N], regions of many objects that nobody counted, or None for none; they are `difficult` too.
    area: float64 [N], what COCO's metric takes for the objects' size in square pixels, or None for the boxes'.
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
    def boxes_px(self):
        """Ground truth as float64 [N,4] continuous edges in pixels.

        Rounded to a thousandth of a pixel: a float32 fraction carries an error of about 1e-5 pixels, and
        an IoU of exactly one half must not depend on it.
        """
        size = np.array([self.width, self.height, self.width, self.height], np.float64)
        return np.round(self.boxes.astype(np.float64) * size, 3)


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """Detections on one image, best first.

    boxes_px: float32 [N,4] (xmin, ymin, xmax, ymax), continuous edges in pixels of the original image,
    clipped to it; scores: float32 [N] in 0..1, falling; labels: int32 [N], 0-based.
    """

    boxes_px: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.scores)

    @classmethod
    def empty(cls):
        """Nothing detected."""
        return cls(no_boxes(), np.zeros(0, np.float32), np.zeros(0, np.int32))

    def where(self, mask):
        """The detections that a bool [N] mask (or an index array) selects, in order."""
        return Detections(self.boxes_px[mask], self.scores[mask], self.labels[mask])
