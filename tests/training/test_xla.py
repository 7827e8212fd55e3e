"""`train.py --xla`, on a CPU: every computation is compiled once, and not again by the next start; equal results."""

import collections
import dataclasses
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import config
import runs
from kernels import devices
from programs import ROOT, TINY, fresh_environment, run, write_shapes
from settings.computation import XLA_FORMS
from settings.training_settings import TrainingSettings
from training import trainer

# Compiled code need not be fast here
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "0",
    "TF_CPP_VMODULE": "device_compilation_profiler=1",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
}


def compilations(text):
    """{computation: how often it was compiled}, as TensorFlow's profiler logs it."""
    counts = collections.Counter()
    for computation, times in re.findall(r"Compiled (\w+) (\d+) times", text):
        counts[computation] = max(counts[computation], int(times))
    return counts


def compiled(folder):
    """The files of compiled code in FOLDER/cache, with their times."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("cache/xla/*/*.pb")}


@pytest.fixture(scope="module")
def uncompiled(tmp_path_factory):
    """(flags of a training of 3 epochs, its run without XLA, the weights after a resume of that run to a 4th epoch).

    10 pictures at batch 4: the last batch of each epoch has 2; the 5 of the validation have a last batch of 1.
    """
    folder = tmp_path_factory.mktemp("uncompiled")
    data = write_shapes(folder / "shapes", {"train": 10, "val": 5})
    flags = ["--data", data, "--train", "train", "--valid", "val", *TINY, "--epochs", "3"]
    assert "XLA" not in run("train.py", *flags, "--run", folder / "run").stdout
    resumed = shutil.copytree(folder / "run", folder / "resumed")
    run("train.py", "--run", resumed, "--resume", "--epochs", "4")
    return flags, folder / "run", weights(resumed)


def weights(run):
    """All variables of the last checkpoint as one vector."""
    reader = tf.train.load_checkpoint(config.checkpoint_prefix(str(run), "last"))
    return np.concatenate([reader.get_tensor(name).ravel() for name in sorted(reader.get_variable_to_shape_map())])


@pytest.mark.parametrize(
    ("form", "computations"),
    [
        pytest.param("update", {1}, marks=pytest.mark.slow),
        pytest.param("on", set(range(2, 9)), marks=pytest.mark.slow),
        pytest.param("whole", {2}, marks=pytest.mark.slow),
    ],
)
def test_each_computation_is_compiled_once(tmp_path, uncompiled, form, computations):
    flags, plain, expected = uncompiled
    environment = fresh_environment(**ENVIRONMENT, SSD_TENSORFLOW_CACHE=str(tmp_path / "cache"))
    done = run("train.py", *flags, "--xla", form, "--run", tmp_path / "run", env=environment)
    assert "before the first step XLA compiles" in done.stdout
    assert "done after 9 steps" in done.stdout
    counts = compilations(done.stderr)
    assert set(counts.values()) == {1}
    assert len(counts) in computations
    kept = compiled(tmp_path)
    assert len(kept) >= len(counts)
    resumed = shutil.copytree(plain, tmp_path / "resumed")  # a checkpoint of any form goes on in any other
    run("train.py", "--run", resumed, "--resume", "--epochs", "4", "--xla", form, env=environment)
    assert compiled(tmp_path) == kept  # the same computations: nothing had to be compiled
    found = weights(resumed)
    assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected - weights(plain))


STAGES = """
import sys
from system import tensorflow_loading
tensorflow_loading.import_tensorflow(xla=True, xla_on_cpu=True)
import dataclasses
import numpy as np
import tensorflow.compat.v1 as tf
import config, ssd_utils
from settings.training_settings import TrainingSettings
from training import training_graph

def stage(name):
    print("stage", name, file=sys.stderr, flush=True)

preset = dataclasses.replace(ssd_utils.get_preset("vgg300"), width=0.03)
settings = TrainingSettings(data="", train="", batch_size=2, accumulate=2, ema=0.9)
images = np.zeros((2, 300, 300, 3), np.uint8)
targets = {"class_targets": np.ones((2, preset.num_anchors), np.int32)}
batch = {"images": images, **targets, "offset_targets": np.zeros((2, preset.num_anchors, 4), np.float32)}
with tf.Graph().as_default():
    graph = training_graph.build(config.ModelDescription(preset, ("a", "b")), settings, tf.float32, xla=sys.argv[1])
    stage("initialize")
    graph.initialize({})
    for number in (1, 2):
        stage(f"step {number}")
        graph.training_step.run(graph.session, batch, 1e-3, last=number == 2)
    stage("others")
    assert graph.training_step.is_sound(graph.session)
    graph.detector.detect_prepared(images, [(300, 300)] * 2)
    graph.filters()
"""


@pytest.mark.parametrize("form", ["on", pytest.param("whole", marks=pytest.mark.slow)])
def test_nothing_but_the_training_step_is_compiled(tmp_path, form):
    """Neither first values nor validation, nor what is_sound computes; the second batch compiles the update only."""
    environment = fresh_environment(**ENVIRONMENT, SSD_TENSORFLOW_CACHE=str(tmp_path))
    command = [sys.executable, "-c", STAGES, form]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stages = dict(text.split("\n", 1) for text in done.stderr.split("stage ")[1:])
    counts = {name: compilations(text) for name, text in stages.items()}
    assert counts["initialize"] == counts["others"] == {}
    assert counts["step 1"] and counts["step 2"]
    assert not counts["step 1"].keys() & counts["step 2"].keys()


LONG = devices.XLA_BY_IMAGES[-1][0]


@pytest.mark.parametrize(
    ("choice", "gpu", "images", "wanted"),
    [
        ("on", False, 1, "on"),
        ("whole", False, 1, "whole"),
        ("off", True, 10**9, "off"),
        ("auto", False, 10**9, "off"),
        ("auto", True, LONG - 1, devices.XLA_BY_IMAGES[-2][1]),
        ("auto", True, LONG, devices.XLA_BY_IMAGES[-1][1]),
        ("auto", True, 0, devices.XLA_BY_IMAGES[0][1]),
    ],
)
def test_auto_compiles_long_trainings_on_a_gpu(monkeypatch, choice, gpu, images, wanted):
    monkeypatch.setattr(devices, "has_gpu", lambda: gpu)
    assert devices.xla_form(choice, images) == wanted


def test_the_table_of_auto_is_in_order():
    starts, forms = zip(*devices.XLA_BY_IMAGES, strict=True)
    assert starts[0] == 0 and list(starts) == sorted(set(starts))
    assert set(forms) <= set(XLA_FORMS)


def test_a_resume_counts_the_images_that_remain(monkeypatch):
    settings = TrainingSettings(data="", train="", batch_size=4, accumulate=2, epochs=3)
    task = trainer.Task("run", None, settings, [None] * 80, [])  # 10 steps an epoch
    monkeypatch.setattr(runs, "last_state", lambda run: runs.TrainingState(step=25))
    assert trainer._remaining_images(task) == 240
    assert trainer._remaining_images(dataclasses.replace(task, resume=True)) == 40
    monkeypatch.setattr(runs, "last_state", lambda run: None)  # stopped before its first checkpoint
    assert trainer._remaining_images(dataclasses.replace(task, resume=True)) == 240
