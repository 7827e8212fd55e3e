"""benchmarks/learning.py: both sides train on the same terms, results are kept and reported. No times are checked."""
# ruff: noqa: E402, benchmarks/ must be found first

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import bench_harness
import learning
import learning_convert
import learning_plan
import learning_report
import learning_trainings
from learning_plan import Training

import pretrained
import ssd_utils
import weight_twins
from media import charts
from programs import fresh_environment, write_shapes
from settings.training_settings import TrainingSettings
from structures import Sample, UserError
from training import optimization, train_flags

PROGRAM = ROOT / "benchmarks" / "learning.py"


def make_task(**changes):
    values = {
        "data": "/data",
        "train": "train",
        "valid": "val",
        "classes": "disc,square",
        "other_classes": "error",
        "limit": None,
        "pictures": 18,
        "vgg": "/vgg.npz",
        "freeze": ("conv1", "conv2"),
        "batch_size": 4,
        "warmup_steps": 3,
        "epochs": 6,
        "valid_every": 2,
        "workers": 1,
        "seed": 0,
        "precision": "float32",
    }
    return learning_plan.Task(**{**values, **changes})


def make_record(side, rate, scores, diverged=False, seconds=10.0):
    points = [
        {"images": 100 * n, "seconds": seconds * n, "loss": 5.0 / n, "voc07": score}
        for n, score in enumerate(scores, 1)
    ]
    return {"side": side, "rate": rate, "points": points, "diverged": diverged}


MACHINE = {"gpu": None, "cpu": "a CPU", "cores": 2, "tensorflow": "2", "torch": "3", "torchvision": "4"}
HEADER = {"command": "python …", "commit": "abc", "tiny": False, "machine": MACHINE, "task": make_task().__dict__}


# What both sides get


def test_the_rates_are_those_of_train_py():
    """Of the very flags that our side gets."""
    task = make_task()
    flags = task.flags(2e-4, "/run")
    parser_values = dict(zip(flags[::2], flags[1::2], strict=True))
    settings = TrainingSettings(
        data="/data",
        train="train",
        learning_rate=float(parser_values["--learning-rate"]),
        batch_size=int(parser_values["--batch-size"]),
        epochs=int(parser_values["--epochs"]),
        schedule=parser_values["--schedule"],
        warmup_steps=int(parser_values["--warmup-steps"]),
    )
    plan = optimization.Plan(settings, task.pictures)
    rates = learning_trainings.rates(task, 2e-4)
    assert rates == [plan.rate(step) for step in range(plan.total_steps)]
    assert len(rates) == 6 * math.ceil(18 / 4)
    assert rates[0] == pytest.approx(2e-4 / 3)  # warm-up
    assert max(rates) == pytest.approx(2e-4)
    assert rates[-1] < 2e-6  # cosine


def test_our_flags_are_flags_of_train_py():
    flags = make_task(limit=5, more=("--ema", "0.99")).flags(2e-4, "no-run")
    parsed = train_flags.parse(flags, None)
    assert (parsed.limit, parsed.ema, parsed.valid_every, parsed.freeze) == (5, 0.99, 2, ("conv1", "conv2"))
    assert parsed.learning_rate == 2e-4
    assert parsed.augmentation == "full"


@pytest.mark.parametrize(
    ("images", "every", "pictures", "expected"),
    [
        (2400, None, 600, (4, 1)),  # a twelfth is less than an epoch
        (18_000, None, 600, (30, 2)),
        (18_000, 3000, 600, (30, 5)),
        (2401, 600, 600, (5, 1)),
        (8, 4, 600, (1, 1)),
    ],
)
def test_a_training_is_whole_epochs(images, every, pictures, expected):
    assert learning_plan.length(images, every, pictures) == expected


def test_the_sides_take_turns():
    planned = learning_plan.trainings({"ours": (1.0, 2.0, 3.0), "torchvision-sgd": (4.0,)})
    assert planned == [("ours", 1.0), ("torchvision-sgd", 4.0), ("ours", 2.0), ("ours", 3.0)]
    assert planned[1].name == "torchvision-sgd/4"


# Conversions


def test_weights_for_torchvision_are_read_back_as_they_were():
    """By the reader of torchvision's files, which tests/weights compares with number-by-number twins."""
    file, variables = weight_twins.ssd("torchvision-ssd300", 300, 2)
    given = learning_convert.torch_arrays(variables)
    assert given.keys() == file.keys()
    for name, array in file.items():
        np.testing.assert_array_equal(given[name], array)


def test_frozen_layers_have_torchvisions_names():
    names = learning_convert.frozen_names(["conv1", "conv2_1", "fc6"])
    places = ["backbone.extra.0.7.1", "backbone.features.0", "backbone.features.2", "backbone.features.5"]
    assert names == sorted(f"{place}.{kind}" for place in places for kind in ("weight", "bias"))


def test_an_unknown_layer_is_named():
    with pytest.raises(UserError, match="--freeze conv77"):
        learning_convert.frozen_names(["conv1", "conv77"])


def test_detections_are_in_pixels_of_the_picture():
    boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    sample = Sample("a", "a.jpg", boxes, labels, np.zeros(0, bool), width=600, height=150)
    given = np.array([[30, 30, 300, 150]], np.float32)
    found = learning_convert.to_detections(given, np.array([0.5]), np.array([2]), 300, sample)
    np.testing.assert_allclose(found.boxes_px, [[60, 15, 600, 75]])
    assert (found.scores.tolist(), found.labels.tolist()) == ([0.5], [1])
    assert (found.boxes_px.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int32)


def test_points_are_the_validations_of_metrics_csv():
    text = "epoch,loss,voc07,seconds\n1,9.0,,10.5\n2,8.0,0.25,2.0\n3,7.0,,2.0\n4,6.0,0.5,3.0\n"
    assert learning_trainings.points(list(csv.DictReader(text.splitlines())), pictures=600) == [
        {"images": 1200, "seconds": 12.5, "loss": 8.0, "voc07": 0.25},
        {"images": 2400, "seconds": 17.5, "loss": 6.0, "voc07": 0.5},
    ]


# Trainings are kept


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """A function () -> (a Trainings of tmp_path, the list of what it trains). Our side is not trained for real."""
    calls = []

    def train(self, training):
        calls.append(training.name)
        Path(self._path(training, "left behind")).write_text("")
        if training.rate == 13.0:
            raise KeyboardInterrupt
        return {"points": [], "diverged": False}

    monkeypatch.setattr(learning_trainings.Trainings, "_train_ours", train)
    return lambda: (learning_trainings.Trainings(str(tmp_path), make_task(), "python", {}), calls)


def test_a_finished_training_is_not_repeated(trainings):
    made, calls = trainings()
    first = made.record(Training("ours", 2e-4))
    again, calls = trainings()
    assert again.record(Training("ours", 2e-4)) == first == again.result(Training("ours", 2e-4))
    assert again.result(Training("ours", 1e-4)) is None
    assert first["commit"] == bench_harness.commit()
    again.record(Training("ours", 1e-4))
    assert calls == ["ours/0.0002", "ours/0.0001"]


def test_an_interrupted_training_is_repeated_from_its_start(trainings, tmp_path):
    made, calls = trainings()
    with pytest.raises(KeyboardInterrupt):
        made.record(Training("ours", 13.0))
    left = tmp_path / "ours" / "13" / "of the interrupted"
    left.write_text("")
    with pytest.raises(KeyboardInterrupt):
        made.record(Training("ours", 13.0))
    assert calls == ["ours/13", "ours/13"]
    assert not left.exists()


def test_a_folder_with_other_settings_or_of_another_machine_is_refused(tmp_path):
    run = str(tmp_path)
    learning._check_folder(run, make_task(freeze=("conv5",)), MACHINE)  # of which no training has come
    (tmp_path / "ours" / "0.0001").mkdir(parents=True)
    (tmp_path / "ours" / "0.0001" / "log.txt").touch()
    learning._check_folder(run, make_task(), MACHINE)
    (tmp_path / "ours" / "0.0001" / "result.json").touch()
    for _ in range(2):
        learning._check_folder(run, make_task(), MACHINE)
    with pytest.raises(UserError, match="seed 0, not 1; choose another folder"):
        learning._check_folder(run, make_task(seed=1), MACHINE)
    with pytest.raises(UserError, match="machine"):
        learning._check_folder(run, make_task(), {**MACHINE, "gpu": "H100"})


def train_ours(tmp_path, monkeypatch, script):
    """The record of our side where train.py is `script`."""
    (tmp_path / "train.py").write_text(script)
    monkeypatch.setattr(learning_trainings, "ROOT", tmp_path)
    made = learning_trainings.Trainings(str(tmp_path / "run"), make_task(), "python", fresh_environment())
    return made.record(Training("ours", 2e-4))


def test_a_training_that_diverges_is_a_result(tmp_path, monkeypatch):
    remedy = learning_trainings.engine.REMEDY
    script = f"import sys\nprint('error: the loss is not finite; ' + {remedy!r}, file=sys.stderr)\nsys.exit(1)"
    record = train_ours(tmp_path, monkeypatch, script)
    commit = bench_harness.commit()
    assert record == {"side": "ours", "rate": 2e-4, "commit": commit, "points": [], "diverged": True}


def test_a_training_that_fails_is_an_error_with_its_last_line(tmp_path, monkeypatch):
    with pytest.raises(
        UserError, match=r"ours/0.0002 ended with exit code 1 \(error: the disk is full\); see .*log.txt"
    ):
        train_ours(tmp_path, monkeypatch, "import sys\nprint('error: the disk is full')\nsys.exit(1)")
    assert not (tmp_path / "run" / "ours" / "0.0002" / "result.json").exists()


@pytest.mark.slow
def test_flags_of_the_real_train_py_give_points(tmp_path):
    """Our side for real, at 3% of the channels."""
    data = write_shapes(tmp_path / "data", {"train": 6, "val": 2})
    slim = ("--vgg-weights", "none", "--width", "0.03")
    task = make_task(data=str(data), pictures=6, epochs=2, valid_every=1, more=slim)
    made = learning_trainings.Trainings(str(tmp_path / "run"), task, "python", fresh_environment())
    record = made.record(Training("ours", 1e-3))
    assert [point["images"] for point in record["points"]] == [6, 12]
    assert 0 < record["points"][0]["seconds"] < record["points"][1]["seconds"]
    assert not record["diverged"]


# Results

RECORDS = [
    make_record("ours", 1e-4, [0.1, 0.3, 0.5]),
    make_record("torchvision-sgd", 1e-3, [0.0, 0.1, 0.3], seconds=20.0),
    make_record("ours", 2e-4, [0.2, 0.3, 0.4]),
    make_record("torchvision-sgd", 2e-3, [0.6, 0.0], diverged=True),
]


def test_the_best_rate_is_that_with_the_highest_end_and_never_a_diverged_one():
    winners = learning_report.best(RECORDS)
    assert {side: record["rate"] for side, record in winners.items()} == {"ours": 1e-4, "torchvision-sgd": 1e-3}
    assert learning_report.level(winners) == 0.3
    assert learning_report.reached(winners["ours"], 0.3)["images"] == 200
    assert learning_report.reached(winners["ours"], 0.6) is None


def test_the_page_has_all_trainings_and_what_is_between_the_best():
    page = learning_report.page(HEADER, RECORDS)
    assert "| this project (train.py) | 0.0001 | **0.500** | 300 | 30 | 10.0 |" in page
    assert "| this project (train.py) | 0.0002 | 0.400 | 300 | 30 | 10.0 |" in page
    assert "| torchvision, SGD with momentum 0.9 (its reference) | 0.002 | diverged | – | – | – |" in page
    assert "| 200 | 0.300 (20 s) | 0.100 (40 s) |" in page
    assert "images until mAP 0.300" in page
    assert "| this project (train.py) | 200 | 20 |" in page
    assert "| torchvision, SGD with momentum 0.9 (its reference) | 300 | 60 |" in page
    assert "--tiny" not in page
    assert "these figures mean nothing" in learning_report.page({**HEADER, "tiny": True}, RECORDS)


def test_the_page_names_the_commits_of_earlier_calls():
    records = [
        {**record, "commit": commit} for record, commit in zip(RECORDS, ("old", "abc", "abc", "abc"), strict=True)
    ]
    assert "commit abc (trained at commit old, commit abc), on" in learning_report.page(HEADER, records)
    assert "commit abc, on" in learning_report.page(HEADER, records[1:])


def test_a_page_without_any_score_says_so():
    page = learning_report.page(HEADER, [make_record("ours", 1.0, [], diverged=True)])
    assert "| this project (train.py) | 1 | diverged | – | – | – |" in page
    assert "best rate" not in page


def test_the_lines_are_json():
    first, *others = map(json.loads, learning_report.lines(HEADER, RECORDS).splitlines())
    assert first["machine"] == MACHINE
    assert others == RECORDS


def test_the_plot_shows_every_curve_against_images_and_seconds(tmp_path):
    figure = charts.make_figure(11.0, 4.8)
    learning_report.draw(figure, RECORDS)
    for axes, key in zip(figure.axes, ("images", "seconds"), strict=True):
        shown = [line.get_xydata().tolist() for line in axes.lines]
        for record in RECORDS:
            assert [[point[key], point["voc07"]] for point in record["points"]] in shown
        strong = [line.get_label() for line in axes.lines if line.get_linewidth() == 2]
        assert [label.rpartition(" ")[2] for label in strong] == ["0.0001", "0.001"]
    learning_report.plot(tmp_path / "a.png", [make_record("ours", 1.0, [], diverged=True)])
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


# The program


def errors_of(*arguments):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, arguments)], capture_output=True, text=True, env=fresh_environment()
    )
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


def test_wrong_flags_are_told_in_one_line(shapes):
    assert "--vgg: it is needed" in errors_of("--data", shapes)
    assert "no such side" in errors_of("--tiny", "--sides", "ours,keras")
    assert "--peer-python" in errors_of("--tiny", "--peer-python", ROOT / "no-such-python")


def test_a_layer_that_cannot_be_frozen_is_named_at_once(shapes):
    flags = ["--data", str(shapes), "--vgg", str(PROGRAM)]
    with pytest.raises(UserError, match=r"^--freeze conv77: no such layer"):
        learning._parse([*flags, "--freeze", "conv1,conv77"])
    assert learning._parse([*flags, "--freeze", ""]).freeze == ()
    assert learning._parse(flags).freeze == ("conv1", "conv2", "conv3")


def test_a_data_set_may_be_a_file(shapes):
    """train.py reads CSV tables and COCO's files."""
    file = shapes / "ImageSets" / "Main" / "val.txt"
    assert learning._parse(["--data", str(file), "--vgg", str(PROGRAM)]).data == str(file)


def test_flags_after_two_dashes_are_for_train_py(shapes):
    vgg = str(PROGRAM)  # any file
    flags = learning._parse(["--data", str(shapes), "--vgg", vgg, "--", "--ema", "0.99"])
    assert flags.more == ["--ema", "0.99"]
    assert flags.rates["ours"] == learning_plan.SIDES["ours"][2]


@pytest.fixture(scope="module")
def peer():
    """The interpreter that has torch and torchvision."""
    python = bench_harness.peer_python()
    if bench_harness.peer_versions(python) is None:
        pytest.skip(bench_harness.NO_PEER)
    return python


@pytest.fixture(scope="module")
def torch_facts(peer, tmp_path_factory):
    """(what learning_torch_checks.py says, its file of features, the variables it got)."""
    folder = tmp_path_factory.mktemp("torch")
    data = write_shapes(folder / "data", {"train": 4, "val": 4}, size=(200, 90))
    learning_trainings.write_random_vgg(folder / "vgg.npz")
    variables = pretrained.read_vgg(str(folder / "vgg.npz"), learning_trainings.PRESET)
    np.savez(folder / "torch.npz", **learning_convert.torch_arrays(variables))
    job = {
        **make_task(data=str(data), workers=0, batch_size=2).__dict__,
        "vgg": str(folder / "torch.npz"),
        "frozen": learning_convert.frozen_names(("conv1", "conv2")),
        "optimizer": "sgd",
        "features": str(folder / "features.npz"),
    }
    (folder / "job.json").write_text(json.dumps(job))
    script = ROOT / "tests" / "benchmarks" / "learning_torch_checks.py"
    done = subprocess.run([peer, str(script), str(folder / "job.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), np.load(job["features"]), variables


@pytest.mark.slow
def test_torchvisions_conv4_3_is_ours(torch_facts):
    import tensorflow.compat.v1 as tf

    import ssd_vgg
    from kernels import winograd

    _, features, variables = torch_facts
    preset = ssd_utils.get_preset("vgg300")
    shapes = pretrained.network_shapes(preset, 1)
    weights = {name: variables.get(name, np.zeros(shape, np.float32)) for name, shape in shapes.items()}
    with tf.Graph().as_default() as graph, tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 300, 300, 3])
        ssd_vgg.build(images, preset, 1, weights=weights)
        winograd.initialize(session)
        ours = session.run(graph.get_tensor_by_name("conv4_3/relu:0"), {images: features["picture"]})
    assert ours.max() > 1
    np.testing.assert_allclose(features["conv4_3"], ours, atol=1e-4 * ours.max())


@pytest.mark.slow
def test_a_torch_training_at_rate_zero_starts_at_uniform_scores_and_moves_nothing(torch_facts):
    facts, *_ = torch_facts
    # Heads of 0 give 3 classes a third each, for a positive and its three hard negatives
    assert facts["parts"]["classification"] == pytest.approx(4 * math.log(3), rel=1e-3)
    assert facts["first_loss"] == pytest.approx(sum(facts["parts"].values()), rel=1e-5)
    assert 0 < facts["parts"]["bbox_regression"] < 20
    assert facts["moved"] == []
    assert facts["steps"] == 2
    assert facts["frozen"] == [
        f"backbone.features.{place}.{kind}" for place in (0, 2, 5, 7) for kind in ("weight", "bias")
    ]


@pytest.mark.slow
def test_torch_detections_are_scored_as_by_hand(torch_facts):
    """Each class: as many false detections as objects come first, then all objects: precision 1/2 at every recall."""
    facts, *_ = torch_facts
    scored = [ap for ap in facts["score_of_stub"].values() if ap is not None]
    assert scored and scored == pytest.approx([0.5] * len(scored))


@pytest.mark.slow
def test_tiny_runs_every_side_and_is_done_when_called_again(peer, tmp_path):
    command = [sys.executable, str(PROGRAM), "--tiny", "--run", str(tmp_path), "--peer-python", peer]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, env=fresh_environment())
        assert done.returncode == 0, done.stderr
    first, *records = map(json.loads, (tmp_path / "learning.jsonl").read_text().splitlines())
    assert {"gpu", "cpu", "tensorflow", "torch", "torchvision"} <= set(first["machine"])
    assert [record["side"] for record in records] == list(learning_plan.SIDES)
    for record in records:
        assert record["diverged"] or [point["images"] for point in record["points"]] == [4, 8]
    assert "mean nothing" in done.stdout
    assert (tmp_path / "learning.png").stat().st_size > 10_000
    logs = [path.stat().st_mtime for path in tmp_path.glob("*/*/log.txt")]
    assert len(logs) == 3
    assert (
        max(logs) <= (tmp_path / "torchvision-adamw" / "5e-05" / "result.json").stat().st_mtime
    )  # nothing trained anew
