"""The sheet of --show-batch: what the training sees, drawn; nothing is trained."""

import dataclasses

import numpy as np
import pytest

import config
import sources
import ssd_utils
import train
import training_data
from media import images, lettering
from programs import CLASSES, TINY
from settings.training_settings import TrainingSettings
from structures import UserError
from training import batch_sheet

DESCRIPTION = config.ModelDescription(ssd_utils.get_preset("vgg300"), tuple(CLASSES.split(",")))


def test_the_sheet_of_a_training(shapes, tmp_path, capsys):
    flags = ["--data", str(shapes), "--train", "train", *TINY, "--run", str(tmp_path / "run")]
    train.main([*flags, "--show-batch", str(tmp_path / "shown")])
    sheet = images.read(str(tmp_path / "shown" / "batch.jpg"))
    assert sheet.shape[1] == 4 * batch_sheet.TILE and sheet.shape[0] > 4 * batch_sheet.TILE
    settings = TrainingSettings(str(shapes), "train", augmentation="light", batch_size=16)
    samples = sources.load(str(shapes), "train", DESCRIPTION.class_names)
    with training_data.make_queue(samples, DESCRIPTION.preset, settings, workers=0) as queue:
        targets = next(iter(queue.batches(training_data.epoch_jobs(len(samples), 0, 0)))).arrays["class_targets"]
    assert f"batch.jpg: 16 pictures, 16 objects, {(targets > 0).sum()} anchors\n" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_tiles_are_named(shapes, tmp_path, monkeypatch):
    """And the pictures drawn are those that a training with --tiles makes."""
    settings = TrainingSettings(str(shapes), "train", augmentation="light", tiles=(2, 1))
    samples, said, shown = sources.load(str(shapes), "train", DESCRIPTION.class_names), [], []
    caption, draw = lettering.caption, batch_sheet._draw
    monkeypatch.setattr(lettering, "caption", lambda text, width: said.append(text) or caption(text, width))
    monkeypatch.setattr(batch_sheet, "_draw", lambda image, *rest: shown.append(image) or draw(image, *rest))
    batch_sheet.write(str(tmp_path), samples, DESCRIPTION, settings)
    item = training_data.make_item(samples, DESCRIPTION.preset, settings)
    jobs = training_data.epoch_jobs(len(samples), 0, 0)[:16]
    numbers = [item.view(job).number for job in jobs]
    assert [f", tile {number}:" in text for text, number in zip(said, numbers, strict=True)] == [
        number > 0 for number in numbers
    ]
    assert {0, 1, 2} == set(numbers)
    settings = dataclasses.replace(settings, batch_size=16)
    with training_data.make_queue(samples, DESCRIPTION.preset, settings, workers=0) as queue:
        np.testing.assert_array_equal(next(iter(queue.batches(jobs))).arrays["images"], shown)


def test_objects_without_an_anchor_are_counted_and_unreadable_pictures_named(shapes, tmp_path, capsys):
    samples = sources.load(str(shapes), "train", DESCRIPTION.class_names)[:5]
    small = np.array([[0.1, 0.1, 0.13, 0.12]], np.float32)
    samples[0] = dataclasses.replace(samples[0], boxes=small, labels=samples[0].labels[:1])
    samples[1] = dataclasses.replace(samples[1], image_path=str(tmp_path / "gone.png"))
    settings = TrainingSettings(str(shapes), "train", augmentation="none", matching="threshold")
    said = batch_sheet.write(str(tmp_path), samples, DESCRIPTION, settings)
    assert "4 pictures, 4 objects (1 without an anchor), " in said
    assert "not shown: " in (error := capsys.readouterr().err) and "gone.png" in error
    with pytest.raises(UserError, match="none of the first pictures"):
        batch_sheet.write(str(tmp_path), samples[1:2], DESCRIPTION, settings)
