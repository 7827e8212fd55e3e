"""Fine-tuning to other classes: what a detector keeps, what it learns, and the whole chain at every size."""

import csv
import json
import re

import numpy as np
import pytest

import config
import detector
import export_model
import infer
import pretrained
import sources
import ssd_vgg
import train
from programs import error_of, write_shapes
from training import engine, first_weights, train_flags

QUICK = [
    "--batch-size",
    "4",
    "--workers",
    "0",
    "--augmentation",
    "light",
    "--adam-epsilon",
    "1e-8",
    "--learning-rate",
    "2e-3",
    "--schedule",
    "constant",
    "--warmup-steps",
    "5",
]
STILL = ["--max-steps", "1", "--learning-rate", "1e-12", "--workers", "0"]  # a step that changes nothing
KINDS = ("disc", "square", "diamond")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """All three shapes in train and val; only the first two in train2 and val2."""
    root = tmp_path_factory.mktemp("three")
    write_shapes(root, {"train": 24, "val": 12}, seed=1, kinds=KINDS)
    return write_shapes(root, {"train2": 24, "val2": 12})


@pytest.fixture(scope="module")
def two(data, tmp_path_factory):
    """A run that detects discs and squares."""
    path = tmp_path_factory.mktemp("runs") / "two"
    classes = ["--classes", "disc,square", "--width", "0.06"]
    train.main(["--data", str(data), "--train", "train2", *classes, *QUICK, "--epochs", "8", "--run", str(path)])
    return path


def score(run, data, split, names):
    """VOC's metrics of a run on a split, for the classes of the run."""
    samples = sources.load(str(data), split, names)
    with detector.load(str(run), precision="float32") as loaded:
        return engine.evaluate(loaded, samples, check_stop=lambda: None, shows_bar=False)[0]


def _metrics(run):
    with open(run / "metrics.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_superset_of_the_classes_keeps_ap_and_learns(data, two, tmp_path, capsys, monkeypatch):
    superset = ["--init-from", str(two), "--classes", "square,diamond,disc", "--data", str(data), "--train", "train"]
    before = score(two, data, "val2", ("disc", "square"))
    train.main([*superset, *STILL, "--run", str(tmp_path / "still")])
    told = capsys.readouterr().out
    assert re.search(r"\bsquare, disc\b.*\bdiamond\b", told) and re.search(r"\brandom: none\b", told)
    names = config.read_config(tmp_path / "still")[0].class_names
    assert names == ("square", "diamond", "disc")
    after = score(tmp_path / "still", data, "val2", names)
    for metric in ("voc07", "area"):
        for name in ("disc", "square"):
            assert after[metric]["per_class"][name] == pytest.approx(before[metric]["per_class"][name], abs=1e-6)
    assert before["voc07"]["mean"] > 0.4  # what is kept is a working detector
    assert after["detections"]["diamond"] == 0  # its scores are below the threshold of reports

    averaging = ["--ema", "0.9", "--valid", "val", "--valid-every", "100"]
    train.main([*superset, *QUICK, *averaging, "--epochs", "10", "--run", str(tmp_path / "three")])
    learnt = score(tmp_path / "three", data, "val", names)
    assert learnt["voc07"]["per_class"]["diamond"] > 0.3 and min(learnt["voc07"]["per_class"].values()) > 0.3
    # Training scores what other programs read: the averages, not the weights
    (row,) = [row for row in _metrics(tmp_path / "three") if row["area"]]
    assert float(row["area"]) == pytest.approx(learnt["area"]["mean"], abs=1e-6)
    monkeypatch.setattr(ssd_vgg, "AVERAGE", "no such variable")
    assert score(tmp_path / "three", data, "val", names)["area"]["mean"] != pytest.approx(float(row["area"]), abs=1e-3)


def first_arrays(*flags):
    """(preset, {variable: array}) that train.py with these flags starts from; nothing is trained."""
    description, settings = train_flags.read(train_flags.parse(list(map(str, flags)), ""))
    shapes = pretrained.network_shapes(description.preset, len(description.class_names))
    return description.preset, first_weights.read(settings, description, shapes, check_stop=lambda: None)


def test_a_class_continues_under_another_name(data, two, tmp_path, capsys):
    names = ["--classes", "square,ball", "--map-classes", "disc=ball"]
    _, new = first_arrays("--init-from", two, "--data", data, "--train", "train", *names, "--run", tmp_path / "run")
    assert re.search(r"\bsquare\b.*\bdisc\b.*\bball\b", capsys.readouterr().out)
    old = detector.read_weights(config.find_model(str(two)).checkpoint)
    assert old.keys() == new.keys()
    for name, value in old.items():
        order = [0, 2, 1] if "_logits/" in name else [0]  # in each group of background and two classes
        groups = value.reshape(-1, len(order)), new[name].reshape(-1, len(order))
        np.testing.assert_array_equal(groups[1], groups[0][:, order], err_msg=name)


def test_another_preset_keeps_arrays_of_the_same_shape(data, two, tmp_path, capsys):
    flags = ["--init-from", two, "--data", data, "--train", "train2", "--preset", "vgg512", "--run", tmp_path / "run"]
    preset, arrays = first_arrays(*flags)
    told = capsys.readouterr().out
    assert "conv12_1, conv12_2, head_conv10_2_logits, head_conv10_2_offsets" in told
    assert "head_fc7_logits/weights" in arrays
    own = config.read_config(two)[0].preset
    assert (preset.name, preset.width, preset.input_scale) == ("vgg512", own.width, own.input_scale)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--map-classes", "disk=square"], "--map-classes disk=square: 'disk' .*'disc'"),
        (["--classes", "ball,square", "--map-classes", "ball=disc"], "--map-classes ball=disc: 'ball'"),
        (["--map-classes", "disc"], "--map-classes"),
        (["--map-classes", "disc=="], "--map-classes"),
        (["--map-classes", "disc=square"], "--map-classes disc=square: "),
    ],
)
def test_mistakes_get_one_line(data, two, tmp_path, flags, named):
    base = ["--data", data, "--train", "train2", "--init-from", two, "--run", tmp_path / "run"]
    assert re.search(named, error_of("train.py", *base, *flags))
    assert not (tmp_path / "run").exists()


def test_a_map_needs_a_run(data, tmp_path):
    flags = ["--data", data, "--train", "train2", "--width", "0.06", "--run", tmp_path / "run"]
    assert re.search("--map-classes: .*--init-from", error_of("train.py", *flags, "--map-classes", "disc=ball"))


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("preset", "width"),
    [
        ("vgg300", "0.25"),
        pytest.param("vgg512", "0.25", marks=SLOW),
        pytest.param("vgg300", "1", marks=SLOW),
        pytest.param("vgg512", "1", marks=SLOW),
    ],
)
def test_train_resume_fine_tune_export_infer(preset, width, data, tmp_path):
    first, second, frozen, found = (str(tmp_path / name) for name in ("first", "second", "model.pb", "found"))
    common = ["--data", str(data), "--limit", "2", "--batch-size", "1", "--workers", "0"]
    model = ["--preset", preset, "--width", width, "--vgg-weights", "none", "--classes", "disc,square"]
    train.main([*common, "--train", "train2", *model, "--max-steps", "1", "--ema", "0.9", "--run", first])
    train.main(["--run", first, "--resume", "--max-steps", "2"])
    assert json.loads((tmp_path / "first/checkpoints/index.json").read_text("utf-8"))["last"] == "step-00000002"
    other = ["--classes", "diamond,square,ball", "--map-classes", "disc=ball", "--other-classes", "ignore"]
    train.main([*common, "--train", "train", "--init-from", first, *other, "--max-steps", "1", "--run", second])
    export_model.main([second, "--output", frozen])
    picture = str(data / "JPEGImages" / "val_000.png")
    infer.main([frozen, picture, "--output", found, "--threshold", "0.01", "--no-draw"])
    results = json.loads((tmp_path / "found/detections.json").read_text("utf-8"))
    assert results["class_names"] == ["diamond", "square", "ball"] and not results["errors"]
    detections = results["images"][0]["detections"]
    assert detections and all(np.isfinite([one["score"], *one["box"]]).all() for one in detections)
    with detector.load(second, precision="float32") as loaded:
        assert loaded.preset.name == preset and loaded.preset.width == float(width)
