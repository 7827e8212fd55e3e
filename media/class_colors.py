"""A color for each class, the same in pictures and charts."""

import functools
import zlib
from collections.abc import Iterable

import cv2
import numpy as np

Color = tuple[int, int, int]  # RGB, 0 to 255
# Forty colors far apart in CIE Lab (greedy farthest-point choice among vivid colors of middle lightness), the most
# vivid first.
PALETTE_HEX = (
    "00c3ff ff5a1e 3cff3c ff3cff ffe100 ff2846 0069ff 2dffc3 ff9669 a5e100 873cff ff87e1 1ea51e c3a5ff ff00a5 "
    "00875a c3f087 a53cc3 d2960f 0078d2 0fe1e1 ff7800 2dff78 c33c1e f0d278 ff7887 87a500 875aa5 a5692d 5a963c "
    "d20069 78d296 4bd200 8769e1 69e178 c32d96 b44b4b 78781e b44b78 ff5af0"
)
PALETTE = tuple(tuple(bytes.fromhex(code)) for code in PALETTE_HEX.split())
# These keep their color whatever other classes there are; the first are the most common on roads.
KNOWN_CLASSES = (
    "car",
    "person",
    "bicycle",
    "motorbike",
    "bus",
    "train",
    "truck",
    "dog",
    "cat",
    "bird",
    "horse",
    "aeroplane",
    "boat",
    "bottle",
    "chair",
    "cow",
    "diningtable",
    "pottedplant",
    "sheep",
    "sofa",
    "tvmonitor",
    "pedestrian",
    "traffic_light",
)
UNLIKE = 70  # distance in CIE Lab: two purples are 40 apart, red and orange 60


def class_colors(class_names: Iterable[str]) -> list[Color]:
    """One RGB tuple per class, all different up to 40 classes.

    Names in KNOWN_CLASSES have fixed colors. For other names a checksum chooses; if that color is taken or similar to
    a taken one, the next dissimilar one is used, or else the most dissimilar.
    """
    return _class_colors(tuple(class_names))


@functools.lru_cache(maxsize=16)
def _class_colors(class_names):
    slots = {name: KNOWN_CLASSES.index(name) for name in class_names if name in KNOWN_CLASSES}
    for name in sorted(set(class_names) - set(slots)):
        slots[name] = _free_slot(zlib.crc32(name.encode("utf-8", "surrogatepass")), list(slots.values()))
    return [PALETTE[slots[name]] for name in class_names]


def _free_slot(start, taken):
    """The first index of PALETTE from `start` on, cyclic, whose color is unlike those taken, or the most unlike."""
    order = (np.arange(len(PALETTE)) + start) % len(PALETTE)
    distances = _palette_distances()[order][:, taken].min(axis=1, initial=np.inf)
    return int(order[np.minimum(distances, UNLIKE).argmax()])


@functools.cache
def _palette_distances():
    """float32 [colors, colors], in CIE Lab."""
    lab = cv2.cvtColor(np.float32([PALETTE]) / 255, cv2.COLOR_RGB2LAB)[0]
    return np.linalg.norm(lab[:, None] - lab, axis=-1)
