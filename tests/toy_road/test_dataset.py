"""The toy road on disk: a VOCdevkit from any number of processes, complete or not there at all."""

import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET

import cv2
import numpy as np
import psutil
import pytest

from programs import ROOT, wait_until
from structures import UserError
from toy_road import dataset, scenes, town


def read_annotation(path):
    root = ET.parse(path).getroot()
    assert [root.findtext(f"size/{side}") for side in ("width", "height")] == ["480", "360"]
    return [
        (item.findtext("name"), *(int(item.findtext(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax")))
        for item in root.iter("object")
    ]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_link_to_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "road").symlink_to(tmp_path / "big")
    assert dataset.write_dataset(tmp_path / "road", train=1, test=1, workers=0)
    assert (tmp_path / "road").is_symlink() and (tmp_path / "big" / "VOC2007" / "JPEGImages").is_dir()


def test_a_mount_is_refused_before_anything_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset.os.path, "ismount", lambda path: str(path) == str(tmp_path / "volume"))
    (tmp_path / "volume").mkdir()
    with pytest.raises(UserError, match=r"--output .*volume: "):
        dataset.write_dataset(tmp_path / "volume", train=1, test=1, workers=0)


def test_the_folder_is_a_vocdevkit_and_the_same_from_any_number_of_processes(tmp_path):
    assert dataset.write_dataset(tmp_path / "serial", train=18, test=3, seed=5, workers=0)
    assert dataset.write_dataset(tmp_path / "parallel", train=18, test=3, seed=5, workers=2)
    files = contents(tmp_path / "serial")
    assert files == contents(tmp_path / "parallel")
    voc = tmp_path / "serial" / "VOC2007"
    ids = {split: (voc / f"ImageSets/Main/{split}.txt").read_text().split() for split in ("train", "trainval", "test")}
    assert len(ids["train"]) == 18 and ids["trainval"] == ids["train"] and len(ids["test"]) == 3
    stems = sorted(ids["train"] + ids["test"])
    assert [path.stem for path in sorted((voc / "JPEGImages").iterdir())] == stems
    assert [path.stem for path in sorted((voc / "Annotations").iterdir())] == stems
    image, objects = scenes.generate_scene(5, 2, "test")
    written = cv2.imread(str(voc / f"JPEGImages/{ids['test'][2]}.jpg"))[:, :, ::-1]
    assert np.abs(written.astype(int) - image).mean() < 6
    expected = [(town.CLASSES[o.label], o.box_px[0] + 1, o.box_px[1] + 1, *o.box_px[2:]) for o in objects]
    assert read_annotation(voc / f"Annotations/{ids['test'][2]}.xml") == expected
    head, *rows = (tmp_path / "serial" / "groups.csv").read_text().splitlines()
    assert head == "picture,group" and [row.split(".")[0] for row in rows] == ids["train"] + ids["test"]


def test_an_existing_folder_is_kept_or_refused(tmp_path):
    target = tmp_path / "road"
    assert dataset.write_dataset(target, train=1, test=1, workers=0)
    before = contents(target)
    assert not dataset.write_dataset(target, train=1, test=1, workers=0)
    with pytest.raises(UserError, match=r"--output .*road"):
        dataset.write_dataset(target, train=1, test=1, seed=1, workers=0)
    assert contents(target) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    with pytest.raises(UserError, match=r"--output .*mine"):
        dataset.write_dataset(tmp_path / "mine", train=1, test=1, workers=0)


@pytest.mark.parametrize("other_seed", [0, 1])
def test_two_calls_for_one_folder_leave_a_whole_data_set(tmp_path, monkeypatch, other_seed):
    """As of two terminals: the second draws and finishes while the first is at work."""
    target, write_all = tmp_path / "road", dataset._write_all

    def draw_later(*arguments):
        monkeypatch.setattr(dataset, "_write_all", write_all)
        assert dataset.write_dataset(target, train=3, test=1, seed=other_seed, workers=0)
        write_all(*arguments)

    monkeypatch.setattr(dataset, "_write_all", draw_later)
    if other_seed == 0:
        assert not dataset.write_dataset(target, train=3, test=1, workers=0)
    else:
        with pytest.raises(UserError, match=r"--output .*road: holds another toy road"):
            dataset.write_dataset(target, train=3, test=1, workers=0)
    assert len(list(target.rglob("*.jpg"))) == len(list(target.rglob("*.xml"))) == 4
    assert os.listdir(tmp_path) == ["road"]


@pytest.mark.parametrize("what", ["killed", "at work", "another's", "whole"])
def test_what_an_older_version_left_when_it_was_killed_is_removed(what, tmp_path):
    """Also where the folder was drawn meanwhile. It had no lock. A whole one is a user's, who has named it so."""
    target, partial = tmp_path / "road", tmp_path / "road.partial"
    assert dataset.write_dataset(target, train=1, test=1, workers=0)
    shutil.copytree(target, partial)
    if what != "whole":
        next((partial / "VOC2007" / "JPEGImages").iterdir()).unlink()
    if what == "another's":
        (partial / dataset.MANIFEST).unlink()
    if what != "at work":
        os.utime(partial / "VOC2007" / "JPEGImages", (0, 0))
    assert not dataset.write_dataset(target, train=1, test=1, workers=0)
    assert partial.exists() == (what != "killed")


def run_program(*flags, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "toy_road", *map(str, flags)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **kwargs,
    )


def test_help_shows_how_the_program_is_started():
    process = run_program("--help")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "usage: python -m toy_road " in output


@pytest.mark.parametrize("flags", [("--train", "0"), ("--seed", "x"), ("--sed", "1"), ("--workers", "-1")])
def test_wrong_flags_give_one_line_and_exit_code_1(tmp_path, flags):
    process = run_program("--output", tmp_path / "road", *flags)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and len(errors.splitlines()) == 1 and flags[0] in errors
    assert not (tmp_path / "road").exists()


def start_writing(folder, when, **kwargs):
    """The program at work, as soon as when(process) is true."""
    process = run_program("--output", folder, "--train", 5000, "--workers", 2, **kwargs)
    wait_until(lambda: when(process), process)
    return process


@pytest.mark.parametrize(
    ("moment", "send", "number"),
    [
        ("workers start", os.killpg, signal.SIGINT),
        ("workers start", os.kill, signal.SIGTERM),
        ("pictures appear", os.killpg, signal.SIGINT),
        ("pictures appear", os.kill, signal.SIGTERM),
    ],
    ids=["workers start", "SIGTERM then", "pictures appear", "SIGTERM"],
)
def test_a_stop_leaves_nothing_behind(tmp_path, moment, send, number):
    def reached(process):
        if moment == "workers start":
            return len(psutil.Process(process.pid).children()) >= 2
        return any(tmp_path.glob(".*.tmp/VOC2007/JPEGImages/*.jpg"))

    process = start_writing(tmp_path / "road", reached, start_new_session=True)
    send(process.pid, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors
    assert not any(tmp_path.iterdir())


def test_workers_end_with_a_killed_parent(tmp_path):
    process = start_writing(tmp_path / "road", lambda p: len(psutil.Process(p.pid).children()) >= 3)
    workers = psutil.Process(process.pid).children()
    process.kill()
    process.communicate(timeout=30)
    assert not psutil.wait_procs(workers, timeout=30)[1]


def test_groups_are_the_conditions_that_are_drawn():
    """A deck of 20 pictures: what is most particular names the group, rain before blur before the time of day."""
    drawn = [scenes.make_scene(5, index, "test")[0].conditions for index in range(20)]
    names = [one.name for one in drawn]
    assert sorted(names) == sorted(
        ["day"] * 9 + ["dusk"] * 3 + ["fog"] * 2 + ["night"] * 2 + ["rain"] * 2 + ["motion blur", "focus blur"]
    )
    for one in drawn:
        assert (one.name == "rain") == one.rain and one.name in ("rain", f"{one.blur} blur", one.time)
