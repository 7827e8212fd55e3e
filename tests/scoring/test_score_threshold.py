"""--threshold: a number, a number a class, a file, or the best of the run's last scoring."""

import argparse
import dataclasses

import pytest

import average_precision
import config
import infer
import ssd_utils
from scoring import score_threshold
from structures import UserError
from system import files
from voc_cases import FOUND, write_found

NAMES = ("car", "bus", "van")


def resolve(text, source, default=0.5):
    return score_threshold.resolve(score_threshold.parse(text), source, default)


@pytest.fixture
def run(tmp_path):
    """A run whose checkpoint has no weights: nothing here reads them."""
    path = tmp_path / "run"
    folder = path / "checkpoints" / "step-00000007"
    folder.mkdir(parents=True)
    (folder / "model.index").write_bytes(b"")
    (path / "checkpoints" / "index.json").write_text('{"last": "step-00000007", "best": null}')
    preset = dataclasses.replace(ssd_utils.get_preset("vgg300"), name="tiny")
    config.write_config(str(path), config.ModelDescription(preset, NAMES), None, {})
    return str(path)


@pytest.fixture
def source(run):
    return config.find_model(run)


def test_what_a_threshold_may_be(source, tmp_path):
    assert score_threshold.resolve(None, source, 0.3) == 0.3
    assert resolve("0.25", source) == 0.25
    assert resolve("car=0.4,van=0.6", source) == (0.4, 0.5, 0.6)
    assert resolve("car=0.4,bus=0.4,van=0.4", source) == 0.4
    file = tmp_path / "t.json"
    file.write_text('{"bus": 0.1}')
    assert resolve(str(file), source, 0.01) == (0.01, 0.1, 0.01)


def test_names_may_hold_an_equals_sign():
    assert score_threshold.parse("a=b=0.4").named == {"a=b": 0.4}


def test_the_classes_of_an_exported_graph_are_known_later(tmp_path):
    graph = config.ModelSource("model.pb", exported="model.pb", format="frozen")
    assert resolve("0.25", graph) == 0.25
    later = resolve("bus=0.4", graph)
    assert later(("car", "bus")) == (0.5, 0.4) and later(("bus",)) == 0.4
    with pytest.raises(UserError, match="no class 'bus'"):
        later(("car",))
    with pytest.raises(UserError, match=r"exported graph.*scoring\.json"):
        resolve("best", graph)


@pytest.mark.parametrize(
    "text", ["1.5", "many", "car=", "car=2", "=0.4", "car=0.4,car=0.5", "car=0.4,0.5", "missing.json"]
)
def test_a_wrong_text_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        score_threshold.parse(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"car": 2}', "car.* from 0 to 1"),
        ('{"car": true}', "car.* from 0 to 1"),
        ("[]", "holds no JSON object"),
        ('{"thresholds": {}}', "damaged"),
        ('{"thresholds": {"all": null, "per_class": {}}}', "no hit"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, content, message):
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(UserError, match=message):  # to which the parser adds the flag
        score_threshold.parse(str(tmp_path / "t.json"))


def test_an_unknown_class_is_refused(source):
    with pytest.raises(UserError, match=r"no class 'cars'.*'car'"):
        resolve("cars=0.4", source)


def points(**best):
    """operating_points with these best thresholds."""
    rows = {name: {"best_f1": None if value is None else {"threshold": value}} for name, value in best.items()}
    return {"all": rows.pop("all"), "per_class": rows}


def test_best_is_what_was_remembered(run, source):
    with pytest.raises(UserError, match="remembers no scoring"):
        resolve("best", source)
    path = score_threshold.remember(source, points(all=0.45, car=0.4, bus=None), data="d")
    assert files.read_json(path)["checkpoint"] == "step-00000007"
    assert resolve("best", source) == (0.4, 0.45, 0.45)  # bus was not hit, van not scored
    graph = config.ModelSource("model.pb", exported="model.pb", format="frozen")
    assert resolve(path, graph)(("van", "car")) == (0.45, 0.4)
    score_threshold.remember(source, points(all=None, car=None))
    with pytest.raises(UserError, match="no hit"):
        resolve("best", source)
    files.write_json(path, {"thresholds": 3})
    with pytest.raises(UserError, match=r"scoring\.json: damaged"):
        resolve("best", source)


def test_best_of_an_older_checkpoint_is_said(run, source, capsys):
    score_threshold.remember(source, points(all=0.45, car=0.4))
    resolve("best", source)
    assert capsys.readouterr().err == ""
    resolve("best", dataclasses.replace(source, checkpoint=f"{run}/checkpoints/step-00000009/model"))
    assert "step-00000007, but this is step-00000009" in capsys.readouterr().err


def test_scoring_writes_into_the_run_that_the_results_name(run, source, voc, tmp_path, capsys):
    results = write_found(tmp_path / "d.json", FOUND)
    call = [results, "--data", str(voc), "--split", "test"]
    average_precision.main(call)
    assert "scoring.json" not in capsys.readouterr().out  # "m" is no run
    average_precision.main([*call, "--remember", run, "--json", str(tmp_path / "ap.json")])
    assert f"{run}/scoring.json: the thresholds" in capsys.readouterr().out
    remembered = files.read_json(f"{run}/scoring.json")
    report = files.read_json(tmp_path / "ap.json")
    assert remembered["thresholds"]["all"] == report["thresholds"]["all"]["best_f1"]["threshold"]
    assert (remembered["split"], remembered["iou"], remembered["results"]) == ("test", 0.5, results)
    content = files.read_json(results)
    files.write_json(results, {**content, "model": run})
    average_precision.main([*call, "--iou", "0.6"])
    assert files.read_json(f"{run}/scoring.json")["iou"] == 0.6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--remember", "RUN", "--protocol", "coco"), "--remember: for --protocol voc"),
        (("--remember", "nothing"), "nothing: no such run"),
        (("--remember", "model.pb"), r"--remember .*model\.pb: is an exported graph"),
        (("--at-recall", "0"), "--at-recall"),
    ],
)
def test_a_run_that_cannot_remember_is_refused(flags, message, run, voc, tmp_path, monkeypatch):
    (tmp_path / "model.pb").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    results = write_found(tmp_path / "d.json", FOUND)
    command = [results, "--data", str(voc), "--split", "test", *("run" if flag == "RUN" else flag for flag in flags)]
    with pytest.raises(UserError, match=message):
        average_precision.main(command)


def test_a_run_remembers_the_classes_that_were_scored(run, voc, tmp_path):
    results = write_found(tmp_path / "d.json", FOUND)
    chosen = ["--classes", "car", "--other-classes", "ignore", "--remember", run]
    average_precision.main([results, "--data", str(voc), "--split", "test", *chosen])
    assert list(files.read_json(f"{run}/scoring.json")["thresholds"]["per_class"]) == ["car"]


def test_a_run_of_other_classes_is_refused(run, voc, tmp_path):
    results = write_found(tmp_path / "d.json", FOUND, names=("car", "bus", "tram"))
    with pytest.raises(UserError, match=r"--remember .*no class 'tram'"):
        average_precision.main([results, "--data", str(voc), "--split", "test", "--remember", run])


def test_infer_refuses_before_tensorflow(run, tmp_path, monkeypatch):
    monkeypatch.setattr(infer.tensorflow_loading, "import_tensorflow", lambda: pytest.fail("TensorFlow loads"))
    monkeypatch.setattr(infer.images, "SUFFIXES", (".png",))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    call = [run, str(tmp_path / "photos"), "--output", str(tmp_path / "out"), "--threshold"]
    for text, message in (("best", "remembers no scoring"), ("tram=0.4", "no class 'tram'")):
        with pytest.raises(UserError, match=message):
            infer.main([*call, text])
