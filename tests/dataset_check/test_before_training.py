"""What train.py prints about its data before it starts, and train.py --anchors."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

import config
import source_pascal_voc
import ssd_utils
from dataset_check import anchor_advisor, before_training
from programs import TINY, run
from settings.training_settings import TrainingSettings
from structures import Sample, UserError
from system import files
from tiling import tiles
from training import train_flags

VGG300 = ssd_utils.get_preset("vgg300")


def sample(name, boxes, labels):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Sample(name, f"{name}.jpg", boxes, np.array(labels, np.int32), np.zeros(len(labels), bool), 100, 100)


def samples_of(box, label, count, prefix=""):
    return [sample(f"{prefix}{number}", [box], [label]) for number in range(count)]


def notes(train, valid=(), names=("cat", "dog")):
    return before_training.quick_notes(train, list(valid), names, VGG300)


SQUARE, THIN, TINY_BOX = (0.2, 0.2, 0.6, 0.6), (0.2, 0.2, 0.24, 0.9), (0.5, 0.5, 0.51, 0.51)


def test_clean_data_has_no_notes():
    train = samples_of(SQUARE, 0, 12, "c") + samples_of(SQUARE, 1, 9, "d") + [sample("empty", [], [])]
    assert notes(train, samples_of(SQUARE, 0, 3, "v")) == []


def test_pictures_in_training_and_validation():
    train = samples_of(SQUARE, 0, 9) + samples_of(SQUARE, 1, 9, "d")
    (note,) = notes(train, train[2:4])
    assert note.startswith("2 pictures") and "--train" in note and "--valid" in note and note.endswith(" 2.jpg")


def test_classes_without_objects_or_with_few():
    train = samples_of(SQUARE, 0, 100) + samples_of(SQUARE, 1, 3)
    (note,) = notes(train, names=("cat", "dog", "cow"))
    assert note.endswith(": dog (3), cow (0)")


def test_pictures_without_objects():
    train = samples_of(SQUARE, 0, 4) + [sample(f"e{number}", [], []) for number in range(6)]
    (note,) = notes(train, names=("cat",))
    assert note.startswith("6 of 10 pictures ")


def test_tiny_and_unmatchable_objects():
    train = samples_of(SQUARE, 0, 40) + samples_of(TINY_BOX, 1, 20)
    tiny, unmatched = notes(train)
    assert tiny.startswith("20 of 60 objects ") and " 8 pixels" in tiny
    assert "IoU 0.5: dog 0%;" in unmatched and "check_dataset.py --anchors FILE" in unmatched
    (thin,) = notes(samples_of(THIN, 0, 40) + samples_of(SQUARE, 1, 20))
    assert "all objects 33%, cat 0%;" in thin


def test_objects_are_judged_in_the_tile_that_shows_them_largest():
    box = (0.5, 0.5, 0.52, 0.52)  # of 6 pixels at the input, of 13 in a tile
    train = samples_of(SQUARE, 0, 40) + samples_of(box, 1, 20)
    assert any("20 of 60 objects" in note for note in notes(train))
    cut = tiles.Cut((3, 3))
    found = before_training.quick_notes(train, [], ("cat", "dog"), VGG300, cut)
    assert not any("too small" in note for note in found)
    train = samples_of(SQUARE, 0, 40) + samples_of(TINY_BOX, 1, 20)
    found = before_training.quick_notes(train, [], ("cat", "dog"), VGG300, cut)
    assert any("20 of 60 objects are below 8 pixels at the input size even in tiles" in note for note in found)


def write_anchors(path, **changes):
    values = {name: getattr(VGG300, name) for name in anchor_advisor.ANCHOR_FIELDS}
    files.write_json(path, {**values, **changes})
    return str(path)


def read_flags(*arguments):
    return train_flags.read(train_flags.parse([str(item) for item in arguments], ""))


def test_flag_replaces_the_anchors_and_nothing_else(shapes, tmp_path):
    path = write_anchors(tmp_path / "a.json", aspect_ratios=[[4], [2, 5], [2, 3], [2, 3], [2], [2]])
    common = ["--data", shapes, "--train", "train", *TINY, "--run", tmp_path / "run"]
    description, _ = read_flags(*common, "--anchors", path)
    ratios = ((4,), (2, 5), (2, 3), (2, 3), (2,), (2,))
    expected = dataclasses.replace(VGG300, width=0.03, input_scale=train_flags.SCRATCH_INPUT_SCALE)
    assert description.preset == dataclasses.replace(expected, aspect_ratios=ratios)


def test_anchors_and_the_heads_of_another_run(shapes, trained, tmp_path):
    common = ["--data", shapes, "--train", "train", "--init-from", trained, "--run", tmp_path / "run"]
    same = write_anchors(tmp_path / "same.json", aspect_ratios=[[4], [2, 5], [2, 3], [2, 3], [2], [2]])
    assert read_flags(*common, "--anchors", same)[0].preset.aspect_ratios[0] == (4,)
    more = write_anchors(tmp_path / "more.json", aspect_ratios=[[2, 3], [2, 3], [2, 3], [2, 3], [2], [2]])
    with pytest.raises(UserError, match=r"more\.json: .*\(6, 6, 6, 6, 4, 4\), .*\(4, 6, 6, 6, 4, 4\)"):
        read_flags(*common, "--anchors", more)


def test_resuming_takes_the_same_anchors_only(trained, tmp_path):
    same, other = (
        write_anchors(tmp_path / "same.json"),
        write_anchors(tmp_path / "other.json", min_sizes=[20, 60, 111, 162, 213, 264]),
    )
    read_flags("--run", trained, "--resume", "--anchors", same)
    with pytest.raises(UserError, match="--anchors"):
        read_flags("--run", trained, "--resume", "--anchors", other)


def test_missing_file_is_reported_before_anything_else(tmp_path):
    with pytest.raises(UserError, match=r"--anchors: .*no such file"):
        read_flags("--run", tmp_path / "run", "--anchors", tmp_path / "none.json")


def test_training_uses_and_stores_the_anchors(shapes, tmp_path):
    """From the check to a run that can be read again: heads of another shape, config.json, no warnings on stderr."""
    ratios = [[2, 4], [2, 3], [2, 3], [2, 3], [2], [2]]
    path = write_anchors(tmp_path / "a.json", aspect_ratios=ratios)
    done = run(
        "train.py",
        "--data",
        shapes,
        "--train",
        "train",
        "--valid",
        "val",
        *TINY,
        "--max-steps",
        "1",
        "--warmup-steps",
        "0",
        "--run",
        tmp_path / "run",
        "--anchors",
        path,
    )
    assert "warning" not in done.stderr
    preset = config.read_config(tmp_path / "run")[0].preset
    assert preset.anchors_per_cell == (6, 6, 6, 6, 4, 4)
    stored = json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))
    assert stored["model"]["preset"]["aspect_ratios"] == ratios


def settings(**changes):
    return TrainingSettings(data="data", train="train", valid="val", **changes)


def all_notes(train, valid=(), names=("cat", "dog"), preset=VGG300, **changes):
    description = config.ModelDescription(preset, names)
    return before_training.notes(train, list(valid), description, settings(**changes))


def enough(prefix=""):
    return samples_of(SQUARE, 0, 12, f"{prefix}c") + samples_of(SQUARE, 1, 9, f"{prefix}d")


def test_validation_that_cannot_be_scored():
    difficult = [dataclasses.replace(one, difficult=np.ones(1, bool)) for one in samples_of(SQUARE, 0, 3, "v")]
    assert all_notes(enough(), [*difficult, *samples_of(SQUARE, 0, 1, "w")]) == []
    (note,) = all_notes(enough(), difficult)
    assert note == "--valid val: all of its 3 objects are difficult, so there is no mean AP and no best checkpoint"
    (note,) = all_notes(enough(), [sample("e", [], [])], patience=2)
    assert "no object of the classes" in note and note.endswith("--patience does not count")


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("kite", "Kite", "dog"), [("kite", "Kite")]),
        (("traffic light", "TrafficLight"), [("traffic light", "TrafficLight")]),
        (("pedestrian", "pedestrain", "pedestrians"), [("pedestrian", "pedestrians")]),
        (("buoy", "bouy", "buoys", "boys"), [("buoy", "buoys"), ("buoys", "boys")]),
        (("lane 1", "lane 2", "lane 12"), []),
        (("car", "cat", "cart"), []),
        (tuple(f"kind_{number:03d}" for number in range(350)), []),
        (source_pascal_voc.CLASSES, []),
    ],
)
def test_names_that_are_alike(names, pairs):
    found = before_training.alike(names)
    assert {frozenset(pair) for pair in found} == {frozenset(pair) for pair in pairs}


def test_names_that_are_alike_are_one_note():
    names = ("kite", "Kite", "dog", "Dog", "cow", "Cow", "pig", "Pig")
    train = [one for label in range(8) for one in samples_of(SQUARE, label, 12, f"{label}x")]
    (note,) = all_notes(train, names=names)
    assert "'kite' and 'Kite'" in note or "'Kite' and 'kite'" in note
    assert note.endswith("and 1 more; one class or two?")


def test_copies_under_other_names(tmp_path):
    def stored(name, content):
        (tmp_path / f"{name}.jpg").write_bytes(content)
        return dataclasses.replace(samples_of(SQUARE, 0, 1, name)[0], image_path=str(tmp_path / f"{name}.jpg"))

    train = [*enough(), stored("a", b"one"), stored("b", b"two"), stored("e", b"three")]
    valid = [stored("c", b"two"), stored("d", b"six"), train[0]]
    shared, copied = all_notes(train, valid)
    assert shared.startswith("1 picture in both")
    assert copied.startswith("1 picture of --train also in --valid ") and copied.endswith(f"as {tmp_path / 'c.jpg'}")
    assert str(tmp_path / "b.jpg") in copied


def test_sixteen_bits_of_few_levels(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.linspace(2000, 4040, 900).reshape(30, 30).astype(np.uint16)).save(path)
    train = [*enough(), dataclasses.replace(samples_of(SQUARE, 0, 1, "t")[0], image_path=str(path))]
    (note,) = all_notes(train)
    assert note.startswith(f"{path} ") and "9 of 256 gray levels (2000 to 4040 " in note and "--gray16 stretch" in note
    assert all_notes(train, preset=dataclasses.replace(VGG300, gray16="stretch")) == []


def test_classes_are_said_with_their_counts():
    train = samples_of(SQUARE, 1, 3) + samples_of(SQUARE, 0, 2)
    assert before_training.class_line(train, ("cat", "dog")) == "objects of 2 classes: dog (3), cat (2)"
    assert before_training.class_line(train[1:], ("cat",)) == "objects of 1 class: cat (2)"
    many = tuple(f"kind_{number}" for number in range(350))
    assert before_training.class_line(train, many).endswith(" and 330 more")
