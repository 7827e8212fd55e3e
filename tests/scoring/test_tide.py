"""What errors cost, against tidecv's own figures (tests/fixtures/make_tide.py wrote them) and against loops."""

import json
from pathlib import Path

import numpy as np
import pytest

from scoring import tide
from structures import UserError
from voc_cases import detected, random_case, sample

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures" / "tide.json").read_text())
OURS = {
    "Cls": "classification",
    "Loc": "localization",
    "Both": "both",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
    "FalsePos": "false_positive",
    "FalseNeg": "false_negative",
}


@pytest.mark.parametrize("golden", GOLDEN)
def test_equals_tidecv(golden):
    truth, found = {}, {}
    for key, picture in golden["pictures"].items():
        labels, difficult, boxes = zip(*picture["objects"], strict=True) if picture["objects"] else ([], [], [])
        truth[key] = sample(key, list(boxes), list(labels), list(difficult), (60, 60))
        labels, scores, boxes = zip(*picture["detections"], strict=True) if picture["detections"] else ([], [], [])
        found[key] = detected(list(boxes), list(scores), list(labels))
    got = tide.costs(truth, found, 3, golden["iou"])
    assert got["ap"] == pytest.approx(golden["ap"] / 100, abs=1e-9)
    for name, kind in OURS.items():
        assert got["errors"][kind]["gain"] == pytest.approx(golden["gains"][name] / 100, abs=1e-9), kind
        if name in golden["counts"]:
            assert got["errors"][kind]["count"] == golden["counts"][name], kind


def test_the_fixture_has_every_kind():
    for name in OURS:
        assert any(golden["gains"][name] > 0 for golden in GOLDEN), name


def overlap(a, b):
    """(IoU, share of a in b) of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return (common / (area_a + area_b - common), common / area_a) if common else (0.0, 0.0)


def listed(truth, found, iou):
    """Every detection as a dict with its kind, and every object with what became of it, by plain loops."""
    detections, objects = [], []
    for key, one in truth.items():
        rows = zip(one.boxes_px, one.labels, one.difficult, strict=True)
        mine = [{"box": b, "label": int(k), "difficult": bool(d), "taken": False, "by": None} for b, k, d in rows]
        counting, regions = ([o for o in mine if o["difficult"] == hard] for hard in (False, True))
        objects += counting
        if key not in found:
            continue
        rows = zip(found[key].boxes_px.astype(float), found[key].scores, found[key].labels, strict=True)
        own = [{"box": b, "score": float(s), "label": int(k)} for b, s, k in rows][:100]
        for one_found in own:
            free = [o for o in counting if o["label"] == one_found["label"] and not o["taken"]]
            best = max(free, key=lambda o: overlap(one_found["box"], o["box"])[0], default=None)
            one_found["hit"] = best is not None and overlap(one_found["box"], best["box"])[0] >= iou
            if one_found["hit"]:
                best["taken"] = True
        for one_found in own:
            one_found["ignored"] = not one_found["hit"] and any(
                overlap(one_found["box"], r["box"])[1] > iou and r["label"] == one_found["label"] for r in regions
            )
            one_found["kind"], one_found["to"] = None, None
            if not one_found["hit"]:
                one_found["kind"], target = kind_of(one_found, counting, iou)
                if target is not None and not target["taken"] and target["by"] is None:
                    target["by"], one_found["to"] = one_found, target["label"]
        detections += own
    return detections, objects


def kind_of(one, objects, iou):
    """(kind, object that it would take once it is fixed, or None)."""
    ious = [overlap(one["box"], o["box"])[0] for o in objects]
    own = [value for value, o in zip(ious, objects, strict=True) if o["label"] == one["label"]]
    others = [value for value, o in zip(ious, objects, strict=True) if o["label"] != one["label"]]
    if own and 0.1 <= max(own) <= iou:
        return "localization", [o for o in objects if o["label"] == one["label"]][own.index(max(own))]
    if others and max(others) >= iou:
        return "classification", [o for o in objects if o["label"] != one["label"]][others.index(max(others))]
    taken = [v for v, o in zip(ious, objects, strict=True) if o["label"] == one["label"] and o["taken"]]
    if taken and max(taken) >= iou:
        return "duplicate", None
    return ("background" if max(ious, default=0) <= 0.1 else "both"), None


def mean_ap(rows, positives, errors_first):
    """rows: [(label, score, hit, is it an error today)]."""
    values = []
    for label, count in positives.items():
        mine = [row for row in rows if row[0] == label]
        if not mine and not count:
            continue
        mine.sort(key=lambda row: (-row[1], not row[3]) if errors_first else (-row[1],))
        points, true = [], 0
        for place, row in enumerate(mine, start=1):
            true += row[2]
            points.append((true / count if count else 0, true / place))
        best = [max((p for r, p in points if count and r >= step / 100), default=0) for step in range(101)]
        values.append(sum(best) / 101)
    return sum(values) / len(values) if values else None


def by_hand(truth, found, classes, iou):
    detections, objects = listed(truth, found, iou)
    shown = [d for d in detections if not d["ignored"]]
    today = [(d["label"], d["score"], d["hit"], not d["hit"]) for d in shown]
    positives = {k: sum(o["label"] == k for o in objects) for k in range(classes)}
    positives = {k: count for k, count in positives.items() if count}
    base = mean_ap(today, positives, False)
    missed = [o for o in objects if not o["taken"] and o["by"] is None]
    untaken = [o for o in objects if not o["taken"]]

    def without(some):
        return {k: count - sum(o["label"] == k for o in some) for k, count in positives.items()}

    gains = {}
    for kind in tide.KINDS:
        rows = [
            (d["label"] if d["kind"] != kind else d["to"], d["score"], d["hit"] or d["kind"] == kind, not d["hit"])
            for d in detections
            if (d["to"] is not None if d["kind"] == kind else not d["ignored"])
        ]
        gains[kind] = mean_ap(rows, without(missed) if kind == "missed" else positives, True)
    gains = {kind: base if value is None else max(value, base) for kind, value in gains.items()} if positives else gains
    gains["false_positive"] = mean_ap([row for row in today if row[2]], positives, True)
    gains["false_negative"] = mean_ap(today, without(untaken), True)
    counts = {kind: sum(d["kind"] == kind for d in shown) for kind in tide.KINDS}
    counts |= {"missed": len(missed), "false_positive": sum(not d["hit"] for d in shown)}
    return base, gains, counts | {"false_negative": len(untaken)}


def test_equals_plain_loops():
    rng = np.random.default_rng(4)
    kinds = set()
    for _ in range(150):
        truth, found, names = random_case(rng)
        iou = float(rng.choice([0.5, 0.25, 0.75]))
        base, after, counts = by_hand(truth, found, len(names), iou)
        got = tide.costs(truth, found, len(names), iou)
        assert {kind: one["count"] for kind, one in got["errors"].items()} == counts
        kinds |= {kind for kind, count in counts.items() if count}
        if base is None:
            assert got["ap"] is None and all(one["gain"] is None for one in got["errors"].values())
            continue
        assert got["ap"] == pytest.approx(base)
        for kind, one in got["errors"].items():
            assert one["gain"] == pytest.approx((after[kind] or 0.0) - base), kind
    assert len(kinds) == 8


def test_only_the_best_hundred_of_a_picture_count():
    truth = {"a": sample("a", [[0, 0, 10, 10]])}
    boxes = [[50, 50, 60, 60]] * 100 + [[0, 0, 10, 10]]
    got = tide.costs(truth, {"a": detected(boxes, np.linspace(1, 0.5, 101))}, 1)
    assert got["ap"] == 0 and got["errors"]["background"]["count"] == 100 and got["errors"]["missed"]["count"] == 1


def test_an_unknown_picture_is_refused():
    with pytest.raises(UserError, match="'b'"):
        tide.costs({}, {"b": detected([], [])}, 1)
