"""What a training says of the time that it still takes."""

import pytest

import runs
from settings.training_settings import TrainingSettings
from training import optimization, progress


def outlook(state, validates=False, **settings):
    """The Outlook of a training on 20 pictures: 5 steps an epoch."""
    settings = TrainingSettings(data="", train="train", batch_size=4, **settings)
    return progress.Outlook(optimization.Plan(settings, 20), state, validates)


def test_steps_are_counted_to_where_the_training_ends():
    state = runs.TrainingState(step=3)
    assert str(outlook(state, epochs=2)) == "step 3 of 10"
    assert str(outlook(state, epochs=200, max_steps=7)) == "step 3 of 7"


def test_time_left_is_that_of_the_steps_after_the_first():
    state = runs.TrainingState(step=1)
    shown = outlook(state, epochs=2)
    shown.step_done(30.0)  # with which TensorFlow prepares the graph
    assert shown.seconds_left() == 9 * 30
    for seconds in (1.0, 3.0):
        state.step += 1
        shown.step_done(seconds)
    assert shown.seconds_left() == 7 * 2
    assert str(shown) == "step 3 of 10, 00:14 left"


@pytest.mark.parametrize(
    ("every", "epoch", "step", "validations"),
    [(1, 0, 4, 4), (1, 2, 14, 2), (2, 0, 4, 2), (3, 0, 4, 2), (3, 3, 16, 1), (1, 4, 20, 0), (1, 3, 20, 0)],
)
def test_time_left_has_the_validations_to_come(every, epoch, step, validations):
    """Of four epochs; the last one always ends with a validation, and the current one is still to be validated."""
    state = runs.TrainingState(step=step, epoch=epoch)
    shown = outlook(state, True, epochs=4, valid_every=every)
    shown.step_done(1.0)
    shown.step_done(1.0)
    shown.validation_done(100.0)
    assert shown.seconds_left() == 20 - step + 100 * validations


def test_at_the_end_no_time_is_left():
    state = runs.TrainingState(step=10, epoch=2)
    shown = outlook(state, True, epochs=2)
    shown.step_done(1.0)
    shown.validation_done(9.0)
    assert str(shown) == "step 10 of 10"
