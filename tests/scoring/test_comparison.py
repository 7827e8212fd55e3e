"""Comparison of results: intervals against resampled data sets that are scored anew, and the program."""

import json

import numpy as np
import pytest

import average_precision
from scoring import comparison
from scoring.error_report import Objects
from scoring.score_report import Scored
from structures import Sample, UserError
from voc_cases import FOUND, detected, random_case, sample, score, write_found


def scored(truth, found, names, iou=0.5):
    return Scored(truth, found, tuple(names), average_precision.precision_recall(truth, found, names, iou), iou)


def resampled(truth, found, weights):
    """The data set in which each picture is as often as its weight, copies beside each other."""
    copies = [(key, f"{key}#{n}") for key, weight in zip(truth, weights, strict=True) for n in range(weight)]
    return {new: truth[key] for key, new in copies}, {new: found[key] for key, new in copies if key in found}


def of_size(truth, found, limits, iou):
    """The data set as a size sees it: objects of other sizes are difficult, false positives of others are gone."""
    low, high = limits
    new_truth, new_found = {}, {}
    for key, one in truth.items():
        area = np.prod(one.boxes_px[:, 2:] - one.boxes_px[:, :2], axis=1)
        outside = ~((area > low) & (area <= high))
        new_truth[key] = Sample(**{**vars(one), "difficult": one.difficult | outside})
        if key in found:
            new_found[key] = found[key]
    curves = average_precision.precision_recall(truth, found, [str(k) for k in range(9)], iou)
    keep = {key: np.ones(len(one), bool) for key, one in new_found.items()}
    keys = list(truth)
    for label, curve in enumerate(curves):
        for image, box, value in zip(curve.images, curve.boxes_px, curve.overlaps, strict=True):
            area = float(np.prod(box[2:].astype(float) - box[:2]))
            if value < iou and not low < area <= high:
                one = new_found[keys[image]]
                keep[keys[image]] &= ~((one.boxes_px == box).all(axis=1) & (one.labels == label))
    return new_truth, {key: one.where(keep[key]) for key, one in new_found.items()}


def area(truth, found, names, iou):
    report = average_precision.evaluate(truth, found, names, iou)["area"]
    return [*report["per_class"].values(), report["mean"]]


def test_each_resample_equals_scoring_its_pictures():
    rng, seen = np.random.default_rng(5), set()
    for _ in range(40):
        truth, found, names = random_case(rng)
        iou = float(rng.choice([0.5, 0.75]))
        # Scores within a picture are all different: copies of equal ones may come in another order
        found = {
            key: type(some)(some.boxes_px, np.linspace(0.95, 0.05, len(some)).astype(np.float32), some.labels)
            for key, some in found.items()
        }
        one, objects = scored(truth, found, names, iou), Objects(truth.values())
        weights = comparison.draw_weights(len(truth), 4)
        assert weights.sum(axis=1).tolist() == [len(truth)] * 5 and (weights[0] == 1).all()
        for limits in (None, (0, 300.0), (300.0, np.inf)):
            rows = [
                comparison.rows_of(curve, objects, label, len(truth), limits, iou)
                for label, curve in enumerate(one.curves)
            ]
            got = comparison._with_mean([comparison._aps(row, weights) for row in rows])
            data = (truth, found) if limits is None else of_size(truth, found, limits, iou)
            for column, drawn in zip(got.T, weights, strict=True):
                wanted = area(*resampled(*data, drawn), names, iou)
                assert [None if np.isnan(value) else value for value in column] == pytest.approx(wanted)
                seen |= {value is None for value in wanted}
    assert seen == {True, False}


def test_in_parts_the_same(monkeypatch):
    truth, found, names = random_case(np.random.default_rng(1))
    one = scored(truth, found, names)
    whole = comparison.compare([one, one], 50)
    monkeypatch.setattr(comparison, "CHUNK", 1)
    assert comparison.compare([one, one], 50) == whole


def two_results():
    """A finds the cars of pictures 0 to 29 of 40, B those of 10 to 39 but with false positives of high score."""
    truth = {str(n): sample(str(n), [[0, 0, 40, 40]]) for n in range(40)}
    box, far = [0, 0, 40, 40], [60, 60, 70, 70]
    a = {str(n): detected([box], [0.9]) for n in range(30)}
    b = {str(n): detected([far, box], [0.95, 0.9]) for n in range(10, 40)}
    return scored(truth, a, ["car"]), scored(truth, b, ["car"])


def test_differences_and_intervals():
    a, b = two_results()
    got = comparison.compare([a, b])
    row = got["sizes"]["all"]["car"]
    assert row["ap"] == [pytest.approx(0.75), pytest.approx(0.75 * 30 / 60)]
    (difference,) = row["differences"]
    assert difference["difference"] == pytest.approx(-0.375)
    low, high = difference["interval"]
    assert -0.7 < low < -0.375 < high < 0
    share = [np.random.default_rng(n).binomial(40, 0.75) / 40 for n in range(4000)]
    assert row["intervals"][0] == pytest.approx(np.percentile(share, (2.5, 97.5)).tolist(), abs=0.03)
    assert got["sizes"]["small"]["mean"]["ap"] == [None, None]
    assert got["sizes"]["medium"]["car"]["ap"] == [pytest.approx(0.75), pytest.approx(0.75)]  # the small one is ignored


def test_both_results_are_scored_on_the_same_resamples():
    """So that a result differs from itself by nothing, however far its own AP moves, and that is no mark."""
    a, _ = two_results()
    row = comparison.compare([a, a])["sizes"]["all"]["car"]
    low, high = row["intervals"][0]
    assert high - low > 0.1 and row["differences"] == [{"difference": 0.0, "interval": [0.0, 0.0]}]
    assert not comparison.show_difference(row["differences"][0]).endswith("*")


@pytest.mark.parametrize(("side", "size"), [(32, "small"), (96, "medium")])
def test_an_area_of_exactly_the_bound_is_of_the_smaller_size(side, size):
    """Of objects and of false positives."""
    box, far = [0, 0, side, side], [128 - side, 128 - side, 128, 128]
    far = [edge + 128 for edge in far]
    truth = {"a": sample("a", [box], size=(256, 256))}
    one = scored(truth, {"a": detected([far, box], [0.9, 0.8])}, ["car"])
    sizes = comparison.compare([one, one], 1)["sizes"]
    found = {name: sizes[name]["car"]["ap"][0] for name in comparison.SIZES}
    assert found == {name: 0.5 if name == size else None for name in comparison.SIZES}


def test_what_one_finds_alone():
    (only,) = comparison.compare(two_results(), 2)["only"]
    assert only["first"]["objects"] == 10 and only["other"]["objects"] == 10
    assert [one["image"] for one in only["first"]["pictures"]] == [str(n) for n in range(10)]
    assert only["other"]["pictures"][0] == {"image": "30", "objects": [{"class": "car", "row": 0}]}


def test_other_classes_are_refused():
    a, _ = two_results()
    with pytest.raises(ValueError, match="other classes"):
        comparison.compare([a, scored(a.ground_truth, {}, ["bus"])], 2)


def test_program(voc, tmp_path, capsys):
    first, second = write_found(tmp_path / "a.json"), write_found(tmp_path / "b.json", {**FOUND, "b": ([], [], [])})
    score(voc, first, second, "--json", str(tmp_path / "c.json"), "--plots", str(tmp_path / "plots"))
    printed = capsys.readouterr().out
    assert f"A: {first}" in printed and f"B: {second}" in printed and "-1.0000" in printed
    data = json.loads((tmp_path / "c.json").read_text())
    assert list(data["results"]) == [first, second]
    assert data["comparison"]["sizes"]["all"]["bus"]["differences"][0]["difference"] == -1.0
    assert data["comparison"]["only"][0]["first"]["pictures"] == [
        {"image": "b", "objects": [{"class": "bus", "row": 0}]}
    ]
    page = (tmp_path / "plots" / "comparison.html").read_text()
    assert "Found by A, missed by B: 1 object in 1 picture<" in page and "comparison_B.png" in page
    assert (tmp_path / "plots" / "comparison_B.png").is_file()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--groups", "a.json"), "--groups: for one RESULTS only"),
        (("--protocol", "coco"), "--protocol coco: compares no results"),
        (("missing.json",), "missing.json"),
        (("a.json",), r"^a\.json: is given twice"),
        (("./b.json", "c.json"), r"^\./b\.json: is given twice"),
    ],
)
def test_a_mistake_is_one_line(voc, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    write_found("a.json"), write_found("b.json"), write_found("c.json")
    with pytest.raises(UserError, match=message):
        score(voc, "a.json", "b.json", *flags)


def test_results_of_other_pictures_are_refused(voc, tmp_path):
    write_found(tmp_path / "a.json")
    write_found(tmp_path / "b.json", {"a": FOUND["a"]})
    with pytest.raises(UserError, match=r"b\.json.* no result"):
        score(voc, tmp_path / "a.json", str(tmp_path / "b.json"))


def test_each_of_the_results_is_checked_and_says_where_it_comes_from(voc, tmp_path, capsys):
    first = write_found(tmp_path / "a.json", model="runs/a", data=str(voc), split="test")
    second = write_found(tmp_path / "b.json", threshold=0.5, model="runs/b", data=str(voc), split="val")
    score(voc, first, second, "--json", str(tmp_path / "c.json"))
    printed = capsys.readouterr()
    assert f"{second}: results of runs/b on val of {voc}\n" in printed.out
    cut, other = printed.err.splitlines()
    assert cut.startswith(f"warning: {second}: only has scores above 0.5")
    assert other == f"warning: {second}: made on val of {voc}, not on test of {voc}"
    data = json.loads((tmp_path / "c.json").read_text())
    assert [one["source"]["model"] for one in data["results"].values()] == ["runs/a", "runs/b"]
