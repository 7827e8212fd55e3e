"""Colors of classes: fixed, and different."""

import cv2
import numpy as np
import pytest

from media.class_colors import KNOWN_CLASSES, PALETTE, class_colors


def test_colors_are_fixed_and_different():
    voc = KNOWN_CLASSES
    colors = class_colors(voc)
    assert len(set(colors)) == len(voc)
    assert class_colors(("bus", "car")) == [colors[voc.index("bus")], colors[voc.index("car")]]
    names = [f"class {index}" for index in range(40)]
    mixed = class_colors(names)
    assert len(set(mixed)) == 40
    assert class_colors(names[::-1]) == mixed[::-1]
    assert len(class_colors([f"class {index}" for index in range(90)])) == 90
    assert all(0 <= part <= 255 and isinstance(part, int) for color in mixed for part in color)
    assert class_colors(["zebra"]) == class_colors(["zebra", "car"])[:1]


@pytest.mark.parametrize("names", [("RBC", "WBC", "Platelets"), ("car", "zebra", "fox", "owl"), tuple("abcdefg")])
def test_few_classes_look_different(names):
    colors = np.float32([class_colors(names)]) / 255
    lab = cv2.cvtColor(colors, cv2.COLOR_RGB2LAB)[0]
    distances = np.linalg.norm(lab[:, None] - lab, axis=-1)
    assert distances[~np.eye(len(names), dtype=bool)].min() > 50


def test_palette_is_forty_different_colors_that_are_neither_gray_nor_black():
    assert len(set(PALETTE)) == 40
    assert min(max(color) - min(color) for color in PALETTE) > 60
