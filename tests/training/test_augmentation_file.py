"""The file of --augmentation: what it holds reaches the training, and each mistake in it gets one line."""

import dataclasses
import json
from pathlib import Path

import pytest

import config
import transforms
from structures import UserError
from training import augmentation_file, train_flags


@pytest.fixture
def write(tmp_path):
    """Callable: values -> the path of a file with them."""

    def call(values):
        path = tmp_path / "mine.json"
        path.write_text(json.dumps(values))
        return str(path)

    return call


def test_a_file_changes_its_base(write):
    values = {"base": "light", "expand": 3, "trials": 7, "min_ious": [0.5, 0], "interpolations": ["area"]}
    changes = {"expand": 3, "trials": 7, "min_ious": (0.5, 0), "interpolations": ("area",)}
    light = transforms.AUGMENTATIONS["light"]
    assert augmentation_file.read(write(values)) == dataclasses.replace(light, **changes)
    assert augmentation_file.read(write({})) == transforms.Augmentation()


@pytest.mark.parametrize("base", transforms.AUGMENTATIONS)
def test_fractions_change_every_base(base, write):
    """Also those whose own numbers are whole."""
    changes = {"brightness": 8.5, "contrast": 0.2, "saturation": 0.3, "hue": 4.5, "expand": 1.5}
    chosen = augmentation_file.read(write({"base": base, **changes}))
    assert chosen == dataclasses.replace(transforms.AUGMENTATIONS[base], **changes)


def test_the_original_s_numbers_are_within_the_limits(write):
    everything = dataclasses.asdict(transforms.Augmentation())
    assert augmentation_file.read(write(everything)) == transforms.Augmentation()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base": "heavy"}, "'base' is 'heavy'; it must be one of full, article, light, none"),
        ({"base": ["full"]}, "'base' is .*one of"),
        ({"expnad": 2}, "'expnad' is unknown; the names are base, brightness, "),
        ({"expand": 0.5}, "'expand' is 0.5; it must be a number from 1 to 100"),
        ({"expand": True}, "'expand' is True; it must be a number"),
        ({"expand": float("nan")}, "'expand' is nan"),
        ({"hue": "18"}, "'hue' is '18'; it must be a number from 0 to 90"),
        ({"mirror": 1}, "'mirror' is 1; it must be true or false"),
        ({"expand_probability": 1.5}, "'expand_probability' is 1.5; it must be a number from 0 to 1"),
        ({"trials": 2.5}, "'trials' is 2.5; it must be a whole number from 1 to 10000"),
        ({"min_ious": []}, "'min_ious' is .*; it must be a list of one or more entries"),
        ({"min_ious": [0.5, 2]}, "'min_ious' is .*; it must have entries that are a number from 0 to 1"),
        ({"crop_scale": [0.5]}, "'crop_scale' is .*; it must be a list of 2 entries"),
        ({"crop_scale": [0.9, 0.5]}, "'crop_scale' is .*; it must have the smaller number first"),
        ({"crop_ratio": [1.5, 2]}, "'crop_ratio' is .*; it must have 1 between its two numbers"),
        ({"interpolations": ["linear", "best"]}, "'interpolations' is .*; it must have names of linear, "),
        ([], "mine.json: holds no JSON object"),
    ],
)
def test_mistakes_get_one_line(values, message, write):
    with pytest.raises(UserError, match=message) as error:
        augmentation_file.read(write(values))
    assert str(error.value).startswith(write(values)) and "\n" not in str(error.value)


def test_a_run_remembers_what_the_file_said(write, tmp_path):
    """The file may be gone when the run is resumed."""
    path = write({"expand_probability": 0.25, "crop_scale": [0.5, 1]})
    new = ["--data", str(Path(__file__).parent), "--classes", "car", "--width", "0.1", "--run", str(tmp_path / "run")]
    description, settings = train_flags.read(train_flags.parse([*new, "--train", "train", "--augmentation", path], ""))
    assert settings.augmentation == transforms.Augmentation(expand_probability=0.25, crop_scale=(0.5, 1))
    (tmp_path / "run").mkdir()
    config.write_config(str(tmp_path / "run"), description, settings, {})
    assert config.read_config(str(tmp_path / "run"))[1] == settings
    resume = ["--run", str(tmp_path / "run"), "--resume"]
    for more in ([], ["--augmentation", path]):
        assert train_flags.read(train_flags.parse([*resume, *more], ""))[1] == settings
    write({"expand_probability": 0.5})
    for other in (path, "full"):
        with pytest.raises(UserError, match=r"--augmentation (FILE|full): the run was started with FILE; leave it out"):
            train_flags.read(train_flags.parse([*resume, "--augmentation", other], ""))


def test_neither_a_name_nor_a_file():
    with pytest.raises(UserError, match="--augmentation: 'heavy' is neither one of full, article, light, none nor"):
        train_flags.parse(["--run", "x", "--augmentation", "heavy"], "")
