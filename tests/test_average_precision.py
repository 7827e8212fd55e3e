"""The VOC metric against a slow oracle, by hand, and the program around it."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import average_precision
import config
import oracles_ap
import source_pascal_voc
import ssd_utils
from media import images
from results import comp4, csv_table, detection_files, detections_json
from structures import Detections, UserError
from system import cli
from voc_cases import FOUND, detected, random_case, sample, score, write_found, write_three_pictures

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


def assert_agree(report, oracle):
    for name, (voc07, area, positives, count) in oracle.items():
        assert report["ground_truth"][name] == positives
        assert report["detections"][name] == count
        for metric, expected in (("voc07", voc07), ("area", area)):
            got = report[metric]["per_class"][name]
            if expected is None:
                assert got is None
            else:
                assert abs(got - expected) <= 1e-9, (metric, name, got, float(expected))


def test_equals_the_oracle_on_1000_random_cases():
    rng = np.random.default_rng(7)
    verdicts_seen = set()
    for _ in range(1000):
        truth, found, names = random_case(rng)
        threshold = float(rng.choice([0.5, 0.5, 0.25, 0.75, 1.0]))
        report = average_precision.evaluate(truth, found, names, threshold)
        oracle = oracles_ap.evaluate(truth, found, names, threshold)
        assert_agree(report, oracle)
        verdicts_seen.update(oracles_ap.judge(truth, found, 0, threshold)[0])
        for metric, column in (("voc07", 0), ("area", 1)):
            known = [row[column] for row in oracle.values() if row[column] is not None]
            mean = report[metric]["mean"]
            assert mean is None if not known else abs(mean - sum(known) / len(known)) <= 1e-9
    assert verdicts_seen == {"tp", "fp", "ignored"}


def test_equals_the_per_detection_loop():
    rng = np.random.default_rng(3)
    for _ in range(100):
        truth, found, names = random_case(rng)
        curves = average_precision.precision_recall(truth, found, names)
        loop = oracles_ap.per_detection(truth, found, names)
        for curve in curves:
            np.testing.assert_array_equal(curve.verdicts == average_precision.TRUE, loop[curve.name])


def test_without_the_plus_one_the_oracle_disagrees():
    """The random cases can tell: boxes read as if they were 1-based without the +1 give other figures."""

    def without(box):
        xmin, ymin, xmax, ymax = oracles_ap.inclusive(box)
        return xmin, ymin, xmax - 1, ymax - 1

    rng = np.random.default_rng(7)
    cases = [random_case(rng) for _ in range(50)]
    assert any(oracles_ap.evaluate(*case) != oracles_ap.evaluate(*case, convert=without) for case in cases)


def test_overlap_of_exactly_one_half_counts():
    """In the devkit's pixels 1..10 × 1..10 against 1..10 × 1..5: 50/100 with +1, 36/81 without."""
    truth = {"a": sample("a", [0, 0, 10, 10])}
    np.testing.assert_array_equal(comp4.to_comp4_px([[0, 0, 10, 5]]), [[1, 1, 10, 5]])
    half = average_precision.evaluate(truth, {"a": detected([0, 0, 10, 5], [0.9])}, ["car"])
    assert half["area"]["mean"] == 1.0
    less = average_precision.evaluate(truth, {"a": detected([0, 0, 10, 4.999], [0.9])}, ["car"])
    assert less["area"]["mean"] == 0.0


@pytest.mark.parametrize("width", [500, 333, 1023, 4000])
def test_overlap_of_one_half_does_not_depend_on_the_fractions_rounding(width):
    truth = {"a": sample("a", [1, 0, 11, 10], size=(width, 375))}
    assert average_precision.evaluate(truth, {"a": detected([1, 0, 11, 5], [0.9])}, ["car"])["area"]["mean"] == 1.0


def ranked(positives, pattern):
    """Ground truth of `positives` objects, one an image, and detections by falling score: T hits, F misses."""
    truth = {str(index): sample(str(index), [0, 0, 10, 10]) for index in range(positives)}
    scores = iter(np.linspace(0.9, 0.1, len(pattern)))
    found, hit = {}, 0
    for letter in pattern:
        box = [0, 0, 10, 10] if letter == "T" else [50, 50, 60, 60]
        found.setdefault(str(hit), []).append((box, next(scores)))
        hit += letter == "T"
    return truth, {key: detected([b for b, _ in rows], [s for _, s in rows]) for key, rows in found.items()}


@pytest.mark.parametrize("tenths", range(1, 11))
def test_exact_recalls_are_reached(tenths):
    """tp of 10 objects reach recall tp/10 exactly: points 0 … tp are 1 (floating steps miss 0.3, 0.6, 0.7)."""
    truth, found = ranked(10, "T" * tenths)
    report = average_precision.evaluate(truth, found, ["car"])
    assert report["voc07"]["mean"] == pytest.approx((tenths + 1) / 11, abs=1e-12)
    assert report["area"]["mean"] == pytest.approx(tenths / 10, abs=1e-12)


def test_by_hand():
    """4 objects, T F T F F T: precision 1, 1/2, 2/3, 1/2, 2/5, 1/2 at recall 1/4, ·, 1/2, ·, ·, 3/4."""
    truth, found = ranked(4, "TFTFFT")
    report = average_precision.evaluate(truth, found, ["car"])
    # Recall 0, .1, .2: 1;  .3, .4, .5: 2/3;  .6, .7: 1/2;  .8, .9, 1: 0.
    assert report["voc07"]["mean"] == pytest.approx((3 * 1 + 3 * 2 / 3 + 2 * 1 / 2) / 11, abs=1e-12)
    assert report["area"]["mean"] == pytest.approx((1 + 2 / 3 + 1 / 2) / 4, abs=1e-12)
    assert report == {
        "voc07": {"mean": report["voc07"]["mean"], "per_class": {"car": report["voc07"]["mean"]}},
        "area": {"mean": report["area"]["mean"], "per_class": {"car": report["area"]["mean"]}},
        "iou": 0.5,
        "images": 4,
        "ground_truth": {"car": 4},
        "detections": {"car": 6},
    }
    json.dumps(report, allow_nan=False)


def verdicts(truth, found):
    (curve,) = average_precision.precision_recall(truth, found, ["car"])
    return curve.verdicts.tolist(), curve


def test_difficult_objects_are_ignored_on_both_sides():
    """A difficult object swallows every detection that hits it, and is not missed when none does."""
    boxes = [[0, 0, 10, 10], [20, 20, 30, 30]]
    truth = {"a": sample("a", boxes, difficult=[True, False])}
    found = {"a": detected([boxes[0], boxes[0], boxes[1], [60, 60, 70, 70]], [0.9, 0.8, 0.7, 0.6])}
    got, curve = verdicts(truth, found)
    assert got == [average_precision.IGNORED] * 2 + [average_precision.TRUE, average_precision.FALSE]
    assert curve.positives == 1
    assert curve.precision.tolist() == [0, 0, 1, 0.5]  # 0/0 is 0
    assert (curve.voc07, curve.area) == (1.0, 1.0)
    easy = {"a": dataclasses.replace(truth["a"], difficult=np.array([False, False]))}
    got, curve = verdicts(easy, found)
    assert got == [1, 0, 1, 0] and curve.positives == 2
    assert curve.area == pytest.approx((1 + 2 / 3) / 2)


def test_a_detection_looks_at_one_object_only():
    """The second detection overlaps both objects by more than a half, best the one already claimed."""
    truth = {"a": sample("a", [[0, 0, 10, 10], [0, 0, 10, 12]])}
    found = {"a": detected([[0, 0, 10, 12], [0, 0, 10, 11.5]], [0.9, 0.8])}
    assert verdicts(truth, found)[0] == [1, 0]


def test_equal_overlaps_go_to_the_object_annotated_first():
    truth = {"a": sample("a", [[0, 0, 10, 20], [0, 10, 10, 30]], difficult=[True, False])}
    found = {"a": detected([[0, 5, 10, 25]], [0.9])}  # 150/250 with both
    assert verdicts(truth, found)[0] == [average_precision.IGNORED]


def test_equal_scores_go_by_the_order_of_images_then_within():
    truth = {"z": sample("z", [0, 0, 10, 10]), "a": sample("a", [0, 0, 10, 10])}
    found = {
        "a": detected([[0, 0, 10, 10], [50, 50, 60, 60]], [0.5, 0.5]),
        "z": detected([[50, 50, 60, 60], [0, 0, 10, 10]], [0.5, 0.5]),
    }
    assert verdicts(truth, found)[0] == [0, 1, 1, 0]


def test_classes_do_not_mix():
    truth = {"a": sample("a", [[0, 0, 10, 10], [0, 0, 10, 10]], labels=[0, 1])}
    found = {"a": detected([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.8], labels=[1, 1])}
    report = average_precision.evaluate(truth, found, ["car", "bus"])
    assert report["area"]["per_class"] == {"car": 0.0, "bus": 1.0}
    assert report["detections"] == {"car": 0, "bus": 2}
    assert report["area"]["mean"] == 0.5


def test_class_without_ground_truth_has_no_ap():
    truth = {"a": sample("a", [[0, 0, 10, 10], [20, 20, 30, 30]], labels=[0, 1], difficult=[False, True])}
    found = {"a": detected([[0, 0, 10, 10], [0, 0, 9, 9]], [0.9, 0.8], labels=[0, 2])}
    report = average_precision.evaluate(truth, found, ["car", "only difficult", "none"])
    assert report["voc07"]["per_class"] == {"car": 1.0, "only difficult": None, "none": None}
    assert report["voc07"]["mean"] == 1.0
    assert "n/a" in average_precision.table(report)


def test_nothing_at_all():
    report = average_precision.evaluate({"a": sample("a", [])}, {}, ["car"])
    assert report["voc07"] == {"mean": None, "per_class": {"car": None}}
    assert average_precision.evaluate({}, {}, ["car"])["images"] == 0
    missing = average_precision.evaluate({"a": sample("a", [0, 0, 9, 9])}, {"a": Detections.empty()}, ["car"])
    assert missing["area"]["mean"] == 0.0


def test_unknown_image_is_an_error():
    with pytest.raises(UserError, match="'b'"):
        average_precision.evaluate({"a": sample("a", [])}, {"b": Detections.empty()}, ["car"])


def test_bad_arguments_are_bugs():
    truth = {"a": sample("a", [])}
    with pytest.raises(ValueError, match="iou_threshold"):
        average_precision.evaluate(truth, {}, ["car"], 0)
    with pytest.raises(ValueError, match="labels"):
        average_precision.evaluate(truth, {"a": detected([0, 0, 1, 1], [0.5], [1])}, ["car"])
    for label in (1 << 32, 0.7):  # as int32 both would be class 0
        with pytest.raises(ValueError, match="label"):
            wrong = dataclasses.replace(detected([0, 0, 1, 1], [0.5]), labels=np.array([label]))
            average_precision.evaluate(truth, {"a": wrong}, ["car"])
    with pytest.raises(ValueError, match="NaN"):
        average_precision.evaluate(truth, {"a": detected([0, 0, 1, 1], [np.nan])}, ["car"])
    with pytest.raises(ValueError, match="twice"):
        average_precision.evaluate(truth, {}, ["car", "car"])


def test_inputs_are_not_changed():
    rng = np.random.default_rng(1)
    truth, found, names = random_case(rng)
    before = {key: [array.copy() for array in vars(one).values()] for key, one in found.items()}
    average_precision.evaluate(truth, found, names)
    for key, one in found.items():
        for array, old in zip(vars(one).values(), before[key], strict=True):
            np.testing.assert_array_equal(array, old)


def test_files_give_the_figures_of_memory(tmp_path):
    """Detections written as JSON, which has two decimals, and as comp4 files score exactly as the arrays do."""
    rng = np.random.default_rng(11)
    for case in range(20):
        truth, found, names = random_case(rng)
        found = {key: one.where(np.argsort(-one.scores, kind="stable")) for key, one in found.items()}
        jitter = rng.random() < 0.5
        found = {key: _jittered(one, rng) if jitter else one for key, one in found.items()}
        folder = tmp_path / str(case)
        with detections_json.Writer(folder / "d.json", model="m", class_names=names, threshold=0) as json_file:
            for key, one in found.items():
                json_file.add(f"{key}.jpg", 10, 10, one)
        with comp4.Writer(folder, names) as comp4_files:
            for key, one in found.items():
                comp4_files.add(f"{key}.jpg", 10, 10, one)
        rounded = {
            key: Detections(np.round(one.boxes_px.astype(np.float64), 2), one.scores, one.labels)
            for key, one in found.items()
        }
        for path, written in ((folder / "d.json", rounded), (folder, found)):
            expected = average_precision.evaluate(truth, written, names)
            assert average_precision.evaluate(truth, detection_files.read(path).detections, names) == expected


def _jittered(one, rng):
    boxes = one.boxes_px + rng.random(one.boxes_px.shape, np.float32) * np.float32(0.1)
    return Detections(boxes, np.sort(rng.random(len(one), np.float32))[::-1], one.labels)


@pytest.fixture
def voc(tmp_path):
    return write_three_pictures(tmp_path / "voc")


def test_program(voc, tmp_path, capsys):
    path = write_found(tmp_path / "d.json")
    score(voc, path, "--json", str(tmp_path / "out" / "ap.json"), "--plots", str(tmp_path / "plots"))
    printed = capsys.readouterr()
    assert printed.err == ""
    report = json.loads((tmp_path / "out" / "ap.json").read_text())
    # The first box overlaps its car by exactly a half; the third hits the difficult one.
    assert report["area"] == {"mean": 0.75, "per_class": {"car": 0.5, "bus": 1.0}}
    assert report["ground_truth"] == {"car": 2, "bus": 1} and report["detections"] == {"car": 3, "bus": 1}
    assert report["images"] == 3
    rows = [line.split() for line in printed.out.splitlines()]
    assert ["car", "2", "3", "0.5455", "0.5000"] in rows and ["mean", "3", "4", "0.7727", "0.7500"] in rows
    for name in ("precision_recall", "precision_recall_car", "precision_recall_bus", "errors_car", "errors_bus"):
        assert cv2.imread(str(tmp_path / "plots" / f"{name}.png")) is not None


def test_numbers_beside_a_curve_are_its_area(voc, tmp_path, monkeypatch):
    """The curve is the envelope that `area` measures; VOC07 takes eleven points of it."""
    drawn = {}
    monkeypatch.setattr(
        average_precision.charts,
        "plot_precision_recall",
        lambda path, lines, title: drawn.update({os.path.basename(path): ([label for label, *_ in lines], title)}),
    )
    score(voc, write_found(tmp_path / "d.json"), "--plots", str(tmp_path / "plots"))
    labels, title = drawn["precision_recall.png"]
    assert labels == ["car 0.500", "bus 1.000"]
    assert title.startswith("mean AP 0.7500 as area, 0.7727 by VOC07 (IoU")
    assert drawn["precision_recall_car.png"][1] == "car: AP 0.5000 as area, 0.5455 by VOC07"


def test_program_with_cocos_protocol(voc, tmp_path, capsys):
    path = write_found(tmp_path / "d.json")
    score(voc, path, "--protocol", "coco", "--json", str(tmp_path / "ap.json"))
    report = json.loads((tmp_path / "ap.json").read_text())
    assert set(report) == {"coco", "images", "ground_truth", "detections", "source"}
    # The car's overlap is exactly a half, which counts once in ten; the difficult car is ignored.
    assert report["coco"]["per_class"]["car"]["AP50"] == pytest.approx(51 / 101)
    assert report["coco"]["per_class"]["car"]["AP"] == pytest.approx(51 / 1010)
    assert report["coco"]["mean"]["AP75"] == 0.5 and report["coco"]["per_class"]["bus"]["APm"] == 1
    assert report["ground_truth"] == {"car": 2, "bus": 1} and report["detections"] == {"car": 3, "bus": 1}
    assert "AR100" in capsys.readouterr().out


def test_program_reads_comp4_files(voc, tmp_path, capsys):
    with comp4.Writer(tmp_path / "comp4", ["car", "bus"]) as writer:
        for key, (boxes, scores, labels) in FOUND.items():
            writer.add(key, 100, 80, detected(boxes, scores, labels))
    score(voc, tmp_path / "comp4", "--json", str(tmp_path / "ap.json"))
    assert json.loads((tmp_path / "ap.json").read_text())["area"]["per_class"] == {"bus": 1.0, "car": 0.5}


def test_program_with_chosen_classes_and_overlap(voc, tmp_path, capsys):
    path = write_found(tmp_path / "d.json")
    flags = ("--classes", "car", "--other-classes", "ignore", "--iou", "0.51", "--json", str(tmp_path / "ap.json"))
    score(voc, path, *flags)
    report = json.loads((tmp_path / "ap.json").read_text())
    assert report["area"] == {"mean": 0.0, "per_class": {"car": 0.0}} and report["iou"] == 0.51


def test_program_warns_about_a_high_threshold(voc, tmp_path, capsys):
    score(voc, write_found(tmp_path / "d.json", threshold=0.05))
    assert capsys.readouterr().err == ""
    score(voc, write_found(tmp_path / "d.json", threshold=0.5))
    err = capsys.readouterr().err
    assert err.startswith("warning: ") and "0.5" in err and len(err.splitlines()) == 1


def test_program_warns_about_other_sizes_and_unreadable_pictures(voc, tmp_path, capsys):
    two = {key: FOUND[key] for key in "ab"}
    score(voc, write_found(tmp_path / "d.json", two, size=(80, 100), errors="c"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].endswith(": c")
    assert "(80, 100)" in lines[1] and "(100, 80)" in lines[1]


def error_of(call, *arguments):
    with pytest.raises(UserError) as error:
        call(*arguments)
    return str(error.value)


def test_figures_do_not_replace_the_results(voc, tmp_path):
    path = tmp_path / "detections.json"
    write_found(path, FOUND)
    before = path.read_bytes()
    for results, figures in ((path, path), (tmp_path, path), (path, f"{tmp_path}/../{tmp_path.name}/detections.json")):
        assert error_of(score, voc, results, "--json", str(figures)).startswith(
            f"--json {figures}: would replace what is read"
        )
    assert path.read_bytes() == before


def test_results_for_other_classes_are_called_so(voc, tmp_path):
    source = {"model": "runs/old", "data": "/elsewhere", "split": "val"}
    path = write_found(tmp_path / "d.json", {key: ([], [], []) for key in FOUND}, names=("dog", "cat"), **source)
    said = error_of(score, voc, path)
    made = "dog, cat (made by runs/old on val of /elsewhere)"
    assert said.startswith(f"{path}: names other classes than the data: {made}, but split test")
    assert f"split test of {voc} has bus, car" in said and "--other-classes" not in said
    assert "other classes than the data" in error_of(score, voc, path, "--other-classes", "ignore")
    # One in common
    path = write_found(tmp_path / "d.json", {key: ([], [], []) for key in FOUND}, names=("dog", "car"))
    said = error_of(score, voc, path)
    assert "has bus" in said and "leave their objects out with --other-classes ignore" in said
    score(voc, path, "--other-classes", "ignore")


def test_a_table_without_a_class_that_was_never_detected(voc, tmp_path, capsys):
    """A table names only what was detected: without the others the mean would be too high."""
    path = tmp_path / "detections.csv"
    path.write_text(",".join(csv_table.COLUMNS) + "\nb.jpg,100,80,bus,0.9,0,0,50,50\n")
    said = error_of(score, voc, path)
    assert "names other classes than the data: bus, but" in said and "has car; " in said
    assert "names only classes that were detected" in said and "--classes" in said.replace("--other-classes", "")
    report = tmp_path / "ap.json"
    score(voc, path, "--classes", "car,bus", "--json", str(report))
    assert json.loads(report.read_text())["area"] == {"mean": 0.5, "per_class": {"car": 0.0, "bus": 1.0}}
    assert capsys.readouterr().err == ""
    score(voc, path, "--other-classes", "ignore", "--json", str(report))
    assert json.loads(report.read_text())["area"] == {"mean": 1.0, "per_class": {"bus": 1.0}}
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: {path}: ") and "car" in warning and "--classes" in warning
    score(voc, path, "--classes", "bus", "--other-classes", "ignore")
    assert capsys.readouterr().err == ""
    path.write_text(",".join(csv_table.COLUMNS) + "\n")
    assert "names other classes than the data: none, but" in error_of(score, voc, path)


def test_classes_that_no_detector_has_are_left_out_of_a_table_without_a_word(tmp_path, capsys):
    """Their names may be such as no class can have."""
    images.write(tmp_path / "data" / "a.png", np.zeros((60, 80, 3), np.uint8))
    lines = ["a.png,1,1,50,50,car", "a.png,5,5,30,30,truck/van"]
    (tmp_path / "data" / "test.csv").write_text("".join(f"{line}\n" for line in lines))
    path = tmp_path / "detections.csv"
    path.write_text(",".join(csv_table.COLUMNS) + "\na.png,80,60,car,0.9,1,1,50,50\n")
    words = [str(path), "--data", str(tmp_path / "data"), "--split", "test", "--other-classes", "ignore"]
    average_precision.main(words)
    printed = capsys.readouterr()
    assert "warning" not in printed.err and "1.0000" in printed.out


def test_where_results_come_from_is_said_and_compared(voc, tmp_path, capsys):
    source = {"model": "runs/m", "precision": "float32", "data": str(voc), "split": "test"}
    path = write_found(tmp_path / "d.json", **source)
    score(voc, path, "--json", str(tmp_path / "ap.json"))
    printed = capsys.readouterr()
    assert printed.err == "" and f"results of runs/m (float32) on test of {voc}\n" in printed.out
    recorded = json.loads((tmp_path / "ap.json").read_text())["source"]
    assert recorded == {**source, "checkpoint": None}
    score(voc, write_found(tmp_path / "d.json", **{**source, "split": "val"}))
    err = capsys.readouterr().err
    assert err.startswith("warning: ") and f"made on val of {voc}, not on test of {voc}" in err


def test_results_of_a_model_that_was_trained_further_are_called_so(voc, tmp_path, capsys):
    run = tmp_path / "run"
    model = config.ModelDescription(ssd_utils.get_preset("vgg300"), ("car", "bus"))
    config.write_config(str(run), model, None, {})
    for name in ("step-1", "step-2"):
        (run / "checkpoints" / name).mkdir(parents=True)
        (run / "checkpoints" / name / "model.index").touch()
    (run / "checkpoints" / "index.json").write_text('{"last": "step-2", "best": "step-1"}')
    for model, made, warned in ((run, "step-1", 0), (run, "step-0", 1), (f"{run}@last", "step-2", 0), ("gone", "x", 0)):
        score(voc, write_found(tmp_path / "d.json", model=str(model), checkpoint=made))
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == warned
    score(voc, write_found(tmp_path / "d.json", model=f"{run}@last", checkpoint="step-1"))
    assert f"made with step-1 of {run}@last, which is step-2 now; detect again" in capsys.readouterr().err


def test_numbers_without_names_are_not_guessed(voc, tmp_path, capsys):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.05 0.05 0.1 0.1 0.9\n", "utf-8")
    with pytest.raises(UserError, match="--classes"):
        score(voc, tmp_path / "labels")
    score(voc, tmp_path / "labels", "--classes", "car,bus")


@pytest.mark.parametrize(
    ("change", "flags", "named"),
    [
        ({"found": {"a": FOUND["a"]}}, (), "2 of 3 images"),
        ({"found": {**FOUND, "zz": FOUND["c"]}}, (), "'zz'"),
        ({"errors": ("zz",)}, (), "'zz'"),
        ({"names": ("car", "lorry")}, (), "bus"),
        ({}, ("--classes", "car"), "bus"),
        ({}, ("--classes", "car,dog"), "has no class 'dog', only car, bus; give"),
        ({}, ("--confusion-threshold", "car=0.1,dog=0.2"), "d.json has no class 'dog'; there are car, bus"),
        ({}, ("--confusion-threshold", "car=0.1,bis=0.2"), "--confusion-threshold: "),
        ({}, ("--iou", "0"), "--iou"),
        ({}, ("--iou", "0.5", "--protocol", "coco"), "--iou"),
        ({}, ("--plots", "plots", "--protocol", "coco"), "--plots"),
        ({}, ("--split", "nothing"), "nothing"),
        ({}, ("--data", "missing"), "--data"),
        ({}, ("--wrong", "1"), "--wrong"),
    ],
)
def test_a_mistake_fails_with_one_line(voc, tmp_path, capsys, monkeypatch, change, flags, named):
    path = write_found(tmp_path / "d.json", **change)
    command = ["average_precision.py", path, "--data", str(voc), "--split", "test", *flags]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as end:
        cli.run(average_precision.main)
    printed = capsys.readouterr()
    assert end.value.code == 1 and printed.out == ""
    assert len(printed.err.splitlines()) == 1 and named in printed.err and printed.err.startswith("error: ")


def test_figures_are_no_results(voc, tmp_path):
    score(voc, write_found(tmp_path / "d.json"), "--json", str(tmp_path / "ap.json"))
    with pytest.raises(UserError, match=r"ap\.json: has the figures of average_precision\.py .*give the detections"):
        score(voc, tmp_path / "ap.json")


def test_program_from_the_shell():
    command = [sys.executable, "average_precision.py", "missing.json", "--data", ".", "--split", "test"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: RESULTS: 'missing.json'") and len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not (SHARED / "data/voc_traffic").exists(), reason="needs the shared photographs")
def test_ground_truth_as_detections_is_perfect(tmp_path):
    samples = source_pascal_voc.load(SHARED / "data/voc_traffic", "val", source_pascal_voc.CLASSES)
    truth = {one.id: one for one in samples}
    found = {
        key: Detections(one.boxes_px.astype(np.float32), np.ones(len(one.labels), np.float32), one.labels)
        for key, one in truth.items()
    }
    report = average_precision.evaluate(truth, found, source_pascal_voc.CLASSES)
    assert report["voc07"]["mean"] == 1.0 and report["area"]["mean"] == 1.0
