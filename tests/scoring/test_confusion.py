"""The confusion matrix against loops, against the metric, and by hand."""

import numpy as np
import pytest

import average_precision
from oracles_ap import inclusive, overlap
from scoring import confusion, error_report
from voc_cases import detected, random_case, sample

NAMES = ["car", "bus"]


def confuse(truth, found, names, limits, iou=0.5):
    curves = average_precision.precision_recall(truth, found, names, iou)
    return confusion.confuse(truth, curves, limits, iou), curves


def by_hand(truth, found, classes, limits, iou):
    """counts [C+1][C+1] by plain loops over exact overlaps."""
    counts = [[0] * (classes + 1) for _ in range(classes + 1)]
    for key, one in truth.items():
        objects = [
            {"box": inclusive(box), "label": int(label), "difficult": bool(hard), "free": True}
            for box, label, hard in zip(one.boxes_px, one.labels, one.difficult, strict=True)
        ]
        left, rows = [], found.get(key, detected([], []))
        for box, score, label in zip(rows.boxes_px, rows.scores, rows.labels, strict=True):
            if score <= np.float32(limits[label]):
                continue
            own = [(overlap(inclusive(box), o["box"]), o) for o in objects if o["label"] == label]
            best = max(own, key=lambda pair: pair[0], default=(0, None))
            if best[1] is not None and best[0] >= iou and best[1]["difficult"]:
                continue
            if best[1] is not None and best[0] >= iou and best[1]["free"]:
                best[1]["free"] = False
                counts[label][label] += 1
            else:
                left.append((box, int(label)))
        for box, label in left:
            others = [o for o in objects if o["label"] != label and o["free"] and not o["difficult"]]
            best = max(others, key=lambda o: overlap(inclusive(box), o["box"]), default=None)
            if best is not None and overlap(inclusive(box), best["box"]) >= iou:
                best["free"] = False
                counts[best["label"]][label] += 1
            else:
                counts[classes][label] += 1
        for one_object in objects:
            if one_object["free"] and not one_object["difficult"]:
                counts[one_object["label"]][classes] += 1
    return counts


def test_equals_plain_loops_and_the_metric():
    rng, seen = np.random.default_rng(2), 0
    for _ in range(200):
        truth, found, names = random_case(rng)
        # Scores within a picture are all different: of equal ones the two may take another first
        found = {
            key: type(one)(one.boxes_px, np.linspace(0.95, 0.05, len(one.scores)).astype(np.float32), one.labels)
            for key, one in found.items()
        }
        limits = rng.choice([0.0, 0.3, 0.5], len(names))
        iou = float(rng.choice([0.5, 0.25, 0.75]))
        got, curves = confuse(truth, found, names, limits, iou)
        assert got.counts.tolist() == by_hand(truth, found, len(names), limits, iou)
        seen += got.counts[:-1, :-1].sum() - np.trace(got.counts[:-1, :-1])
        for label, curve in enumerate(curves):
            kept = curve.scores > limits[label]
            assert got.counts[label].sum() == curve.positives
            assert got.counts[:, label].sum() == (kept & (curve.true | curve.false)).sum()
            assert got.counts[label, label] == (kept & curve.true).sum()
    assert seen > 20


@pytest.fixture
def planted():
    truth = {
        "a": sample("a", [[0, 0, 10, 10], [50, 50, 60, 60]], [0, 0]),
        "b": sample("b", [[0, 0, 10, 10], [50, 50, 90, 90]], [1, 1], [True, False]),
    }
    found = {
        "a": detected([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], [0.9, 0.8, 0.7], [0, 0, 1]),
        "b": detected([[0, 0, 10, 10], [0, 0, 10, 10]], [0.6, 0.5], [1, 0]),
    }
    got, _ = confuse(truth, found, NAMES, [0.1, 0.1])
    return truth, found, got


def test_by_hand(planted):
    # a car hit, its duplicate, a car taken for a bus; a difficult bus hit and taken for a car, a missed bus
    assert planted[-1].counts.tolist() == [[1, 1, 0], [0, 0, 1], [2, 0, 0]]


def test_cells_name_their_pictures(planted):
    truth, _, got = planted
    written = confusion.to_json(got, truth, NAMES, 1)
    assert written["classes"] == ["car", "bus", "background"] and written["matrix"] == got.counts.tolist()
    rows = {(row["object"], row["detection"]): (row["count"], row["pictures"]) for row in written["errors"]}
    assert rows == {
        ("background", "car"): (2, ["a"]),
        ("car", "bus"): (1, ["a"]),
        ("bus", "background"): (1, ["b"]),
    }
    assert next(iter(rows)) == ("background", "car")  # the fullest first


def test_cases_show_what_happened(planted):
    truth, found, got = planted
    cases = {
        cell: confusion.case(got, entries[0], truth, found, list(truth), NAMES)
        for *cell, entries in confusion.cells(got, NAMES)
        for cell in [tuple(cell)]
    }
    taken = cases["car", "bus"]
    assert (taken.kind, taken.id, taken.partner, taken.overlap) == ("confusion", "a", "car", 1.0)
    assert taken.score == pytest.approx(0.7) and taken.partner_px.tolist() == [50, 50, 60, 60]
    missed = cases["bus", "background"]
    assert (missed.kind, missed.id, missed.box_px.tolist()) == (error_report.MISSED, "b", [50, 50, 90, 90])
    assert missed.partner is None
    assert cases["background", "car"].partner is None


def test_a_missed_object_names_the_detection_on_it_that_is_above_the_threshold():
    truth = {"a": sample("a", [[0, 0, 30, 30]], [1])}
    found = {"a": detected([[0, 0, 30, 30], [0, 0, 30, 10], [0, 0, 5, 5]], [0.3, 0.6, 0.9], [1, 1, 0])}
    got, _ = confuse(truth, found, NAMES, [0.95, 0.5])
    ((_, _, entries),) = [cell for cell in confusion.cells(got, NAMES) if cell[1] == "background"]
    case = confusion.case(got, entries[0], truth, found, ["a"], NAMES)
    assert (case.partner, case.partner_score) == ("bus", pytest.approx(0.6))
    assert case.overlap == pytest.approx(1 / 3)


def test_of_two_objects_in_one_place_the_first_is_taken():
    truth = {"a": sample("a", [[0, 0, 10, 10], [0, 0, 10, 10]], [1, 2])}
    got, _ = confuse(truth, {"a": detected([[0, 0, 10, 10]], [0.9], [0])}, [*NAMES, "van"], [0.5] * 3)
    assert got.counts[1].tolist() == [1, 0, 0, 0] and got.counts[2].tolist() == [0, 0, 0, 1]


def test_missed_objects_come_by_falling_size():
    truth = {"a": sample("a", [[0, 0, 10, 10], [50, 50, 90, 90], [0, 60, 20, 80]])}
    got, _ = confuse(truth, {}, NAMES, [0.5, 0.5])
    ((_, _, entries),) = confusion.cells(got, NAMES)
    assert got.boxes_px[entries].round().tolist() == [[50, 50, 90, 90], [0, 60, 20, 80], [0, 0, 10, 10]]


def test_without_anything():
    got, _ = confuse({"a": sample("a", [])}, {}, NAMES, [0.5, 0.5])
    assert not got.counts.any() and list(confusion.cells(got, NAMES)) == []
