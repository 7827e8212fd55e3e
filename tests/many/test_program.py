"""What decides the results of a job, from the flags of either program."""

import os
import shutil

import pytest

import config
from many import detecting, program
from scoring import score_threshold
from system.argument_parser import ArgumentParser


def planned(model, *words):
    parser = ArgumentParser()
    parser.add_argument("model")
    program.add_flags(parser, "--coco-results")
    flags = parser.parse_args([str(model), *words])
    source = config.find_model(str(model))
    return program.plan(flags, source, score_threshold.resolve(flags.threshold, source, 0.5))


def test_the_facts_are_what_decides_the_results(trained):
    opener, facts = planned(trained)
    expected = {"model": detecting.model_hash(config.find_model(str(trained))), "threshold": 0.5}
    assert facts == {**expected, "classes": None, "precision": "auto", "tiles": None}
    words = ["--threshold", "disc=0.25", "--classes", "square,disc", "--tiles", "2x3", "--overlap", "0.1"]
    opener, other = planned(trained, *words, "--precision", "float32", "--batch-size", "3")
    assert other["threshold"] == [0.25, 0.5] and other["classes"] == ["square", "disc"]
    assert (other["precision"], other["tiles"]) == ("float32", [2, 3, 0.1])
    assert opener.settings["batch_size"] == 3 and opener.wanted == ("square", "disc")
    # A smaller batch is what an error asks for; the job goes on with it
    assert planned(trained, *words, "--precision", "float32")[1] == other


@pytest.mark.parametrize(
    ("text", "expected"), [("0", 0.0), ("car=0.2", {"car": 0.2, "others": 0.5}), ("0.7", 0.7)], ids=str
)
def test_thresholds_of_a_file_whose_classes_are_not_known_yet(text, expected, tmp_path):
    (tmp_path / "model.pb").write_bytes(b"graph")
    assert planned(tmp_path / "model.pb", "--threshold", text)[1]["threshold"] == expected


def test_workers_find_the_model_from_another_folder(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "model.pb").write_bytes(b"graph")
    monkeypatch.chdir(tmp_path)
    for name in ("run", "run@last", "model.pb"):
        assert planned(name)[0].model == os.path.join(tmp_path, name)
