"""The VOC metric written slowly from VOCdevkit's rules, with exact fractions where rounding could decide.

Plain lists and loops, nothing shared with average_precision.py. `per_detection` is the straightforward
loop that the vectorized evaluator is timed against.
"""

from fractions import Fraction

import numpy as np


def overlap(a, b):
    """IoU of two boxes in 1-based inclusive pixels."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0
    area_a = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
    area_b = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return width * height / (area_a + area_b - width * height)


def inclusive(box):
    """Continuous edges -> 1-based inclusive pixels, exact."""
    xmin, ymin, xmax, ymax = (Fraction(float(edge)) for edge in box)
    return xmin + 1, ymin + 1, xmax, ymax


def judge(ground_truth, detections, label, iou_threshold, convert=inclusive):
    """'tp', 'fp' or 'ignored' for each detection of a class by falling score, and the number of positives."""
    objects, positives = {}, 0
    for key, sample in ground_truth.items():
        of_class = [
            {"box": convert(box), "difficult": bool(hard), "claimed": False}
            for box, own, hard in zip(sample.boxes_px, sample.labels, sample.difficult, strict=True)
            if own == label
        ]
        objects[key] = of_class
        positives += sum(not entry["difficult"] for entry in of_class)
    found = []
    for key in ground_truth:
        if key in detections:
            one = detections[key]
            for box, score, own in zip(one.boxes_px, one.scores, one.labels, strict=True):
                if own == label:
                    found.append((float(score), key, convert(box)))
    found.sort(key=lambda entry: -entry[0])  # Python's sort is stable
    verdicts = []
    for _, key, box in found:
        best, largest = None, 0
        for entry in objects[key]:
            value = overlap(box, entry["box"])
            if value > largest:
                best, largest = entry, value
        if best is None or largest < iou_threshold:
            verdicts.append("fp")
        elif best["difficult"]:
            verdicts.append("ignored")
        elif best["claimed"]:
            verdicts.append("fp")
        else:
            best["claimed"] = True
            verdicts.append("tp")
    return verdicts, positives


def average_precisions(verdicts, positives):
    """(VOC2007 AP, area AP) of one class, (None, None) without positives."""
    if positives == 0:
        return None, None
    points, tp, fp = [], 0, 0  # (tp, precision) after each detection
    for verdict in verdicts:
        tp += verdict == "tp"
        fp += verdict == "fp"
        points.append((tp, Fraction(tp, tp + fp) if tp + fp else Fraction(0)))
    voc07 = Fraction(0)
    for j in range(11):
        voc07 += max((precision for tp, precision in points if 10 * tp >= j * positives), default=Fraction(0))
    area = Fraction(0)
    for step in range(1, positives + 1):  # recall rises by 1/positives at each true positive
        best = max((precision for tp, precision in points if tp >= step), default=Fraction(0))
        area += best / positives
    return voc07 / 11, area


def evaluate(ground_truth, detections, class_names, iou_threshold=0.5, convert=inclusive):
    """dict class -> (voc07, area, positives, number of detections), AP as Fractions or None."""
    answer = {}
    for label, name in enumerate(class_names):
        verdicts, positives = judge(ground_truth, detections, label, iou_threshold, convert)
        answer[name] = (*average_precisions(verdicts, positives), positives, len(verdicts))
    return answer


def per_detection(ground_truth, detections, class_names, iou_threshold=0.5):
    """dict class -> bool [N], true positives by falling score: the usual loop, one detection at a time."""
    answer = {}
    for label, name in enumerate(class_names):
        objects, found = {}, []
        for key, sample in ground_truth.items():
            mine = sample.labels == label
            boxes = np.round(sample.boxes_px[mine], 3) + (1, 1, 0, 0)  # noqa: RUF005
            objects[key] = boxes, sample.difficult[mine], np.zeros(len(boxes), bool)
            if key in detections:
                one = detections[key]
                own = one.labels == label
                boxes = one.boxes_px[own].astype(np.float64) + (1, 1, 0, 0)  # noqa: RUF005
                found += [(score, key, box) for score, box in zip(one.scores[own], boxes, strict=True)]
        found.sort(key=lambda entry: -entry[0])
        true = np.zeros(len(found), bool)
        for index, (_, key, box) in enumerate(found):
            boxes, difficult, claimed = objects[key]
            if len(boxes) == 0:
                continue
            size = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]) + 1
            common = np.prod(np.maximum(size, 0), axis=1)
            areas = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1)
            iou = common / (areas + np.prod(box[2:] - box[:2] + 1) - common)
            best = int(np.argmax(iou))
            if iou[best] >= iou_threshold and not difficult[best] and not claimed[best]:
                claimed[best] = true[index] = True
        answer[name] = true
    return answer
