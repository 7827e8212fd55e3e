"""HOTA, MOTA and IDF1: by hand, by a slow twin written from their definitions, and by TrackEval where it is."""

import itertools

import numpy as np
import pytest

import moving_boxes
from oracles import iou
from tracking import metrics
from tracking.mot_file import objects

FAR = 1000.0


def frame(*pairs, counts=None, label=0):
    """Objects (id, x) of 10 × 10 pixels."""
    boxes = [(x, 0, x + 10, 10) for _, x in pairs]
    return objects([key for key, _ in pairs], [label] * len(pairs), boxes, counts or [True] * len(pairs))


def score(truth, found, **options):
    return metrics.score(dict(enumerate(truth)), found, ["a"], None, **options)


def test_perfect_tracks():
    truth = [frame((1, 0), (2, 50)), frame((1, 2), (2, 48))]
    found = score(truth, [frame((7, 0), (9, 50)), frame((7, 2), (9, 48))])
    assert {found[name] for name in ("hota", "det_a", "ass_a", "loc_a", "mota", "idf1")} == {1.0}
    assert (found["id_switches"], found["objects"], found["tracks"], found["boxes"]) == (0, 2, 2, 4)


def test_a_switch_by_hand():
    """One object in four frames, found by track 1 twice and then by track 2 twice, exactly."""
    found = score([frame((5, 0))] * 4, [frame((1, 0))] * 2 + [frame((2, 0))] * 2)
    assert found["mota"] == 1 - 1 / 4 and found["id_switches"] == 1
    assert found["idf1"] == 2 / 4  # two boxes of four are of the best track; two of either are not
    assert found["ass_a"] == pytest.approx(2 / 4) and found["det_a"] == 1
    assert found["hota"] == pytest.approx(np.sqrt(0.5))


def test_misses_and_false_boxes_by_hand():
    found = score([frame((1, 0)), frame((1, 0))], [frame((1, 0), (2, FAR)), frame((2, FAR))])
    assert found["mota"] == (1 - 2) / 2 and (found["found"], found["false"]) == (1, 2)
    assert found["det_a"] == pytest.approx(1 / 4) and found["ass_a"] == pytest.approx(1 / 2)


def test_half_an_overlap_counts_at_half_of_the_thresholds():
    shifted = frame((1, 10 / 3))  # IoU 0.5
    found = score([frame((1, 0))], [shifted])
    assert found["loc_a"] == pytest.approx((10 * 0.5 + 9 * 1) / 19)
    assert found["hota"] == pytest.approx(10 / 19)


def test_nothing_found_and_nothing_to_find():
    assert score([frame((1, 0))], [frame()])["hota"] == 0
    only_false = score([frame()], [frame((1, 0))])
    assert (only_false["mota"], only_false["false"]) == (-1, 1)
    assert score([], [])["boxes"] == 0


def test_objects_that_do_not_count_neither_help_nor_harm():
    truth = [frame((1, 0), (2, 50), counts=[True, False])]
    for found in ([frame((1, 0))], [frame((1, 0), (2, 50))]):
        assert (score(truth, found)["mota"], score(truth, found)["boxes"]) == (1, 1)
    assert score(truth, [frame((1, 0), (2, FAR))])["mota"] == 0


def test_classes_add_up_and_only_common_ones_are_scored():
    truth = [objects([1, 2, 3], [0, 1, 2], [(0, 0, 9, 9), (50, 0, 59, 9), (90, 0, 99, 9)], [True] * 3)]
    found = [objects([1, 2, 3], [1, 0, 2], [(0, 0, 9, 9), (70, 0, 79, 9), (50, 0, 59, 9)], [True] * 3)]
    result = metrics.score({0: truth[0]}, found, ["bus", "car", "tram"], ["car", "bus", "boat"])
    assert list(result["per_class"]) == ["bus", "car"]
    assert (result["boxes"], result["found"], result["false"]) == (2, 1, 1)
    assert result["per_class"]["car"]["mota"] == 1 and result["per_class"]["bus"]["mota"] == -1
    only = metrics.score({0: truth[0]}, found, ["bus", "car", "tram"], ["car", "bus", "boat"], ["car"])
    assert list(only["per_class"]) == ["car"] and only["boxes"] == 1


def example(seed, count=4, frames=10):
    """(truth, found) with misses, false boxes, jitter and switches."""
    rng = np.random.default_rng(seed)
    truth, _ = moving_boxes.moving(rng, count, frames)
    truth = moving_boxes.as_one_class(truth)
    found = []
    for index, one in enumerate(truth):
        keep = rng.random(len(one.ids)) > 0.2
        ids, boxes = one.ids[keep].copy(), one.boxes_px[keep] + rng.normal(0, 3, (keep.sum(), 4))
        if index > frames // 2:
            ids[ids == 1], ids[ids == 2] = 22, 1
        ids, boxes = np.append(ids, 99), np.append(boxes, [rng.uniform(0, 400) + np.array([0, 0, 40, 40])], axis=0)
        found.append(objects(ids, np.zeros(len(ids)), boxes, np.ones(len(ids))))
    return truth, found


def pairings(rows, columns):
    """All ways to pair rows with columns, one to one, as lists of pairs."""
    if not rows:
        yield []
        return
    for rest in pairings(rows[1:], columns):
        yield rest
    for column in columns:
        for rest in pairings(rows[1:], [other for other in columns if other != column]):
            yield [(rows[0], column), *rest]


def best_pairs(truth, found, gain):
    """The pairs of two {id: box} with the largest sum of gains, by trying all."""
    return max(pairings(list(truth), list(found)), key=lambda pairs: sum(gain(*pair) for pair in pairs))


def slow_scores(truth, found):
    """(HOTA, MOTA, IDF1) from their definitions, with all pairings tried."""
    frames = [
        tuple(dict(zip(one.ids.tolist(), one.boxes_px.tolist(), strict=True)) for one in pair)
        for pair in zip(truth, found, strict=True)
    ]
    objects_, tracks = ({key for pair in frames for key in pair[side]} for side in (0, 1))
    length = [
        {key: sum(key in pair[side] for pair in frames) for key in keys} for side, keys in ((0, objects_), (1, tracks))
    ]
    agree = dict.fromkeys(itertools.product(objects_, tracks), 0.0)
    for a, b in frames:
        ious = {(i, j): iou(a[i], b[j]) for i in a for j in b}
        for i, j in ious:
            union = sum(ious[i, k] for k in b) + sum(ious[k, j] for k in a) - ious[i, j]
            agree[i, j] += ious[i, j] / union if union else 0
    align = {(i, j): agree[i, j] / (length[0][i] + length[1][j] - agree[i, j]) for i, j in agree}
    hota = []
    for alpha in metrics.ALPHAS:
        pairs = []
        for a, b in frames:
            best = best_pairs(a, b, lambda i, j, a=a, b=b: align[i, j] * iou(a[i], b[j]))
            pairs += [(i, j) for i, j in best if iou(a[i], b[j]) >= alpha]
        associations = [pairs.count((i, j)) / (length[0][i] + length[1][j] - pairs.count((i, j))) for i, j in pairs]
        false = sum(length[1].values()) - len(pairs)
        hota.append(np.sqrt(sum(associations) / (sum(length[0].values()) + false)))
    errors, last, before = 0, {}, {}
    for a, b in frames:
        pairs = {}
        if a and b:
            sure = {i: before[i] for i in a if before.get(i) in b and iou(a[i], b[before[i]]) >= 0.5}
            rest = [k for k in a if k not in sure], [k for k in b if k not in sure.values()]
            gain = lambda i, j, a=a, b=b: iou(a[i], b[j]) if iou(a[i], b[j]) >= 0.5 else 0  # noqa: E731
            best = max(pairings(*rest), key=lambda pairs: sum(gain(*pair) for pair in pairs))
            before = pairs = sure | {i: j for i, j in best if gain(i, j)}
        errors += len(a) + len(b) - 2 * len(pairs) + sum(last.get(i, j) != j for i, j in pairs.items())
        last |= pairs
    boxes = sum(length[0].values())
    hits = {
        (i, j): sum(i in a and j in b and iou(a[i], b[j]) >= 0.5 for a, b in frames)
        for i, j in itertools.product(objects_, tracks)
    }
    right = max(sum(hits[pair] for pair in pairs) for pairs in pairings(list(objects_), list(tracks)))
    return np.mean(hota), 1 - errors / boxes, 2 * right / (boxes + sum(length[1].values()))


@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_their_definitions(seed):
    truth, found = example(seed, count=3, frames=8)
    expected = slow_scores(truth, found)
    ours = score(truth, found)
    np.testing.assert_allclose((ours["hota"], ours["mota"], ours["idf1"]), expected, atol=1e-9)
    assert 0 < ours["hota"] < 0.95


@pytest.mark.parametrize("seed", range(6))
def test_trackeval_agrees(seed):
    trackeval = pytest.importorskip("trackeval")
    truth, found = example(seed, count=14, frames=80)
    data = {"num_timesteps": len(truth), "similarity_scores": [], "gt_ids": [], "tracker_ids": []}
    keys = [sorted({key for one in frames for key in one.ids.tolist()}) for frames in (truth, found)]
    for one, other in zip(truth, found, strict=True):
        data["similarity_scores"].append(metrics.box_geometry.iou(one.boxes_px, other.boxes_px))
        data["gt_ids"].append(np.searchsorted(keys[0], one.ids))
        data["tracker_ids"].append(np.searchsorted(keys[1], other.ids))
    for name, side, frames in (("gt", 0, truth), ("tracker", 1, found)):
        data[f"num_{name}_ids"] = len(keys[side])
        data[f"num_{name}_dets"] = sum(len(one.ids) for one in frames)
    quiet = {"PRINT_CONFIG": False}
    hota = trackeval.metrics.HOTA().eval_sequence(data)
    clear = trackeval.metrics.CLEAR(quiet).eval_sequence(data)
    identity = trackeval.metrics.Identity(quiet).eval_sequence(data)
    ours = score(truth, found)
    for name, theirs in (("hota", "HOTA"), ("det_a", "DetA"), ("ass_a", "AssA"), ("loc_a", "LocA")):
        assert ours[name] == pytest.approx(hota[theirs].mean(), abs=1e-9)
    assert (ours["mota"], ours["id_switches"]) == pytest.approx((clear["MOTA"], clear["IDSW"]))
    assert ours["idf1"] == pytest.approx(identity["IDF1"])
