"""What is read from a step, and when a warning comes: by hand on made-up readings, and in real trainings gone wrong."""

import json
import math
import re

import numpy as np
import pytest

import config
import ssd_layers
import ssd_utils
import train
from programs import TINY
from settings.training_settings import TrainingSettings
from training import diagnostics, trainer
from training.probes import Reading
from voc_tree import write_voc

PRESET = ssd_utils.get_preset("vgg300")
MAPS = ssd_layers.feature_names(PRESET)
LAYERS = (*ssd_layers.VGG_LAYERS, *ssd_layers.names(ssd_layers.extra_layers(PRESET)))
HEADS = tuple(ssd_layers.head_name(name, kind) for name in MAPS for kind in (ssd_layers.LOGITS, ssd_layers.OFFSETS))
UNIFORM = 4 * math.log(3)
TARGETS = np.zeros((2, PRESET.num_anchors), np.int32)


def reading(silent=(), shares=0.0, ratio=1e-3, clipped=0, updates=10):
    """All layers have 8 units and weights of norm 2. silent: layers without gradient; shares: of silent units, else."""
    gradient = np.where(np.arange(8) < 8 * shares, 0, 0.5).astype(np.float32)
    gradients = {layer: np.zeros(8, np.float32) if layer in silent else gradient for layer in (*LAYERS, *HEADS)}
    norms, moved = dict.fromkeys(gradients, 2.0), dict.fromkeys(gradients, 2 * ratio)
    return Reading(3.0, clipped, updates, gradients, norms, moved)


def diagnosis(memory=None, **changes):
    settings = TrainingSettings(data="", train="", **changes)
    return diagnostics.Diagnosis(memory or {}, settings, config.ModelDescription(PRESET, ("car", "bus")))


def watch(watched, records, confidence=1.0, positives=20.0, rate=2e-4, **details):
    """Let a Diagnosis see records of 10 steps with that loss per positive; returns the warnings."""
    found = []
    for _ in range(records):
        for _ in range(10):
            watched.add({"confidence": confidence * positives, "localization": 1.0, "positives": positives})
        watched.record(rate, reading(**details), TARGETS)
        found += watched.new_warnings()
    return found


def test_a_good_training_gives_no_warning():
    assert watch(diagnosis(), 40, confidence=1.19 * UNIFORM, shares=0.125, silent=LAYERS[-4:] + HEADS[-4:]) == []


BAD = {
    "--learning-rate, such as 2e-05": {"confidence": 1.21 * UNIFORM},
    "38% of the units.* lower --learning-rate": {"shares": 0.375},
    "by only 5e-07 .*higher --learning-rate.* 0.0002": {"ratio": 5e-7},
    "outputs of conv8_1 are all 0.*--warmup-steps": {"silent": ["conv8_1"]},
    "check_dataset.py --anchors": {"positives": 0.0},
}


@pytest.mark.parametrize(("words", "change"), BAD.items(), ids=[next(iter(change)) for change in BAD.values()])
def test_each_fault_is_told_once(words, change):
    watched = diagnosis()
    (text,) = watch(watched, 40, **change)
    assert re.search(words, text), text
    resumed = diagnosis(json.loads(json.dumps(watched.to_json(0, 0))))
    assert watch(resumed, 40, **change) == []


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("a lower --learning-rate, such as 2e-05 (", {}),
        ("a lower --learning-rate, such as 0.0002 (", {"learning_rate": 0.5}),  # a tenth would be far too high again
        ("a lower --learning-rate, such as 0.001 (", {"learning_rate": 0.5, "optimizer": "momentum"}),
        (
            "lower --schedule-rates, such as 0.0002,4e-05,",
            {"learning_rate": 0.05, "schedule": "step", "schedule_rates": (0.05, 0.01), "schedule_steps": (9,)},
        ),
    ],
)
def test_the_rate_to_try_next(words, settings):
    (text,) = watch(diagnosis(**settings), 40, shares=0.375)
    assert words in text and ("--find-rate" in text) == ("schedule_rates" not in settings)


@pytest.mark.parametrize(
    ("records", "change"),
    [
        (19, {"confidence": 1.21 * UNIFORM}),  # 190 steps
        (9, {"shares": 0.375}),
        (9, {"ratio": 5e-7}),
        (9, {"silent": ["conv8_1"]}),
        (9, {"positives": 0.0}),
        (40, {"ratio": 5e-7, "rate": 0.9e-4}),  # the schedule has lowered the rate on purpose
    ],
    ids=str,
)
def test_no_warning_before_a_fault_lasts(records, change):
    assert watch(diagnosis(), records, **change) == []


@pytest.mark.parametrize(
    ("records", "change"),
    [
        (20, {"confidence": 1.21 * UNIFORM}),
        (10, {"shares": 0.375}),
        (10, {"ratio": 5e-7}),
        (10, {"silent": ["conv8_1"]}),
        (10, {"positives": 0.0}),
    ],
    ids=str,
)
def test_a_warning_as_soon_as_a_fault_lasts(records, change):
    assert len(watch(diagnosis(), records, **change)) == 1


def test_a_fault_that_comes_and_goes_is_none():
    watched = diagnosis()
    for _ in range(5):
        assert watch(watched, 9, silent=["conv8_1"]) == watch(watched, 1) == []
        assert watch(watched, 3, confidence=2 * UNIFORM) == watch(watched, 17) == []


def test_a_loss_that_rises_late_is_told():
    watched = diagnosis()
    assert watch(watched, 30) == []
    assert len(watch(watched, 10, confidence=1.5 * UNIFORM)) == 1


@pytest.mark.parametrize(
    ("changes", "weight", "uniform"), [({}, 1, 4), ({"negative_ratio": 1}, 1, 2), ({}, 5.0, 8)], ids=str
)
def test_uniform_scores_count_negatives_and_class_weights(changes, weight, uniform):
    settings = TrainingSettings(data="", train="", **changes)
    for factor, warnings in ((1.19, 0), (1.21, 1)):
        watched = diagnostics.Diagnosis({}, settings, config.ModelDescription(PRESET, ("car", "bus")), weight)
        assert len(watch(watched, 20, confidence=factor * uniform * math.log(3))) == warnings


@pytest.mark.parametrize(
    ("silent", "dead"),
    [
        ([], []),
        (["conv8_1"], ["conv8_1"]),
        (["conv9_2", "conv9_1"], ["conv9_2"]),  # of conv9_1 nothing is known
        (LAYERS[: LAYERS.index("conv4_3") + 1], ["conv4_3"]),
        ([*LAYERS[-4:], *HEADS[-4:]], []),  # no object is as large as those of the last two maps
        ([*LAYERS[-4:], *HEADS[-4:-1]], ["conv11_2"]),
        (["conv11_2", *HEADS[-2:]], []),
        ([*LAYERS, *HEADS], []),
    ],
    ids=str,
)
def test_a_layer_is_dead_if_it_stops_a_gradient(silent, dead):
    assert diagnostics.dead_layers(reading(silent), PRESET) == dead


def test_frozen_layers_are_not_judged():
    known = reading(["conv3_3"])
    for layer in ("conv4_1", "conv4_2", "conv4_3"):
        del known.bias_gradients[layer]
    assert diagnostics.dead_layers(known, PRESET) == []
    for layer in LAYERS:
        known.bias_gradients.pop(layer, None)
    assert diagnostics.silent_share(known, PRESET) is None


def test_layers_without_a_task_are_no_silent_units():
    assert diagnostics.silent_share(reading(LAYERS[10:]), PRESET) == 0
    assert diagnostics.silent_share(reading([*LAYERS[3:], *HEADS]), PRESET) == 0  # most, and no head reads them
    assert diagnostics.silent_share(reading(["conv4_3"], shares=0.25), PRESET) == 0.25


def test_layers_without_gradient_do_not_count_as_slow():
    """Only their decay moves them, if anything does: as where all objects are small."""
    known = reading([*LAYERS[5:], *HEADS[2:]], ratio=1e-3)
    for layer, gradient in known.bias_gradients.items():
        if not gradient.any():
            known.update_norms[layer] = 2e-9
    assert diagnostics.usual_ratio(known) == pytest.approx(1e-3)


def test_values_of_a_step():
    watched = diagnosis()
    watched.add({"confidence": 1.0, "localization": 1.0, "positives": 2.0})
    found = watched.record(1e-4, reading(["conv8_1"], shares=0.25, ratio=0.01, clipped=3), TARGETS)
    assert found["gradient/norm"] == 3 and found["gradient/clipped"] == 0.3
    names = ("weight_norm/fc6", "update_norm/fc6", "update_ratio/fc6", "silent_units/fc6", "silent_units/conv8_1")
    assert [found[name] for name in names] == [2, 0.02, 0.01, 0.25, 1]
    assert not any(name.startswith("positives/") for name in found)


def test_clipped_updates_before_a_stop_count():
    whole, part = diagnosis(), diagnosis()
    memory = json.loads(json.dumps(part.to_json(3, 4)))
    resumed = diagnosis(memory)
    for watched, details in ((whole, {"clipped": 5}), (resumed, {"clipped": 2, "updates": 6})):
        assert watched.record(1e-4, reading(**details), TARGETS)["gradient/clipped"] == 0.5
        assert watched.record(1e-4, reading(clipped=1), TARGETS)["gradient/clipped"] == 0.1


@pytest.mark.parametrize("name", ssd_utils.PRESETS)
def test_shares_of_positives(name):
    """Against a count of one anchor after the other."""
    preset = ssd_utils.get_preset(name)
    rng = np.random.default_rng(0)
    class_targets = rng.integers(1, 4, (3, preset.num_anchors)) * (rng.random((3, preset.num_anchors)) < 0.01)
    maps = [
        feature
        for feature, side, shapes in zip(
            ssd_layers.feature_names(preset), preset.feature_maps, preset.anchors_per_cell, strict=True
        )
        for _ in range(side * side * shapes)
    ]
    counts = dict.fromkeys(maps, 0)
    for row in class_targets:
        for feature, target in zip(maps, row, strict=True):
            counts[feature] += target > 0
    shares = diagnostics.positive_shares(class_targets, preset)
    assert shares == pytest.approx({feature: count / sum(counts.values()) for feature, count in counts.items()})


# Real trainings, every step of which is recorded
@pytest.fixture
def warnings_of(shapes, tmp_path, monkeypatch, capsys):
    """Callable: flags of train.py -> the warnings of 14 steps."""
    monkeypatch.setattr(trainer, "LOG_EVERY", 1)
    monkeypatch.setattr(diagnostics, "LOSS_AFTER", 12)
    monkeypatch.setattr(diagnostics, "POSITIVES_AFTER", 12)

    def call(*flags, data=shapes):
        base = [
            *TINY[: TINY.index("--augmentation")],
            "--augmentation",
            "none",
            "--workers",
            "0",
            "--warmup-steps",
            "0",
        ]
        given = ["--data", str(data), "--train", "train", *base, "--max-steps", "14", "--run", str(tmp_path / "run")]
        train.main([*given, *flags])
        lines = capsys.readouterr().err.splitlines()
        return [line[line.index("warning: ") :] for line in lines if "warning: " in line]

    return call


def test_a_real_training_gives_no_warning(warnings_of):
    assert warnings_of("--learning-rate", "1e-3") == []


@pytest.mark.slow  # 10 s; the same on made-up readings above
def test_a_rate_that_is_far_too_low(warnings_of):
    (text,) = warnings_of("--learning-rate", "1e-10", "--schedule", "constant")
    assert re.search(r"higher --learning-rate .*0.0002", text)


def test_a_rate_that_is_far_too_high(warnings_of):
    found = warnings_of("--learning-rate", "0.3")
    assert any("such as 0.0002 " in text and "no gradient" in text for text in found), found


def change_first_values(monkeypatch, changes):
    """Let trainings start from these arrays by variable name, where they would start from others."""
    first_values = trainer._first_values
    monkeypatch.setattr(trainer, "_first_values", lambda *arguments: {**first_values(*arguments), **changes})


@pytest.mark.slow  # 10 s; the same on made-up readings above
def test_a_loss_above_that_of_uniform_scores(warnings_of, monkeypatch):
    """All anchors are sure to see a disc."""
    disc = {
        f"{ssd_layers.head_name(name, ssd_layers.LOGITS)}/biases": np.tile(np.float32([0, 8, 0]), shapes)
        for name, shapes in zip(MAPS, PRESET.anchors_per_cell, strict=True)
    }
    change_first_values(monkeypatch, disc)
    (text,) = warnings_of()
    assert re.search(r"confidence loss is 2\d.\d .* 4.39 where", text), text


def test_a_dead_layer(warnings_of, monkeypatch):
    """What follows it has only zeros, too, because its biases start as 0."""
    change_first_values(monkeypatch, {"conv8_2/biases": np.full(15, -1e6, np.float32)})
    (text,) = warnings_of("--learning-rate", "1e-3")
    assert re.search(r"outputs of conv8_2\b.* are all 0", text), text


@pytest.mark.slow  # 10 s; the same on made-up readings above
def test_objects_that_no_anchor_fits(warnings_of, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    ids = [f"{index:02d}" for index in range(18)]
    data = write_voc(tmp_path / "thin", {i: (picture, [("disc", (1, 40, 120, 42))]) for i in ids}, {"train": ids})
    found = warnings_of("--matching", "threshold", data=data)
    assert any("check_dataset.py --anchors" in text for text in found), found
