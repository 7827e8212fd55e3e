"""Run directories: a checkpoint appears complete or not at all."""

import fcntl
import os
import resource
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import config
import detector
import runs
import ssd_utils
from settings.training_settings import TrainingSettings
from structures import UserError

DESCRIPTION = config.ModelDescription(ssd_utils.get_preset("vgg300"), ("car",))
SETTINGS = TrainingSettings(data="d", train="t", schedule_steps=(3, 4), freeze=("conv1",))


@pytest.fixture
def run(tmp_path):
    path = str(tmp_path / "run")
    runs.create(path, DESCRIPTION, SETTINGS)
    return path


@pytest.fixture
def session():
    """A session over a graph with one variable, in place of a model."""
    with tf.Graph().as_default():
        variable = tf.get_variable("v", [3], use_resource=True)
        with tf.Session() as session:
            session.variable = variable
            session.run(tf.global_variables_initializer())
            yield session


def set_value(session, value):
    session.variable.load(np.full(3, value, np.float32), session)


def value_of(run, which):
    return tf.train.load_checkpoint(config.checkpoint_prefix(run, which)).get_tensor("v")[0]


def test_config_survives_the_disk(run):
    assert config.read_config(run) == (DESCRIPTION, SETTINGS)


def test_last_and_best_are_kept_and_others_are_deleted(run, session):
    checkpoints = runs.Checkpoints(run)
    for step, best in ((1, False), (2, True), (3, False), (4, False)):
        set_value(session, step)
        checkpoints.save(session, runs.TrainingState(step=step), best)
    assert value_of(run, "last") == 4
    assert value_of(run, "best") == 2
    assert value_of(run, None) == 2
    assert sorted(os.listdir(os.path.join(run, "checkpoints"))) == ["index.json", "step-00000002", "step-00000004"]


def test_a_kept_checkpoint_stays(run, session):
    checkpoints = runs.Checkpoints(run)
    for step, kept in ((1, None), (2, "epoch-1"), (3, None), (4, "epoch-2"), (5, None), (5, None)):
        set_value(session, step)
        checkpoints.save(session, runs.TrainingState(step=step), kept=kept)
    assert [value_of(run, which) for which in ("epoch-1", "epoch-2", "2", "4", "5", "last")] == [2, 4, 2, 4, 5, 5]
    assert len(os.listdir(os.path.join(run, "checkpoints"))) == 4  # and the index


def test_state_and_variables_come_back(run, session):
    row = {"epoch": 1, "step": 4, "voc07": None}
    state = runs.TrainingState(7, 1, 3, {"positives": 2.5}, 1.5, [row], 0.25, 1)
    set_value(session, 5)
    checkpoints = runs.Checkpoints(run)
    checkpoints.save(session, state)
    set_value(session, 0)
    assert checkpoints.restore_last(session) == state
    assert (session.run(session.variable) == 5).all()


def test_entries_of_older_versions_in_a_checkpoint_are_ignored(run, session):
    set_value(session, 5)
    with tf.Graph().as_default(), tf.Session() as older:
        variables = [tf.get_variable(name, initializer=[value] * 3) for name, value in (("v", 4.0), ("sum", 1.0))]
        older.run([variable.initializer for variable in variables])
        runs.Checkpoints(run).save(older, runs.TrainingState(step=1))
    runs.Checkpoints(run).restore_last(session)
    assert (session.run(session.variable) == 4).all()


def test_the_same_step_saved_twice_never_touches_the_named_one(run, session, monkeypatch):
    checkpoints = runs.Checkpoints(run)
    set_value(session, 1)
    checkpoints.save(session, runs.TrainingState(step=1))
    set_value(session, 2)
    monkeypatch.setattr(runs.files, "write_json", fail)
    with pytest.raises(UserError, match="No space"):
        checkpoints.save(session, runs.TrainingState(step=1))
    assert value_of(run, "last") == 1


def fail(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("broken", ["replace", "fsync", "mkdir"])
def test_failure_at_any_point_leaves_the_last_checkpoint(broken, run, session, monkeypatch):
    checkpoints = runs.Checkpoints(run)
    set_value(session, 1)
    checkpoints.save(session, runs.TrainingState(step=1), best=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(UserError, match=r"step-00000002.*cannot be written.*free some space"):
            checkpoints.save(session, runs.TrainingState(step=2), best=True)
    assert value_of(run, "last") == value_of(run, "best") == 1
    set_value(session, 3)
    checkpoints.save(session, runs.TrainingState(step=3))
    assert value_of(run, "last") == 3
    assert not [name for name in os.listdir(os.path.join(run, "checkpoints")) if name.startswith("tmp-")]


def test_a_checkpoint_is_on_disk_before_it_has_its_name_and_that_before_the_index_has_it(run, session, monkeypatch):
    """Also TensorFlow's files, which it does not flush itself: a power cut leaves the old checkpoint or the new one."""
    done, folder = [], os.path.join(run, "checkpoints")
    fsync, replace = os.fsync, os.replace

    def note_fsync(file):
        done.append(("fsync", os.path.relpath(os.readlink(f"/proc/self/fd/{file}"), folder)))
        fsync(file)

    def note_replace(old, new):
        done.append(("replace", os.path.relpath(new, folder)))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    runs.Checkpoints(run).save(session, runs.TrainingState(step=1))
    named, indexed = (done.index(("replace", name)) for name in ("step-00000001", "index.json"))
    names = os.listdir(os.path.join(folder, "step-00000001"))
    assert {"state.json", "model.index", "model.data-00000-of-00001"} <= set(names)
    filled = max(at for at in range(named) if done[at][0] == "replace")  # state.json, the last of its files
    assert {("fsync", f"tmp-step-00000001/{name}") for name in names} <= set(done[:named])
    assert ("fsync", "tmp-step-00000001") in done[filled:named]
    assert ("fsync", ".") in done[named:indexed] and ("fsync", ".") in done[indexed:]


def test_a_save_first_deletes_the_remains_of_a_failed_one(run, session, monkeypatch):
    checkpoints, folder = runs.Checkpoints(run), os.path.join(run, "checkpoints")
    checkpoints.save(session, runs.TrainingState(step=1))
    replace = os.replace
    with monkeypatch.context() as patch:  # fails when the whole checkpoint gets its name
        patch.setattr(os, "replace", lambda old, new: fail() if os.path.isdir(old) else replace(old, new))
        with pytest.raises(UserError, match="No space"):
            checkpoints.save(session, runs.TrainingState(step=2))
    assert sorted(os.listdir(folder)) == ["index.json", "step-00000001"]
    os.mkdir(os.path.join(folder, "tmp-step-00000002"))  # as a kill leaves it
    seen = []
    write = checkpoints._saver.save
    monkeypatch.setattr(checkpoints._saver, "save", lambda *a, **k: (seen.extend(os.listdir(folder)), write(*a, **k)))
    checkpoints.save(session, runs.TrainingState(step=3))
    assert sorted(seen) == ["index.json", "step-00000001", "tmp-step-00000003"]


def test_a_killed_start_does_not_block_the_next(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    (path / ".123-0.tmp").write_text("{", "utf-8")
    runs.create(str(path), DESCRIPTION, SETTINGS)
    assert config.read_config(str(path))[0] == DESCRIPTION


def test_a_file_system_without_locks_causes_a_warning(run, monkeypatch, capsys):
    def fail(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", fail)
    with runs.lock(run):
        pass
    warning = capsys.readouterr().err
    assert run in warning and "Operation not supported" in warning


def test_one_step_saved_again_and_again_never_touches_the_named_ones(run, session):
    """A resume of a run at its --max-steps does this: epoch, batch and rows are the same too."""
    checkpoints = runs.Checkpoints(run)
    state = runs.TrainingState(step=7, epoch=1, batch=2, rows=[{"epoch": 1, "step": 5}])
    for value in (1, 2, 3):
        before = config.read_index(run).get("last")
        set_value(session, value)
        checkpoints.save(session, state, best=value == 1)
        assert config.read_index(run)["last"] != before
        assert (value_of(run, "last"), value_of(run, "best")) == (value, 1)
        assert runs.last_state(run) == state


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_run_that_cannot_be_written_leaves_nothing(broken, tmp_path, monkeypatch):
    path = str(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(UserError, match=r"--run .*No space"):
            runs.create(path, DESCRIPTION, SETTINGS)
    assert not os.path.exists(path)
    runs.create(path, DESCRIPTION, SETTINGS)


def test_config_json_is_written_first(tmp_path, monkeypatch):
    """A kill right after the first file is written must leave a run that can be resumed."""
    seen = []
    original = config.write_config
    monkeypatch.setattr(
        config, "write_config", lambda run, *values: (seen.extend(os.listdir(run)), original(run, *values))
    )
    runs.create(str(tmp_path / "run"), DESCRIPTION, SETTINGS)
    assert seen == []


def test_existing_run_is_refused(run):
    with pytest.raises(UserError, match="--resume"):
        runs.create(run, DESCRIPTION, SETTINGS)


def test_damaged_checkpoint_is_named(run, session):
    checkpoints = runs.Checkpoints(run)
    checkpoints.save(session, runs.TrainingState(step=1))
    data = config.checkpoint_prefix(run, "last") + ".data-00000-of-00001"
    with open(data, "r+b") as file:
        file.truncate(3)
    with pytest.raises(UserError, match="step-00000001"):
        checkpoints.restore_last(session)


def test_a_full_disk_is_named(run, session):
    """A limit on the size of files in place of a full disk: TensorFlow's message has the reason in its fifth line."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(UserError, match=r"checkpoints/tmp-step-.*: cannot be written \(File too large\); raise "):
            runs.Checkpoints(run).save(session, runs.TrainingState(step=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(os.path.join(run, "checkpoints")) == []


def test_a_link_in_the_place_of_the_lock_is_not_followed(run, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    os.symlink(precious, os.path.join(run, runs.LOCK))
    with runs.lock(run):
        assert precious.read_text() == "precious"


def test_a_checkpoint_that_a_training_replaces_meanwhile(run, session, monkeypatch):
    """First between index and files, then between the name and the weights."""
    checkpoints, stale = runs.Checkpoints(run), {"last": "step-00000001"}
    for step in (1, 2):
        set_value(session, step)
        checkpoints.save(session, runs.TrainingState(step=step))
    indices, read = [stale], config.read_index
    monkeypatch.setattr(config, "read_index", lambda run: indices.pop() if indices else read(run))
    source = config.find_model(f"{run}@last")
    assert source.checkpoint.endswith("step-00000002/model")
    set_value(session, 3)
    checkpoints.save(session, runs.TrainingState(step=3))

    def read_weights(checkpoint):
        if not os.path.exists(checkpoint + ".index"):
            raise UserError("gone")
        return {"v": checkpoint}

    monkeypatch.setattr(detector, "read_weights", read_weights)
    now, weights = detector.read_current(source)
    assert weights["v"] == now.checkpoint and now.checkpoint.endswith("step-00000003/model")
    size = config.find_model(f"{run}@last").size()
    os.remove(now.checkpoint + ".index")
    with pytest.raises(UserError, match="missing"):
        detector.read_current(now)
    with pytest.raises(UserError, match=r"step-00000002: is gone; run the same command again"):
        source.size()
    shutil.rmtree(os.path.dirname(now.checkpoint))
    assert now.size() == size > 0  # of what was read


@pytest.mark.parametrize("moment", ["listdir", "check_regular"])
def test_a_checkpoint_that_a_training_removes_while_its_files_are_looked_at(run, session, monkeypatch, moment):
    checkpoints = runs.Checkpoints(run)
    set_value(session, 1)
    checkpoints.save(session, runs.TrainingState(step=1))
    look = os.listdir if moment == "listdir" else config.files.check_regular

    def removed_first(path="."):
        if "step-00000001" in str(path):
            monkeypatch.undo()
            set_value(session, 2)
            checkpoints.save(session, runs.TrainingState(step=2))
            assert not os.path.exists(path)
        return look(path)

    if moment == "listdir":
        monkeypatch.setattr(os, "listdir", removed_first)
    else:
        monkeypatch.setattr(config.files, "check_regular", removed_first)
    assert config.find_model(f"{run}@last").checkpoint.endswith("step-00000002/model")


def test_a_file_of_a_checkpoint_that_links_to_nothing(run, session):
    set_value(session, 1)
    runs.Checkpoints(run).save(session, runs.TrainingState(step=1))
    data = config.find_model(run).checkpoint + ".data-00000-of-00001"
    os.remove(data)
    os.symlink("nowhere", data)
    with pytest.raises(UserError, match=r"model\.data-00000-of-00001: cannot be read .*; restore it"):
        config.find_model(run)
