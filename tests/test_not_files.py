"""Named pipes and devices in the place of files are refused at once, wherever something is read."""

import argparse
import os
import shutil
import signal
from pathlib import Path

import pytest

import config
from formats import annotations, csv_table, folders, yolo
from media import images, video
from results import comp4, detection_files
from results import csv_table as csv_results
from structures import UserError
from system import files
from system.argument_types import existing_file
from tracking import mot_file
from weights import weight_files

RELEASE = Path(__file__).parent / "fixtures" / "release_0_1_0"


@pytest.fixture(autouse=True)
def deadline():
    """Ends a test that waits for someone to write into a pipe."""

    def fail(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def weights(suffix):
    return lambda path: weight_files.read(path), f"w{suffix}"


READERS = {
    "picture": (images.read, "a.jpg"),
    "header of a picture": (images.header, "a.jpg"),
    "kind of a picture": (images.suffix_of, "a"),
    "annotation": (annotations.read_bytes, "a.xml"),
    "text": (files.read_text, "a.txt"),
    "json": (files.read_json, "a.json"),
    "digest": (files.digest, "a.jpg"),
    "tracks": (mot_file.read, "gt.txt"),
    "class": (comp4._read_class, "comp4_det_test_car.txt"),
    "table": (csv_results._rows, "detections.csv"),
    "film": (video.VideoReader, "a.mp4"),
    "flag": (existing_file, "a.txt"),
    **{f"weights {suffix}": weights(suffix) for suffix in weight_files.READERS},
}


def place(kind, path):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        target = path.with_name("pipe")
        os.mkfifo(target)
        path.symlink_to(target)


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a pipe"])
@pytest.mark.parametrize("name", READERS)
def test_it_is_refused_in_one_line(name, kind, tmp_path):
    read, file = READERS[name]
    place(kind, tmp_path / file)
    with pytest.raises((UserError, OSError, argparse.ArgumentTypeError)) as raised:
        read(str(tmp_path / file))
    assert ("a device" if kind == "device" else "a named pipe") in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_only_looks_at_a_file_passes_it_over(kind, tmp_path):
    for name in ("train.csv", "data.yaml", "detections.json", "notes"):
        place(kind, tmp_path / name)
    assert folders.beginning(tmp_path / "notes") == folders.ending(tmp_path / "notes") == ""
    assert not csv_table.fits(tmp_path)
    assert not yolo.fits(tmp_path)
    with pytest.raises(UserError):
        detection_files.read(str(tmp_path))


@pytest.mark.parametrize("name", ["config.json", "checkpoints/index.json", "checkpoints/step-00000003/model.index"])
def test_a_run_with_a_pipe_is_refused(name, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(RELEASE / "run", path)
    os.remove(path / name)
    os.mkfifo(path / name)
    with pytest.raises(UserError, match="run"):
        config.find_model(str(path))


def test_the_weights_of_a_run_are_no_pipe(tmp_path):
    shutil.copytree(RELEASE / "run", tmp_path / "run")
    (data,) = (tmp_path / "run").glob("checkpoints/*/model.data-*")
    data.unlink()
    os.mkfifo(data)
    with pytest.raises(UserError, match=r"model\.data.*: cannot be read \(a named pipe, not a file\)"):
        config.find_model(str(tmp_path / "run"))


def test_a_file_larger_than_its_limit_is_not_read(tmp_path):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(images.MAX_BYTES + 1)  # without taking space on the disk
    with pytest.raises(images.ImageError, match=r"larger than 640 MB"):
        images.read(tmp_path / "a.jpg")
