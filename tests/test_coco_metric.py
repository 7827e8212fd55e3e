"""COCO's metric against a slow oracle, against pycocotools where it is installed, and by hand."""

import contextlib
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest

import coco_metric
import formats
import oracles_coco
import results
import source_coco
from structures import Detections, Sample, UserError

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
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


def assert_figures(got, expected, tolerance=1e-9):
    assert set(got) == set(expected) == set(coco_metric.FIGURES)
    for figure, value in expected.items():
        if value is None:
            assert got[figure] is None, figure
        else:
            assert got[figure] == pytest.approx(value, abs=tolerance), figure


def test_equals_the_oracle_on_random_cases():
    rng = np.random.default_rng(4)
    seen = set()
    for _ in range(60):
        truth, found, names = random_case(rng)
        report = coco_metric.evaluate(truth, found, names)
        means, per_class = oracles_coco.evaluate(truth, found, names)
        assert_figures(report["coco"]["mean"], means)
        for name in names:
            assert_figures(report["coco"]["per_class"][name], per_class[name])
        seen.update(means[figure] is not None for figure in ("APs", "APm", "APl"))
    assert seen == {True, False}


def _pycocotools(load):
    """The twelve figures of pycocotools by name. load(coco) -> (its COCO of the ground truth, results)."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        data, results_list = load(coco)
        evaluation = cocoeval.COCOeval(data, data.loadRes(results_list), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = [None if value == -1 else value for value in evaluation.stats]
    return dict(zip(coco_metric.FIGURES, stats, strict=True))


def _from_memory(truth, found, classes):
    """`load` of _pycocotools for samples and detections by image id, or None without detections."""
    annotations, listed = [], []
    for key, one in truth.items():
        for index, box in enumerate(one.boxes_px.tolist()):
            crowd = False if one.crowd is None else bool(one.crowd[index])
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            area = bbox[2] * bbox[3] if one.area is None else float(one.area[index])
            annotations.append(
                {"id": len(annotations) + 1, "image_id": key, "category_id": int(one.labels[index]),
                 "bbox": bbox, "iscrowd": int(crowd), "area": area}
            )  # fmt: skip
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


def test_equals_pycocotools():
    """Both the metric and its oracle; needs `pip install pycocotools`, which no requirement names."""
    rng = np.random.default_rng(9)
    compared = 0
    for case in range(80):
        many = case % 20 == 0  # now and then more than 100 detections of a class in an image
        truth, found, names = random_case(rng)
        if many:
            key = next(iter(truth))
            near = np.concatenate([truth[key].boxes_px, np.tile([[0, 0, 8, 8]], (130, 1))])
            found[key] = detected(near, rng.random(len(near)))
        load = _from_memory(truth, found, len(names))
        if load is None:
            continue
        expected = _pycocotools(load)
        assert_figures(coco_metric.evaluate(truth, found, names)["coco"]["mean"], expected, 1e-9)
        assert_figures(oracles_coco.evaluate(truth, found, names)[0], expected, 1e-9)
        compared += 1
    assert compared > 60


@pytest.mark.parametrize(("name", "names"), [("bccd", ("RBC", "WBC", "Platelets")), ("raccoon", ("raccoon",))])
def test_equals_pycocotools_on_files(tmp_path, name, names):
    """Real annotations through source_coco, detections through a results list, both read by pycocotools too."""
    if not (SHARED / name).is_dir():
        pytest.skip("needs the shared photographs")
    data = formats.write_all(SHARED / name, tmp_path, ["test"], names)["coco"]
    path, rng = data / "annotations" / "instances_test.json", np.random.default_rng(6)
    content = json.loads(path.read_text("utf-8"))
    for one in content["annotations"]:  # areas as of outlines, and some crowds
        one.update(area=round(one["area"] * rng.uniform(0.4, 1), 2), iscrowd=int(rng.random() < 0.05))
    path.write_text(json.dumps(content), "utf-8")
    truth = {one.id: one for one in source_coco.load(data, "test", names)}
    ids = source_coco.result_ids(data, "test")
    with results.CocoWriter(tmp_path / "found.json", names, *ids) as writer:
        for key, one in truth.items():
            near = np.repeat(one.boxes_px, 3, axis=0)
            near = near + rng.normal(0, 0.1, near.shape) * np.tile(near[:, 2:] - near[:, :2], 2)
            near[:, 2:] = np.maximum(near[:, :2], near[:, 2:])
            scores = np.round(rng.random(len(near)), 2).astype(np.float32)
            writer.add(key, Detections(near.astype(np.float32), scores, np.repeat(one.labels, 3)))
    expected = _pycocotools(lambda coco: (coco.COCO(str(path)), str(tmp_path / "found.json")))
    found = results.read_coco(tmp_path / "found.json", names, *ids).detections
    assert_figures(coco_metric.evaluate(truth, found, names)["coco"]["mean"], expected, 1e-9)
    assert 0.1 < expected["AP"] < 0.9


def test_by_hand():
    """Two cars of 100 × 100, one found with overlap 0.8, a miss between: AP 0.5 at seven of ten overlaps."""
    truth = {1: sample("1", [[0, 0, 100, 100], [120, 120, 220, 220]])}
    found = {1: detected([[0, 0, 100, 80], [230, 0, 240, 10]], [0.9, 0.8])}
    report = coco_metric.evaluate(truth, found, ["car", "bus"])
    expected = {
        "AP": 0.7 * 51 / 101, "AP50": 51 / 101, "AP75": 51 / 101, "APs": None, "APm": None, "APl": 0.7 * 51 / 101,
        "AR1": 0.35, "AR10": 0.35, "AR100": 0.35, "ARs": None, "ARm": None, "ARl": 0.35,
    }  # fmt: skip
    assert_figures(report["coco"]["mean"], expected)
    assert_figures(report["coco"]["per_class"]["car"], expected)
    assert set(report["coco"]["per_class"]["bus"].values()) == {None}
    assert report["images"] == 1
    assert report["ground_truth"] == {"car": 2, "bus": 0} and report["detections"] == {"car": 2, "bus": 0}
    json.dumps(report, allow_nan=False)
    shown = coco_metric.table(report)
    assert ["bus", "0", "0", *["n/a"] * 12] in [line.split() for line in shown.splitlines()]
    assert max(map(len, shown.splitlines())) <= 120


def figure(truth, found, name):
    return coco_metric.evaluate(truth, found, ["car"])["coco"]["mean"][name]


def test_no_plus_one():
    """10 × 10 against 10 × 5 is exactly one half; one pixel more or less would not be."""
    truth = {1: sample("1", [0, 0, 10, 10])}
    assert figure(truth, {1: detected([0, 0, 10, 5], [0.9])}, "AP50") == 1
    assert figure(truth, {1: detected([0, 0, 10, 4.999], [0.9])}, "AP50") == 0


def test_a_crowd_takes_any_number_of_detections():
    truth = {1: sample("1", [[0, 0, 200, 200], [210, 210, 230, 230]], difficult=[1, 0], crowd=[1, 0])}
    inside = [[0, 0, 10, 10], [50, 50, 80, 80], [100, 0, 150, 30], [210, 210, 230, 230]]
    found = {1: detected(inside, [0.9, 0.8, 0.7, 0.6])}
    assert figure(truth, found, "AP") == 1
    # Merely difficult, it takes the detections that overlap it by IoU, and only one
    merely = {1: dataclasses.replace(truth[1], crowd=None)}
    assert figure(merely, found, "AP") == pytest.approx(1 / 4)


def test_objects_that_count_come_before_ignored_ones():
    """The detection fits the crowd perfectly, yet takes the car behind."""
    truth = {1: sample("1", [[0, 0, 100, 100], [0, 0, 100, 60]], difficult=[1, 0], crowd=[1, 0])}
    assert figure(truth, {1: detected([0, 0, 100, 100], [0.9])}, "AP50") == 1


def test_of_equal_overlaps_the_last_annotated_object_is_taken():
    """The first detection overlaps both by 0.6; the second fits the first object only, which must be free still."""
    truth = {1: sample("1", [[0, 0, 10, 20], [0, 10, 10, 30]])}
    found = {1: detected([[0, 5, 10, 25], [0, 0, 10, 20]], [0.9, 0.8])}
    assert figure(truth, found, "AP50") == oracles_coco.evaluate(truth, found, ["car"])[0]["AP50"] == 1


def test_the_annotated_area_decides_the_size():
    boxes = [[0, 0, 32, 32]]
    found = {1: detected(boxes, [0.9])}
    both = {1: sample("1", boxes)}  # of exactly 32², small and medium
    assert [figure(both, found, name) for name in ("APs", "APm", "APl")] == [1, 1, None]
    small = {1: sample("1", boxes, area=[500])}
    assert [figure(small, found, name) for name in ("APs", "APm", "APl")] == [1, None, None]


def test_detections_of_another_size_are_not_misses():
    truth = {1: sample("1", [[0, 0, 20, 20]])}
    found = {1: detected([[100, 100, 240, 240], [0, 0, 20, 20]], [0.9, 0.8])}
    assert figure(truth, found, "APs") == 1 and figure(truth, found, "AP50") == 0.5


def test_a_hundred_detections_of_an_image_count():
    truth = {1: sample("1", [[0, 0, 20, 20]])}
    for misses, expected in ((99, 1 / 100), (100, 0)):
        boxes = [[100, 100, 120, 120]] * misses + [[0, 0, 20, 20]]
        found = {1: detected(boxes, np.linspace(1, 0.5, misses + 1))}
        assert figure(truth, found, "AP") == pytest.approx(expected)
        assert coco_metric.evaluate(truth, found, ["car"])["detections"] == {"car": misses + 1}
    assert figure(truth, {1: detected([[5, 5, 9, 9], [0, 0, 20, 20]], [0.9, 0.8])}, "AR1") == 0


def test_nothing_at_all():
    assert set(coco_metric.evaluate({}, {}, ["car"])["coco"]["mean"].values()) == {None}
    missing = coco_metric.evaluate({1: sample("1", [[0, 0, 9, 9]])}, {1: Detections.empty()}, ["car"])
    assert missing["coco"]["mean"]["AP"] == 0 and missing["coco"]["mean"]["AR100"] == 0


def test_mistakes():
    truth = {1: sample("1", [])}
    with pytest.raises(UserError, match="'b'"):
        coco_metric.evaluate(truth, {"b": Detections.empty()}, ["car"])
    with pytest.raises(ValueError, match="labels"):
        coco_metric.evaluate(truth, {1: detected([0, 0, 1, 1], [0.5], [1])}, ["car"])


def test_inputs_are_not_changed():
    truth, found, names = random_case(np.random.default_rng(1))
    before = {key: [array.copy() for array in vars(one).values()] for key, one in found.items()}
    coco_metric.evaluate(truth, found, names)
    for key, one in found.items():
        for array, old in zip(vars(one).values(), before[key], strict=True):
            np.testing.assert_array_equal(array, old)
