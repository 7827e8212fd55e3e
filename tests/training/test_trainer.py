"""The training loop within one process: state after stops, failures and resumes in unusual places.

`tests/test_train.py` tests the program as a user runs it.
"""

import contextlib
import dataclasses
import inspect
import re
import shutil
import signal
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import config
import runs
import ssd_utils
import train
import training_data
from distribution import ends
from formats import division
from kernels import devices
from media import images
from programs import TINY, write_shapes
from results.data_set import DataSet
from run_files import weights
from settings.training_settings import TrainingSettings
from structures import UserError
from system import cli, data_queue, files, worker_processes
from training import engine, ration, summaries, trainer, valid_loss

QUICK = [*TINY[: TINY.index("--workers")], "--augmentation", "none", "--initializer", "he"]


@pytest.fixture
def start(shapes, tmp_path):
    """Callable: flags -> the path of a run of 5 steps an epoch. workers: None for the default."""

    def call(*flags, name="run", workers="0"):
        given = [] if workers is None else ["--workers", workers]
        train.main(["--data", str(shapes), "--train", "train", *QUICK, *given, "--run", str(tmp_path / name), *flags])
        return tmp_path / name

    return call


def resume(run, *flags):
    train.main(["--run", str(run), "--resume", *flags])


def settings(run):
    return config.read_config(str(run))[1]


def state_of(run):
    """state.json of the last checkpoint."""
    return files.read_json(Path(config.checkpoint_prefix(str(run), "last")).with_name("state.json"))


def steps_of_rows(run):
    """The column `step` of metrics.csv."""
    return [row.split(",")[1] for row in files.read_text(run / "metrics.csv").splitlines()[1:]]


def assert_same_weights(run, other):
    mine, theirs = weights(run), weights(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        np.testing.assert_allclose(value, theirs[name], atol=1e-6, err_msg=name)


def fail_after(monkeypatch, count):
    """Let the data queue fail once after that many batches."""
    original = data_queue.DataQueue.batches

    def batches(self, jobs):
        for index, batch in enumerate(original(self, jobs)):
            if index == count:
                monkeypatch.setattr(data_queue.DataQueue, "batches", original)
                raise data_queue.WorkerError("worker 1 died")
            yield batch

    monkeypatch.setattr(data_queue.DataQueue, "batches", batches)


def test_a_worker_failure_within_an_effective_batch_is_resumed_exactly(start, tmp_path, monkeypatch):
    flags = ["--accumulate", "3", "--epochs", "1", "--optimizer", "momentum", "--warmup-steps", "0"]
    unbroken = start(*flags, name="unbroken")
    fail_after(monkeypatch, 2)  # the gradients of two batches are added up by then
    with pytest.raises(UserError, match="worker 1 died"):
        start(*flags)
    resume(tmp_path / "run")
    assert_same_weights(tmp_path / "run", unbroken)
    assert not [name for name in weights(unbroken) if "_sum" in name]


def test_a_step_is_four_calls_away_from_main(start, monkeypatch):
    """main, Trainer.train, train_one_epoch, TrainingStep.run; the fourth call is that of session.run."""
    callers, original = [], tf.Session.run

    def run(*arguments, **options):
        names = [frame.function for frame in inspect.stack()[1:5]]
        if "train_one_epoch" in names and "is_sound" not in names:
            callers.append(names)
        return original(*arguments, **options)

    monkeypatch.setattr(tf.Session, "run", run)
    start("--max-steps", "1")
    assert callers == [["run", "train_one_epoch", "train", "main"]]


@pytest.fixture
def slow_saves(monkeypatch):
    """Let every save count as one that took long; a list of the steps that are saved."""
    steps, original = [], runs.Checkpoints.save

    def save(self, session, state, *arguments):
        steps.append(state.step)
        return original(self, session, state, *arguments)

    monkeypatch.setattr(runs.Checkpoints, "save", save)
    monkeypatch.setattr(ration, "QUICK", 0)
    monkeypatch.setattr(ration, "SPARING", 1e9)
    return steps


def test_short_epochs_are_not_all_saved(start, slow_saves):
    start("--epochs", "4")
    assert slow_saves == [5, 20]
    slow_saves.clear()
    start("--epochs", "4", "--max-steps", "13", name="cut")
    assert slow_saves == [5, 13]
    slow_saves.clear()
    start("--epochs", "5", "--keep-every", "2", name="kept")
    assert slow_saves == [5, 10, 20, 25]
    slow_saves.clear()
    start(*PATIENT, name="patient")  # the first epoch is the best, and the second the last
    assert slow_saves == [5, 10]


def test_pictures_to_score_are_those_of_train_once():
    """However often --repeat shows them in an epoch."""
    settings = TrainingSettings(data="", train="", repeat=3, score_train=10)
    samples = [types.SimpleNamespace(id=one) for one in "abcd"] * 3
    task = trainer.Task("", config.ModelDescription(ssd_utils.get_preset("vgg300"), ("car",)), settings, samples, [])
    assert [one.id for one in task.scored] == ["a", "b", "c", "d"]
    few = dataclasses.replace(task, settings=dataclasses.replace(settings, score_train=0))
    assert list(few.scored) == []


@pytest.mark.parametrize(("now", "requested", "saved"), [(1119, False, 0), (1121, False, 1), (1000, True, 1)])
def test_steps_are_saved_after_some_minutes_or_at_a_stop(now, requested, saved, monkeypatch):
    monkeypatch.setattr(trainer.time, "monotonic", lambda: now)
    stop = types.SimpleNamespace(requested=requested, raise_if_requested=lambda: None)
    task, saves = types.SimpleNamespace(settings=types.SimpleNamespace(save_minutes=2)), []
    training = types.SimpleNamespace(
        task=task,
        stop=stop,
        state=types.SimpleNamespace(step=3),
        diagnosis=types.SimpleNamespace(add=lambda sums: None),
        last_save=1000,
        _before_step=lambda: None,
        _save_sound=lambda: saves.append(now),
    )
    trainer.Trainer._after_step(training, {}, 0.1, None)
    assert len(saves) == saved


class LosesARank:
    """A stand-in for the Group of rank 0, whose other rank is lost in a call of `share`."""

    rank, size, is_first, ended = 0, 1, True, False

    def __init__(self, shares):
        self._left = shares

    def share(self, _):
        self._left -= 1
        if not self._left:
            self.ended = True
            raise ends.RankLost("rank 1 (b:1) is lost")


def test_a_rank_that_is_lost_between_two_epochs_costs_no_step(start, tmp_path, slow_saves, monkeypatch):
    """Rank 0 learns of it after it has scored the epoch, which is not saved where epochs are short."""
    train_alone, train_one_epoch = trainer.Trainer.train, engine.train_one_epoch

    def train_together(self):
        self.task = dataclasses.replace(self.task, group=LosesARank(2))
        train_alone(self)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "train", train_together)
        patch.setattr(engine, "train_one_epoch", lambda *arguments: train_one_epoch(*arguments[:-1]))  # without group
        with pytest.raises(ends.RankLost):
            start("--epochs", "4")
    assert slow_saves == [5, 10]
    state = state_of(tmp_path / "run")
    assert (state["epoch"], state["batch"], len(state["rows"])) == (2, 0, 2)
    resume(tmp_path / "run")
    assert slow_saves[-1] == 20


def test_a_training_killed_after_epochs_that_were_not_saved_repeats_them(start, tmp_path, slow_saves, monkeypatch):
    original = engine.train_one_epoch

    def train_one_epoch(graph, batches, state, *arguments):
        if state.epoch == 3:
            raise ZeroDivisionError  # as a kill, after which nothing is saved
        return original(graph, batches, state, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "train_one_epoch", train_one_epoch)
        with pytest.raises(ZeroDivisionError):
            start("--epochs", "4")
    assert slow_saves == [5]
    resume(tmp_path / "run")
    unbroken = start("--epochs", "4", name="unbroken")
    assert_same_weights(tmp_path / "run", unbroken)
    rows, expected = (files.read_text(run / "metrics.csv").splitlines() for run in (tmp_path / "run", unbroken))
    assert len(rows) == 5 and [row.split(",")[:6] for row in rows] == [row.split(",")[:6] for row in expected]


def test_a_stop_saves_epochs_that_were_not_saved(start, tmp_path, slow_saves, monkeypatch):
    original = engine.train_one_epoch

    def train_one_epoch(graph, batches, state, *arguments):
        if state.epoch == 2:
            signal.raise_signal(signal.SIGTERM)
        return original(graph, batches, state, *arguments)

    monkeypatch.setattr(engine, "train_one_epoch", train_one_epoch)
    with pytest.raises(KeyboardInterrupt):
        start("--epochs", "4")
    assert slow_saves == [5, 11]


def test_a_worker_that_died_between_two_epochs_is_reported_in_one_line(start, tmp_path, monkeypatch):
    original = data_queue.DataQueue.batches

    def batches(self, jobs):
        if jobs[0][0] == 1:  # the second epoch
            raise data_queue.WorkerError("worker 1 died")
        return original(self, jobs)

    monkeypatch.setattr(data_queue.DataQueue, "batches", batches)
    with pytest.raises(UserError, match=r"worker 1 died; all up to step 5 is saved; to continue: .* --resume$"):
        start("--epochs", "2")
    assert state_of(tmp_path / "run")["step"] == 5


@pytest.fixture
def disk(shapes, tmp_path):
    """A copy of `shapes` that a test may remove."""
    return Path(shutil.copytree(shapes, tmp_path / "disk"))


def test_data_that_vanishes_ends_a_training_that_is_saved(start, disk, tmp_path, monkeypatch):
    """Otherwise the remaining steps would train on empty batches."""
    read, count = images.read, []

    def reading(path, *arguments, **options):
        count.append(path)
        if len(count) == 10:
            (disk / "JPEGImages").rename(disk / "gone")
        return read(path, *arguments, **options)

    monkeypatch.setattr(images, "read", reading)
    with pytest.raises(UserError, match=f"{disk}.*--resume"):
        start("--data", str(disk), "--epochs", "3", "--initializer", "he")  # which measures no pictures
    assert state_of(tmp_path / "run")["step"] == 2
    (disk / "gone").rename(disk / "JPEGImages")
    resume(tmp_path / "run", "--epochs", "1")
    assert state_of(tmp_path / "run")["step"] == 5


def test_a_validation_that_lost_its_pictures_is_repeated_on_resume(start, disk, tmp_path, monkeypatch):
    evaluate = engine.evaluate

    def without(*arguments, **options):
        (disk / "JPEGImages").rename(disk / "gone")
        return evaluate(*arguments, **options)

    monkeypatch.setattr(engine, "evaluate", without)
    with pytest.raises(UserError, match=f"{disk}.*--resume"):
        start("--data", str(disk), "--epochs", "1", "--valid", "val")
    assert state_of(tmp_path / "run")["step"] == 5
    (disk / "gone").rename(disk / "JPEGImages")
    monkeypatch.setattr(engine, "evaluate", evaluate)
    resume(tmp_path / "run")
    (row,) = state_of(tmp_path / "run")["rows"]
    assert row["step"] == 5 and row["voc07"] is not None


BLOWN_UP = ["--optimizer", "momentum", "--learning-rate", "1e30", "--clip-norm", "0", "--warmup-steps", "0"]


@pytest.mark.parametrize(
    "flags", [["--max-steps", "9", "--save-minutes", "1e-9"], ["--limit", "4", "--epochs", "9"]], ids=["step", "epoch"]
)
def test_a_ruined_model_is_not_saved(flags, start, tmp_path):
    """The first step has a finite loss, but its update is not finite or leads to a loss that is not."""
    with pytest.raises(engine.NonFiniteLoss, match=r"step 1\b.*--learning-rate"):
        start(*BLOWN_UP, *flags)
    assert config.read_index(str(tmp_path / "run")) == {}


@pytest.mark.slow
def test_the_precision_chosen_by_auto_stays(start, monkeypatch, capsys):
    monkeypatch.setattr(devices, "_fastest", lambda: "bfloat16")
    run = start("--precision", "auto", "--max-steps", "1")
    assert settings(run).precision == "bfloat16"
    monkeypatch.setattr(devices, "_fastest", lambda: "float32")
    for flags in (["--max-steps", "2"], ["--max-steps", "3", "--precision", "auto"]):
        capsys.readouterr()
        resume(run, *flags)
        assert re.search(r"\bbfloat16\b.*\b18\b", capsys.readouterr().out)
    with pytest.raises(UserError, match=r"--precision float32: .*bfloat16"):
        resume(run, "--precision", "float32")


def test_a_stop_while_the_network_is_built_leaves_no_run(start, tmp_path, monkeypatch):
    """The run, without any step, would only be in the way of the same command."""
    build = trainer.training_graph.build

    def stopped(*arguments):
        signal.raise_signal(signal.SIGINT)
        return build(*arguments)

    monkeypatch.setattr(trainer.training_graph, "build", stopped)
    with pytest.raises(KeyboardInterrupt):
        start("--max-steps", "1")
    assert list(tmp_path.iterdir()) == []


def test_changes_of_a_resume_are_kept(start, capsys):
    run = start("--epochs", "1", "--schedule", "cosine")
    versions = files.read_json(run / "config.json")["versions"]
    resume(run, "--epochs", "3", "--max-steps", "7")
    assert re.search(r"step 7\b.*\b5\b.*cosine", capsys.readouterr().out)
    assert (settings(run).epochs, settings(run).max_steps, settings(run).schedule) == (3, 7, "cosine")
    resume(run, "--max-steps", "8")
    assert settings(run).epochs == 3
    assert state_of(run)["step"] == 8
    assert files.read_json(run / "config.json")["versions"] == versions
    capsys.readouterr()
    resume(run, "--workers", "1")
    said = capsys.readouterr().out
    assert "cosine" not in said
    assert (
        f"the run has finished its 8 steps; for twice as many: python train.py --run {run} --resume --max-steps 16"
        in said
    )
    assert settings(run).workers == 1


def test_a_length_that_a_run_has_had_already_changes_nothing(start, capsys):
    run = start("--epochs", "2", "--schedule", "cosine")
    capsys.readouterr()
    resume(run, "--epochs", "1", "--workers", "1")
    said = capsys.readouterr().out
    assert "cosine" not in said and "the run has finished its 2 epochs;" in said
    assert (settings(run).epochs, settings(run).workers) == (2, 1)


@pytest.fixture
def stopped(start, tmp_path, monkeypatch):
    """A run of 2 epochs that was stopped after step 7, in the second one."""
    original = trainer.Trainer._after_step

    def after_step(self, *arguments):
        if self.state.step == 7:
            signal.raise_signal(signal.SIGINT)
        original(self, *arguments)

    monkeypatch.setattr(trainer.Trainer, "_after_step", after_step)
    with pytest.raises(KeyboardInterrupt):
        start("--epochs", "2")
    monkeypatch.undo()
    return tmp_path / "run"


def test_a_stopped_run_may_end_where_it_is_but_not_before(stopped, capsys):
    """Nothing is left with a shorter length, but the run has not had its own; an epoch that is cut short gets a row."""
    before = files.read_text(stopped / "metrics.csv"), files.read_text(stopped / "config.json")
    remedy = "give more, or leave it out to go on"
    with pytest.raises(UserError, match=f"^--max-steps 4: the run is at step 7; {remedy}$"):
        resume(stopped, "--max-steps", "4")
    with pytest.raises(UserError, match=f"^--epochs 1: the run is in epoch 2; {remedy}$"):
        resume(stopped, "--epochs", "1")
    assert (files.read_text(stopped / "metrics.csv"), files.read_text(stopped / "config.json")) == before
    resume(stopped, "--max-steps", "7")
    assert "the run has finished its 7 steps; for twice as many: " in capsys.readouterr().out
    assert steps_of_rows(stopped) == ["5", "7"]
    assert config.read_config(str(stopped))[1].max_steps == 7  # so the next resume trains no further


def test_a_shorter_length_than_that_of_a_run_at_its_end_changes_nothing(start, capsys):
    run = start("--epochs", "2", "--max-steps", "7")
    for flags in (("--max-steps", "4"), ("--epochs", "1")):
        capsys.readouterr()
        resume(run, *flags)
        assert "the run has finished its 7 steps; for twice as many: " in capsys.readouterr().out
        assert steps_of_rows(run) == ["5", "7"]


@pytest.mark.parametrize("flags", [("--epochs", "1", "--max-steps", "5"), ("--epochs", "2", "--max-steps", "7")])
def test_the_line_that_trains_longer_does(flags, start, capsys):
    """Also where both limits would end the run, or one does and the other is near."""
    run = start(*flags)
    before = state_of(run)["step"]
    capsys.readouterr()
    resume(run)
    line = re.search(r"for twice as many: python train\.py (.*)", capsys.readouterr().out)[1]
    train.main(line.split())
    assert state_of(run)["step"] == 2 * before
    assert "nothing is left" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("epochs", "max_steps", "end", "flags"),
    [
        (1, 7, "1 epoch", "--max-steps 10 --epochs 2"),
        (1, 10, "1 epoch", "--epochs 2"),
        (1, None, "1 epoch", "--epochs 2"),
        (2, 5, "5 steps", "--max-steps 10"),
    ],
)
def test_the_line_that_trains_longer_has_the_limits_that_would_end_it(epochs, max_steps, end, flags, tmp_path):
    """Of a run whose first epoch of 5 steps has ended."""
    description = config.ModelDescription(ssd_utils.get_preset("vgg300"), ("car",))
    settings = TrainingSettings("", "", batch_size=1, epochs=epochs, max_steps=max_steps)
    config.write_config(str(tmp_path), description, settings, {})
    task = trainer.Task(str(tmp_path), description, settings, [None] * 5, [])
    ended = types.SimpleNamespace(task=task, state=runs.TrainingState(step=5))
    text = trainer.Trainer._way_to_longer(ended)
    assert f"finished its {end}; " in text and text.endswith(f" {flags}")


@pytest.mark.parametrize(
    ("flags", "warned"),
    [
        (
            ("--warmup-steps", "5"),
            "the warm-up takes 5 steps and the whole training 5, so the rate ends at 0.0002; --warmup-steps 0",
        ),
        (
            ("--warmup-steps", "100", "--learning-rate", "0.1"),
            "the whole training 5, so the rate ends at 0.005; --warmup-steps 0 suits",
        ),
        (("--warmup-steps", "4"), None),
    ],
)
def test_a_training_that_ends_while_its_rate_rises_says_so(flags, warned, start, capsys):
    run = start("--epochs", "1", *flags)
    said = capsys.readouterr().err
    assert warned in said if warned else "the rate rises" not in said
    resume(run)
    assert "the rate rises" not in capsys.readouterr().err  # it could not be changed


def test_each_machine_has_its_own_default_of_workers(start, monkeypatch):
    counts, make_queue = [], training_data.make_queue

    def making(*arguments, workers, **options):
        counts.append(workers)
        return make_queue(*arguments, workers=0, **options)

    monkeypatch.setattr(training_data, "make_queue", making)
    monkeypatch.setattr(worker_processes, "usable_cores", lambda: 2)
    run = start("--max-steps", "1", workers=None)
    monkeypatch.setattr(worker_processes, "usable_cores", lambda: 16)
    resume(run, "--max-steps", "2")
    resume(run, "--max-steps", "3", "--workers", "5")
    assert counts == [2, 14, 5]
    assert settings(run).workers == 5


def exhausted(monkeypatch, when):
    """Let TensorFlow get no memory for a session.run whose feeds meet a condition."""
    original = tf.Session.run

    def run(self, fetches, feed_dict=None, *arguments, **options):
        if feed_dict and when(feed_dict):
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[8,64,300,300]")
        return original(self, fetches, feed_dict, *arguments, **options)

    monkeypatch.setattr(tf.Session, "run", run)


def names(feeds):
    return {tensor.op.name for tensor in feeds if hasattr(tensor, "op")}


def test_full_memory_in_a_step_keeps_the_last_checkpoint(start, tmp_path, monkeypatch):
    run, steps = tmp_path / "run", []

    def in_batch_8(feeds):  # of the third step
        steps.extend(["step"] * (names(feeds) >= {"image_input", "learning_rate"}))
        return len(steps) == 8

    with monkeypatch.context() as patch:
        exhausted(patch, in_batch_8)
        with pytest.raises(
            UserError,
            match=f"memory.*step-00000002 is saved.*--batch-size 2 --accumulate 6.*--init-from {run}@last.*--resume",
        ):
            start("--accumulate", "3", "--batch-size", "4", "--repeat", "3", "--save-minutes", "1e-9")
    assert state_of(run)["step"] == 2
    resume(run, "--max-steps", "3")
    assert state_of(run)["step"] == 3


def test_full_memory_in_the_first_step(start, tmp_path, monkeypatch):
    exhausted(monkeypatch, lambda feeds: "learning_rate" in names(feeds))
    with pytest.raises(UserError, match=r"nothing is saved.*--batch-size 3 --accumulate 3") as error:
        start("--batch-size", "9")
    assert "--init-from" not in str(error.value)
    with pytest.raises(UserError, match=r"nothing is saved.*--freeze"):
        start("--batch-size", "1", name="small")


def test_a_gpu_that_is_full_from_the_start_is_named(start, monkeypatch):
    def run_out(*_, **__):
        raise tf.errors.InternalError(None, None, "cudaSetDevice() on GPU:0 failed. Status: out of memory")

    monkeypatch.setattr(trainer.training_graph, "build", run_out)
    with pytest.raises(UserError, match=r"memory.*nothing is saved.*end other programs"):
        start()


def test_full_memory_in_a_validation_costs_no_step(start, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        exhausted(patch, lambda feeds: names(feeds) == {"image_input"} and len(*feeds.values()) > 1)
        said = r"memory.*step-00000005 is saved.*--batch-size 2 --accumulate 2.*--resume --xla off"
        with pytest.raises(UserError, match=said):
            start("--epochs", "1", "--valid", "val", "--xla", "off")
    assert state_of(tmp_path / "run")["rows"] == []
    resume(tmp_path / "run")
    (row,) = state_of(tmp_path / "run")["rows"]
    assert row["step"] == 5 and row["voc07"] is not None


def test_a_validation_loss_that_is_not_finite_costs_nothing(start, monkeypatch, capsys):
    losses = {"confidence": 2.0, "localization": float("inf"), "loss": float("inf")}
    monkeypatch.setattr(valid_loss.LossOfSamples, "means", lambda self: losses)
    run = start("--valid", "val", "--epochs", "1")
    assert "warning: the loss on --valid is not finite in float32, so it is not recorded" in capsys.readouterr().err
    (row,) = state_of(run)["rows"]
    assert row["voc07"] is not None and row["valid_confidence"] is row["valid_loss"] is row["valid_total"] is None


PATIENT = ["--valid", "val", "--patience", "1", "--learning-rate", "1e-12", "--epochs", "9"]


def test_patience_counts_only_complete_epochs(start):
    """An epoch cut short by --max-steps is validated then, and again on each resume."""
    run = start(*PATIENT, "--max-steps", "7")
    for _ in range(2):
        resume(run)
        assert state_of(run)["stale"] == 0
        assert state_of(run)["step"] == 7
    resume(run, "--max-steps", "99")
    assert state_of(run)["step"] == 10


def test_a_better_score_within_an_epoch_renews_the_patience(start, monkeypatch):
    """The whole epoch may score less than its first part did. That counts as one stale epoch, no more."""
    scores = [0.4, 0.3, 0.8, 0.7]
    original = engine.evaluate

    def evaluate(*arguments, **settings):
        found, examples = original(*arguments, **settings)
        found["voc07"]["mean"] = scores.pop(0)
        return found, examples

    monkeypatch.setattr(engine, "evaluate", evaluate)
    run = start("--valid", "val", "--patience", "3", "--max-steps", "12")
    assert (state_of(run)["stale"], state_of(run)["best"]) == (0, 0.8)
    resume(run, "--max-steps", "15")
    assert (state_of(run)["stale"], state_of(run)["best"]) == (1, 0.8)


@pytest.mark.parametrize("method", ["record_step", pytest.param("record_pictures", marks=pytest.mark.slow)])
def test_records_that_cannot_be_written_cost_nothing(method, start, tmp_path, monkeypatch, capsys):
    flags = ["--valid", "val", "--epochs", "3"]
    unbroken = start(*flags, name="unbroken")

    def fail(self, step, *_):
        if step >= 10:
            raise UserError("events: cannot be written")

    cli.warn_once.cache_clear()
    monkeypatch.setattr(summaries.Summaries, method, fail)
    start(*flags)
    errors = capsys.readouterr().err
    assert len(re.findall("warning: .* cannot be recorded: events: cannot be written; training continues", errors)) == 1
    assert_same_weights(tmp_path / "run", unbroken)
    mine, theirs = (state_of(path) for path in (tmp_path / "run", unbroken))
    assert (mine["stale"], mine["best"]) == (theirs["stale"], theirs["best"])


def test_a_run_in_training_is_not_trained_by_another(start):
    run = start("--max-steps", "1")
    with runs.lock(str(run)), pytest.raises(UserError, match=f"--run {run}: .*process"):
        resume(run, "--max-steps", "2")
    resume(run, "--max-steps", "2")
    assert state_of(run)["step"] == 2


def test_patience_is_in_epochs(start):
    run = start(*PATIENT[:2], "--valid-every", "2", "--patience", "2", *PATIENT[4:])
    state = state_of(run)
    assert (state["epoch"], state["stale"]) == (4, 1)


def test_a_run_that_stopped_early_stays_stopped(start, capsys):
    run = start(*PATIENT)
    state = state_of(run)
    assert (state["step"], state["stale"]) == (10, 1)
    capsys.readouterr()
    resume(run)
    assert "--patience" in capsys.readouterr().out
    assert state_of(run) == state


def write_split(data, ids):
    (data / "ImageSets" / "Main" / "train.txt").write_text("".join(f"{i}\n" for i in ids), "utf-8")


def test_a_resume_notices_other_data(tmp_path):
    data, run = write_shapes(tmp_path / "data", {"train": 9}), tmp_path / "run"
    ids = [f"train_{index:03d}" for index in range(9)]
    write_split(data, ids[:8])
    flags = ["--data", str(data), "--train", "train", *QUICK, "--workers", "0"]
    train.main([*flags, "--run", str(run), "--epochs", "1"])
    for changed, message in ((ids, r"\b8\b.*\b9\b"), (ids[1:], "--train train")):
        write_split(data, changed)
        with pytest.raises(UserError, match=f"--resume: .*{message}.*--init-from"):
            resume(run, "--epochs", "2")
    assert settings(run).epochs == 1
    write_split(data, ids[:8])
    resume(run, "--epochs", "2")
    assert state_of(run)["step"] == 4


def test_a_checkpoint_that_does_not_know_its_data_is_resumed(start):
    run = start("--max-steps", "1")
    path = Path(config.checkpoint_prefix(str(run), "last")).with_name("state.json")
    files.write_json(path, {name: value for name, value in state_of(run).items() if name != "data"})
    resume(run, "--max-steps", "2")
    assert state_of(run)["data"]["pictures"] == 18


def test_a_resume_keeps_the_pictures_of_a_valid_share(shapes, tmp_path, monkeypatch):
    """Also where pictures came since; detection and scoring can take the same ones."""
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(shapes, data)
    flags = ["--data", str(data), "--train", "train", *QUICK, "--workers", "0", "--run", str(run)]
    train.main([*flags, "--valid-share", "0.3", "--max-steps", "1"])
    divided = division.read(run / config.DIVISION)
    assert len(divided.valid) == 5 and len(divided.train) == 13
    assert state_of(run)["best"] is not None  # it was validated

    listed = data / "ImageSets" / "Main" / "train.txt"
    listed.write_text((data / "ImageSets" / "Main" / "val.txt").read_text() + listed.read_text())
    tasks = []

    @contextlib.contextmanager
    def note(task, _):
        tasks.append(task)
        yield types.SimpleNamespace(train=lambda: None)

    monkeypatch.setattr(trainer, "open_trainer", note)
    resume(run)
    (task,) = tasks
    assert task.divided == divided and task.settings.valid_share == 0.3
    for samples, side in ((task.samples, divided.train), (task.valid, divided.valid)):
        assert [division.picture_name(one.image_path, str(data)) for one in samples] == side
    chosen = DataSet(str(data), "train", valid_of=str(run))
    assert chosen.ids == {one.id for one in task.valid} == set(chosen.samples(("disc", "square")))
    with pytest.raises(
        UserError, match=r"--valid-of: --split val .* has only 0 of the run's 5 pictures .*; give the --data"
    ):
        _ = DataSet(str(data), "val", valid_of=str(run)).ids
    with pytest.raises(UserError, match="not a run that was trained with --valid-share"):
        DataSet(str(data), "val", valid_of=str(data))
