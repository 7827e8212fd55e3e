"""What train.py refuses before it looks at data or loads TensorFlow."""

from pathlib import Path

import pytest

from structures import UserError
from training import train_flags

NEW = ["--data", "data", "--train", "train", "--run", "runs/new"]


def read(*flags):
    return train_flags.read(train_flags.parse([*NEW, *flags], None))


@pytest.mark.parametrize("name", ["a[1]", "runs/a*", "b?/run", "back\\slash"])
@pytest.mark.parametrize("more", [[], ["--resume"]], ids=["new", "resumed"])
def test_a_run_whose_name_tensorflow_takes_for_a_pattern(name, more):
    with pytest.raises(UserError, match=r"--run: .*pattern.*rename the folder"):
        read("--run", name, *more)


def test_a_run_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(UserError, match=r"--run: .*file"):
        read("--run", str(tmp_path / "file" / "run"))
    with pytest.raises(UserError, match=r"--run: .*file"):
        read("--run", str(tmp_path / "file"))


SLIM = ["--data", str(Path(__file__).parent), "--classes", "car", "--width", "0.1"]


@pytest.mark.parametrize(
    ("flags", "rate"),
    [
        ([], 2e-4),
        (["--adam-epsilon", "0.1"], 1e-3),
        (["--optimizer", "momentum"], 1e-3),
        (["--optimizer", "momentum", "--learning-rate", "0.5"], 0.5),
    ],
)
def test_the_rate_fits_the_optimiser(flags, rate):
    assert read(*SLIM, *flags)[1].learning_rate == rate


def test_pascal_voc_needs_no_splits(tmp_path):
    flags = ["--data", str(tmp_path), "--run", str(tmp_path / "run"), "--width", "0.1"]
    (tmp_path / "VOC2007").mkdir()
    with pytest.raises(UserError, match="--train: needed"):
        train_flags.read(train_flags.parse(flags, None))
    (tmp_path / "VOC2012").mkdir()
    settings = train_flags.read(train_flags.parse([*flags, "--classes", "car"], None))[1]
    assert settings.train == "2007:trainval,2012:trainval"


@pytest.mark.parametrize("name", ["conv", "conv5_4", "conv99", "conv1-conv3", "head_", "conv12", "layer3", "fc8"])
def test_freezing_what_is_no_layer(name):
    with pytest.raises(UserError, match=f"--freeze {name}: vgg300 has no such layer.*conv1, .*, head_conv11_2"):
        read(*SLIM, "--freeze", f"conv1,{name}")


def test_defaults_are_told(capsys):
    with pytest.raises(SystemExit):
        train_flags.parse(["--help"], "")
    told = " ".join(capsys.readouterr().out.split())
    for text in ("(default: 80000,100000)", "--seed N (default: 0)", "not biases (default: 0.0005)", "(default: adam)"):
        assert text in told
    assert "(default: )" not in told and "(default: False)" not in told


def test_a_run_to_start_from_is_known_by_its_place(trained, monkeypatch):
    """A resume from another folder is to find it."""
    monkeypatch.chdir(trained.parent)
    flags = train_flags.parse(["--run", "new", "--data", "data", "--init-from", f"{trained.name}@last"], "")
    assert flags.init_from == f"{trained}@last"
    with pytest.raises(UserError, match="--init-from nowhere: no such run"):
        train_flags.parse(["--run", "new", "--data", "data", "--init-from", "nowhere"], "")


def test_freezing_layers_and_groups():
    layers = ("conv1", "conv4_3", "fc6", "norm_conv4_3", "conv8", "head", "head_fc7", "head_conv4_3_logits")
    assert read(*SLIM, "--freeze", ",".join(layers))[1].freeze == layers
    assert read(*SLIM, "--preset", "vgg512", "--freeze", "conv12")[1].freeze == ("conv12",)
