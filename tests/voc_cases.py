"""Cases for Pascal VOC's metric, random and by hand."""

import numpy as np

from structures import Detections, Sample


def sample(key, boxes_px, labels=None, difficult=None, size=(100, 100)):
    """A Sample with boxes in pixels (continuous edges)."""
    boxes = np.array(boxes_px, np.float64).reshape(-1, 4)
    count = len(boxes)
    return Sample(
        id=key,
        image_path=f"{key}.jpg",
        boxes=(boxes / (*size, *size)).astype(np.float32),
        labels=np.array([0] * count if labels is None else labels, np.int32),
        difficult=np.array([False] * count if difficult is None else difficult, bool),
        width=size[0],
        height=size[1],
    )


def detected(boxes_px, scores, labels=None):
    boxes = np.array(boxes_px, np.float32).reshape(-1, 4)
    labels = [0] * len(boxes) if labels is None else labels
    return Detections(boxes, np.array(scores, np.float32), np.array(labels, np.int32))


def random_case(rng):
    """Images on a coarse grid, so that ties, duplicates and overlaps of exactly a half are common."""
    classes = int(rng.integers(1, 4))
    width, height = (int(side) for side in rng.choice([7, 16, 100, 500], 2))

    def boxes(count):
        corners = np.sort(rng.integers(0, 7, (count, 2, 2)), axis=1).reshape(count, 4).astype(np.float64)
        corners[:, 2:] += 1
        return corners * ([width, height] * 2) / 7 if rng.random() < 0.3 else np.minimum(corners, [width, height] * 2)

    truth, found = {}, {}
    for index in range(int(rng.integers(1, 6))):
        key = f"{9 - index}"  # falling names: the order is that of the dict, not of the alphabet
        count = int(rng.integers(0, 6))
        gt = boxes(count)
        truth[key] = sample(key, gt, rng.integers(0, classes, count), rng.random(count) < 0.25, (width, height))
        if rng.random() < 0.15:
            continue
        many = int(rng.integers(0, 12))
        candidates = np.concatenate([boxes(many), gt, gt])
        chosen = candidates[rng.permutation(len(candidates))[:many]]
        scores = np.sort(rng.integers(0, 8, len(chosen)))[::-1] / 8
        found[key] = detected(chosen, scores, rng.integers(0, classes, len(chosen)))
    return truth, found, [f"class{label}" for label in range(classes)]
