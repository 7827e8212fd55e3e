"""What train.py checks before it reads data or imports TensorFlow."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

import config
import training_data
from settings.training_recipes import RECIPES
from settings.training_settings import TrainingSettings
from structures import UserError
from tiling import tiles
from training import train_flags
from weights import class_transfer

NEW = ["--data", "data", "--train", "train", "--run", "runs/new"]


def read(*flags):
    return train_flags.read(train_flags.parse([*NEW, *flags], None))


@pytest.mark.parametrize("name", ["a[1]", "runs/a*", "b?/run", "back\\slash"])
@pytest.mark.parametrize("more", [[], ["--resume"]], ids=["new", "resumed"])
def test_a_run_named_like_a_pattern_of_tensorflow_is_refused(name, more):
    with pytest.raises(UserError, match=r"--run: .*pattern"):
        read("--run", name, *more)


def test_an_unwritable_run_is_refused(tmp_path):
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(UserError, match=r"--run: .*file"):
        read("--run", str(tmp_path / "file" / "run"))
    with pytest.raises(UserError, match=r"--run: .*file"):
        read("--run", str(tmp_path / "file"))


SLIM = ["--data", str(Path(__file__).parent), "--classes", "car", "--width", "0.1"]


@pytest.mark.parametrize(
    ("flags", "rate", "decay"),
    [
        ([], 2e-4, 0.05),
        (["--optimizer", "adam"], 2e-4, 5e-4),
        (["--optimizer", "adam", "--adam-epsilon", "0.1"], 1e-3, 5e-4),
        (["--optimizer", "momentum"], 1e-3, 5e-4),
        (["--optimizer", "momentum", "--learning-rate", "0.5", "--weight-decay", "0"], 0.5, 0),
    ],
)
def test_rate_and_decay_fit_the_optimizer(flags, rate, decay):
    settings = read(*SLIM, *flags)[1]
    assert (settings.learning_rate, settings.weight_decay) == (rate, decay)


@pytest.mark.parametrize("seed", ["1785000000123456789", str(2**63 - 1)], ids=["date +%s%N", "largest"])
def test_a_run_with_a_large_seed_can_be_read_again(seed, tmp_path):
    description, settings = read(*SLIM, "--seed", seed)
    config.write_config(str(tmp_path), description, settings, {})
    assert settings.seed == int(seed) and config.read_config(str(tmp_path)) == (description, settings)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", str(2**63)], r"^--seed: '9223372036854775808' is too large.*9223372036854775807"),
        (["--epochs", "1" + 17 * "0"], r"^--epochs: '10+' is too large.*9007199254740992"),
        (["--schedule", "step", "--schedule-steps", "9," + 18 * "9"], r"^--schedule-steps: '9+' is too large"),
        (
            ["--tiles", "2x2", "--overlap", "0.9995"],
            r"--run .*new: .*'overlap' is 0\.9995, not a number from 0 to 0\.999",
        ),
        (["--width", "0.0005"], r"--run .*new: .*'width' is 0\.0005, not a number from 0\.001 to 4"),
    ],
)
def test_flags_of_a_run_that_no_program_could_read_again_are_refused(flags, message):
    with pytest.raises(UserError, match=message) as raised:
        read(*SLIM, *flags)
    assert "\n" not in str(raised.value)


def test_gradients_in_pieces_need_more_than_one_computation():
    with pytest.raises(UserError, match="--bucket-mb: with --xla whole all gradients come at once"):
        read(*SLIM, "--bucket-mb", "25", "--xla", "whole")
    assert read(*SLIM, "--bucket-mb", "25")[1].bucket_mb == 25


def test_pascal_voc_needs_no_splits(tmp_path):
    flags = ["--data", str(tmp_path), "--run", str(tmp_path / "run"), "--width", "0.1"]
    (tmp_path / "VOC2007").mkdir()
    with pytest.raises(UserError, match="no data set found"):
        train_flags.read(train_flags.parse(flags, None))
    (tmp_path / "VOC2012").mkdir()
    settings = train_flags.read(train_flags.parse([*flags, "--classes", "car"], None))[1]
    assert settings.train == "2007:trainval,2012:trainval"


@pytest.mark.parametrize("name", ["conv", "conv5_4", "conv99", "conv1-conv3", "head_", "conv12", "layer3", "fc8"])
def test_an_unknown_layer_to_freeze_is_refused(name):
    with pytest.raises(UserError, match=f"--freeze {name}: vgg300 .*conv1, .*, head_conv11_2"):
        read(*SLIM, "--freeze", f"conv1,{name}")


def test_the_help_names_every_setting_and_its_default(capsys):
    with pytest.raises(SystemExit):
        train_flags.parse(["--help-all"], "")
    told = " ".join(capsys.readouterr().out.split())
    for flag, default in (
        ("--schedule-steps N,N", "80000,100000"),
        ("--seed N", "0"),
        ("--weight-decay X", "0.05; [^)]*"),
        ("--optimizer {adam,adamw,momentum}", "adamw"),
    ):
        assert re.search(rf"{re.escape(flag)} [^(]*\(default: {default}\)", told), flag
    settings = {field.name.replace("_", "-") for field in dataclasses.fields(TrainingSettings)}
    assert settings <= set(re.findall(r"--([a-z-]+)", told))
    assert "(default: )" not in told and "(default: False)" not in told


def test_the_short_help_has_what_a_first_training_needs(capsys):
    """The README's flags; what it leaves out is in the long one, of which it tells."""
    with pytest.raises(SystemExit):
        train_flags.parse(["--help"], "")
    told = capsys.readouterr().out
    first = "data train valid valid-share classes run resume epochs freeze precision schedule vgg-weights width preset"
    for flag in [*first.split(), "batch-size", "learning-rate", "find-rate", "limit", "recipe", "help-all"]:
        assert re.search(rf"^  --{flag}\b", told, re.M), flag
    assert "--adam-epsilon" not in told and "--bias-lr-multiplier" not in told
    assert re.search(r"^\d+ more flags: --help-all$", told, re.M)


def test_the_article_s_recipe():
    description, settings = read(*SLIM, "--recipe", "article")
    assert description.preset.name == "vgg300-article"
    assert (settings.optimizer, settings.adam_epsilon, settings.learning_rate) == ("adam", 0.1, 1e-3)
    assert (settings.schedule, settings.batch_size, settings.accumulate) == ("exponential", 8, 1)
    assert (settings.matching, settings.augmentation, settings.initializer) == ("threshold", "article", "xavier")
    assert (settings.warmup_steps, settings.clip_norm, settings.weight_decay) == (0, 0, 5e-4)
    assert (settings.normalize, settings.unmatched, description.preset.classes_per_anchor) == (
        "image",
        "redraw",
        "best",
    )
    assert read(*SLIM, "--recipe", "article", "--classes-per-anchor", "all")[0].preset.classes_per_anchor == "all"


def test_the_original_s_recipe():
    description, settings = read(*SLIM, "--recipe", "original")
    assert description.preset.name == "vgg300"
    assert (settings.optimizer, settings.batch_size * settings.accumulate) == ("momentum", 32)
    assert (settings.schedule, settings.schedule_steps, settings.learning_rate) == ("step", (80000, 100000), 1e-3)
    assert (settings.bias_lr_multiplier, settings.weight_decay, settings.initializer) == (2, 5e-4, "xavier")
    assert (settings.warmup_steps, settings.clip_norm) == (0, 0)
    assert settings.epochs >= settings.max_steps == 120000  # an epoch has at least one step


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--optimizer", "momentum"],
        ["--optimizer", "adam", "--weight-decay", "0.3"],
        ["--adam-epsilon", "0.1"],
        ["--epochs", "3"],
    ],
)
def test_the_default_recipe_is_no_recipe(flags):
    assert read(*SLIM, "--recipe", "default", *flags) == read(*SLIM, *flags)


def test_a_flag_beside_a_recipe_wins():
    flags = ["--preset", "vgg512", "--optimizer", "adamw", "--learning-rate", "3e-4", "--max-steps", "7"]
    description, settings = read(*SLIM, "--recipe", "original", *flags)
    assert (description.preset.name, settings.optimizer, settings.learning_rate) == ("vgg512", "adamw", 3e-4)
    assert (settings.max_steps, settings.accumulate) == (7, 4)


def test_a_recipe_sets_all_that_decides_what_is_learned():
    """So that it stays what it is when a default changes."""
    of_the_data = "data train valid valid_share source missing_annotations other_classes difficult limit repeat"
    of_the_first_weights = "vgg_weights init_from map_classes"
    of_the_machine = (
        "patience precision workers seed deterministic save_minutes cache cache_gb cache_dir wire bucket_mb"
    )
    of_the_records = "valid_every keep_every score_train events"
    names = {field.name for field in dataclasses.fields(TrainingSettings)}
    others = {*of_the_data.split(), *of_the_first_weights.split(), *of_the_machine.split(), *of_the_records.split()}
    for recipe in RECIPES.values():
        assert recipe.keys() == names - others | {"preset"}


def test_a_recipe_leaves_the_anchors_of_a_first_run(trained):
    flags = ["--data", str(Path(__file__).parent), "--init-from", str(trained), "--recipe", "article"]
    assert read(*flags)[0].preset.name == "vgg300"
    assert read(*flags, "--preset", "vgg300-article")[0].preset.name == "vgg300-article"


def test_trained_weights_get_smaller_steps_than_new_ones(tmp_path):
    weights = tmp_path / "vgg.npz"
    np.savez(weights, **{"conv1_1/weights": np.zeros((3, 3, 3, 64), np.float32)})

    def multiplier(*flags):
        return read("--classes", "cat", *flags)[1].vgg_lr_multiplier

    vgg = ["--vgg-weights", str(weights)]
    assert multiplier(*vgg) == multiplier(*vgg, "--recipe", "default") == 0.1
    assert multiplier(*vgg, "--optimizer", "adam") == 0.1
    assert multiplier(*vgg, "--vgg-lr-multiplier", "0.5") == 0.5
    assert multiplier("--vgg-weights", "none") == multiplier("--vgg-weights", "none", "--recipe", "default") == 1
    for other in (["--optimizer", "momentum"], ["--optimizer", "adam", "--adam-epsilon", "0.1"]):
        assert multiplier(*vgg, *other) == 1
    assert multiplier(*vgg, "--recipe", "article") == multiplier(*vgg, "--recipe", "original") == 1


def resumed(run, *flags):
    return train_flags.read(train_flags.parse(["--run", str(run), "--resume", *flags], None))


@pytest.fixture
def original(tmp_path):
    """The config.json of a run with the original's settings, of which one flag differs."""
    description, settings = read(*SLIM, "--recipe", "original", "--clip-norm", "5")
    config.write_config(str(tmp_path), description, settings, {})
    return tmp_path


def test_a_resume_takes_the_recipe_of_the_run(original):
    before = config.read_config(str(original))
    assert resumed(original) == before
    assert resumed(original, "--recipe", "original", "--clip-norm", "5") == before
    changed = resumed(original, "--recipe", "original", "--clip-norm", "5", "--max-steps", "130000")
    assert changed[1] == dataclasses.replace(before[1], max_steps=130000)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--recipe", "original"], "--recipe original: sets --clip-norm 0, but the run has 5"),
        (["--recipe", "article"], "--recipe article: sets --preset vgg300-article, but the run has vgg300"),
        (["--recipe", "default", "--preset", "vgg300"], "--recipe default: sets --initializer lsuv, but .* xavier"),
    ],
)
def test_a_resume_refuses_another_recipe(original, flags, named):
    with pytest.raises(UserError, match=named):
        resumed(original, *flags)


def test_a_resume_takes_the_data_set_at_another_place(original, tmp_path):
    """As another host has it; the trainer compares its pictures with the run's."""
    before = config.read_config(str(original))[1]
    settings = resumed(original, "--data", str(tmp_path / "moved"), "--source", "coco")[1]
    assert settings == dataclasses.replace(before, data=str(tmp_path / "moved"), source="coco")


def test_tiles_are_part_of_the_run(tmp_path):
    description, settings = read(*SLIM, "--tiles", "3x2", "--overlap", "0.3")
    assert settings.cut == tiles.Cut((3, 2), None, 0.3)
    config.write_config(str(tmp_path), description, settings, {})
    assert resumed(tmp_path)[1] == resumed(tmp_path, "--tiles", "3x2", "--overlap", "0.3")[1] == settings
    for flags, first in (
        (["--tiles", "2x3"], "--tiles 2x3: the run was started with 3x2"),
        (["--overlap", "0.2"], "--overlap 0.2: the run was started with 0.3"),
        (["--recipe", "default"], "--recipe default: sets --tiles none, but the run has 3x2"),
    ):
        with pytest.raises(UserError, match=first):
            resumed(tmp_path, *flags)
    with pytest.raises(UserError, match=r"--overlap: .*--tiles"):
        read(*SLIM, "--overlap", "0.3")
    assert read(*SLIM)[1].cut is None


@pytest.mark.parametrize("tiles", [[3], [3, 2, 1], [0, 2], [3, 257], ["3", 2], "3x2"], ids=str)
def test_damaged_tiles_in_a_run_are_named(tiles):
    with pytest.raises(ValueError, match="'tiles"):
        TrainingSettings.from_json({"data": "", "train": "", "tiles": tiles})


def test_a_run_of_the_default_recipe_resumes_with_it(tmp_path):
    config.write_config(str(tmp_path), *read(*SLIM, "--optimizer", "momentum"), {})
    assert resumed(tmp_path, "--recipe", "default", "--optimizer", "momentum")[1].learning_rate == 1e-3
    with pytest.raises(UserError, match="sets --optimizer adamw, but the run has momentum"):
        resumed(tmp_path, "--recipe", "default")


def test_the_help_shows_what_each_recipe_sets(capsys):
    with pytest.raises(SystemExit):
        train_flags.parse(["--help-all"], "")
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.split()}
    assert rows["--accumulate"] == ["1", "1", "4"]
    assert rows["--learning-rate"] == ["0.0002", "0.001", "0.001"]
    assert rows["--max-steps"] == ["none", "none", "120000"]


def test_init_from_becomes_an_absolute_path(trained, monkeypatch):
    """A resume from another folder must find it."""
    monkeypatch.chdir(trained.parent)
    flags = train_flags.parse(["--run", "new", "--data", "data", "--init-from", f"{trained.name}@last"], "")
    assert flags.init_from == f"{trained}@last"
    with pytest.raises(UserError, match="--init-from nowhere"):
        train_flags.parse(["--run", "new", "--data", "data", "--init-from", "nowhere"], "")


def test_freezing_layers_and_groups():
    layers = ("conv1", "conv4_3", "fc6", "norm_conv4_3", "conv8", "head", "head_fc7", "head_conv4_3_logits")
    assert read(*SLIM, "--freeze", ",".join(layers))[1].freeze == layers
    assert read(*SLIM, "--preset", "vgg512", "--freeze", "conv12")[1].freeze == ("conv12",)


def test_the_cache_is_a_matter_of_the_machine(trained, monkeypatch, tmp_path):
    """A resume may change it, and keeps it otherwise."""

    def resumed(*flags):
        return train_flags.read(train_flags.parse(["--run", str(trained), "--resume", *flags], ""))[1]

    assert resumed().cache == "none"
    monkeypatch.chdir(tmp_path)
    settings = resumed("--cache", "disk", "--cache-gb", "0.5", "--cache-dir", "pictures")
    assert (settings.cache, settings.cache_gb) == ("disk", 0.5)
    assert settings.cache_dir == str(tmp_path / "pictures")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cache-gb", "2"], "--cache-gb: needs --cache ram or --cache disk"),
        (["--cache-dir", "x"], "--cache-dir: needs --cache disk"),
        (["--cache", "ram", "--cache-dir", "x"], "--cache-dir: needs --cache disk"),
        (["--cache", "ram", "--cache-gb", "0"], "--cache-gb: '0' is not a number above 0"),
        (["--cache", "disk", "--cache-dir", __file__], "--cache-dir: .*not the name of a folder"),
    ],
)
def test_flags_of_the_cache_that_would_do_nothing_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        read(*SLIM, *flags)


def test_names_with_commas_and_equal_signs_stand_in_a_file(tmp_path):
    (tmp_path / "names.txt").write_text("lorry, big\na=b\ncar\n")
    (tmp_path / "weights.txt").write_text("lorry, big=2\na=b=0.5\n")
    classes = ["--data", str(tmp_path), "--classes", str(tmp_path / "names.txt"), "--width", "0.1"]
    description, settings = read(*classes, "--class-weights", str(tmp_path / "weights.txt"))
    assert description.class_names == ("lorry, big", "a=b", "car")
    assert training_data.class_weights(settings.class_weights, description.class_names) == (2, 0.5, 1)
    assert read(*classes, "--class-weights", "a=b=3,car=2")[1].class_weights == ("a=b=3", "car=2")
    with pytest.raises(UserError, match=r"--class-weights: .*NAME="):
        read(*classes, "--class-weights", "car")


def test_names_with_equal_signs_are_mapped():
    pairs, old, new = ("a=b=c", "d=e=f"), ("a=b", "d"), ("c", "e=f", "g")
    assert class_transfer.find_sources(old, new, pairs) == (0, 1, None)
    with pytest.raises(UserError, match="'x' is unknown"):
        class_transfer.find_sources(old, new, ("x=c",))


def test_a_share_for_validation_stands_alone():
    assert read(*SLIM, "--valid-share", "0.25", "--patience", "3")[1].valid_share == 0.25
    with pytest.raises(UserError, match=r"--valid-share: .*--valid names other pictures"):
        read(*SLIM, "--valid-share", "0.25", "--valid", "val")
    with pytest.raises(UserError, match="--patience: needs --valid or --valid-share"):
        read(*SLIM, "--patience", "3")
    for share in ("0", "1", "20"):
        with pytest.raises(UserError, match="--valid-share: "):
            read(*SLIM, "--valid-share", share)


RATES = ["--schedule", "step", "--schedule-steps", "5,9", "--schedule-rates", "0.002, 0.0003,1e-5"]


def test_rates_and_their_steps():
    settings = read(*SLIM, *RATES, "--optimizer", "momentum", "--momentum", "0.8")[1]
    assert (settings.schedule_rates, settings.learning_rate) == ((0.002, 0.0003, 1e-5), 0.002)
    assert settings.momentum == 0.8
    assert read(*SLIM, "--recipe", "original", *RATES)[1].learning_rate == 0.002


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([*RATES, "--learning-rate", "0.1"], "--schedule-rates: sets all rates; leave it or --learning-rate out"),
        ([*RATES, "--find-rate"], "--schedule-rates: sets all rates; leave it or --find-rate out"),
        ([*RATES, "--schedule", "cosine"], "--schedule-rates: needs --schedule step; it is cosine"),
        ([*RATES, "--schedule-steps", "5"], "--schedule-rates 0.002,.*: 3 rates for 1 step in --schedule-steps 5; "),
        ([*RATES, "--schedule-rates", "0.1,x,2"], "--schedule-rates: .*x"),
        (["--momentum", "1"], "--momentum: "),
    ],
)
def test_rates_that_do_not_fit(flags, message):
    with pytest.raises(UserError, match=message):
        read(*SLIM, *flags)


def test_records_of_two_trainings_do_not_share_a_folder(tmp_path):
    assert read(*SLIM, "--events", str(tmp_path))[1].events == str(tmp_path)
    (tmp_path / "events.out.tfevents.1.host.2").write_bytes(b"")
    with pytest.raises(UserError, match=f"--events {tmp_path}: has the records of another training"):
        read(*SLIM, "--events", str(tmp_path))


def test_fc6_and_fc7_in_full_size(trained):
    assert read(*SLIM)[0].preset.fc_form == "subsampled"
    assert read(*SLIM, "--subsample-fc", "no")[0].preset.fc_form == "full"
    start = ["--data", str(Path(__file__).parent), "--init-from", str(trained)]
    assert read(*start, "--subsample-fc", "yes")[0].preset.fc_form == "subsampled"
    with pytest.raises(UserError, match=r"--subsample-fc no: the weights of .* are of the other form; leave it out"):
        read(*start, "--subsample-fc", "no")
    with pytest.raises(UserError, match="--subsample-fc no: the run was started with yes; leave it out"):
        resumed(trained, "--subsample-fc", "no")
