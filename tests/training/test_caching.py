"""What is said about a cache before a training starts, and what it may take."""

import numpy as np
import pytest

import config
import source_pascal_voc
import ssd_utils
import training_data
from media import picture_cache
from programs import CLASSES, TINY, run, write_shapes
from settings.training_settings import TrainingSettings
from structures import UserError
from system import memory, own_folders
from training import caching, trainer

PRESET = ssd_utils.get_preset("vgg300")
# 120×90 pixels of PNG, which are resized only after a change of colors: 32,400 bytes and a header, a multiple of 64
ENTRY = 32_512


@pytest.fixture(scope="module")
def samples(shapes):
    return source_pascal_voc.load(str(shapes), "train", tuple(CLASSES.split(",")))


@pytest.fixture
def told(samples, capsys):
    """Callable: settings -> what is printed."""

    def call(neighbors=1, **settings):
        with caching.opened(samples, PRESET, TrainingSettings("", "", **settings), neighbors) as cache:
            assert (cache is None) == (settings["cache"] == "none")
        return capsys.readouterr().out

    return call


def test_memory_is_said_before(told, monkeypatch):
    assert told(cache="none") == ""
    text = told(cache="ram")
    assert text == "--cache ram: 18 pictures can take up to 0.59 MB decoded; all are kept in memory\n"
    assert 18 * ENTRY == 585_216
    text = told(cache="ram", cache_gb=0.0002)
    assert text.endswith("; 0.20 MB (--cache-gb) are kept in memory, the rest is decoded each time\n")
    monkeypatch.setattr(memory, "available", lambda: 1_000_000)
    text = told(cache="ram")
    assert text.endswith("; 0.50 MB (half of the free memory) are kept in memory, the rest is decoded each time\n")


def test_the_disk_is_said_before(told, tmp_path, monkeypatch):
    folder = tmp_path / "pictures"
    text = told(cache="disk", cache_dir=str(folder))
    assert f"; 0.00 MB are in {folder}, up to 0.59 MB are written there\n" in text
    text = told(cache="disk", cache_dir=str(folder), cache_gb=0.0002)
    assert f"; 0.00 MB are in {folder}, up to 0.20 MB are written there, the rest is decoded each time" in text
    monkeypatch.setenv(own_folders.CACHE_VARIABLE, str(tmp_path / "own"))
    assert f" are in {tmp_path / 'own' / 'pictures'}, " in told(cache="disk")
    folder.chmod(0o500)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--cache-dir"):
        told(cache="disk", cache_dir=str(tmp_path / "file" / "pictures"))


@pytest.mark.parametrize(("cache_gb", "rest"), [(None, ""), (0.0001, ", the rest is decoded each time")])
def test_what_processes_write_together_is_said_as_one_number(told, cache_gb, rest, tmp_path):
    text = told(neighbors=3, cache="disk", cache_dir=str(tmp_path), cache_gb=cache_gb)
    written = "0.10" if cache_gb else "0.59"
    assert f"; 0.00 MB are in {tmp_path}, up to {written} MB are written there{rest}" in text


def test_sizes_are_said_in_units_that_fit():
    assert [caching.shown(size) for size in (0, 4_500_000, 999_000_000, 1_000_000_000, 12_345_678_900)] == [
        "0.00 MB",
        "4.50 MB",
        "999.00 MB",
        "1.00 GB",
        "12.35 GB",
    ]


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_the_batches_of_a_training_come_through_the_cache(samples, kind, tmp_path, capsys, monkeypatch):
    """And are the same; test_training_data tries more pictures, augmentations and workers."""
    monkeypatch.setattr(picture_cache, "RECENT_NS", 0)  # the pictures may have just been written
    reads, read = [], picture_cache.PictureCache.read
    monkeypatch.setattr(picture_cache.PictureCache, "read", lambda self, *args: reads.append(1) or read(self, *args))

    def batches(**choices):
        settings = TrainingSettings("", "", batch_size=4, workers=0, **choices)
        task = trainer.Task("", config.ModelDescription(PRESET, ("disc", "square")), settings, samples, [])
        jobs = [job for epoch in range(2) for job in training_data.epoch_jobs(len(samples), 0, epoch)]
        with trainer.open_queue(task) as queue:
            for batch in queue.batches(jobs):
                yield {name: array.copy() for name, array in batch.arrays.items()}
                batch.release()

    plain = list(batches(augmentation="light"))
    assert capsys.readouterr().out == ""
    cached = list(batches(cache=kind, cache_dir=str(tmp_path), augmentation="light"))
    assert capsys.readouterr().out.startswith(f"--cache {kind}: {len(samples)} pictures can take up to ")
    assert len(reads) == 2 * len(samples)
    for one, other in zip(plain, cached, strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(other[name], array)


@pytest.mark.slow
def test_a_training_with_a_cache_ends_with_the_same_weights(tmp_path):
    """As a user runs it, with --resume and another --cache."""
    data = write_shapes(tmp_path / "data", {"train": 12}, size=(400, 330))
    flags = ["--data", data, "--train", "train", *TINY, "--deterministic", "--augmentation", "full", "--epochs", "3"]
    run("train.py", *flags, "--run", tmp_path / "plain")
    disk = ["--cache", "disk", "--cache-dir", tmp_path / "pictures"]
    done = run("train.py", *flags, "--run", tmp_path / "cached", "--max-steps", "4", "--cache", "ram")
    assert "--cache ram: 12 pictures can take up to " in done.stdout
    done = run("train.py", "--run", tmp_path / "cached", "--resume", "--max-steps", "100", *disk)
    assert "--cache disk: 12 pictures can take up to " in done.stdout
    assert config.read_config(str(tmp_path / "cached"))[1].cache == "disk"
    assert list((tmp_path / "pictures").rglob("*.array"))
    rows = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("plain", "cached")]
    assert len(rows[0]) == len(rows[1]) == 4
    losses = [[[float(value) for value in line.split(",")[:6]] for line in lines[1:]] for lines in rows]
    np.testing.assert_array_equal(losses[0], losses[1])
