"""The recipes: each program gets flags it takes, calls go on where they stopped, the summary tells what is wrong."""


import json
import re
import sys

import pytest

from programs import ROOT, error_of, run, write_shapes

sys.path.insert(0, str(ROOT / "recipes"))

import bccd
import raccoon
import recipe
import voc_traffic

import chain
import train_flags

RECIPES = {"bccd": bccd.BCCD, "raccoon": raccoon.RACCOON, "voc_traffic": voc_traffic.VOC_TRAFFIC}


@pytest.fixture
def data(tmp_path):
    """A data set that has what each recipe wants."""
    folder = write_shapes(tmp_path / "data", dict.fromkeys(("trainval", "train", "test", "val"), 3))
    for path in (folder / "Annotations").iterdir():
        path.write_text(re.sub("disc|square", "raccoon", path.read_text()))
    return folder


@pytest.fixture
def called(monkeypatch):
    """Commands that would have been run; each leaves what the real program would."""
    commands = []

    def fake(program, *arguments):
        arguments = [str(argument) for argument in arguments]
        commands.append((program, arguments))
        if program == "check_dataset.py":
            write(value(arguments, "--json"), {"findings": []})
        elif program == "train.py":
            begun = "--resume" in arguments
            if not begun:
                train_flags.read(train_flags.parse(arguments, ""))  # raises if a flag is wrong
            folder = value(arguments, "--run")
            write(f"{folder}/config.json", {})
            write(f"{folder}/metrics.csv", "step,images_per_second\n20,2.5\n")
        elif program == "average_precision.py":
            seed = len([one for one, _ in commands if one == "average_precision.py"])
            ap = {"mean": seed / 10, "per_class": {"raccoon": seed / 10}}
            write(value(arguments, "--json"), {"voc07": ap, "iou": 0.5, "images": 3, "ground_truth": {"raccoon": 3}})

    monkeypatch.setattr(chain, "call", fake)
    return commands


def value(arguments, flag):
    return arguments[arguments.index(flag) + 1]


def write(path, content):
    path = ROOT / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def programs(called):
    return [program for program, _ in called]


@pytest.mark.parametrize("name", RECIPES)
def test_the_programs_take_the_flags(name, data, called, tmp_path, capsys):
    """train.py's are parsed for real; the others' names are checked against their --help."""
    video = ["--video", str(data / "ImageSets/Main/test.txt")] if name == "voc_traffic" else []
    recipe.main(RECIPES[name], ["--data", str(data), "--vgg", "none", "--run", str(tmp_path / "out"), *video])
    expected = ["check_dataset.py", "train.py", "infer.py", "average_precision.py"] + ["process_video.py"] * bool(video)
    assert programs(called) == expected
    commands = dict(called)
    assert value(commands["train.py"], "--epochs") == str(RECIPES[name].epochs)
    assert "--freeze" not in commands["train.py"]  # layers that start at random must learn
    assert commands["infer.py"][0].endswith("run@last")
    assert "mean          0.100" in capsys.readouterr().out


@pytest.mark.parametrize("program", ["check_dataset.py", "infer.py", "average_precision.py", "process_video.py"])
def test_flags_exist(program, data, called, tmp_path):
    arguments = ["--data", str(data), "--vgg", "none", "--run", str(tmp_path / "out")]
    recipe.main(voc_traffic.VOC_TRAFFIC, [*arguments, "--video", str(data / "ImageSets/Main/test.txt")])
    known = run(program, "--help").stdout
    assert all(flag in known for flag in dict(called)[program] if flag.startswith("--"))


def test_weights_are_passed_on_and_the_first_layers_kept(data, called, tmp_path):
    weights = tmp_path / "vgg.npz"
    weights.touch()
    more = ["--max-steps", "7", "--", "--learning-rate", "1e-3"]
    recipe.main(bccd.BCCD, ["--data", str(data), "--vgg", str(weights), "--run", str(tmp_path / "out"), *more])
    arguments = dict(called)["train.py"]
    assert value(arguments, "--vgg-weights") == str(weights) and value(arguments, "--freeze") == "conv1,conv2"
    assert value(arguments, "--max-steps") == "7"
    flags = train_flags.parse(arguments, "")
    assert flags.learning_rate == 1e-3 and flags.adam_epsilon == 1e-8 and flags.schedule == "cosine"


def test_seeds_are_averaged(data, called, tmp_path, capsys):
    arguments = ["--data", str(data), "--vgg", "none", "--run", str(tmp_path / "out"), "--seeds", "3"]
    recipe.main(raccoon.RACCOON, arguments)
    trainings = [arguments for program, arguments in called if program == "train.py"]
    assert [value(one, "--seed") for one in trainings] == ["0", "1", "2"]
    assert len({value(one, "--run") for one in trainings}) == 3
    assert "0.200 (0.100 0.200 0.300)" in capsys.readouterr().out


def test_a_second_call_goes_on(data, called, tmp_path, monkeypatch):
    arguments = ["--data", str(data), "--vgg", "none", "--run", str(tmp_path / "out")]
    fake = chain.call

    def stopped(program, *arguments):
        if program == "infer.py":
            raise KeyboardInterrupt
        fake(program, *arguments)

    monkeypatch.setattr(chain, "call", stopped)
    with pytest.raises(KeyboardInterrupt):
        recipe.main(bccd.BCCD, arguments)
    assert programs(called) == ["check_dataset.py", "train.py"]
    monkeypatch.setattr(chain, "call", fake)
    recipe.main(bccd.BCCD, arguments)
    assert programs(called)[2:] == ["infer.py", "average_precision.py"]
    recipe.main(bccd.BCCD, arguments)
    assert len(called) == 4
    recipe.main(bccd.BCCD, [*arguments, "--epochs", "30"])  # trains on, and scores anew
    assert programs(called)[4:] == ["train.py", "infer.py", "average_precision.py"]
    assert "--resume" in called[4][1] and value(called[4][1], "--epochs") == "30"


def test_a_picture_in_both_splits_is_said_aloud(data, called, tmp_path, monkeypatch, capsys):
    """The real check_dataset.py on a data set with a copy of a training picture in the test split."""
    fake = chain.call
    (data / "JPEGImages/test_001.png").write_bytes((data / "JPEGImages/train_002.png").read_bytes())

    def checked(program, *arguments):
        if program == "check_dataset.py":
            run(program, *arguments)
        else:
            fake(program, *arguments)

    monkeypatch.setattr(chain, "call", checked)
    arguments = ["--data", str(data), "--vgg", "none", "--run", str(tmp_path / "out")]
    recipe.main(raccoon.RACCOON, arguments)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("MIND")]
    assert "test_001" in line and "train_002" in line and line.startswith("MIND: 1 picture of test is in")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--data", "missing"], "--data"), (["--data", ".", "--vgg", "missing"], "--vgg missing"), ([], "--data")],
)
def test_wrong_flags_are_told_in_one_line(arguments, named):
    assert named in error_of("recipes/bccd.py", *arguments)


@pytest.mark.slow
def test_a_recipe_as_a_user_runs_it(tmp_path):
    folder = write_shapes(tmp_path / "data", {"trainval": 18, "test": 6})
    for path in (folder / "Annotations").iterdir():
        path.write_text(path.read_text().replace("disc", "RBC").replace("square", "WBC"))
    out = tmp_path / "out"
    command = ["recipes/bccd.py", "--data", folder, "--vgg", "none", "--run", out]
    more = ["--", "--width", "0.03", "--batch-size", "4", "--workers", "1"]
    first = run(*command, "--max-steps", "3", *more)
    assert "3 steps" in first.stdout and (out / "plots/errors.html").exists()
    again = run(*command, "--max-steps", "3", *more)
    assert again.stdout.count("done before") == 4
    longer = run(*command, "--max-steps", "6", *more)
    assert "--resume" in longer.stdout and "6 steps" in longer.stdout
