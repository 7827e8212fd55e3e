"""COCO's metric written slowly, in pycocotools' order: one image, class, range of areas, limit and overlap at a time.

Plain lists and loops; nothing shared with coco_metric.py.
"""

import bisect

import numpy as np

RANGES = {"": (0, 1e10), "s": (0, 1024), "m": (1024, 9216), "l": (9216, 1e10)}
OVERLAPS = np.linspace(0.5, 0.95, 10).tolist()  # to the last bit, as an overlap of exactly 17/20 is common


def edges(box):
    return [float(value) for value in box]


def size(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def overlap(found, truth, crowd):
    width = min(found[2], truth[2]) - max(found[0], truth[0])
    height = min(found[3], truth[3]) - max(found[1], truth[1])
    if width <= 0 or height <= 0:
        return 0
    return width * height / (size(found) if crowd else size(found) + size(truth) - width * height)


def objects_of(sample, label, area_range):
    """Dicts of one image's objects of a class, those that count first."""
    found = []
    for index, box in enumerate(sample.boxes_px):
        if sample.labels[index] != label:
            continue
        area = size(edges(box)) if sample.area is None else float(sample.area[index])
        crowd = bool(sample.crowd is not None and sample.crowd[index])
        ignored = crowd or bool(sample.difficult[index]) or not area_range[0] <= area <= area_range[1]
        found.append({"box": edges(box), "crowd": crowd, "ignored": ignored, "taken": False})
    return [one for one in found if not one["ignored"]] + [one for one in found if one["ignored"]]


def judge(sample, found, label, area_range, limit, threshold):
    """One class of one image -> [(score, 'tp' | 'fp' | 'ignored')] by falling score, and the number of positives."""
    objects = objects_of(sample, label, area_range)
    mine = []
    if found is not None:
        for box, score, own in zip(found.boxes_px, found.scores, found.labels, strict=True):
            if own == label:
                mine.append((float(score), edges(box)))
    mine.sort(key=lambda one: -one[0])
    verdicts = []
    for score, box in mine[:limit]:
        best, largest = None, threshold
        for one in objects:
            if one["taken"] and not one["crowd"]:
                continue
            if best is not None and not best["ignored"] and one["ignored"]:
                break
            value = overlap(box, one["box"], one["crowd"])
            if value >= largest:
                best, largest = one, value
        if best is not None:
            best["taken"] = True
            verdicts.append((score, "ignored" if best["ignored"] else "tp"))
        else:
            inside = area_range[0] <= size(box) <= area_range[1]
            verdicts.append((score, "fp" if inside else "ignored"))
    return verdicts, sum(not one["ignored"] for one in objects)


def curve(ground_truth, detections, label, area_range, limit, threshold):
    """(AP, recall) of one class, (None, None) without positives."""
    verdicts, positives = [], 0
    for key, sample in ground_truth.items():
        one, count = judge(sample, detections.get(key), label, area_range, limit, threshold)
        verdicts += one
        positives += count
    if positives == 0:
        return None, None
    verdicts.sort(key=lambda one: -one[0])
    recalls, precisions, tp, fp = [], [], 0, 0
    for _, verdict in verdicts:
        tp += verdict == "tp"
        fp += verdict == "fp"
        recalls.append(tp / positives)
        precisions.append(tp / (tp + fp) if tp + fp else 0.0)
    total = 0.0
    for hundredth in range(101):
        first = bisect.bisect_left(recalls, hundredth * 0.01)  # as NumPy's linspace multiplies
        total += max(precisions[first:], default=0.0)
    return total / 101, recalls[-1] if recalls else 0.0


def class_figures(ground_truth, detections, label):
    """The twelve figures of one class by name."""

    def mean(column, area_range, limit):
        values = [curve(ground_truth, detections, label, area_range, limit, t)[column] for t in OVERLAPS]
        return None if values[0] is None else sum(values) / len(values)

    figures = {}
    for suffix, area_range in RANGES.items():
        figures[f"AP{suffix}"] = mean(0, area_range, 100)
        figures[f"AR{suffix or 100}"] = mean(1, area_range, 100)
    for limit in (1, 10):
        figures[f"AR{limit}"] = mean(1, RANGES[""], limit)
    for threshold in (0.5, 0.75):
        figures[f"AP{round(100 * threshold)}"] = curve(ground_truth, detections, label, RANGES[""], 100, threshold)[0]
    return figures


def evaluate(ground_truth, detections, class_names):
    """(means by figure, {class: figures}); a mean runs over the classes that have the figure."""
    per_class = {name: class_figures(ground_truth, detections, label) for label, name in enumerate(class_names)}
    means = {}
    for figure in next(iter(per_class.values())):
        known = [one[figure] for one in per_class.values() if one[figure] is not None]
        means[figure] = sum(known) / len(known) if known else None
    return means, per_class
