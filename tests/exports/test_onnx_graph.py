"""Decoding and suppression in ONNX's operations give the rows of the graph's, in ONNX Runtime and in OpenVINO."""

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import detector
import ssd_utils
from exports import onnx_graph
from kernels import devices

onnx = pytest.importorskip("onnx", reason="requirements-export.txt is not installed")
PRESET = dataclasses.replace(
    ssd_utils.get_preset("vgg300"),
    input_size=64,
    feature_maps=(8, 4, 1),
    steps=(8, 16, 64),
    min_sizes=(12, 24, 40),
    max_sizes=(24, 40, 60),
    aspect_ratios=((2,), (2, 3), (2,)),
    candidates_per_class=60,
    keep=70,
)
CLASSES, ANCHORS = 3, PRESET.num_anchors
CASES = {
    "random": ({}, 2.0, 2.0, 0.01),
    "crowded": ({"nms_iou": 0.3}, 2.0, 6.0, 0.01),
    "high threshold": ({}, 2.0, 2.0, 0.6),
    "nothing": ({}, 0.01, 1.0, 0.9),
    "few candidates": ({"candidates_per_class": 7}, 2.0, 2.0, 0.01),
    "few rows": ({"keep": 5}, 2.0, 2.0, 0.01),
    "more rows than candidates": ({"candidates_per_class": 9, "keep": 100}, 2.0, 2.0, 0.01),
    "few of a map": ({"candidates_per_map": 30}, 2.0, 2.0, 0.01),
    "no empty boxes": ({"clip_boxes": "before_nms", "drop_empty_boxes": True}, 2.0, 9.0, 0.01),
    "clipped before": ({"clip_boxes": "before_nms"}, 2.0, 5.0, 0.01),
    "best class alone": ({"classes_per_anchor": "best", "candidates_per_class": 400, "keep": 1000}, 2.0, 2.0, 0.01),
    "limited sizes": ({"size_offset_limit": 0.2}, 2.0, 5.0, 0.01),
}


def model_of(preset, threshold):
    """An ONNX model from logits and offsets to detections, serialized."""
    from onnx import TensorProto, helper

    shapes = {"logits": ["N", ANCHORS, 1 + CLASSES], "offsets": ["N", ANCHORS, 4]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph([], "after", inputs, [])
    onnx_graph.append_detections(graph, preset, CLASSES, threshold)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", onnx_graph.OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def by_onnxruntime(model, logits, offsets):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return dict(
        zip(detector.OUTPUTS, session.run(detector.OUTPUTS, {"logits": logits, "offsets": offsets}), strict=True)
    )


def by_openvino(model, logits, offsets):
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled({"logits": logits, "offsets": offsets})
    return {output.get_any_name(): values for output, values in results.items()}


def by_tensorflow(preset, threshold, logits, offsets, portable=True):
    with tf.Graph().as_default(), tf.Session() as session:
        outputs = detector.postprocess(tf.constant(logits), tf.constant(offsets), preset, threshold, portable)
        return session.run(outputs)


def assert_rows(found, wanted):
    """The same rows; those of equal scores in any order."""
    np.testing.assert_array_equal(found["count"], wanted["count"])
    for index, count in enumerate(wanted["count"]):
        rows = [
            sorted((-round(float(s), 5), int(c), *np.round(b, 4).tolist()) for s, c, b in zip(*columns, strict=True))
            for columns in (
                (values["scores"][index, :count], values["classes"][index, :count], values["boxes"][index, :count])
                for values in (found, wanted)
            )
        ]
        np.testing.assert_allclose(rows[0], rows[1], atol=1e-3)
        for name in ("scores", "classes", "boxes"):
            assert not found[name][index, count:].any()
    assert found["classes"].dtype == found["count"].dtype == np.int32
    assert (np.diff(found["scores"]) <= 0).all()


@pytest.mark.parametrize("engine", [by_onnxruntime, by_openvino])
@pytest.mark.parametrize("case", CASES)
def test_rows_are_those_of_tensorflow(case, engine):
    changes, logit_spread, offset_spread, threshold = CASES[case]
    preset = dataclasses.replace(PRESET, **changes)
    rng = np.random.default_rng(len(case))
    logits = rng.normal(0, logit_spread, (4, ANCHORS, 1 + CLASSES)).astype(np.float32)
    offsets = rng.normal(0, offset_spread, (4, ANCHORS, 4)).astype(np.float32)
    wanted = by_tensorflow(preset, threshold, logits, offsets)
    assert (wanted["count"] == 0).all() if case == "nothing" else (wanted["count"] >= 5).all()
    assert_rows(engine(model_of(preset, threshold), logits, offsets), wanted)


def test_equal_scores(monkeypatch):
    """Three levels of scores only: of equal boxes the first goes first, as in `kernels.suppression.suppress`.

    Neither TensorFlow's combined_non_max_suppression, which a CPU runs, nor OpenVINO's TopK has an order of equal ones
    that it states. Softmax is left out, since not every program gives equal results for equal numbers everywhere.
    """
    preset = dataclasses.replace(PRESET, keep=300)
    rng = np.random.default_rng(3)
    probabilities = (rng.integers(0, 4, (3, ANCHORS, 1 + CLASSES)) / 4).astype(np.float32)
    offsets = rng.normal(0, 1, (3, ANCHORS, 4)).astype(np.float32)
    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    monkeypatch.setattr(tf.nn, "softmax", lambda values: values)
    wanted = by_tensorflow(preset, 0.01, probabilities, offsets, portable=False)
    assert ((wanted["count"] > 100) & (wanted["count"] < 300)).all()
    add = onnx_graph._Nodes.add
    monkeypatch.setattr(
        onnx_graph._Nodes,
        "add",
        lambda self, kind, *inputs, **more: inputs[0] if kind == "Softmax" else add(self, kind, *inputs, **more),
    )
    assert_rows(by_onnxruntime(model_of(preset, 0.01), probabilities, offsets), wanted)


@pytest.mark.parametrize("engine", [by_onnxruntime, by_openvino])
def test_a_score_of_exactly_the_threshold_is_not_above_it(engine):
    logits = np.zeros((1, ANCHORS, 1 + CLASSES), np.float32)
    offsets = np.zeros((1, ANCHORS, 4), np.float32)
    assert engine(model_of(PRESET, 0.25), logits, offsets)["count"].tolist() == [0]
    assert engine(model_of(PRESET, 0.2499), logits, offsets)["count"][0] > 0
