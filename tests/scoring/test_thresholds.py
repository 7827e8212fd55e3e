"""Thresholds and calibration against loops over all detections, scikit-learn where it is installed, and by hand."""

from fractions import Fraction

import numpy as np
import pytest

import average_precision
import oracles_ap
from scoring import thresholds
from voc_cases import detected, random_case, sample


def counted(truth, found, labels, iou):
    """[(score, is it a hit)] of the detections that count, and the number of objects, by the slow metric."""
    rows, positives = [], 0
    for label in labels:
        verdicts, objects = oracles_ap.judge(truth, found, label, iou)
        scores = [
            s
            for key in truth
            if key in found
            for s, k in zip(found[key].scores, found[key].labels, strict=True)
            if k == label
        ]
        scores.sort(key=lambda score: -score)
        rows += [(float(s), v == "tp") for s, v in zip(scores, verdicts, strict=True) if v != "ignored"]
        positives += objects
    return rows, positives


def shares(rows, positives, threshold):
    """(hits, false positives, precision, recall, F1) of what scores above a threshold, as Fractions."""
    hits = sum(hit for score, hit in rows if score > threshold)
    false = sum(not hit for score, hit in rows if score > threshold)
    precision = Fraction(hits, hits + false) if hits + false else None
    recall = Fraction(hits, positives) if positives else None
    return hits, false, precision, recall, Fraction(2 * hits, hits + false + positives) if positives else None


def by_hand(rows, positives, precision, recall):
    """The best of each kind, tried at every score: (F1, recall, threshold's score) or None."""
    cuts = sorted({score for score, _ in rows})
    tried = [(cut, shares(rows, positives, np.nextafter(cut, -1))) for cut in cuts]
    tried = [(cut, *row) for cut, row in tried if row[0]] if positives else []
    best = max(tried, key=lambda row: (row[5], row[0]), default=None)
    precise = [row for row in tried if float(row[3]) >= precision]
    complete = [row for row in tried if float(row[4]) >= recall]
    return {
        "best_f1": best,
        f"precision_{precision:g}": min(precise, default=None),
        f"recall_{recall:g}": max(complete, default=None),
    }


def assert_points(points, rows, positives, precision, recall):
    expected = by_hand(rows, positives, precision, recall)
    assert points.keys() == expected.keys()
    for name, row in expected.items():
        if row is None:
            assert points[name] is None, name
            continue
        point = points[name]
        hits, false, *ratios = shares(rows, positives, point["threshold"])  # a program with it finds what it says
        assert (point["hits"], point["false_positives"], point["missed"]) == (hits, false, positives - hits)
        assert (point["precision"], point["recall"], point["f1"]) == pytest.approx(list(map(float, ratios)))
        assert (hits, false) == row[1:3]


def test_points_equal_trying_every_score():
    rng, kinds = np.random.default_rng(5), set()
    for _ in range(80):
        truth, found, names = random_case(rng)
        precision, recall = (float(share) for share in rng.choice([0.25, 0.5, 0.9, 1.0], 2))
        curves = average_precision.precision_recall(truth, found, names)
        points = thresholds.operating_points(curves, precision, recall)
        assert_points(points["all"], *counted(truth, found, range(len(names)), 0.5), precision, recall)
        for label, name in enumerate(names):
            assert_points(points["per_class"][name], *counted(truth, found, [label], 0.5), precision, recall)
            kinds |= {(kind, point is None) for kind, point in points["per_class"][name].items()}
    assert len(kinds) >= 12  # each kind was there and was not


def test_curves_on_the_grid_equal_counting():
    rng = np.random.default_rng(6)
    for _ in range(20):
        truth, found, names = random_case(rng)
        curves = average_precision.precision_recall(truth, found, names)
        rows, positives = counted(truth, found, range(len(names)), 0.5)
        got = thresholds.on_grid(thresholds.sweep(curves))
        for index, threshold in enumerate(got["score"]):
            ratios = shares(rows, positives, threshold)[2:]
            wanted = [None if ratio is None else float(ratio) for ratio in ratios]
            if positives == 0 and rows and any(score > threshold for score, _ in rows):
                wanted[2] = 0.0
            assert [got[column][index] for column in ("precision", "recall", "f1")] == wanted


def test_numbers_between_scores_are_short_and_keep_them_apart():
    assert thresholds.between(0.4312, 0.4377) == 0.434
    assert thresholds.between(0.2, 0.8) == 0.5
    assert thresholds.between(0.0, 0.01) == 0.0
    rng = np.random.default_rng(0)
    for score in rng.random(500).astype(np.float32):
        neighbor = float(np.nextafter(score, np.float32(0)))
        number = thresholds.between(neighbor, float(score))
        assert (
            neighbor <= number < score and not np.float32(neighbor) > np.float32(number) and score > np.float32(number)
        )


def test_a_threshold_is_not_below_what_was_written():
    """Below the scores in the file there may be more detections: 0.02 was the limit."""
    truth = {"a": sample("a", [[0, 0, 10, 10]])}
    curves = average_precision.precision_recall(truth, {"a": detected([[0, 0, 10, 10]], [0.03])}, ["car"])
    assert thresholds.operating_points(curves, 0.9, 0.9, floor=0.02)["all"]["best_f1"]["threshold"] == 0.025


def test_calibration_by_hand():
    """Two bins: two detections of 0.84 on average, half of them hits; one of 0.125 without a hit."""
    truth = {"a": sample("a", [[0, 0, 10, 10]])}
    found = {"a": detected([[0, 0, 10, 10], [50, 50, 60, 60], [70, 70, 80, 80]], [0.875, 0.8125, 0.125])}
    got = thresholds.calibration(average_precision.precision_recall(truth, found, ["car"]))
    assert got["bins"] == [
        {"score": 0.125, "hits": 0.0, "detections": 1},
        {"score": 0.84375, "hits": 0.5, "detections": 2},
    ]
    assert got["expected_error"] == pytest.approx((2 * 0.34375 + 0.125) / 3)
    assert thresholds.calibration([]) is None
    outside = average_precision.precision_recall(truth, {"a": detected([[0, 0, 10, 10]], [1.5])}, ["car"])
    assert thresholds.calibration(outside) is None


def test_a_score_on_the_edge_of_two_bins_is_in_the_lower_one():
    truth = {"a": sample("a", [[0, 0, 10, 10]])}
    found = {"a": detected([[50, 50, 60, 60], [0, 0, 10, 10]], [0.5625, 0.5])}
    got = thresholds.calibration(average_precision.precision_recall(truth, found, ["car"]))
    assert got["bins"] == [
        {"score": 0.5, "hits": 1.0, "detections": 1},
        {"score": 0.5625, "hits": 0.0, "detections": 1},
    ]


def test_calibration_equals_a_loop():
    rng = np.random.default_rng(8)
    for _ in range(200):
        truth, found, names = random_case(rng)
        rows, _ = counted(truth, found, range(len(names)), 0.5)
        got = thresholds.calibration(average_precision.precision_recall(truth, found, names))
        bins, error = [], 0
        for k in range(10):
            low, high = k / 10, (k + 1) / 10
            inside = [row for row in rows if (low < row[0] or k == 0) and row[0] <= high]
            if inside:
                score, hits = (sum(row[i] for row in inside) / len(inside) for i in (0, 1))
                bins.append((score, hits, len(inside)))
                error += len(inside) / len(rows) * abs(score - hits)
        if not rows:
            assert got is None
            continue
        assert got["expected_error"] == pytest.approx(error)
        assert [tuple(one.values()) for one in got["bins"]] == [pytest.approx(one) for one in bins]


def test_equals_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    calibration = pytest.importorskip("sklearn.calibration")
    rng = np.random.default_rng(9)
    for _ in range(50):
        truth, found, names = random_case(rng)
        curves = average_precision.precision_recall(truth, found, names)
        rows, positives = counted(truth, found, range(len(names)), 0.5)
        hits = sum(hit for _, hit in rows)
        if not hits:
            continue
        scores, true = np.array(rows).T
        precision, recall, cuts = metrics.precision_recall_curve(true, scores)
        swept = thresholds.sweep(curves)
        np.testing.assert_array_equal(swept.scores[::-1], cuts)
        np.testing.assert_allclose(swept.precision[::-1], precision[:-1])
        np.testing.assert_allclose(swept.recall[::-1] * positives / hits, recall[:-1])  # its recall is of the found
        if hits < len(rows):
            share, mean = calibration.calibration_curve(true, scores, n_bins=10)
            bins = thresholds.calibration(curves)["bins"]
            np.testing.assert_allclose([one["hits"] for one in bins], share)
            np.testing.assert_allclose([one["score"] for one in bins], mean)
