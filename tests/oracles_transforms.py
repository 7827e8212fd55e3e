"""The augmentation in the original's order and one step at a time: slow, and easy to compare with the article.

Shares nothing with transforms.py but the drawn `Choices`.
"""

import colorsys
import math

import cv2
import numpy as np

from oracles import iou


def distort_pixel(rgb, distortion):
    """One pixel of levels 0..255 -> three floats, saturated after each step but never rounded."""

    def contrast(levels):
        return [min(level * distortion.contrast, 255) for level in levels]

    levels = [min(max(level + distortion.brightness, 0), 255) for level in map(float, rgb)]
    if distortion.contrast_first:
        levels = contrast(levels)
    hue, saturation, value = colorsys.rgb_to_hsv(*[level / 255 for level in levels])
    saturation = min(saturation * distortion.saturation, 1)
    hue = (hue + distortion.hue / 180) % 1
    levels = [255 * level for level in colorsys.hsv_to_rgb(hue, saturation, value)]
    return levels if distortion.contrast_first else contrast(levels)


def distort(image, distortion):
    """Every pixel by `distort_pixel`, float64 [H,W,3]."""
    return np.array([[distort_pixel(rgb, distortion) for rgb in row] for row in image])


def distort_to_the_bit(image, distortion):
    """What `transforms.distort` must equal exactly: every level by itself, in float64, and OpenCV's HSV in between."""

    def toned(image, shift, factor):
        return np.clip(np.rint(image.astype(np.float64) * factor + shift), 0, 255).astype(np.uint8)

    in_hsv = distortion.saturation != 1 or distortion.hue != 0
    image = toned(image, distortion.brightness, 1)
    if distortion.contrast_first or not in_hsv:
        image = toned(image, 0, distortion.contrast)
    if in_hsv:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (np.rint(hsv[..., 0] + distortion.hue) % 180).astype(np.uint8)
        hsv[..., 1] = toned(hsv[..., 1], 0, distortion.saturation)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        if not distortion.contrast_first:
            image = toned(image, 0, distortion.contrast)
    return image


def transform(image, boxes, labels, choices, size, mean, clip_boxes=True):
    """Distort, paint a canvas, crop it, resize, mirror, flip, each on real pixels; the boxes along with them.

    size: the side of a square, or (width, height).
    Returns uint8 [height,width,3], float64 boxes [M,4], the labels that stay.
    """
    height, width = image.shape[:2]
    distorted = np.rint(distort(image, choices.distortion)).astype(np.uint8)

    left, top, right, bottom = choices.canvas
    canvas_w, canvas_h = round((right - left) * width), round((bottom - top) * height)
    canvas = np.zeros((canvas_h, canvas_w, 3), np.uint8)
    canvas[:] = mean
    x, y = round(-left * width), round(-top * height)
    canvas[y : y + height, x : x + width] = distorted

    x0, y0, x1, y1 = choices.crop
    low_x, low_y = math.floor(x0 * canvas_w + 1e-6), math.floor(y0 * canvas_h + 1e-6)
    high_x, high_y = math.ceil(x1 * canvas_w - 1e-6), math.ceil(y1 * canvas_h - 1e-6)
    result = cv2.resize(
        canvas[low_y:high_y, low_x:high_x],
        size if isinstance(size, tuple) else (size, size),
        interpolation=choices.interpolation,
    )

    moved, stay = [], []
    for box, label in zip(boxes.astype(float), labels, strict=True):
        on_canvas = [
            (edge - origin) / side
            for edge, origin, side in zip(box, (left, top) * 2, (right - left, bottom - top) * 2, strict=True)
        ]
        in_crop = [
            (edge - origin) / side
            for edge, origin, side in zip(on_canvas, (x0, y0) * 2, (x1 - x0, y1 - y0) * 2, strict=True)
        ]
        center_x, center_y = (in_crop[0] + in_crop[2]) / 2, (in_crop[1] + in_crop[3]) / 2
        if not (0 <= center_x <= 1 and 0 <= center_y <= 1):
            continue
        if clip_boxes:
            in_crop = [min(max(edge, 0), 1) for edge in in_crop]
        if in_crop[0] >= in_crop[2] or in_crop[1] >= in_crop[3]:
            continue
        moved.append(in_crop)
        stay.append(label)

    moved = np.array(moved, float).reshape(-1, 4)
    if choices.mirror:
        result = result[:, ::-1]
        moved = np.stack([1 - moved[:, 2], moved[:, 1], 1 - moved[:, 0], moved[:, 3]], axis=1)
    if choices.flip:
        result = result[::-1]
        moved = np.stack([moved[:, 0], 1 - moved[:, 3], moved[:, 2], 1 - moved[:, 1]], axis=1)
    return result, moved, stay


def draw_trial(rng):
    """One random crop, as sampler.cpp draws it."""
    scale = rng.uniform(0.3, 1)
    ratio = rng.uniform(max(0.5, scale**2), min(2, 1 / scale**2))
    width, height = min(scale * math.sqrt(ratio), 1), min(scale / math.sqrt(ratio), 1)
    x, y = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return (x, y, x + width, y + height)


def crop_candidates(next_trial, objects):
    """The whole image, and what the six samplers find with up to 50 calls of next_trial(sampler) each."""
    candidates = [(0.0, 0.0, 1.0, 1.0)]
    if not len(objects):
        return candidates
    for sampler, min_iou in enumerate((0.1, 0.3, 0.5, 0.7, 0.9, None)):
        for _ in range(50):
            trial = next_trial(sampler)
            if min_iou is None or any(iou(trial, box) >= min_iou for box in objects):
                candidates.append(trial)
                break
    return candidates


def draw_crop(objects, rng):
    """The crop that the original would draw."""
    candidates = crop_candidates(lambda sampler: draw_trial(rng), objects)
    return candidates[rng.integers(len(candidates))]
