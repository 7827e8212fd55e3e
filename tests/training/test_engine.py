"""What an epoch and an evaluation hand on, with a network that only counts."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

import runs
from media import images
from settings.training_settings import TrainingSettings
from structures import Detections, Sample, UserError
from system.data_queue import Batch
from training import engine, optimization, training_graph

PICTURES = 9  # in batches of 2


class Step:
    """In place of a TrainingStep: the loss of its run number n is 10 to the power of n, that of `infinite` infinite."""

    feeds_ahead = False

    def __init__(self, infinite=None):
        self.runs, self._infinite = [], infinite

    def run(self, session, arrays, rate, update, following=None):
        number = len(self.runs)
        self.runs.append(update)
        loss = float("inf") if number == self._infinite else 10.0**number
        return {"confidence": loss, "localization": 0.0, "positives": 1.0}


def make_samples(count):
    empty = np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool)
    return [Sample(str(at), f"pictures/{at}.png", *empty, 8, 8) for at in range(count)]


def make_batches(released):
    """The batches of an epoch, of which the numbers of those that are released go into a list."""
    for number, first in enumerate(range(0, PICTURES, 2)):
        jobs = [(0, index) for index in range(first, min(first + 2, PICTURES))]
        targets = {"class_targets": np.full((len(jobs), 1), number)}
        yield Batch(targets, jobs, lambda number=number: released.append(number))


def train(step, after_step=lambda *_: None, released=None, **settings):
    """Train for one epoch; returns its TrainingState."""
    chosen = TrainingSettings(data="", train="", batch_size=2, epochs=1, **settings)
    state, plan = runs.TrainingState(), optimization.Plan(chosen, PICTURES)
    batches = make_batches([] if released is None else released)
    graph = SimpleNamespace(session=None, training_step=step)
    engine.train_one_epoch(graph, batches, state, plan, make_samples(PICTURES), after_step)
    return state


def test_losses_of_an_effective_batch_add_up():
    """And those of an epoch; the last effective batch has what is left. Its last arrays stay for the records."""
    step, seen, released = Step(), [], []

    def after_step(sums, rate, class_targets):
        seen.append((sums["confidence"], sums["positives"], int(class_targets[0, 0]), list(released)))

    state = train(step, after_step, released, accumulate=3)
    assert step.runs == [False, False, True, False, True]
    assert seen == [(111.0, 3.0, 2, [0, 1]), (11000.0, 2.0, 4, [0, 1, 2, 3])]
    assert (state.step, state.batch, state.sums["confidence"], state.sums["positives"]) == (2, 5, 11111.0, 5.0)
    assert released == [0, 1, 2, 3, 4]


def test_max_steps_end_an_epoch():
    step = Step()
    state = train(step, max_steps=3)
    assert step.runs == [True] * 3 and (state.step, state.batch) == (3, 3)


def test_a_loss_that_is_not_finite_names_step_and_pictures():
    with pytest.raises(engine.NonFiniteLoss, match=r"at step 3, .*confidence inf.*: pictures/4\.png pictures/5\.png$"):
        train(Step(infinite=2))


def test_the_bar_counts_pictures(monkeypatch):
    """Of the last batch those that it has, and to where --max-steps ends it."""
    made = []

    class Bar(contextlib.nullcontext):
        def __init__(self, total, initial, **_):
            super().__init__(self)
            self.total, self.steps = total, [initial]
            made.append(self)

        def set_postfix_str(self, *_, **__):
            pass

        def update(self, count):
            self.steps.append(count)

    monkeypatch.setattr(engine.tqdm, "tqdm", Bar)
    train(Step(), accumulate=2)
    train(Step(), max_steps=3)
    assert [(bar.total, bar.steps) for bar in made] == [(9, [0, 4, 4, 1]), (6, [0, 2, 2, 2])]


class Finder:
    """In place of a Detector: finds nothing, and cannot read the pictures of some numbers."""

    class_names = ("disc",)

    def __init__(self, unreadable=()):
        self._unreadable = unreadable

    def detect_files(self, files, keep):
        for number, (path, _) in enumerate(files):
            if number in self._unreadable:
                yield path, images.ImageError(path, "broken"), None
            else:
                read = SimpleNamespace(image=number if keep(number) else None, predictions=None)
                yield path, read, Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int32))


def test_examples_are_spread_over_the_pictures():
    asked = []
    _, examples = engine.evaluate(Finder(), make_samples(26), check_stop=lambda: asked.append(True))
    assert [image for image, _, _ in examples] == [0, 5, 10, 15, 20, 25]
    assert [sample.id for _, _, sample in examples] == ["0", "5", "10", "15", "20", "25"]
    assert len(asked) == 26
    _, examples = engine.evaluate(Finder(), make_samples(2), check_stop=lambda: None)
    assert [image for image, _, _ in examples] == [0, 1]


def test_a_picture_that_cannot_be_read_has_no_detections(monkeypatch, capsys):
    monkeypatch.setattr(images, "folder_is_gone", lambda path: False)
    evaluation, examples = engine.evaluate(Finder([1]), make_samples(3), check_stop=lambda: None)
    assert evaluation["images"] == 3 and [image for image, _, _ in examples] == [0, 2]
    assert "validation continues without pictures/1.png: broken" in capsys.readouterr().err
    monkeypatch.setattr(images, "folder_is_gone", lambda path: True)
    with pytest.raises(UserError, match=r"pictures/1\.png: its folder is gone"):
        engine.evaluate(Finder([1]), make_samples(3), check_stop=lambda: None)


def test_filters_are_weights_that_are_trained():
    names = ["conv1_1/weights", "conv1_1/biases", "conv4_3_norm/scale", "conv9_2/weights"]
    step = SimpleNamespace(trained=[SimpleNamespace(op=SimpleNamespace(name=name)) for name in names])
    session = SimpleNamespace(run=lambda variables: [one.op.name.upper() for one in variables])
    found = training_graph.TrainingGraph(session, step, None, None).filters()
    assert found == {"conv1_1/weights": "CONV1_1/WEIGHTS", "conv9_2/weights": "CONV9_2/WEIGHTS"}
