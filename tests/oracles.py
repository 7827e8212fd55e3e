"""Slow, obvious versions of the numerical parts, written from the published rules alone.

Plain Python loops, exact fractions or float64, one rule of the reference per statement. No module of the project is
imported here, so that an error there cannot repeat itself here.
"""

import fractions
import math

import numpy as np


def edges(box_cxcywh):
    """(cx, cy, w, h) -> (xmin, ymin, xmax, ymax), in the number type given."""
    cx, cy, w, h = box_cxcywh
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def iou(a, b):
    """IoU of two boxes (xmin, ymin, xmax, ymax), in the number type given; 0 where there is no common area."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return width * 0
    common = width * height
    area_a = (a[2] - a[0]) * (a[3] - a[1])
    area_b = (b[2] - b[0]) * (b[3] - b[1])
    return common / (area_a + area_b - common)


def match(anchors_cxcywh, gt_boxes, threshold=0.5, bipartite=True):
    """Index of the ground truth per anchor or -1, in exact arithmetic: ties are ties.

    Bipartite step: again and again the pair of the highest IoU, above 1e-6, of an anchor and a ground truth that
    are both free; ties to the lowest anchor, then the lowest ground truth. Threshold step: each anchor still
    free joins its best ground truth (ties: the lowest) from `threshold` on.
    """
    exact = fractions.Fraction
    anchors = [edges([exact(float(v)) for v in a]) for a in anchors_cxcywh]
    gt = [[exact(float(v)) for v in g] for g in gt_boxes]
    table = [[iou(a, g) for g in gt] for a in anchors]
    matches = [-1] * len(anchors)
    free = set(range(len(gt)))
    while bipartite and free:
        pairs = [(-table[a][g], a, g) for a in range(len(anchors)) for g in free if matches[a] == -1]
        pairs = [pair for pair in pairs if -pair[0] > exact(1, 10**6)]
        if not pairs:
            break
        _, a, g = min(pairs)
        matches[a] = g
        free.remove(g)
    for a, row in enumerate(table):
        if matches[a] == -1 and row and max(row) >= exact(threshold):
            matches[a] = row.index(max(row))
    return matches


def encode(gt_box, anchor_cxcywh):
    """One ground truth (corners) against one anchor -> four offsets, with variances 0.1 and 0.2."""
    cx, cy, w, h = (float(v) for v in anchor_cxcywh)
    xmin, ymin, xmax, ymax = (float(v) for v in gt_box)
    return [
        ((xmin + xmax) / 2 - cx) / w * 10,
        ((ymin + ymax) / 2 - cy) / h * 10,
        math.log((xmax - xmin) / w) * 5,
        math.log((ymax - ymin) / h) * 5,
    ]


def decode(offset, anchor_cxcywh):
    """Four offsets of one anchor -> a box (corners)."""
    cx, cy, w, h = (float(v) for v in anchor_cxcywh)
    dx, dy, dw, dh = (float(v) for v in offset)
    return list(edges((cx + dx / 10 * w, cy + dy / 10 * h, w * math.exp(dw / 5), h * math.exp(dh / 5))))


def softmax(logits):
    """[K] -> [K], float64."""
    e = np.exp(np.asarray(logits, np.float64) - np.max(logits))
    return e / e.sum()


def multibox_loss(
    logits, offsets, class_targets, offset_targets, negative_ratio=3, class_weights=None, normalize="batch"
):
    """Sums over the batch and their gradients, float64.

    logits [N,A,K], offsets [N,A,4], class_targets [N,A] (0 = background), offset_targets [N,A,4]. class_weights: what
    the confidence loss of a positive counts, by class without background; 1 if None.
    normalize: "image" divides what belongs to an image by its positives, and counts images that have some.
    Returns a dict: confidence, localization, positives, d_logits [N,A,K] and d_offsets [N,A,4]. Equal losses: the
    lowest anchor is the harder negative.
    """
    logits = np.asarray(logits, np.float64)
    d_logits, d_offsets = np.zeros(np.shape(logits)), np.zeros(np.shape(offsets))
    confidence = localization = positives = 0
    for n, image in enumerate(logits):
        probabilities = [softmax(row) for row in image]
        losses = [-math.log(p[int(t)]) for p, t in zip(probabilities, class_targets[n], strict=True)]
        positive = [a for a, t in enumerate(class_targets[n]) if t > 0]
        negative = [a for a, t in enumerate(class_targets[n]) if t == 0]
        negative.sort(key=lambda a: -round(losses[a], 12))
        negative = negative[: negative_ratio * len(positive)]
        share = 1 / len(positive) if normalize == "image" and positive else 1
        positives += min(1, len(positive)) if normalize == "image" else len(positive)
        for a in positive + negative:
            target = int(class_targets[n][a])
            weight = share * (1 if class_weights is None or target == 0 else class_weights[target - 1])
            confidence += weight * losses[a]
            d_logits[n, a] = weight * probabilities[a]
            d_logits[n, a, target] -= weight
        for a in positive:
            for i in range(4):
                error = float(offsets[n][a][i]) - float(offset_targets[n][a][i])
                small = abs(error) < 1
                localization += share * (0.5 * error**2 if small else abs(error) - 0.5)
                d_offsets[n, a, i] = share * (error if small else math.copysign(1, error))
    return {
        "confidence": confidence,
        "localization": localization,
        "positives": positives,
        "d_logits": d_logits,
        "d_offsets": d_offsets,
    }


def nms(boxes, scores, threshold, top_k=None):
    """Kept indices, best first: a box stays unless a kept better one overlaps it by more than the threshold."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:top_k]
    kept = []
    for i in order:
        if all(iou(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept


def clip(box):
    """A box cut to 0..1."""
    return [min(max(v, 0.0), 1.0) for v in box]


def detect(
    logits,
    offsets,
    anchors,
    *,
    score=0.01,
    per_class=400,
    iou_threshold=0.45,
    keep=200,
    clip_before=False,
    size_limit=None,
    maps=None,
    per_map=None,
    drop_empty=False,
):
    """One image, by the rules of Caffe's DetectionOutput -> list of (score, label, box), best first.

    logits [A,K] with background first, offsets [A,4], anchors [A,4] (cx, cy, w, h). Per class: above `score`, the
    best `per_class`, NMS; then the best `keep` of all classes. clip_before: boxes are cut to 0..1 before they
    suppress each other (torchvision). size_limit: dw and dh, after division by 5, are cut to it (torchvision).
    maps: the map's number of each anchor; per_map: only so many pairs of anchor and class of a map, the best, are
    candidates; drop_empty: boxes without area are none (all three: mmdetection).
    """
    boxes = []
    for offset, anchor in zip(offsets, anchors, strict=True):
        offset = [float(v) for v in offset]
        if size_limit is not None:
            offset[2:] = [min(v, 5 * size_limit) for v in offset[2:]]
        box = decode(offset, anchor)
        boxes.append(clip(box) if clip_before else box)
    probabilities = [softmax(row) for row in logits]
    labels = range(len(logits[0]) - 1)
    pairs = [(-p[label + 1], a, label) for a, p in enumerate(probabilities) for label in labels]
    if per_map is not None:
        of_maps = [sorted(pair for pair in pairs if maps[pair[1]] == number) for number in set(maps)]
        pairs = [pair for of_map in of_maps for pair in of_map[:per_map]]
    if drop_empty:
        pairs = [
            pair for pair in pairs if boxes[pair[1]][0] < boxes[pair[1]][2] and boxes[pair[1]][1] < boxes[pair[1]][3]
        ]
    allowed = {pair[1:] for pair in pairs}
    found = []
    for label in labels:
        scores = [p[label + 1] for p in probabilities]
        candidates = [a for a in range(len(boxes)) if scores[a] > score and (a, label) in allowed]
        kept = nms([boxes[a] for a in candidates], [scores[a] for a in candidates], iou_threshold, per_class)
        found += [(scores[candidates[i]], label, boxes[candidates[i]]) for i in kept]
    found.sort(key=lambda d: -d[0])
    return found[:keep]


def conv2d(x, weights, biases, stride=1, dilation=1, before=1, after=1):
    """[H,W,C] with HWIO weights -> [H',W',O]; `before` and `after` cells of zeros around the picture."""
    size = (weights.shape[0] - 1) * dilation + 1
    x = np.pad(x, [(before, after), (before, after), (0, 0)])
    rows, columns = ((side - size) // stride + 1 for side in x.shape[:2])
    result = np.zeros((rows, columns, weights.shape[3])) + biases
    for i, j in np.ndindex(weights.shape[:2]):
        top, left = i * dilation, j * dilation
        seen = x[top : top + (rows - 1) * stride + 1 : stride, left : left + (columns - 1) * stride + 1 : stride]
        result += seen @ weights[i, j].astype(np.float64)
    return result


def max_pool(x, size, stride):
    """[H,W,C] -> pooled; 2 / 2 rounds up (an odd picture's last row stands alone), 3 / 1 keeps the size."""
    before, after = ((size - 1) // 2, size // 2) if stride == 1 else (0, x.shape[0] % stride)
    x = np.pad(x, [(before, after), (before, after), (0, 0)], constant_values=-np.inf)
    rows, columns = ((side - size) // stride + 1 for side in x.shape[:2])
    views = [
        x[i : i + (rows - 1) * stride + 1 : stride, j : j + (columns - 1) * stride + 1 : stride]
        for i, j in np.ndindex(size, size)
    ]
    return np.max(views, axis=0)


def random_weights(shapes, seed=0):
    """Arrays that keep every layer alive and every channel different, whatever the width."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in sorted(shapes.items()):
        if name.endswith("/weights"):
            values = rng.normal(0, math.sqrt(2 / np.prod(shape[:3])), shape)
        elif name.endswith("/scale"):
            values = rng.uniform(10, 30, shape)
        else:
            values = rng.uniform(0, 0.5, shape)
        arrays[name] = values.astype(np.float32)
    return arrays


def network(image, weights, *, num_classes, ratios, mean=(123, 117, 104), bgr=False, scale=1.0):
    """The original's SSD on one picture, in float64 -> (logits [A,K], offsets [A,4]).

    image: [S,S,3] RGB, of 300 or 512 pixels; weights: arrays by `LAYER/weights`, `LAYER/biases`,
    `norm_conv4_3/scale`; ratios: how many anchors a cell of each map has. 512 is known by its conv12.
    """
    x = (np.asarray(image, np.float64) - mean) * scale
    x = x[:, :, ::-1] if bgr else x

    def conv(x, name, **options):
        return np.maximum(conv2d(x, weights[name + "/weights"], weights[name + "/biases"], **options), 0)

    maps = {}
    for group, depth in (("1", 2), ("2", 2), ("3", 3), ("4", 3), ("5", 3)):
        for index in range(1, depth + 1):
            x = conv(x, f"conv{group}_{index}")
        if group == "4":
            length = np.sqrt((x**2).sum(axis=2, keepdims=True) + 1e-10)
            maps["conv4_3"] = x / length * weights["norm_conv4_3/scale"]
        x = max_pool(x, 3, 1) if group == "5" else max_pool(x, 2, 2)
    full = weights["fc6/weights"].shape[0] == 7
    x = conv(x, "fc6", before=3, after=3) if full else conv(x, "fc6", dilation=6, before=6, after=6)
    x = maps["fc7"] = conv(x, "fc7", before=0, after=0)
    halving, valid = {"stride": 2}, {"before": 0, "after": 0}
    extras = {"conv8": halving, "conv9": halving, "conv10": valid, "conv11": valid}
    if "conv12_1/weights" in weights:
        extras.update({"conv10": halving, "conv11": halving, "conv12": {}})
        if weights["conv12_2/weights"].shape[0] == 3:
            extras.update({"conv11": valid, "conv12": {"before": 0, "after": 1}})
    for name, options in extras.items():
        x = conv(x, name + "_1", before=0, after=0)
        x = maps[name + "_2"] = conv(x, name + "_2", **options)
    logits, offsets = [], []
    for (name, x), shapes in zip(maps.items(), ratios, strict=True):
        for kind, values, rows in (("logits", num_classes + 1, logits), ("offsets", 4, offsets)):
            head = f"head_{name}_{kind}"
            out = conv2d(x, weights[head + "/weights"], weights[head + "/biases"])
            for row in out:
                for cell in row:
                    rows.extend(cell[a * values : (a + 1) * values] for a in range(shapes))
    return np.array(logits), np.array(offsets)
