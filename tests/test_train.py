"""The programs as a user runs them: train, stop, resume, detect, score."""

import json
import re
import shlex
import signal
import subprocess
import time

import cv2
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

import config
import detector
import oracles
import sources
import ssd_utils
from media import images
from programs import ROOT, TINY, command, error_of, fresh_environment, run, write_shapes
from run_files import metrics, weights
from system import folder_tree


@pytest.fixture(scope="module")
def flags(shapes):
    more = ["--epochs", "3", "--deterministic", "--keep-every", "2", "--score-train", "3"]
    return ["--data", shapes, "--train", "train", "--valid", "val", *TINY, *more]


@pytest.fixture(scope="module")
def unbroken(flags, tmp_path_factory):
    """A finished run, with which stopped and resumed runs are compared."""
    path = tmp_path_factory.mktemp("runs") / "unbroken"
    done = run("train.py", *flags, "--run", path, env=fresh_environment(COLUMNS="200"))  # tqdm 4.66 cuts bars off
    assert foreign_lines(done.stderr) == []
    return path


BAR = re.compile(r"(annotations|validation|epoch \d+ of \d+)[^|]*\|[^|]*\| \d+/\d+ \[.*\]")


def foreign_lines(stderr):
    """The lines of a training's stderr that are neither a progress bar nor a warning of ours."""
    lines = [line.strip() for line in re.split(r"[\r\n]", stderr)]
    return [line for line in lines if line and not line.startswith("warning: ") and not BAR.fullmatch(line)]


def event_steps(path):
    """(step, tag) of every recorded value but histograms of filters; and of these, of which a slow machine has few."""
    steps = []
    for file in sorted((path / "events").iterdir()):
        for event in tf.train.summary_iterator(str(file)):
            steps += [(event.step, value.tag) for value in event.summary.value]
    filters = [one for one in steps if one[1].startswith("filters/")]
    return [one for one in steps if one not in filters], filters


def assert_same_run(path, unbroken):
    assert metrics(path) == metrics(unbroken)
    (steps, filters), (all_steps, all_filters) = map(event_steps, (path, unbroken))
    assert sorted(steps) == sorted(all_steps)
    assert len(set(filters)) == len(filters) and {tag for _, tag in filters} == {tag for _, tag in all_filters}
    mine, theirs = weights(path), weights(unbroken)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert (value == theirs[name]).all(), name


def stop_after(arguments, sent, steps_seen, run_path):
    """Start train.py, send a signal once `steps_seen(run_path, output)` says so; returns (code, stderr)."""
    log = run_path.parent / "stderr.txt"
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(command("train.py", *arguments), cwd=ROOT, stderr=output, stdout=output)
        deadline = time.monotonic() + 120
        while not steps_seen(run_path, log.read_text("utf-8")):
            assert process.poll() is None, f"ended too early:\n{log.read_text('utf-8')}"
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.02)
        process.send_signal(sent)
        return process.wait(60), log.read_text("utf-8")


def test_run_directory_holds_what_the_interface_names(unbroken):
    rows = metrics(unbroken)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["5", "10", "15"]
    assert {"learning_rate", "confidence", "localization", "loss", "voc07", "area", "voc07_disc"} <= rows[0].keys()
    assert (unbroken / "plots" / "learning_curves.png").stat().st_size > 1000
    values = json.loads((unbroken / "config.json").read_text("utf-8"))
    assert values["model"]["class_names"] == ["disc", "square"]
    assert values["training"]["epochs"] == 3
    tags = {tag for found in event_steps(unbroken) for _, tag in found}
    assert {"loss/confidence", "learning_rate", "mean_ap/voc07", "ap_voc07/disc", "validation/0", "training/2"} <= tags
    assert {"epoch/valid_loss", "epoch/l2", "mean_ap/train_voc07"} <= tags and "training/3" not in tags
    graphs = [event for path in (unbroken / "events").iterdir() for event in tf.train.summary_iterator(str(path))]
    (graph,) = [tf.GraphDef.FromString(event.graph_def) for event in graphs if event.graph_def]
    assert {"image_input", "conv1_1/weights", "detections/boxes"} <= {node.name for node in graph.node}
    assert "filters/conv1_1/weights" in tags


# SIGTERM goes the way of Ctrl-C (`StopRequest`)
@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_stopped_and_resumed_equals_unbroken(sent, flags, unbroken, tmp_path):
    path = tmp_path / "run"

    def in_second_epoch(run_path, output):
        return "epoch 2 of 3" in output

    code, output = stop_after([*flags, "--run", path], sent, in_second_epoch, path)
    assert code == (-signal.SIGKILL if sent == signal.SIGKILL else 130), output
    assert "Traceback" not in output
    resume = ["python", "train.py", "--run", str(path), "--resume"]
    if sent != signal.SIGKILL:
        said = re.fullmatch(r"interrupted; all up to step \d+ is saved; continue with: (.*)", output.splitlines()[-1])
        assert said and shlex.split(said[1]) == resume
    run(*resume[1:])
    assert_same_run(path, unbroken)


@pytest.mark.slow  # test_campaign.py kills a training too
def test_killed_while_the_first_checkpoint_is_missing(flags, unbroken, tmp_path):
    path = tmp_path / "run"
    started = lambda run_path, output: (run_path / "config.json").exists()  # noqa: E731
    stop_after([*flags, "--run", path], signal.SIGKILL, started, path)
    run("train.py", "--run", path, "--resume")
    assert_same_run(path, unbroken)


def test_the_loss_on_validation_pictures(unbroken, flags):
    """The last row against the float64 twin of the loss, on pictures that are resized and matched by hand."""
    source = config.find_model(f"{unbroken}@last")
    description, settings = config.read_config(str(unbroken))
    names, anchors = description.class_names, ssd_utils.make_anchors(description.preset)
    samples = sources.load(settings.data, "val", names)
    sums = dict.fromkeys(("confidence", "localization", "positives"), 0.0)
    graph = detector.build_model_graph(source, "float32", 0.01)
    with detector.open_session(graph) as session:
        for sample in samples:
            image = cv2.resize(images.read(sample.image_path), (300, 300))
            logits, offsets = session.run(["logits:0", "offsets:0"], {"image_input:0": image[None]})
            matches = ssd_utils.match_anchors(anchors, sample.boxes)
            targets = ssd_utils.encode_targets(anchors, sample.boxes, sample.labels, matches)
            found = oracles.multibox_loss(logits, offsets, targets[0][None], targets[1][None])
            sums = {name: value + found[name] for name, value in sums.items()}
    row = metrics(unbroken)[-1]
    for name in ("confidence", "localization"):
        assert float(row[f"valid_{name}"]) == pytest.approx(sums[name] / sums["positives"], rel=2e-4)
    assert float(row["valid_loss"]) == pytest.approx(float(row["valid_confidence"]) + float(row["valid_localization"]))
    weights = [value for name, value in detector.read_weights(source.checkpoint).items() if name.endswith("/weights")]
    squares = sum(np.sum(value.astype(np.float64) ** 2) for value in weights)
    assert float(row["l2"]) == pytest.approx(settings.weight_decay * squares / 2, rel=1e-5)
    assert row["valid_total"] == row["valid_loss"]  # AdamW


def test_a_kept_epoch_is_a_model(unbroken):
    kept = config.find_model(f"{unbroken}@epoch-2").checkpoint
    assert kept == config.find_model(f"{unbroken}@10").checkpoint != config.find_model(f"{unbroken}@last").checkpoint
    weights = detector.read_weights(kept)
    assert (
        weights["fc7/weights"] != detector.read_weights(config.checkpoint_prefix(str(unbroken), "last"))["fc7/weights"]
    ).any()
    assert "@epoch-2" in error_of("export_model.py", f"{unbroken}@epoch-1", "--output", unbroken / "x.pb")


def test_resume_after_the_end_changes_nothing(unbroken):
    before = metrics(unbroken)
    said = run("train.py", "--run", unbroken, "--resume").stdout
    assert metrics(unbroken) == before
    longer = (
        f"the run has finished its 3 epochs; for twice as many: python train.py --run {unbroken} --resume --epochs 6"
    )
    assert longer in said


@pytest.mark.slow
def test_more_epochs_on_resume(unbroken, flags, tmp_path):
    path = tmp_path / "run"
    run("train.py", *flags, "--run", path, "--epochs", "2")
    done = run(
        "train.py", "--run", path, "--resume", "--epochs", "3", "--workers", "0", env=fresh_environment(COLUMNS="200")
    )
    assert foreign_lines(done.stderr) == []
    assert_same_run(path, unbroken)


def test_max_steps_in_the_middle_of_an_epoch_ends_like_an_epoch(unbroken, flags, tmp_path):
    path = tmp_path / "run"
    run("train.py", *flags, "--run", path, "--max-steps", "7")
    assert [row["step"] for row in metrics(path)] == ["5", "7"]
    assert metrics(path)[1]["voc07"] != ""
    run("train.py", "--run", path, "--resume", "--max-steps", "100")
    assert metrics(path) == metrics(unbroken)
    assert (weights(path)["fc7/weights"] == weights(unbroken)["fc7/weights"]).all()


def test_accumulation_freezing_and_momentum_train(shapes, tmp_path):
    path = tmp_path / "run"
    more = ["--accumulate", "2", "--optimizer", "momentum", "--bias-lr-multiplier", "2", "--freeze", "conv1"]
    more += ["--schedule", "cosine", "--clip-norm", "5", "--max-steps", "3", "--save-minutes", "0.0001"]
    run("train.py", "--data", shapes, "--train", "train", "--valid", "val", *TINY, "--run", path, *more)
    (row,) = metrics(path)
    assert row["step"] == "3"
    assert "conv1_1/weights/momentum_weights" not in weights(path)
    decayed = [v for name, v in weights(path).items() if name.endswith("/weights") and not name.startswith("conv1_")]
    assert float(row["l2"]) == pytest.approx(
        5e-4 / 2 * sum(np.sum(v.astype(np.float64) ** 2) for v in decayed), rel=1e-5
    )
    assert float(row["valid_total"]) == pytest.approx(float(row["valid_loss"]) + float(row["l2"]))


def test_small_data_helpers(shapes, tmp_path):
    path = tmp_path / "run"
    more = ["--limit", "5", "--repeat", "3", "--class-weights", "auto", "--valid", "val", "--epochs", "2"]
    done = run("train.py", "--data", shapes, "--train", "train", *TINY, "--run", path, *more)
    assert re.search(r"\b15 pictures an epoch\b.*\b5 pictures to validate on\b", done.stdout)
    assert re.search(r"\bdisc \d.*\bsquare \d", done.stdout)
    assert [row["step"] for row in metrics(path)] == ["4", "8"]  # 15 pictures, 4 at a time
    settings = config.read_config(str(path))[1]
    assert (settings.limit, settings.repeat, settings.class_weights) == (5, 3, "auto")
    assert "--limit" in error_of("train.py", "--run", path, "--resume", "--limit", "6")
    run("train.py", "--run", path, "--resume", "--epochs", "3", "--repeat", "3", "--class-weights", "auto")
    assert [row["step"] for row in metrics(path)] == ["4", "8", "12"]


@pytest.mark.slow
def test_moving_averages_are_read_and_resumed_exactly(flags, unbroken, tmp_path):
    path, parts = tmp_path / "run", tmp_path / "parts"
    run("train.py", *flags, "--run", path, "--ema", "0.9")
    run("train.py", *flags, "--run", parts, "--ema", "0.9", "--max-steps", "7")
    run("train.py", "--run", parts, "--resume", "--max-steps", "100")
    assert metrics(parts) == metrics(path)
    raw, averaged, plain = weights(path), weights(parts), weights(unbroken)
    for name, value in raw.items():
        assert (averaged[name] == value).all(), name
    used = detector.read_weights(config.checkpoint_prefix(str(path), "last"))
    for name, value in used.items():
        assert (raw[name] == plain[name]).all(), name  # training continues from the weights themselves
        assert (value == raw[f"{name}/average"]).all(), name
    assert any((value != raw[name]).any() for name, value in used.items())


def test_patience_stops_early(flags, tmp_path):
    path = tmp_path / "run"
    done = run("train.py", *flags, "--run", path, "--epochs", "9", "--patience", "1", "--learning-rate", "1e-12")
    assert len(metrics(path)) == 2
    assert "--patience" in done.stdout


def test_unreadable_pictures_are_reported_and_left_out(tmp_path):
    data = write_shapes(tmp_path / "data", {"train": 5, "val": 3})
    for name in ("train_002", "val_001"):
        picture = data / "JPEGImages" / f"{name}.png"
        content = bytearray(picture.read_bytes())
        content[200:260] = bytes(60)  # damaged inside: header and end are intact
        picture.write_bytes(content)
    done = run(
        "train.py",
        "--data",
        data,
        "--train",
        "train",
        "--valid",
        "val",
        *TINY,
        "--epochs",
        "1",
        "--run",
        tmp_path / "run",
    )
    assert "train_002" in done.stderr
    assert "val_001" in done.stderr
    assert len(metrics(tmp_path / "run")) == 1


def test_init_from_takes_the_weights_of_a_run(unbroken, shapes, tmp_path):
    path = tmp_path / "run"
    arguments = ["--data", shapes, "--train", "train", "--batch-size", "4", "--max-steps", "1", "--workers", "0"]
    done = run("train.py", *arguments, "--init-from", unbroken, "--run", path, "--learning-rate", "1e-12")
    assert re.search(r"\brandom: none\b", done.stdout)
    model = config.read_config(str(path))[0]
    assert model == config.read_config(str(unbroken))[0]
    before = tf.train.load_checkpoint(config.checkpoint_prefix(str(unbroken)))
    assert abs(weights(path)["fc7/weights"] - before.get_tensor("fc7/weights")).max() < 1e-6


def test_infer_and_score_give_the_validation_of_training(unbroken, shapes, tmp_path):
    found = tmp_path / "found"
    model = f"{unbroken}@last"
    run("infer.py", model, "--data", shapes, "--split", "val", "--output", found)
    scored = tmp_path / "ap.json"
    run("average_precision.py", found / "detections.json", "--data", shapes, "--split", "val", "--json", scored)
    last = metrics(unbroken)[-1]
    assert json.loads(scored.read_text("utf-8"))["voc07"]["mean"] == pytest.approx(float(last["voc07"]), abs=1e-6)
    assert len(folder_tree.visible(found / "images")) == 6


def test_non_finite_loss_stops_with_its_parts_and_files(shapes, tmp_path):
    path = tmp_path / "run"
    base = ["--data", shapes, "--train", "train", *TINY, "--run", path, "--clip-norm", "0", "--warmup-steps", "0"]
    line = error_of("train.py", *base, "--optimizer", "momentum", "--learning-rate", "1e30", "--max-steps", "9")
    assert "--learning-rate" in line
    assert "a --clip-norm of 10 or less" in line  # 0 is no limit, so no smaller one helps
    assert "localization" in line
    assert "train_0" in line


WRONG = {
    "no such data": (["--data", "nowhere", "--train", "train"], "nowhere"),
    "no such split": (["--train", "tarin"], "train"),
    "unknown class": (["--classes", "disc,sqare"], "square"),
    "class listed twice": (["--classes", "disc,disc"], "disc"),
    "no objects": (["--classes", "cat", "--other-classes", "ignore"], "--train"),
    "batch size 0": (["--batch-size", "0"], "--batch-size"),
    "width above 1": (["--width", "2"], "--width"),
    "weights of another width": (["--vgg-weights", "x.npz"], "--vgg-weights"),
    "missing weights": (["--width", "1", "--vgg-weights", "x.npz"], "x.npz"),
    "weights of no known kind": (["--width", "1", "--vgg-weights", "README.md"], "README.md"),
    "unknown layer": (["--freeze", "conv1,fc9x,layer3"], "fc9x"),
    "falling steps": (["--schedule-steps", "20,10"], "--schedule-steps"),
    "steps of another schedule": (["--schedule-steps", "10,20"], "--schedule step,"),
    "form of momentum": (["--momentum-form", "caffe"], "--optimizer momentum"),
    "momentum of another optimizer": (["--momentum", "0.5"], "--optimizer momentum"),
    "epsilon of momentum": (["--optimizer", "momentum", "--adam-epsilon", "0.1"], "--optimizer adamw"),
    "a value without a flag": (["mydata"], "mydata: unexpected argument; is a flag missing before it"),
    "unknown preset": (["--preset", "vgg400"], "--preset"),
    "unknown flag": (["--epoch", "3"], "--epochs"),
    "no such run to start from": (["--init-from", "nothing"], "nothing"),
    "limit 0": (["--limit", "0"], "--limit"),
    "weight of no class": (["--class-weights", "dics=2"], "dics"),
    "weight without a value": (["--class-weights", "disc"], "NAME=…"),
    "average of nothing": (["--ema", "1"], "--ema"),
    "patience without validation": (["--patience", "2"], "--patience"),
    "resume of nothing": (["--resume", "--run", "nothing"], "nothing"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_mistakes_get_one_line(wrong, shapes, tmp_path):
    arguments, named = WRONG[wrong]
    base = ["--data", shapes, "--train", "train", *TINY, "--run", tmp_path / "run"]
    assert named in error_of("train.py", *base, *arguments)
    assert not (tmp_path / "run").exists()


def test_existing_run_is_not_overwritten(unbroken, flags):
    before = metrics(unbroken)
    assert "--resume" in error_of("train.py", *flags, "--run", unbroken)
    assert metrics(unbroken) == before


def test_other_flags_on_resume_are_refused(unbroken):
    assert "--learning-rate" in error_of("train.py", "--run", unbroken, "--resume", "--learning-rate", "0.5")
    assert "--width" in error_of("train.py", "--run", unbroken, "--resume", "--width", "0.5")


def test_a_run_is_no_vgg16(unbroken, shapes, tmp_path):
    flags = ["--data", shapes, "--train", "train", "--vgg-weights", unbroken, "--run", tmp_path / "run"]
    assert f"--init-from {unbroken}" in error_of("train.py", *flags)


def test_unwritable_run(flags, tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    assert "--run" in error_of("train.py", *flags, "--run", tmp_path / "file" / "run")


@pytest.mark.slow
def test_float16(flags, tmp_path):
    """float16 is for GPUs without bfloat16; a CPU runs it slowly. The loss scale must be saved for the resume."""
    done = run("train.py", *flags, "--precision", "float16", "--max-steps", "2", "--run", tmp_path / "run")
    assert "float16" in done.stdout + done.stderr
    run("train.py", "--run", tmp_path / "run", "--resume", "--max-steps", "3")
    assert metrics(tmp_path / "run")[-1]["step"] == "3"


def test_patience_counts_only_epochs_with_a_mean_ap(tmp_path):
    """All objects of the validation are difficult: no epoch is better or worse than another."""
    data = write_shapes(tmp_path / "shapes", {"train": 4, "val": 2})
    for name in (data / "ImageSets/Main/val.txt").read_text().split():
        path = data / "Annotations" / f"{name}.xml"
        path.write_text(path.read_text().replace("<difficult>0<", "<difficult>1<"))
    flags = ["--data", data, "--train", "train", "--valid", "val", *TINY, "--epochs", "3", "--patience", "1"]
    done = run("train.py", *flags, "--run", tmp_path / "run")
    assert "--valid val: all of its " in done.stderr and "--patience does not count" in done.stderr
    assert "stops early" not in done.stdout
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 1 + 3


def test_one_file_is_not_two_splits(tmp_path):
    (tmp_path / "train.csv").write_text("a.jpg,1,1,5,5,disc\n")
    flags = ["--data", tmp_path / "train.csv", "--train", "train", "--valid", "val", *TINY, "--run", tmp_path / "run"]
    assert "--valid val: " in error_of("train.py", *flags) and "one file" in error_of("train.py", *flags)


def test_sixteen_bits_are_spread_in_training_and_detection(tmp_path):
    """The run keeps --gray16: the same picture gives the same detections whatever part of the 16 bits it uses."""
    data = write_shapes(tmp_path / "shapes", {"train": 4})
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in (data / "JPEGImages").iterdir():
        gray = cv2.cvtColor(images.read(path), cv2.COLOR_RGB2GRAY).astype(np.uint16)
        path.unlink()
        Image.fromarray(2000 + 8 * gray).save(path.with_suffix(".png"))
    Image.fromarray(2000 + 8 * gray).save(folder / "low.png")
    Image.fromarray(100 + 200 * gray).save(folder / "wide.png")
    flags = [
        "--data",
        data,
        "--train",
        "train",
        *TINY,
        "--max-steps",
        "1",
        "--gray16",
        "stretch",
        "--precision",
        "float32",
    ]
    run("train.py", *flags, "--run", tmp_path / "run")
    run("infer.py", tmp_path / "run", folder, "--output", tmp_path / "out", "--no-draw", "--threshold", "0.01")
    found = json.loads((tmp_path / "out" / "detections.json").read_text("utf-8"))["images"]
    assert found[0]["detections"] == found[1]["detections"] != []
    assert "--gray16" in error_of("train.py", "--run", tmp_path / "run", "--resume", "--gray16", "full")
