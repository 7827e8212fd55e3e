"""Inputs of both sides: random images and ground truth that depend on the seed only. Needs NumPy only."""

import numpy as np

CLASSES = tuple(f"class{index}" for index in range(20))  # as many as VOC's


def images(count, shape, seed=0):
    """uint8 [count,*shape]: noise, for which a convolution takes as long as for a picture."""
    return np.random.default_rng([seed, 1]).integers(0, 256, (count, *shape), dtype=np.uint8)


def ground_truth(count, objects=None, seed=0):
    """`count` pairs (boxes float32 [N,4] (xmin, ymin, xmax, ymax) in 0..1, labels int32 [N]).

    objects: N; without it 1 to 4, 2.4 on average as in VOC2007.
    """
    rng = np.random.default_rng([seed, 2])
    pairs = []
    for _ in range(count):
        n = objects or int(rng.choice([1, 2, 3, 4], p=[0.25, 0.3, 0.25, 0.2]))
        size = rng.uniform(0.05, 0.7, (n, 2))
        corner = rng.uniform(0, 1 - size)
        boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
        pairs.append((boxes, rng.integers(0, len(CLASSES), n).astype(np.int32)))
    return pairs


def evaluation(count, per_image, seed=0):
    """Ground truth and detections of `count` images: (dict id -> Sample, dict id -> Detections).

    The first detections of an image are near its objects, the others anywhere.
    """
    from structures import Detections, Sample  # the peer's interpreter need not have the project

    rng = np.random.default_rng([seed, 3])
    samples, detections = {}, {}
    for number, (boxes, labels) in enumerate(ground_truth(count, seed=seed)):
        key, near = f"{number:06d}", min(len(boxes), per_image)
        difficult = rng.random(len(boxes)) < 0.1
        samples[key] = Sample(key, f"{key}.jpg", boxes, labels, difficult, 500, 375)
        corner = rng.uniform(0, 0.6, (per_image, 2))
        found = np.concatenate([corner, corner + rng.uniform(0.05, 0.4, (per_image, 2))], axis=1)
        found[:near] = boxes[:near] + rng.normal(0, 0.02, (near, 4))
        found_labels = rng.integers(0, len(CLASSES), per_image).astype(np.int32)
        found_labels[:near] = labels[:near]
        scores = np.sort(rng.random(per_image).astype(np.float32))[::-1]
        boxes_px = (found * (500, 375, 500, 375)).astype(np.float32)
        detections[key] = Detections(boxes_px, scores, found_labels)
    return samples, detections
