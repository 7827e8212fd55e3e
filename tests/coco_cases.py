"""Cases for COCO's metric, random and of real annotations, and pycocotools' answer to them."""

import contextlib
import io
import json

import numpy as np

import dataset_formats
from formats import coco as coco_format
from results import coco_list
from results.data_set import DataSet
from scoring import coco_metric
from structures import Detections, Sample

SIZE = 250


def sample(key, boxes_px, labels=None, difficult=None, crowd=None, area=None):
    boxes = np.array(boxes_px, np.float64).reshape(-1, 4)
    none = np.zeros(len(boxes), bool)
    return Sample(
        id=key,
        image_path=f"{key}.jpg",
        boxes=(boxes / SIZE).astype(np.float32),
        labels=np.zeros(len(boxes), np.int32) if labels is None else np.array(labels, np.int32),
        difficult=none if difficult is None else np.array(difficult, bool),
        width=SIZE,
        height=SIZE,
        crowd=None if crowd is None else np.array(crowd, bool),
        area=None if area is None else np.array(area, np.float64),
    )


def detected(boxes_px, scores, labels=None):
    boxes = np.array(boxes_px, np.float64).reshape(-1, 4)
    labels = [0] * len(boxes) if labels is None else labels
    return Detections(boxes, np.array(scores, np.float64), np.array(labels, np.int32))


def random_case(rng, pictures=6, most=8):
    """Images by rising id with ties of scores and overlaps, all sizes, crowds, and areas unlike the boxes'."""
    classes = int(rng.integers(1, 4))
    unit = float(rng.choice([1, 8, 32, 0.25, 33.37]))

    def boxes(count):
        corners = np.sort(rng.integers(0, 7, (count, 2, 2)), axis=1).reshape(count, 4).astype(np.float64)
        corners[:, 2:] += 1
        return np.minimum(corners * unit, SIZE)

    truth, found = {}, {}
    for key in range(1, int(rng.integers(2, pictures + 2))):
        count = int(rng.integers(0, most))
        gt = boxes(count)
        area = np.prod(gt[:, 2:] - gt[:, :2], axis=1) * rng.choice([1.0, 0.6], count)
        crowd = rng.random(count) < 0.2
        truth[key] = sample(str(key), gt, rng.integers(0, classes, count), crowd, crowd, area)
        if rng.random() < 0.15:
            continue
        many = int(rng.integers(0, 14))
        near = gt + np.tile(rng.integers(-1, 2, (len(gt), 1)) * unit / 8, 4)
        candidates = np.concatenate([boxes(many), gt, near.clip(0, SIZE)])
        chosen = candidates[rng.permutation(len(candidates))[:many]]
        found[key] = detected(chosen, rng.integers(0, 8, len(chosen)) / 8, rng.integers(0, classes, len(chosen)))
    return truth, found, [f"class{label}" for label in range(classes)]


def many_detections(truth, found, rng):
    """More than 100 detections of a class in the first image of a random case."""
    key = next(iter(truth))
    near = np.concatenate([truth[key].boxes_px, np.tile([[0, 0, 8, 8]], (130, 1))])
    found[key] = detected(near, rng.random(len(near)))


def figures_of_pycocotools(load):
    """The twelve figures of pycocotools by name. load(coco) -> (its COCO of the ground truth, results)."""
    from pycocotools import coco, cocoeval  # no requirement names it but requirements-parity.txt

    with contextlib.redirect_stdout(io.StringIO()):
        data, results_list = load(coco)
        evaluation = cocoeval.COCOeval(data, data.loadRes(results_list), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = [None if value == -1 else value for value in evaluation.stats]
    return dict(zip(coco_metric.FIGURES, stats, strict=True))


def from_memory(truth, found, classes):
    """`load` of figures_of_pycocotools for samples and detections by image id, or None without detections."""
    annotations, listed = [], []
    for key, one in truth.items():
        for index, box in enumerate(one.boxes_px.tolist()):
            crowd = False if one.crowd is None else bool(one.crowd[index])
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            area = bbox[2] * bbox[3] if one.area is None else float(one.area[index])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": key,
                    "category_id": int(one.labels[index]),
                    "bbox": bbox,
                    "iscrowd": int(crowd),
                    "area": area,
                }
            )
        if key in found:
            rows = (found[key].boxes_px.tolist(), found[key].scores.tolist(), found[key].labels.tolist())
            for box, score, label in zip(*rows, strict=True):
                bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
                listed.append({"image_id": key, "category_id": label, "bbox": bbox, "score": score})

    def load(coco):
        data = coco.COCO()
        data.dataset = {
            "images": [{"id": key} for key in truth],
            "categories": [{"id": label, "name": str(label)} for label in range(classes)],
            "annotations": annotations,
        }
        data.createIndex()
        return data, listed

    return load if listed else None


def real_case(source, split, names, scratch, seed=6):
    """A VOC-layout folder's annotations in COCO's form, and detections strewn about them.

    Returns (truth, found: for coco_metric; load: for figures_of_pycocotools), each read from the files in `scratch`.
    """
    data = dataset_formats.write_all(source, scratch, [split], names)["coco"]
    path, rng = data / "annotations" / f"instances_{split}.json", np.random.default_rng(seed)
    content = json.loads(path.read_text("utf-8"))
    for one in content["annotations"]:  # areas as of outlines, and some crowds
        one.update(area=round(one["area"] * rng.uniform(0.4, 1), 2), iscrowd=int(rng.random() < 0.05))
    path.write_text(json.dumps(content), "utf-8")
    truth = {one.id: one for one in coco_format.load(data, split, names)}
    data_set, list_path = DataSet(data, split, "coco"), scratch / "found.json"
    image_ids, category_ids = data_set.coco_ids
    with coco_list.Writer(list_path, [category_ids[name] for name in names], image_ids) as writer:
        for key, one in truth.items():
            near = np.repeat(one.boxes_px, 3, axis=0)
            near = near + rng.normal(0, 0.1, near.shape) * np.tile(near[:, 2:] - near[:, :2], 2)
            near[:, 2:] = np.maximum(near[:, :2], near[:, 2:])
            scores = np.round(rng.random(len(near)), 2).astype(np.float32)
            writer.add(
                key, one.width, one.height, Detections(near.astype(np.float32), scores, np.repeat(one.labels, 3))
            )
    found = coco_list.read(list_path, names, data_set).detections
    return truth, found, lambda coco: (coco.COCO(str(path)), str(list_path))
