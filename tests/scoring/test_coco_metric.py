"""COCO's metric against a slow oracle, against pycocotools where it is installed, and by hand."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import oracles_coco
from coco_cases import (
    detected,
    figures_of_pycocotools,
    from_memory,
    many_detections,
    random_case,
    real_case,
    sample,
)
from scoring import coco_metric
from structures import Detections, UserError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


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


def test_equals_pycocotools():
    """Both the metric and its oracle; `make parity` has pycocotools in its environment and runs the like."""
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(9)
    compared = 0
    for case in range(80):
        truth, found, names = random_case(rng)
        if case % 20 == 0:
            many_detections(truth, found, rng)
        load = from_memory(truth, found, len(names))
        if load is None:
            continue
        expected = figures_of_pycocotools(load)
        assert_figures(coco_metric.evaluate(truth, found, names)["coco"]["mean"], expected, 1e-9)
        assert_figures(oracles_coco.evaluate(truth, found, names)[0], expected, 1e-9)
        compared += 1
    assert compared > 60


@pytest.mark.parametrize(("name", "names"), [("bccd", ("RBC", "WBC", "Platelets")), ("raccoon", ("raccoon",))])
def test_equals_pycocotools_on_files(tmp_path, name, names):
    """Real annotations through formats.coco, detections through a results list, both read by pycocotools too."""
    pytest.importorskip("pycocotools")
    if not (SHARED / name).is_dir():
        pytest.skip("needs the shared photographs")
    truth, found, load = real_case(SHARED / name, "test", names, tmp_path)
    expected = figures_of_pycocotools(load)
    assert_figures(coco_metric.evaluate(truth, found, names)["coco"]["mean"], expected, 1e-9)
    assert 0.1 < expected["AP"] < 0.9


def test_by_hand():
    """Two cars of 100 × 100, one found with overlap 0.8, a miss between: AP 0.5 at seven of ten overlaps."""
    truth = {1: sample("1", [[0, 0, 100, 100], [120, 120, 220, 220]])}
    found = {1: detected([[0, 0, 100, 80], [230, 0, 240, 10]], [0.9, 0.8])}
    report = coco_metric.evaluate(truth, found, ["car", "bus"])
    expected = {
        "AP": 0.7 * 51 / 101,
        "AP50": 51 / 101,
        "AP75": 51 / 101,
        "APs": None,
        "APm": None,
        "APl": 0.7 * 51 / 101,
        "AR1": 0.35,
        "AR10": 0.35,
        "AR100": 0.35,
        "ARs": None,
        "ARm": None,
        "ARl": 0.35,
    }
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
