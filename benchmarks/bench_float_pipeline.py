"""A peer's side: augmentation in the order of ssd.pytorch, written from its published description.

All steps process the whole picture in float32: colors, canvas, crop, mirror, resizing, mean. It uses NumPy and OpenCV
in one thread. Its crop accepts any window that contains a center, because its overlap check never fails.
"""

import json
import pathlib

import cv2
import numpy as np
from bench_worker import serve

SIZE = 300
MEAN_BGR = np.array([104, 117, 123], np.float32)
SAMPLERS = 6  # one of them keeps the whole picture
TRIALS = 50


def augment(image, boxes, labels, rng):
    """uint8 BGR [H,W,3], boxes [N,4] in pixels, labels [N] -> float32 [SIZE,SIZE,3], boxes in 0..1, labels."""
    image = distort(image.astype(np.float32), rng)
    image, boxes = expand(image, boxes, rng)
    image, boxes, labels = crop(image, boxes, labels, rng)
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        image = image[:, ::-1]
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    boxes = boxes / (width, height, width, height)
    return cv2.resize(image, (SIZE, SIZE)) - MEAN_BGR, boxes, labels


def distort(image, rng):
    """Change brightness, contrast, saturation, hue and the order of channels. float32 BGR [H,W,3], in place."""
    if rng.random() < 0.5:
        image += np.float32(rng.uniform(-32, 32))
    contrast_first = rng.random() < 0.5
    if contrast_first:
        image = _contrast(image, rng)
    image = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    if rng.random() < 0.5:
        image[:, :, 1] *= np.float32(rng.uniform(0.5, 1.5))
    if rng.random() < 0.5:
        hue = image[:, :, 0]
        hue += np.float32(rng.uniform(-18, 18))
        hue[hue > 360] -= 360
        hue[hue < 0] += 360
    image = cv2.cvtColor(image, cv2.COLOR_HSV2BGR)
    if not contrast_first:
        image = _contrast(image, rng)
    return image[:, :, rng.permutation(3)] if rng.random() < 0.5 else image


def _contrast(image, rng):
    if rng.random() < 0.5:
        image *= np.float32(rng.uniform(0.5, 1.5))
    return image


def expand(image, boxes, rng):
    """Put the picture on a canvas of up to 4 times its sides -> (image, boxes in pixels)."""
    if rng.random() < 0.5:
        return image, boxes.copy()
    height, width, channels = image.shape
    ratio = rng.uniform(1, 4)
    left, top = int(rng.uniform(0, width * ratio - width)), int(rng.uniform(0, height * ratio - height))
    canvas = np.empty((int(height * ratio), int(width * ratio), channels), np.float32)
    canvas[...] = MEAN_BGR
    canvas[top : top + height, left : left + width] = image
    return canvas, boxes + np.array([left, top, left, top])


def crop(image, boxes, labels, rng):
    """Crop to a random window that contains a center -> (image, boxes in pixels, labels)."""
    height, width = image.shape[:2]
    while rng.integers(SAMPLERS):
        for _ in range(TRIALS):
            w, h = rng.uniform(0.3 * width, width), rng.uniform(0.3 * height, height)
            if not 0.5 <= h / w <= 2:
                continue
            left, top = int(rng.uniform(0, width - w)), int(rng.uniform(0, height - h))
            window = np.array([left, top, left + int(w), top + int(h)])
            _iou(boxes, window)  # computed as in the peer, which ignores it
            centers = (boxes[:, :2] + boxes[:, 2:]) / 2
            inside = ((centers > window[:2]) & (centers < window[2:])).all(axis=1)
            if inside.any():
                low = np.maximum(boxes[inside, :2], window[:2]) - window[:2]
                high = np.minimum(boxes[inside, 2:], window[2:]) - window[:2]
                image = image[window[1] : window[3], window[0] : window[2]]
                return image, np.concatenate([low, high], axis=1), labels[inside]
    return image, boxes, labels


def _iou(boxes, window):
    size = np.minimum(boxes[:, 2:], window[2:]) - np.maximum(boxes[:, :2], window[:2])
    common = np.prod(np.maximum(size, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return common / (areas + np.prod(window[2:] - window[:2]) - common)


def data(index):
    """Task: decode and augment the pictures of an index."""
    cv2.setNumThreads(1)
    entries = json.loads(pathlib.Path(index).read_text())
    samples = [(e["path"], np.array(e["boxes_px"]), np.array(e["labels"])) for e in entries]
    rng = np.random.default_rng(0)

    def run():
        for path, boxes, labels in samples:
            augment(cv2.imread(path), boxes, labels, rng)
        return {"items": len(samples)}

    return {"name": "ssd.pytorch-style float32 pipeline, cv2"}, run


TASKS = {"data": data}

if __name__ == "__main__":
    serve(TASKS)
