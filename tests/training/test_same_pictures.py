"""Which pictures a resume takes for those of its run, and the ranks of a training for the same."""

import dataclasses
import hashlib

import numpy as np
import pytest

import config
import runs
import ssd_utils
from settings.training_settings import TrainingSettings
from structures import Sample, UserError
from training import same_pictures, trainer


def picture(name, **changes):
    boxes = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    sample = Sample(name, "anywhere", boxes, np.zeros(1, np.int32), np.zeros(1, bool), 60, 40)
    return dataclasses.replace(sample, **changes)


@pytest.fixture
def resumed(tmp_path):
    """Callable: (state, names of pictures or Samples, where the data set is) -> checks a resume of a run of /old."""
    description = config.ModelDescription(ssd_utils.get_preset("vgg300"), ("car",))
    settings = TrainingSettings("/old", "train", batch_size=1)
    config.write_config(str(tmp_path), description, settings, {})

    def check(state, *pictures, data="/new"):
        now = dataclasses.replace(settings, data=data)
        samples = [picture(one) if isinstance(one, str) else one for one in pictures]
        same_pictures.check(trainer.Task(str(tmp_path), description, now, samples, [], resume=True), state)

    return check


def test_a_resume_finds_the_same_pictures_at_another_place(resumed, capsys):
    state = runs.TrainingState()
    with pytest.raises(UserError, match=r"^--data /new: the run was started with /old, .*; leave it out to resume$"):
        resumed(state, "1", "2")  # an earlier version, or a run without a checkpoint: nothing says which it had
    state.data = {"pictures": 2, "ids": hashlib.sha256(b"1\n2").hexdigest()}
    resumed(state, "1", "2")
    assert "warning: --data /new: the run was started with /old; only the names" in capsys.readouterr().err
    resumed(state, "1", "2")  # now it has noted their sizes and boxes too, and these are the same
    assert capsys.readouterr().err == ""
    for ids, change in ((("1", "3"), "other pictures than --train train of /new has now"), (("1",), "2 pictures, ")):
        with pytest.raises(UserError, match=change):
            resumed(state, *ids)
    state.batch = 2
    resumed(state, "1", "2")  # before the last validation
    state.batch = 3
    with pytest.raises(UserError, match="is damaged: at batch 3 of 2"):
        resumed(state, "1", "2")


CHANGES = [
    {"boxes": np.array([[0.1, 0.2, 0.3, 0.41]], np.float32)},
    {"labels": np.ones(1, np.int32)},
    {"difficult": np.ones(1, bool)},
    {"width": 40, "height": 60},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
@pytest.mark.parametrize("data", ["/old", "/new"])
def test_pictures_of_the_same_names_with_other_objects_are_named(data, change, resumed, capsys, tmp_path):
    """They go on to be trained on: who corrects a box may continue."""
    state = runs.TrainingState(data=same_pictures.identity([picture("1"), picture("2")]))
    resumed(state, "1", picture("2", **change), data=data)
    wanted = f"warning: --train train of {data} has other boxes, classes or sizes of its pictures than {tmp_path} was "
    assert capsys.readouterr().err == f"{wanted}trained on until now\n"
    resumed(state, "1", picture("2", **change), data=data)  # once
    assert capsys.readouterr().err == ""


def test_an_object_belongs_to_its_picture():
    none = {"boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int32), "difficult": np.zeros(0, bool)}
    first = same_pictures.identity([picture("1"), picture("2", **none)])
    second = same_pictures.identity([picture("1", **none), picture("2")])
    assert first["ids"] == second["ids"] and first["objects"] != second["objects"]
