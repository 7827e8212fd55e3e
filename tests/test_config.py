"""config.json written and read, and every way in which a MODEL argument can fail to name a model."""

import dataclasses
import json

import pytest

import config
import ssd_utils
from settings.training_settings import TrainingSettings
from structures import UserError

DESCRIPTION = config.ModelDescription(
    dataclasses.replace(
        ssd_utils.get_preset("vgg300-coco"),
        width=0.25,
        clip_anchors="size",
        mean=(122.99925, 116.9991, 103.9992),
        input_scale=1 / 60,
        size_offset_limit=4.135166556742356,
        clip_boxes="before_nms",
    ),
    ("car", "traffic light", "vélo"),
)
TRAINING = TrainingSettings(
    data="VOCdevkit",
    train="2007:trainval",
    schedule_steps=(3, 5),
    freeze=("conv1", "conv2"),
    warmup_steps=7,
    class_weights=("car=2", "vélo=0.5"),
)


@pytest.fixture
def run(tmp_path):
    """A run directory with a config.json and no checkpoint."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    config.write_config(str(folder), DESCRIPTION, TRAINING, {"python": "3"})
    return folder


def add_checkpoints(run, *names, **index):
    for name in names:
        (run / "checkpoints" / name).mkdir()
        (run / "checkpoints" / name / "model.index").write_bytes(b"")
    (run / "checkpoints" / "index.json").write_text(json.dumps(index))


def change(run, edit):
    """Rewrite config.json after edit(values) changed its values."""
    path = run / "config.json"
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def fails(message, function, *arguments):
    """The call raises a UserError of one line that matches."""
    with pytest.raises(UserError, match=message) as error:
        function(*arguments)
    assert "\n" not in str(error.value)


def test_config_survives_the_disk(run):
    assert config.read_config(str(run)) == (DESCRIPTION, TRAINING)


def test_config_of_imported_weights_has_no_training(tmp_path):
    config.write_config(str(tmp_path), DESCRIPTION, None, {})
    assert config.read_config(str(tmp_path)) == (DESCRIPTION, None)


def test_config_is_readable_json(run):
    values = json.loads((run / "config.json").read_text())
    assert values["model"]["class_names"] == ["car", "traffic light", "vélo"]
    assert values["model"]["preset"]["min_sizes"] == [21, 45, 99, 153, 207, 261]
    assert values["training"]["freeze"] == ["conv1", "conv2"]
    assert values["versions"] == {"python": "3"}


def test_fields_added_later_take_their_defaults(run):
    """A run of an older version stays readable when a field with a default is new."""
    for name in ("negative_ratio", "limit", "repeat", "ema", "map_classes"):
        change(run, lambda values, name=name: values["training"].pop(name))
    assert config.read_config(str(run)) == (DESCRIPTION, TRAINING)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v["model"]["preset"].update(color="red"), "config.json: .*color"),
        (lambda v: v["model"]["preset"].pop("steps"), "config.json: .*steps"),
        (lambda v: v["model"]["preset"].update(steps=[8]), "config.json: .*steps has 1"),
        (lambda v: v["model"].update(preset=None), "config.json: "),
        (lambda v: v["model"].update(preset=[]), "config.json: "),
        (lambda v: v["model"].pop("class_names"), "config.json: .*class_names"),
        (lambda v: v.pop("model"), "config.json: .*model"),
        (lambda v: v.update(model=[]), "config.json: "),
        (lambda v: v["training"].update(flavor=1), "config.json: .*flavor"),
        (lambda v: v["training"].update(optimizer="sgd"), "config.json: .*optimizer 'sgd'"),
        (lambda v: v["training"].pop("data"), "config.json: .*data"),
        (lambda v: v.update(training=[1]), "config.json: "),
        (lambda v: v.update(format=99), "config.json: .* 99"),
        (lambda v: v.pop("format"), "config.json: .*None"),
    ],
)
def test_damaged_config(run, edit, message):
    change(run, edit)
    fails(message, config.read_config, str(run))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"3"])
def test_config_that_is_no_json_object(run, content):
    (run / "config.json").write_bytes(content)
    fails("config.json", config.read_config, str(run))


def test_run_without_config(tmp_path):
    fails(f"{tmp_path}: .*config.json", config.read_config, str(tmp_path))


def test_a_folder_that_is_no_run_names_the_runs_in_it(run):
    place = run.parent
    for path in (place, place / "missing"):
        path.mkdir(exist_ok=True)
    inside = run / "checkpoints" / "step-00000001"
    inside.mkdir(parents=True)
    fails(f"{inside}: not a run directory .*; do you mean {run}, which it is in.$", config.read_config, str(inside))
    message = f"{place}: not a run directory .*; runs in it: {run}$"
    fails(message, config.read_config, str(place))
    fails(
        f"--run {place}: is a folder with other files, not a run; .*; runs in it: {run}$", config.check_new, str(place)
    )
    config.check_new(str(place / "missing"))  # which is empty


def test_a_training_that_exists_is_continued_and_other_runs_are_not(run):
    fails(
        f"{run}: already exists; .*, or continue it: python train.py --run {run} --resume$", config.check_new, str(run)
    )
    config.write_config(str(run), DESCRIPTION, None, {})
    fails(f"{run}: already exists; choose another name$", config.check_new, str(run))  # imported weights


# MODEL
def test_a_run_stands_for_its_best_checkpoint(run):
    add_checkpoints(run, "step-1", "step-2", last="step-2", best="step-1")
    for name, chosen in (("", "step-1"), ("@best", "step-1"), ("@last", "step-2")):
        source = config.find_model(f"{run}{name}")
        assert source.checkpoint == str(run / "checkpoints" / chosen / "model")
        assert source.run == str(run)
        assert source.exported is None


def test_kept_checkpoints_have_their_epochs_and_steps(run):
    add_checkpoints(
        run, "step-00000005", "step-00000010", "step-00000010+", last="step-00000010+", best="step-00000005"
    )
    index = {"last": "step-00000010+", "best": None, "epoch-1": "step-00000005", "epoch-2": "step-00000010"}
    (run / "checkpoints" / "index.json").write_text(json.dumps(index))
    for which, name in (("epoch-1", "step-00000005"), ("5", "step-00000005"), ("10", "step-00000010+")):
        assert config.find_model(f"{run}@{which}").checkpoint == str(run / "checkpoints" / name / "model")
    for which in ("6", "epoch-3", "step-00000005", "²"):
        fails(f"run@{which}: .*use @last or @best or @epoch-1, @epoch-2$", config.find_model, f"{run}@{which}")


def test_a_run_never_validated_stands_for_its_last(run):
    add_checkpoints(run, "step-2", last="step-2", best=None)
    assert config.find_model(str(run)).checkpoint == str(run / "checkpoints" / "step-2" / "model")
    fails("run: .*best checkpoint", config.find_model, f"{run}@best")


def test_a_trailing_slash_is_the_same_run(run):
    add_checkpoints(run, "step-2", last="step-2")
    assert config.find_model(f"{run}/").checkpoint.endswith("step-2/model")


def test_a_run_whose_name_has_an_at(run):
    add_checkpoints(run, "step-2", last="step-2")
    odd = run.rename(run.with_name("a@last"))
    assert config.find_model(str(odd)).run == str(odd)
    assert config.find_model(f"{odd}@last").run == str(odd)


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?", "a\\b"])
def test_a_run_whose_name_tensorflow_takes_for_a_pattern(run, name):
    add_checkpoints(run, "step-2", last="step-2")
    odd = run.rename(run.with_name(name))
    fails("pattern.*folder", config.find_model, str(odd))


def test_an_exported_graph(tmp_path):
    path = tmp_path / "model.pb"
    path.write_bytes(b"anything: it is read later")
    source = config.find_model(str(path))
    assert (source.exported, source.run, source.checkpoint) == (str(path), None, None)


def test_models_that_are_not_there(run, tmp_path):
    fails("nowhere: .*run directory.*.pb", config.find_model, "nowhere")
    fails("nowhere: ", config.find_model, "nowhere@last")
    fails("nowhere.pb: ", config.find_model, "nowhere.pb")
    fails("run: .*checkpoint", config.find_model, str(run))
    fails("run: .*last checkpoint", config.find_model, f"{run}@last")
    fails("run@first: .*@last .*@best", config.find_model, f"{run}@first")
    fails(f"{tmp_path}: .*config.json", config.find_model, str(tmp_path))
    text = tmp_path / "notes.txt"
    text.write_text("x")
    fails("notes.txt: .*run directory.*.pb", config.find_model, str(text))


def test_a_checkpoint_that_was_deleted(run):
    add_checkpoints(run, last="step-9")
    fails("step-9.*index.json", config.find_model, str(run))


@pytest.mark.parametrize("content", ["{", '"step-1"', '{"last": 5}', '{"last": ["step-1"]}'])
def test_damaged_index(run, content):
    (run / "checkpoints" / "index.json").write_text(content)
    fails("index.json", config.find_model, str(run))


def test_the_size_of_a_model_is_that_of_its_files(run, tmp_path):
    add_checkpoints(run, "step-2", last="step-2")
    checkpoint = run / "checkpoints" / "step-2"
    (checkpoint / "model.data-00000-of-00001").write_bytes(bytes(1000))
    (checkpoint / "state.json").write_bytes(bytes(50))
    index = len((checkpoint / "model.index").read_bytes())
    assert config.find_model(str(run)).size() == 1000 + index
    for name, count in (("m.xml", 30), ("m.bin", 700), ("other.bin", 1), ("m.onnx", 5)):
        (tmp_path / name).write_bytes(bytes(count))
    assert config.find_model(str(tmp_path / "m.xml")).size() == 730
    assert config.find_model(str(tmp_path / "m.onnx")).size() == 5
    (tmp_path / "s.savedmodel" / "variables").mkdir(parents=True)
    (tmp_path / "s.savedmodel" / "saved_model.pb").write_bytes(bytes(40))
    (tmp_path / "s.savedmodel" / "variables" / "v").write_bytes(bytes(2))
    assert config.find_model(str(tmp_path / "s.savedmodel")).size() == 42


@pytest.mark.parametrize(
    "name", ["valid_every", "repeat", "epochs", "batch_size", "accumulate", "keep_every", "learning_rate"]
)
def test_a_zero_by_which_a_training_would_divide_is_named(run, name):
    change(run, lambda values: values["training"].update({name: 0}))
    with pytest.raises(UserError, match=rf"config.json: .*'{name}' is 0, not a .*number"):
        config.read_config(str(run))
