"""Each kind of error, planted, must be counted as exactly that; the report agrees with the metric's verdicts."""

import json

import numpy as np
import pytest

import average_precision
import oracles
from scoring import error_report
from voc_cases import detected, random_case, sample

NAMES = ["car", "bus", "van"]
CAR, BUS, VAN = range(3)
# Continuous edges: 10 × 10 pixels; the metric counts inclusive pixels, which here gives the same areas
OBJECT = [10, 10, 20, 20]
FAR = [60, 60, 70, 70]


def analyzed(truth, found, names=NAMES, iou=0.5):
    curves = average_precision.precision_recall(truth, found, names, iou)
    return error_report.analyze(truth, curves, iou)


def kinds(errors):
    return [None if kind < 0 else error_report.KINDS[kind] for kind in errors.kinds]


def one_picture(objects, difficult=None):
    """A ground truth of one picture. objects: [(label, box)]."""
    return {"a": sample("a", [box for _, box in objects], [label for label, _ in objects], difficult)}


@pytest.mark.parametrize(
    ("objects", "box", "kind", "overlap"),
    [
        ([(CAR, OBJECT)], OBJECT, None, 1),
        ([(CAR, OBJECT)], [10, 10, 20, 15], None, 0.5),  # exactly enough
        ([(CAR, OBJECT)], [10, 10, 20, 14], "localization", 0.4),
        ([(CAR, OBJECT)], [10, 10, 20, 11], "localization", 0.1),  # exactly
        ([(CAR, OBJECT)], [10, 10, 19, 11], "background", 0),  # 0.09
        ([(CAR, OBJECT)], FAR, "background", 0),
        ([(BUS, OBJECT)], OBJECT, "confusion", 1),
        ([(BUS, OBJECT)], [10, 10, 20, 11], "confusion", 0.1),
        ([(BUS, OBJECT)], [10, 10, 19, 11], "background", 0),
        # The own class first, however small its overlap
        ([(CAR, [10, 10, 20, 12]), (BUS, OBJECT)], OBJECT, "localization", 0.2),
        ([], OBJECT, "background", 0),
    ],
)
def test_a_planted_detection_is_of_its_kind(objects, box, kind, overlap):
    errors = analyzed(one_picture(objects), {"a": detected([box], [0.9], [CAR])})[CAR]
    assert kinds(errors) == [kind]
    assert errors.overlaps.tolist() == [pytest.approx(overlap)]
    assert (errors.partners[0] == -1) == (kind == "background")


def test_duplicates_are_what_the_metric_did_not_take():
    truth = one_picture([(CAR, OBJECT), (CAR, FAR)])
    found = {"a": detected([OBJECT, OBJECT, FAR, [10, 10, 20, 16]], [0.9, 0.8, 0.7, 0.6], [CAR] * 4)}
    errors = analyzed(truth, found)[CAR]
    assert kinds(errors) == [None, "duplicate", None, "duplicate"]
    assert error_report.false_positives(errors)["duplicate"] == (1, 2)  # of two objects, the best two detections
    assert errors.fates.tolist() == [error_report.HIT_TOP, error_report.HIT_LATER]
    assert errors.partners.tolist() == [0, 0, 1, 0]


def test_confusions_name_the_class_that_is_overlapped_most():
    truth = one_picture([(CAR, [80, 80, 90, 90]), (BUS, OBJECT), (VAN, [10, 10, 20, 18])])
    found = {"a": detected([OBJECT, [10, 10, 20, 18], [10, 10, 20, 17]], [0.9, 0.8, 0.7], [CAR] * 3)}
    errors = analyzed(truth, found)[CAR]
    assert kinds(errors) == ["confusion"] * 3
    assert error_report.confused_with(errors, truth, NAMES) == {"van": (0, 2), "bus": (1, 1)}
    assert errors.partners.tolist() == [1, 2, 2]


def test_confusions_are_found_in_the_right_pictures():
    """Detections come by score, so that pictures alternate."""
    truth = {
        "z": sample("z", [OBJECT, FAR], [BUS, VAN]),
        "empty": sample("empty", []),
        "a": sample("a", [FAR], [BUS]),
    }
    found = {
        "a": detected([FAR, OBJECT], [0.9, 0.3], [CAR, CAR]),
        "empty": detected([FAR], [0.8], [CAR]),
        "z": detected([FAR, OBJECT], [0.7, 0.2], [CAR, CAR]),
    }
    errors = analyzed(truth, found)[CAR]
    assert kinds(errors) == ["confusion", "background", "confusion", "background", "confusion"]
    assert error_report.confused_with(errors, truth, NAMES) == {"bus": (0, 2), "van": (0, 1)}
    assert errors.partners.tolist() == [0, -1, 1, -1, 0]


def test_difficult_objects_are_not_missed_and_their_hits_no_errors():
    truth = one_picture([(CAR, OBJECT), (CAR, FAR)], difficult=[True, False])
    found = {"a": detected([OBJECT, OBJECT, [10, 10, 20, 14]], [0.9, 0.8, 0.7], [CAR] * 3)}
    errors = analyzed(truth, found)[CAR]
    assert kinds(errors) == [None, None, "localization"]
    assert errors.top.tolist() == [False, False, True]  # the first that counts
    assert errors.fates.tolist() == [error_report.NOT_HIT] and errors.object_rows.tolist() == [1]


def test_misses_by_size():
    sides = {"<16": 15.9, "16-32": 16, "32-64": 63, "64-128": 64, "128-256": 255, ">=256": 256}
    truth = {
        name: sample(name, [[0, 0, side, side], [0, 300, 2 * side, 300 + side / 2]], [CAR, CAR], size=(600, 600))
        for name, side in sides.items()
    }
    found = {name: detected([[0, 0, side, side]], [0.9], [CAR]) for name, side in sides.items() if side > 20}
    errors = analyzed(truth, found)[CAR]
    expected = {name: (1, 0, 1) if side > 20 else (0, 0, 2) for name, side in sides.items()}
    assert error_report.by_size(errors) == expected


def test_worst_cases():
    truth = {
        "a": sample("a", [OBJECT, [30, 30, 60, 60]], [CAR, CAR]),
        "b": sample("b", [OBJECT], [CAR]),
        "c": sample("c", [FAR], [BUS]),
    }
    found = {
        "a": detected([[10, 10, 20, 14], [80, 80, 90, 90]], [0.6, 0.5], [CAR, CAR]),
        "c": detected([FAR, [0, 0, 9, 9]], [0.9, 0.8], [CAR, CAR]),
    }
    errors = analyzed(truth, found)[CAR]
    cases = error_report.worst_cases(errors, truth, found, NAMES, 2)
    assert [len(some) for some in cases.values()] == [1, 0, 1, 2, 2]
    (wrong,) = cases["confusion"]
    assert (wrong.id, wrong.partner, wrong.overlap) == ("c", "bus", 1) and wrong.score == pytest.approx(0.9)
    assert wrong.partner_px.tolist() == FAR
    assert [case.id for case in cases["background"]] == ["c", "a"]  # the highest score first
    large, small = cases["missed"]
    assert large.box_px.tolist() == [30, 30, 60, 60] and large.partner is None  # the largest first
    assert small.id == "a" and (small.partner, small.overlap) == ("car", pytest.approx(0.4))
    assert small.partner_score == pytest.approx(0.6)


def test_what_is_written_is_plain_json():
    truth = one_picture([(CAR, OBJECT)])
    found = {"a": detected([FAR, OBJECT], [0.9, 0.8], [CAR, BUS])}
    data = error_report.to_json(analyzed(truth, found), truth, found, NAMES, 0.5, 10)
    json.dumps(data, allow_nan=False)
    car, bus = data["classes"]["car"], data["classes"]["bus"]
    assert car["false_positives"]["background"] == {"top": 1, "all": 1} and car["missed"] == 1
    assert car["objects_by_size"]["<16"] == {"hit_by_top": 0, "hit_by_others": 0, "missed": 1}
    (missed,) = car["worst"]["missed"]
    assert missed["overlaps"] == "bus" and missed["iou"] == 1 and missed["box"] == OBJECT and "score" not in missed
    assert bus["objects"] == 0 and bus["confused_with"] == {"car": {"top": 0, "all": 1}}  # no object, so no top
    assert data["classes"]["van"]["detections"] == 0


@pytest.mark.parametrize("iou", [0.5, 0.05, 1.0])
def test_agrees_with_the_metric_on_random_cases(iou):
    """Every false positive has one kind, every hit an object of its own, every other object is missed."""
    rng = np.random.default_rng(5)
    seen = set()
    for _ in range(300):
        truth, found, names = random_case(rng)
        for label, errors in enumerate(analyzed(truth, found, names, iou)):
            curve = errors.curve
            np.testing.assert_array_equal(errors.kinds >= 0, curve.verdicts == average_precision.FALSE)
            hit = {(i, o) for i, o in zip(curve.images[curve.true], curve.objects[curve.true], strict=True)}
            assert len(hit) == curve.true.sum() == (errors.fates != error_report.NOT_HIT).sum()
            assert len(errors.fates) == curve.positives
            assert errors.top.sum() == min(curve.positives, (curve.true | curve.false).sum())
            for index in np.flatnonzero(curve.false):
                one = list(truth.values())[curve.images[index]]
                assert kinds(errors)[index] == by_hand(one, curve.boxes_px[index], label, iou)
            seen.update(kinds(errors))
    assert {"duplicate", "confusion", "background", None} <= seen and ("localization" in seen) == (iou > 0.1)


def by_hand(one, box, label, iou):
    """The kind of a false positive, a pair at a time, from the devkit's pixels."""
    own = [oracles.iou(box, gt) for gt, of in zip(one.boxes_px, one.labels, strict=True) if of == label]
    others = [oracles.iou(box, gt) for gt, of in zip(one.boxes_px, one.labels, strict=True) if of != label]
    if max(own, default=0) >= iou:
        return "duplicate"
    if max(own, default=0) >= 0.1:
        return "localization"
    return "confusion" if max(others, default=0) >= 0.1 else "background"


def test_nothing_at_all():
    truth = {"a": sample("a", [])}
    for errors in analyzed(truth, {}):
        assert not len(errors.kinds) and not len(errors.fates)
        assert error_report.worst_cases(errors, truth, {}, NAMES, 5) == {
            kind: [] for kind in (*error_report.KINDS, error_report.MISSED)
        }
    assert analyzed({}, {})[CAR].curve.positives == 0
