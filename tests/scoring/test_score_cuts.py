"""AP of the detections above a score equals the metric of exactly those detections."""

import numpy as np

import average_precision
from scoring import score_cuts
from voc_cases import random_case


def test_equals_the_metric_of_what_is_left():
    rng = np.random.default_rng(1)
    for _ in range(100):
        truth, found, names = random_case(rng)
        curves = average_precision.precision_recall(truth, found, names)
        for row in score_cuts.table(curves, (0.0, 0.25, 0.3, 0.9)):
            left = {key: one.where(one.scores > np.float32(row["score"])) for key, one in found.items()}
            report = average_precision.evaluate(truth, left, names)
            assert row["voc07"] == report["voc07"] and row["area"] == report["area"]
            assert row["detections"] == sum(report["detections"].values())


def test_table_for_people():
    rows = [
        {"score": 0.01, "voc07": {"mean": 0.5, "per_class": {"car": 0.5, "bus": None}}},
        {"score": 0.5, "voc07": {"mean": 0.25, "per_class": {"car": 0.25, "bus": None}}},
    ]
    assert score_cuts.text(rows).splitlines() == [
        "AP VOC07 of scores   > 0.01    > 0.5",
        "car                  0.5000   0.2500",
        "bus                     n/a      n/a",
        "mean                 0.5000   0.2500",
    ]
