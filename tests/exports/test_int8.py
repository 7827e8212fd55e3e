"""int8: the choice of layers that stay in float, and files that keep them."""

import importlib.util
import re
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf

import average_precision
import config
import detector
import export_model
from export_cases import make_run, pictures
from exports import file_metadata, formats, int8
from exports.opened import INPUT
from media import images
from structures import Sample, UserError

COSTS = {"a": 0.1, "b": 2.0, "c": 0.1, "d": 1.0, "e": 0.1, "f": 0.1, "g": 0.1, "h": 0.1}  # points lost in int8


def choose(most_lost, costs=COSTS):
    tried, lines = [], []

    def lost(kept):
        tried.append(kept)
        return sum(cost for name, cost in costs.items() if name not in kept)

    return int8.choose(lambda: costs, lost, most_lost, lines.append), tried, lines


def test_nothing_stays_in_float_without_need():
    trial, tried, lines = choose(4.0)
    assert trial == int8.Trial((), pytest.approx(3.6)) and tried == [()] and not lines


@pytest.mark.parametrize(("most_lost", "kept"), [(2.0, ("b",)), (1.0, ("b", "d")), (0.5, ("b", "d", "a", "c"))])
def test_the_noisiest_layers_stay_in_float(most_lost, kept):
    trial, tried, lines = choose(most_lost)
    assert trial.kept == tried[-1] == kept
    assert trial.lost == pytest.approx(3.6 - sum(COSTS[name] for name in kept))
    assert len(lines) == len(tried) - 1 and lines[0].startswith("int8 everywhere loses 3.60 points")


def test_a_model_that_int8_spoils_everywhere_is_refused():
    with pytest.raises(
        UserError, match=r"loses 8\.00 points of mAP, and still 4\.00 with up to 4 of 8 layers in float"
    ):
        choose(0.5, dict.fromkeys(COSTS, 1.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """(run, its graph, its metadata for a file, pictures)."""
    run = make_run(tmp_path_factory.mktemp("int8") / "run", "vgg300")
    graph = detector.build_model_graph(config.find_model(str(run)), "float32", 0.05, portable=True)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 300, 300, 3), dtype=np.uint8)
    return run, graph, detector.metadata(graph), pictures


def test_layers_are_convolutions_and_the_normalization(model):
    run, graph, _, _ = model
    scopes = {name.split("/")[0] for name in detector.read_weights(config.find_model(str(run)).checkpoint)}
    heads = {f"head_{name}" for name in ("conv4_3", "fc7", "conv8_2", "conv9_2", "conv10_2", "conv11_2")}
    assert set(int8.layers(graph)) == {name for name in scopes if not name.startswith("head_")} | heads


def rounded(values, axes=None):
    """Values in steps of 8 bits: 255 between their limits and 0, or 127 to the limit of each filter. axes: its own."""
    values = values.astype(float)
    if axes:
        step = np.abs(values).max(axes) / 127
    else:
        step = (max(values.max(), 0) - min(values.min(), 0)) / 255
    return np.round(values / step) * step


def test_noise_is_that_of_rounded_inputs_and_filters(model):
    _, graph, _, pictures = model
    noise = int8.noise_of_layers(graph, pictures)
    assert set(noise) == set(int8.layers(graph))
    assert all(1e-7 < value < 1 for value in noise.values())
    with tf.compat.v1.Session(graph=graph) as session:
        convolution = graph.get_operation_by_name("conv8_1/Conv2D")  # of 1×1 cells: a product of matrices
        assert convolution.type == "Conv2D" and convolution.inputs[1].shape[:2] == (1, 1)
        values, weights, right = session.run([*convolution.inputs, convolution.outputs[0]], {f"{INPUT}:0": pictures})
    wrong = rounded(values) @ rounded(weights, (0, 1, 2))[0, 0] - right
    assert noise["conv8_1"] == pytest.approx((wrong**2).sum() / (right**2).sum(), rel=0.02)


def test_a_normalization_that_rounds_faint_cells_to_0_is_the_noisiest(model):
    _, graph, _, pictures = model
    faint = pictures.copy()
    faint[:, :150] = 117  # cells of an even color have few features
    plain, spoiled = (int8.noise_of_layers(graph, values)["norm_conv4_3"] for values in (pictures, faint))
    assert plain < 0.01 and spoiled == float("inf")


def layers_with(path, dtype):
    """The layers of a TensorFlow Lite file that have activations of a type."""
    tensors = tf.lite.Interpreter(str(path)).get_tensor_details()
    return {tensor["name"].split("/")[0] for tensor in tensors if tensor["dtype"] == dtype and len(tensor["shape"])}


def test_tflite_keeps_layers_in_float(model, tmp_path):
    _, graph, metadata, pictures = model
    path = tmp_path / "m.tflite"
    writer = int8.Writer("tflite", graph, {**metadata, "outputs": file_metadata.RAW}, pictures)
    values = writer.write(str(path))
    assert (values["precision"], values["float_layers"]) == ("int8", [])
    assert {"conv1_2", "norm_conv4_3", "conv3_1"} <= layers_with(path, np.int8)
    assert not {"conv1_2", "conv3_1"} & layers_with(path, np.float32)
    kept = {"conv1_2", "norm_conv4_3"}
    assert writer.write(str(path), kept)["float_layers"] == sorted(kept)
    assert kept <= layers_with(path, np.float32)
    assert "norm_conv4_3" not in layers_with(path, np.int8) and "conv3_1" in layers_with(path, np.int8)
    assert "conv3_1" not in layers_with(path, np.float32)
    with detector.load(str(path)) as loaded:
        assert loaded.precision == "int8"
        assert len(loaded.detect(list(pictures))) == len(pictures)


@pytest.mark.skipif(not importlib.util.find_spec("nncf"), reason="nncf is not installed (requirements-export.txt)")
def test_openvino_keeps_layers_in_float(model, tmp_path):
    import openvino

    _, graph, metadata, pictures = model
    writer = int8.Writer("openvino", graph, metadata, pictures)
    kept = {"conv1_2", "norm_conv4_3"}
    writer.write(str(tmp_path / "m.xml"), kept)
    operations = openvino.Core().read_model(str(tmp_path / "m.xml")).get_ordered_ops()
    quantized = set()
    for operation in operations:
        if operation.get_type_name() == "Convolution":
            source = operation.input_value(1).get_node().get_type_name()
            if source != "Constant":
                quantized.add(operation.get_friendly_name().split("/")[0])
    assert quantized == set(int8.layers(graph)) - kept
    assert not [
        op for op in operations if "FakeQuantize" in op.get_type_name() and "detections" in op.get_friendly_name()
    ]
    with detector.load(str(tmp_path / "m.xml"), threshold=0.05) as loaded:
        assert loaded.detect(list(pictures))


def test_the_package_that_quantizes_is_named(model, tmp_path, monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda package: None if package == "nncf" else package)
    flags = ["--format", "openvino", "--precision", "int8", "--output", str(tmp_path / "m.xml")]
    flags += ["--data", str(tmp_path), "--calibration-split", "train", "--split", "val"]
    with pytest.raises(UserError, match=r"^--format openvino: needs nncf; pip install -r requirements-export\.txt$"):
        export_model.main([str(model[0]), *flags])


def test_the_program_measures_and_says_what_is_lost(model, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    shutil.copytree(model[0], run)
    scores = iter([70.0, 65.0, 69.8])  # of the run, in int8, with one layer in float
    monkeypatch.setattr(export_model, "_Scores", lambda *_: scored)

    def calibration(_):
        shutil.rmtree(run / "checkpoints")  # a training that goes on deletes the checkpoint
        return model[3]

    scored = types.SimpleNamespace(of=lambda *_: next(scores), calibration=calibration)
    noise = {"conv3_1": 1.0, **dict.fromkeys("abcdefg", 0.1)}
    monkeypatch.setattr(int8, "noise_of_layers", lambda *_: noise)
    flags = ["--format", "tflite", "--precision", "int8", "--output", str(tmp_path / "m.tflite")]
    split = ["--data", str(tmp_path), "--calibration-split", "train", "--split", "val"]
    export_model.main([str(run), *flags, *split])
    out = capsys.readouterr().out
    assert "mAP 70.00 in float32, 69.80 in int8" in out and "0.20 points lost; in float: conv3_1" in out
    assert (tmp_path / "m.tflite").stat().st_size > 10_000
    for given, message in (
        (flags, "--data is missing"),
        ([*flags[:2], *flags[4:], *split], "--data: for --precision int8 only"),
        ([*flags[:2], *flags[4:], "--most-lost", "1"], "--most-lost: for --precision int8 only"),
        ([*flags[:2], *flags[4:], "--limit", "5"], "--limit: for --precision int8 only"),
        ([*flags[:2], *flags[4:], "--other-classes", "ignore"], "--other-classes: for --precision int8 only"),
    ):
        with pytest.raises(UserError, match=message):
            export_model.main([str(model[0]), *given])


def test_a_split_on_which_nothing_can_be_lost_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(export_model, "_Scores", lambda *_: types.SimpleNamespace(of=lambda *_: 0.0))
    flags = ["--format", "tflite", "--precision", "int8", "--output", str(tmp_path / "m.tflite")]
    flags += ["--data", str(tmp_path), "--calibration-split", "train", "--split", "val"]
    with pytest.raises(
        UserError, match=r"^--split val: the run finds none of its objects \(mAP 0\), so what int8 loses"
    ):
        export_model.main([str(model[0]), *flags])
    assert list(tmp_path.iterdir()) == []


def test_the_loss_is_that_of_the_file(model, tmp_path, monkeypatch, capsys):
    """The run's own detections are the ground truth, so that its mAP is near 100."""
    run, *_ = model
    samples = {}
    with detector.load(str(run), precision="float32", threshold=0.5) as loaded:
        names = loaded.class_names
        for index, picture in enumerate(pictures()):
            path = tmp_path / f"{index}.png"
            images.write(path, picture)
            found, (height, width) = loaded.detect(picture), picture.shape[:2]
            boxes = found.boxes_px / np.array([width, height, width, height], np.float32)
            difficult = np.zeros(len(found), bool)
            samples[str(index)] = Sample(str(index), str(path), boxes, found.labels, difficult, width, height)
    data_set = types.SimpleNamespace(samples=lambda _: samples, entries=list(samples.values()))
    monkeypatch.setattr(export_model, "DataSet", lambda *_, **__: data_set)
    path = tmp_path / "m.tflite"
    flags = ["--precision", "int8", "--data", str(tmp_path), "--calibration-split", "train", "--split", "val"]
    flags += ["--format", "tflite", "--output", str(path), "--limit", "2", "--most-lost", "100"]
    export_model.main([str(run), *flags])
    chosen = {key: samples[key] for key in ("0", "2")}
    with detector.load(str(path)) as loaded:
        detections = {key: loaded.detect(sample.image_path) for key, sample in chosen.items()}
    points = 100 * average_precision.evaluate(chosen, detections, names)["area"]["mean"]
    assert 0 < points < 99
    line = capsys.readouterr().out.splitlines()[-1]
    said = r"mAP (\S+) in float32, (\S+) in int8 \(by VOC2010's rules on 2 pictures of val\), (\S+) points lost; "
    before, after, lost = map(float, re.search(said + "all layers in int8$", line).groups())
    assert 99 < before <= 100  # a box may fit a neighbor's truth better than its own
    assert after == pytest.approx(points, abs=0.006) and lost == pytest.approx(before - after, abs=0.011)
