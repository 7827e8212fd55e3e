"""Cases for Pascal VOC's metric, random and by hand."""

import cv2
import numpy as np

import average_precision
from results import detections_json
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


XML = """<annotation><size><width>100</width><height>80</height><depth>3</depth></size>{}</annotation>"""
OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
    "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def write_three_pictures(folder):
    """A VOC-layout folder of three pictures: two cars and a difficult one, a bus, nothing."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    objects = {
        "a": [("car", 0, 1, 1, 10, 10), ("car", 0, 21, 21, 40, 40), ("car", 1, 51, 51, 60, 60)],
        "b": [("bus", 0, 1, 1, 50, 50)],
        "c": [],
    }
    for key, rows in objects.items():
        xml = XML.format("".join(OBJECT.format(*row) for row in rows))
        (folder / "Annotations" / f"{key}.xml").write_text(xml)
        cv2.imwrite(str(folder / "JPEGImages" / f"{key}.jpg"), np.zeros((80, 100, 3), np.uint8))
    (folder / "ImageSets/Main/test.txt").write_text("a\nb\nc\n")
    return folder


FOUND = {  # in them: (boxes, scores, labels)
    "a": ([[0, 0, 10, 5], [70, 70, 80, 80], [50, 50, 60, 60]], [0.9, 0.8, 0.7], [0, 0, 0]),
    "b": ([[0, 0, 50, 50]], [0.6], [1]),
    "c": ([], [], []),
}


def write_found(path, found=FOUND, names=("car", "bus"), threshold=0.01, size=(100, 80), errors=(), **source):
    """detections.json for those pictures, as infer.py writes it."""
    with detections_json.Writer(path, class_names=names, threshold=threshold, **{"model": "m", **source}) as writer:
        for key, (boxes, scores, labels) in found.items():
            writer.add(f"{key}.jpg", *size, detected(boxes, scores, labels))
        for key in errors:
            writer.error(f"{key}.jpg", "truncated")
    return str(path)


def score(voc, path, *flags):
    """average_precision.py on those pictures."""
    average_precision.main([str(path), "--data", str(voc), "--split", "test", *flags])
