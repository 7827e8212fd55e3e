"""`train.py --xla on`, on a CPU: every computation is compiled once, and not again by the next start."""

import collections
import os
import re

import pytest

from kernels import devices
from programs import TINY, fresh_environment, run, write_shapes


def compilations(text):
    """{cluster: how often it was compiled}, as TensorFlow's profiler logs it."""
    counts = collections.Counter()
    for cluster, times in re.findall(r"Compiled (\w+) (\d+) times", text):
        counts[cluster] = max(counts[cluster], int(times))
    return counts


def test_each_computation_is_compiled_once(tmp_path):
    """10 pictures at batch 4: the last batch of each epoch has 2; the 5 of the validation have a last batch of 1."""
    data = write_shapes(tmp_path / "shapes", {"train": 10, "val": 5})
    verbose = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "device_compilation_profiler=1"}
    environment = fresh_environment(**verbose, SSD_TENSORFLOW_CACHE=str(tmp_path / "cache"))
    flags = ["--data", data, "--train", "train", "--valid", "val", *TINY, "--epochs", "3", "--xla", "on"]
    done = run("train.py", *flags, "--run", tmp_path / "run", env=environment)
    assert "done after 9 steps" in done.stdout
    counts = compilations(done.stderr)
    assert counts and set(counts.values()) == {1}
    kept = set(os.listdir(tmp_path / "cache" / "xla"))
    assert len(kept) >= len(counts)
    run("train.py", "--run", tmp_path / "run", "--resume", "--epochs", "4", "--xla", "on", env=environment)
    assert set(os.listdir(tmp_path / "cache" / "xla")) == kept  # the same computations: nothing had to be compiled


@pytest.mark.parametrize(
    ("choice", "gpu", "images", "wanted"),
    [
        ("on", False, 1, True),
        ("off", True, 10**9, False),
        ("auto", False, 10**9, False),
        ("auto", True, 1000, False),
        ("auto", True, 10**6, True),
    ],
)
def test_auto_compiles_long_trainings_on_a_gpu(monkeypatch, choice, gpu, images, wanted):
    monkeypatch.setattr(devices, "has_gpu", lambda: gpu)
    assert devices.compiles(choice, images) == wanted
