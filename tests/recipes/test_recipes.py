"""The recipes: each program gets flags it takes, calls continue where they stopped, the summary names what is wrong."""

import json
import re
import sys

import pytest

from programs import ROOT, error_of, run, value_of, write_shapes

sys.path.insert(0, str(ROOT / "recipes"))

import ablations
import bccd
import raccoon
import recipe
import results_section
import voc_traffic

from structures import UserError
from system import chain
from training import train_flags

RECIPES = {"bccd": bccd.BCCD, "raccoon": raccoon.RACCOON, "voc_traffic": voc_traffic.VOC_TRAFFIC}


FITTED = {  # BCCD's
    "preset": "vgg300",
    "input_size": 300,
    "min_sizes": [20.9, 55.8, 82.8, 150.7, 198.1, 245.5],
    "max_sizes": [55.8, 82.8, 150.7, 198.1, 245.5, 292.9],
    "aspect_ratios": [[1.5], [1.5, 2], [1.5, 2], [1.5, 2], [1.5], [1.5]],
}


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
            write(value_of(arguments, "--json"), {"findings": []})
            if "--anchors" in arguments:
                write(value_of(arguments, "--anchors"), FITTED)
        elif program == "train.py":
            begun = "--resume" in arguments
            if not begun:
                train_flags.read(train_flags.parse(arguments, ""))  # raises if a flag is wrong
            folder = value_of(arguments, "--run")
            write(f"{folder}/config.json", {})
            write(f"{folder}/metrics.csv", "step,images_per_second\n20,2.5\n")
        elif program == "average_precision.py":
            seed = len([one for one, _ in commands if one == "average_precision.py"])
            voc07, area = ({"mean": seed / tens, "per_class": {"raccoon": seed / tens}} for tens in (10, 5))
            counts = {"iou": 0.5, "images": 3, "ground_truth": {"raccoon": 3}}
            write(value_of(arguments, "--json"), {"voc07": voc07, "area": area, **counts})

    monkeypatch.setattr(chain, "call", fake)
    monkeypatch.setattr(results_section, "write", lambda root, lines, *_: "\n".join(["PAGE", *lines]))
    return commands


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
    assert value_of(commands["train.py"], "--epochs") == str(RECIPES[name].epochs)
    assert "--freeze" not in commands["train.py"]  # layers that start at random must learn
    assert commands["infer.py"][0].endswith("run@last")
    printed = capsys.readouterr().out
    assert "mean          0.100" in printed and "| mean | 3 | 0.100 | 0.200 |" in printed.partition("PAGE")[2]


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
    assert value_of(arguments, "--vgg-weights") == str(weights)
    assert value_of(arguments, "--freeze") == "conv1,conv2,conv3"
    assert value_of(arguments, "--max-steps") == "7"
    flags = train_flags.parse(arguments, "")
    assert flags.learning_rate == 1e-3 and flags.optimizer == "adamw" and flags.schedule == "cosine"
    assert (flags.augmentation.vertical_flip_probability, flags.augmentation.crop) == (0.5, False)


def test_a_recipes_own_flags_come_before_the_users(data, called, tmp_path):
    weights = tmp_path / "vgg.npz"
    weights.touch()
    for more, batch_size in ((), 4), (("--", "--batch-size", "2"), 2):
        start = ["--data", str(data), "--vgg", str(weights), "--run", str(tmp_path / f"out{batch_size}")]
        recipe.main(voc_traffic.VOC_TRAFFIC, [*start, *more])
        flags = train_flags.parse(dict(called)["train.py"], "")  # the last call's
        assert (flags.batch_size, flags.class_weights) == (batch_size, "auto")
        assert flags.freeze == ("conv1", "conv2", "conv3")


def test_anchors_are_fitted_to_the_training_split_for_all_seeds(data, called, tmp_path):
    recipe.main(bccd.BCCD, ["--data", str(data), "--vgg", "none", "--run", str(tmp_path / "out"), "--seeds", "2"])
    checked, *trained = [one for program, one in called if program in ("check_dataset.py", "train.py")]
    assert value_of(checked, "--split") == "trainval,test"  # of which check_dataset.py takes the first
    assert len(trained) == 2 and {value_of(one, "--anchors") for one in [checked, *trained]} == {
        f"{tmp_path}/out/anchors.json"
    }


def test_seeds_are_averaged(data, called, tmp_path, capsys):
    arguments = ["--data", str(data), "--vgg", "none", "--run", str(tmp_path / "out"), "--seeds", "3"]
    recipe.main(raccoon.RACCOON, arguments)
    trainings = [arguments for program, arguments in called if program == "train.py"]
    assert [value_of(one, "--seed") for one in trainings] == ["0", "1", "2"]
    assert len({value_of(one, "--run") for one in trainings}) == 3
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
    assert "--resume" in called[4][1] and value_of(called[4][1], "--epochs") == "30"


def test_a_trial_of_a_few_steps_does_not_end_the_recipe(data, called, tmp_path):
    arguments = ["--data", str(data), "--vgg", "none", "--run", str(tmp_path / "out")]
    recipe.main(bccd.BCCD, [*arguments, "--max-steps", "2"])
    recipe.main(bccd.BCCD, arguments)
    assert int(value_of(called[-3][1], "--max-steps")) > 10**6  # train.py would keep to the 2
    for more in (["--", "--max-steps", "50"], ["--", "--max-steps=60"]):
        recipe.main(bccd.BCCD, [*arguments, *more])
        assert train_flags.parse(called[-3][1], "").max_steps == int(more[-1][-2:])


def test_a_picture_in_both_splits_is_printed(data, called, tmp_path, monkeypatch, capsys):
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
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert "test_001" in line and "train_002" in line and " 1 picture " in line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--data", "missing"], "--data"),
        (["--data", ".", "--vgg", "missing"], "--vgg: missing"),
        ([], "--data"),
        (["--data", "{folder}", "--run", "{folder}/out"], "--data {folder}: no data set"),  # says check_dataset.py
    ],
)
def test_wrong_flags_fail_with_one_line(arguments, named, tmp_path):
    given = [argument.format(folder=tmp_path) for argument in arguments]
    assert named.format(folder=tmp_path) in error_of("recipes/bccd.py", *given)


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
    assert "(best.jpg)" in (out / "results.md").read_text() and (out / "best.jpg").exists()
    longer = run(*command, "--max-steps", "6", *more)
    assert "--resume" in longer.stdout and "6 steps" in longer.stdout


@pytest.fixture
def ablation(data, called, tmp_path, monkeypatch):
    """ablation(scores, *arguments): runs ablations.py, each variant scoring as scores say; returns (runs, rows).

    scores: {variant: [mean of seed 0, 1, …]}, 0.5 for others; runs: [(variant, seed)] trained; rows: the table's cells.
    """
    fake = chain.call
    out = tmp_path / "ablations"

    def ablation(scores, *arguments):
        def scored(program, *given):
            fake(program, *given)
            if program == "average_precision.py":
                path = value_of([str(one) for one in given], "--json")
                name, seed = path.split("/")[-3], int(path.split("/")[-2].removeprefix("seed"))
                mean = scores.get(name, [0.5] * 9)[seed]
                write(path, {"voc07": {"mean": mean}})

        monkeypatch.setattr(chain, "call", scored)
        called.clear()
        ablations.main(["--data", str(data), "--vgg", "none", "--run", str(out), "--steps", "20", *arguments])
        runs = [value_of(given, "--run").split("/")[-3:-1] for program, given in called if program == "train.py"]
        lines = (out / "ablations.md").read_text().splitlines()
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
        return runs, {row[0]: row[1:] for row in rows[2:]}

    return ablation


FAR_APART = {name: [0.1 * index] * 9 for index, name in enumerate(ablations.NAMES, 1)}


def test_ablations_table(ablation):
    runs, rows = ablation(FAR_APART)
    assert runs == [[name, "seed0"] for name in ablations.NAMES]
    assert rows["baseline"][1:] == ["0.100", "1", "–", "–", "2.5"]
    assert rows["momentum"][1:5] == ["1.600", "1", "adam-article", "+0.100"]
    assert rows["random-quarter"][1:5] == ["1.900", "1", "random", "+0.600"]
    assert ablation(FAR_APART)[0] == []  # all done


def test_ablations_take_more_seeds_where_it_is_close(ablation):
    scores = {**FAR_APART, "baseline": [0.50, 0.40, 0.30], "bfloat16": [0.52, 0.50, 0.48]}
    runs, rows = ablation(scores, "--only", "bfloat16,random")
    assert runs[:3] == [["baseline", "seed0"], ["random", "seed0"], ["bfloat16", "seed0"]]
    assert runs[3:] == [[name, seed] for name in ("baseline", "bfloat16") for seed in ("seed1", "seed2")]
    assert rows["baseline"][1:3] == ["0.400 (0.300 – 0.500)", "3"]
    assert rows["bfloat16"][1:5] == ["0.500 (0.480 – 0.520)", "3", "baseline", "+0.100"]
    assert rows["momentum"][1:5] == ["–", "–", "adam-article", "–"]
    assert ablation(scores, "--only", "bfloat16,random")[0] == []


def test_ablations_compare_the_seeds_that_both_have(ablation):
    """With one seed, random is below the baseline's first, whatever the others are."""
    scores = {"baseline": [0.50, 0.40, 0.30], "random": [0.42], "bfloat16": [0.52, 0.50, 0.48]}
    _, rows = ablation(scores, "--only", "bfloat16,random")
    assert rows["random"][1:5] == ["0.420", "1", "baseline", "-0.080"]
    assert rows["bfloat16"][1:5] == ["0.500 (0.480 – 0.520)", "3", "baseline", "+0.100"]


def test_ablations_go_on_and_keep_settings_apart(ablation, tmp_path, capsys):
    assert ablation(FAR_APART, "--only", "random")[0] == [["baseline", "seed0"], ["random", "seed0"]]
    runs, _ = ablation(FAR_APART, "--only", "random-quarter,momentum")  # with what they are compared with
    assert runs == [[name, "seed0"] for name in ("adam-article", "momentum", "random-quarter")]
    with pytest.raises(UserError, match="steps 20, not 30"):
        ablation(FAR_APART, "--steps", "30")
    with pytest.raises(UserError, match="--only vgg"):
        ablation(FAR_APART, "--only", "vgg")


def test_ablations_that_trained_nothing_can_be_corrected(ablation, tmp_path):
    """Settings of a call whose first training failed, or of an older ablations.py, in a folder without trainings."""
    write(tmp_path / "ablations" / "settings.json", {"classes": "RBC,typo", "a_setting_that_is_gone": 1})
    assert ablation(FAR_APART, "--only", "baseline")[0] == [["baseline", "seed0"]]
    settings = json.loads((tmp_path / "ablations" / "settings.json").read_text())
    write(tmp_path / "ablations" / "settings.json", {**settings, "a_setting_that_is_gone": 1})
    with pytest.raises(UserError, match="a_setting_that_is_gone 1, not None; choose another folder"):
        ablation(FAR_APART, "--only", "baseline")
    (tmp_path / "ablations" / "settings.json").unlink()
    with pytest.raises(UserError, match=r"^--run .*ablations: has trainings but no settings\.json; restore it"):
        ablation(FAR_APART, "--only", "baseline")


def test_ablations_differ_in_what_their_names_say(ablation, called, data, tmp_path):
    weights = tmp_path / "vgg.npz"
    weights.touch()
    ablation(FAR_APART, "--vgg", str(weights))
    read = {}
    for name, (_, given) in zip(ablations.NAMES, [one for one in called if one[0] == "train.py"], strict=True):
        given[given.index("--run") + 1] = str(tmp_path / "another")
        description, settings = train_flags.read(train_flags.parse(given, ""))
        anchors = (description.preset.min_sizes, description.preset.aspect_ratios)
        read[name] = {**vars(settings), "width": description.preset.width, "anchors": anchors}
    base = read["baseline"]
    changed = {name: {key for key in base if one[key] != base[key]} for name, one in read.items()}
    assert changed == {
        "baseline": set(),
        "he-start": {"initializer"},
        "adam": {"optimizer", "weight_decay"},
        "no-decay": {"weight_decay"},
        "rate-5e-4": {"learning_rate"},
        "new-layers-faster": {"learning_rate", "vgg_lr_multiplier"},
        "vgg-slower": {"vgg_lr_multiplier"},
        "short-warm-up": {"warmup_steps"},
        "average": {"ema"},
        "average-constant": {"ema", "schedule"},
        "light-augmentation": {"augmentation"},
        "light-fitted": {"augmentation", "anchors"},
        "random": {"vgg_weights", "freeze"},
        "no-augmentation": {"augmentation"},
        "adam-article": {"optimizer", "weight_decay", "adam_epsilon", "learning_rate"},
        "momentum": {"optimizer", "weight_decay", "learning_rate", "bias_lr_multiplier"},
        "bfloat16": {"precision"},
        "threshold-matching": {"matching"},
        "random-quarter": {"vgg_weights", "freeze", "width"},
    }
    assert base["max_steps"] == 20 and base["batch_size"] == 8
