"""Decoding and suppression in the graph against the slow pipeline; models on disk, whole and damaged."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import boxes
import config
import detector
import oracles
import runs
import ssd_utils
import ssd_vgg
from exports import file_metadata, stored_graphs
from kernels import devices, winograd
from media import images
from settings.training_settings import TrainingSettings
from structures import Detections, UserError
from training import optimization

NAMES = ("car", "bus", "person")
TINY = dataclasses.replace(
    ssd_utils.get_preset("vgg300"),
    name="tiny",
    input_size=64,
    feature_maps=(4, 2, 1),
    steps=(16, 32, 64),
    min_sizes=(12, 24, 40),
    max_sizes=(24, 40, 60),
    aspect_ratios=((2,), (2, 3), (2,)),
    candidates_per_class=20,
    keep=30,
)
ANCHORS = TINY.num_anchors


# postprocess
def run_postprocess(preset, logits, offsets, threshold=0.01, fetch=None):
    """One call on arrays -> dict of arrays, or the tensor named `fetch`."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        outputs = detector.postprocess(tf.constant(logits), tf.constant(offsets), preset, threshold)
        return session.run(graph.get_tensor_by_name(fetch) if fetch else outputs)


def oracle(preset, logits, offsets, threshold=0.01):
    """What one image should give."""
    return oracles.detect(
        logits,
        offsets,
        ssd_utils.make_anchors(preset),
        score=threshold,
        per_class=preset.candidates_per_class,
        iou_threshold=preset.nms_iou,
        keep=preset.keep,
        clip_before=preset.clip_boxes == "before_nms",
        size_limit=preset.size_offset_limit,
        maps=np.repeat(range(len(preset.anchors_per_map)), preset.anchors_per_map).tolist(),
        per_map=preset.candidates_per_map,
        drop_empty=preset.drop_empty_boxes,
    )


def random_outputs(seed, count=1, spread=2.0):
    """Logits [count,A,4] and offsets [count,A,4] of a network without high scores."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, (count, ANCHORS, 1 + len(NAMES)))
    return logits.astype(np.float32), rng.normal(0, 2, (count, ANCHORS, 4)).astype(np.float32)


def assert_image(found, n, expected):
    """Row n of the outputs holds the expected (score, label, box), and nothing after them."""
    count = found["count"][n]
    assert count == len(expected)
    np.testing.assert_array_equal(found["classes"][n, :count], [label for _, label, _ in expected])
    np.testing.assert_allclose(found["scores"][n, :count], [score for score, _, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(found["boxes"][n, :count], [box for _, _, box in expected], rtol=1e-4, atol=1e-5)
    assert not found["scores"][n, count:].any()


@pytest.mark.parametrize(
    ("changes", "threshold"),
    [
        ({"clip_boxes": "before_nms"}, 0.01),
        ({"size_offset_limit": 0.2}, 0.01),
        ({"candidates_per_class": 7}, 0.01),
        ({"candidates_per_map": 11}, 0.01),
        ({"candidates_per_map": 40, "candidates_per_class": 400, "keep": 150}, 0.01),
        ({"clip_boxes": "before_nms", "drop_empty_boxes": True}, 0.01),
        ({"candidates_per_class": 400, "keep": 150}, 0.01),
        ({"keep": 5}, 0.01),
        ({"nms_iou": 0.1}, 0.01),
        ({"nms_iou": 0.9}, 0.01),
        ({"variances": (0.2, 0.1)}, 0.01),
        ({}, 0.9),
    ],
    ids=str,
)
def test_pipeline_equals_the_oracle(changes, threshold):
    """Every rule changes the result of some of these images, and the graph's in the same way."""
    preset = dataclasses.replace(TINY, **changes)
    logits, offsets = random_outputs(0, count=4)
    found = run_postprocess(preset, logits, offsets, threshold)
    assert found["boxes"].shape == (4, preset.keep, 4)
    assert found["classes"].dtype == found["count"].dtype == np.int32
    told = False
    for n in range(4):
        if "variances" in changes:
            # The oracle has the usual ones: bring the offsets to them
            wanted = oracle(preset, logits[n], offsets[n] * np.float32([2, 2, 0.5, 0.5]), threshold)
        else:
            wanted = oracle(preset, logits[n], offsets[n], threshold)
        assert_image(found, n, wanted)
        told |= wanted != oracle(TINY, logits[n], offsets[n])
    assert told


def test_original_pipeline_equals_the_oracle():
    logits, offsets = random_outputs(1, count=6)
    found = run_postprocess(TINY, logits, offsets)
    for n in range(6):
        assert_image(found, n, oracle(TINY, logits[n], offsets[n]))


def quiet():
    """Outputs that are all background, with the anchors as boxes."""
    logits = np.zeros((1, ANCHORS, 1 + len(NAMES)), np.float32)
    logits[..., 0] = 20
    return logits, np.zeros((1, ANCHORS, 4), np.float32)


def test_nothing_to_see():
    found = run_postprocess(TINY, *quiet())
    assert found["count"].tolist() == [0]
    assert not found["scores"].any()


def test_one_box_may_carry_several_classes():
    logits, offsets = quiet()
    logits[0, 10] = [0, 9, 8, 0]
    found = run_postprocess(TINY, logits, offsets, 0.1)
    assert found["count"].tolist() == [2]
    assert found["classes"][0, :2].tolist() == [0, 1]  # labels are 0-based: background has none
    expected = boxes.from_cxcywh(ssd_utils.make_anchors(TINY))[10]
    np.testing.assert_allclose(found["boxes"][0, :2], [expected, expected], atol=1e-6)


def test_an_anchor_may_give_its_best_class_alone():
    """As the article's decode_boxes, which takes the argmax of the classes without background."""
    logits, offsets = quiet()
    logits[0, 10] = [9.5, 9, 8, 0]
    best = dataclasses.replace(TINY, classes_per_anchor="best")
    assert run_postprocess(best, logits, offsets, 0.1)["classes"][0, :2].tolist() == [
        0,
        0,
    ]  # the second is no detection
    assert run_postprocess(best, logits, offsets, 0.1)["count"].tolist() == [1]
    logits, offsets = random_outputs(3)
    everything = dataclasses.replace(best, nms_iou=1.0, keep=3 * ANCHORS, candidates_per_class=ANCHORS)
    found = run_postprocess(everything, logits, offsets, 0.05)
    probabilities = np.array([oracles.softmax(row) for row in logits[0]])[:, 1:]
    expected = sorted((p.max(), p.argmax()) for p in probabilities if p.max() > 0.05)[::-1]
    np.testing.assert_allclose(found["scores"][0, : found["count"][0]], [score for score, _ in expected], atol=1e-6)
    counts = np.bincount(found["classes"][0, : found["count"][0]], minlength=3)
    assert counts.tolist() == np.bincount([label for _, label in expected], minlength=3).tolist()


def test_boxes_are_x_first():
    logits, offsets = quiet()
    logits[0, 2, 3] = 40  # row 0, column 0, the wide one
    found = run_postprocess(TINY, logits, offsets)
    root2 = 2**0.5
    expected = [8 - 6 * root2, 8 - 6 / root2, 8 + 6 * root2, 8 + 6 / root2]
    np.testing.assert_allclose(found["boxes"][0, 0] * 64, expected, rtol=1e-5)


def test_a_score_of_exactly_the_threshold_is_not_above_it():
    logits = np.zeros((1, ANCHORS, 4), np.float32)
    offsets = np.zeros((1, ANCHORS, 4), np.float32)
    assert run_postprocess(TINY, logits, offsets, 0.25)["count"].tolist() == [0]
    assert run_postprocess(TINY, logits, offsets, 0.2499)["count"][0] > 0


def test_a_score_of_exactly_its_class_s_threshold_is_not_above_it():
    logits = np.zeros((1, ANCHORS, 4), np.float32)
    found = run_postprocess(TINY, logits, np.zeros((1, ANCHORS, 4), np.float32), (0.25, 0.2499, 0.3))
    assert found["count"][0] > 0
    assert set(found["classes"][0, : found["count"][0]].tolist()) == {1}


def test_clipping_before_suppression_changes_who_is_suppressed():
    """Two boxes that differ only outside the picture."""
    logits, offsets = quiet()
    logits[0, 0, 1], logits[0, 4, 1] = 24, 22  # 12×12 pixels at (8, 8) and (24, 8)
    anchors = ssd_utils.make_anchors(TINY)[[0, 4]]
    wanted = np.array([[-0.5, 0, 0.25, 0.25], [0, 0, 0.25, 0.25]], np.float32)
    offsets[0, [0, 4]] = ssd_utils.encode_boxes(wanted, anchors)
    kept = run_postprocess(TINY, logits, offsets)
    assert kept["count"].tolist() == [2]
    np.testing.assert_allclose(kept["boxes"][0, :2], wanted, atol=1e-5)  # not clipped
    cut = run_postprocess(dataclasses.replace(TINY, clip_boxes="before_nms"), logits, offsets)
    assert cut["count"].tolist() == [1]
    np.testing.assert_allclose(cut["boxes"][0, 0], [0, 0, 0.25, 0.25], atol=1e-5)


def test_boxes_without_area_are_dropped_on_request():
    """One that lies left of the picture is a line of its edge when it is clipped."""
    logits, offsets = quiet()
    logits[0, 0, 1] = 24
    left = np.array([[-0.5, 0, -0.25, 0.25]], np.float32)
    offsets[0, :1] = ssd_utils.encode_boxes(left, ssd_utils.make_anchors(TINY)[:1])
    clipped = dataclasses.replace(TINY, clip_boxes="before_nms")
    kept = run_postprocess(clipped, logits, offsets)
    assert kept["count"].tolist() == [1]
    np.testing.assert_allclose(kept["boxes"][0, 0], [0, 0, 0, 0.25], atol=1e-5)
    assert run_postprocess(dataclasses.replace(clipped, drop_empty_boxes=True), logits, offsets)["count"].tolist() == [
        0
    ]


def test_size_limit_keeps_boxes_finite():
    logits, offsets = quiet()
    logits[0, 0, 1] = 40
    offsets[0, 0, 2:] = 1000
    found = run_postprocess(dataclasses.replace(TINY, size_offset_limit=np.log(2.0)), logits, offsets)
    np.testing.assert_allclose(found["boxes"][0, 0] * 64, [8 - 12, 8 - 12, 8 + 12, 8 + 12], rtol=1e-5)


def test_result_is_softmax_then_offsets():
    logits, offsets = random_outputs(2)
    result = run_postprocess(TINY, logits, offsets, fetch="result/result:0")
    assert result.shape == (1, ANCHORS, 4 + 4)
    np.testing.assert_allclose(result[0, :, :4], [oracles.softmax(row) for row in logits[0]], atol=1e-6)
    np.testing.assert_array_equal(result[..., 4:], offsets)


# Models on disk
DESCRIPTION = config.ModelDescription(
    dataclasses.replace(ssd_utils.get_preset("vgg300"), width=1 / 32, input_scale=1 / 60), NAMES
)
THRESHOLD = 0.8
ODD_SIZES = ((31, 47), (1, 1), (300, 300), (37, 640), (500, 375))  # (height, width)


def pictures(sizes=ODD_SIZES, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


@dataclasses.dataclass
class Run:
    path: str
    best: dict  # arrays by variable name
    last: dict


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with two checkpoints, the better one first, and all of an optimizer's variables in them."""
    path = str(tmp_path_factory.mktemp("runs") / "run")
    settings = TrainingSettings(data="", train="", accumulate=2)
    with tf.Graph().as_default(), tf.Session() as session:
        optimization.TrainingStep(DESCRIPTION, settings, tf.float32)
        session.run(tf.global_variables_initializer())
        runs.create(path, DESCRIPTION, settings)
        checkpoints = runs.Checkpoints(path)
        weights = []
        for seed, best in ((0, True), (1, False)):
            variables = {v.op.name: v for v in tf.trainable_variables()}
            arrays = oracles.random_weights({name: v.shape.as_list() for name, v in variables.items()}, seed)
            for name in arrays:
                if "_logits/weights" in name:
                    arrays[name] *= 0.2  # scores of all sizes, and not thousands near 1
            for name, variable in variables.items():
                variable.load(arrays[name], session)
            checkpoints.save(session, runs.TrainingState(step=seed + 1), best=best)
            weights.append(arrays)
    return Run(path, *weights)


@pytest.fixture(scope="module")
def best(run):
    with detector.load(run.path, precision="float32", threshold=THRESHOLD) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def frozen(run, tmp_path_factory):
    """Path of the best checkpoint's graph as a .pb, of threshold 0.1."""
    path = tmp_path_factory.mktemp("frozen") / "model.pb"
    graph = detector.build_model_graph(config.find_model(run.path), "float32", 0.1, portable=True)
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return str(path)


def assert_alike(found, expected, tolerance=1e-4):
    """Two lists of Detections are the same; order is free among scores closer than the tolerance."""
    for one, other in zip(found, expected, strict=True):
        assert len(one) == len(other)
        left = set(range(len(other)))
        for n in range(len(one)):
            score, box = np.abs(other.scores - one.scores[n]), np.abs(other.boxes_px - one.boxes_px[n]).max(axis=1)
            same = (other.labels == one.labels[n]) & (score < tolerance) & (box < 640 * tolerance)
            twins = left.intersection(np.flatnonzero(same))
            assert twins, (one.labels[n], one.scores[n], one.boxes_px[n])
            left.remove(twins.pop())


def test_read_weights_takes_the_networks_arrays_alone(run):
    for which, expected in (("best", run.best), ("last", run.last)):
        arrays = detector.read_weights(config.checkpoint_prefix(run.path, which))
        assert arrays.keys() == expected.keys()
        for name in expected:
            np.testing.assert_array_equal(arrays[name], expected[name])


def expected_detections(image, weights, threshold):
    """Every step by the oracles: resize, network, suppression, pixels, clip."""
    prepared = cv2.resize(image, (300, 300), interpolation=cv2.INTER_LINEAR)
    preset = DESCRIPTION.preset
    logits, offsets = oracles.network(
        prepared, weights, num_classes=len(NAMES), ratios=preset.anchors_per_cell, scale=preset.input_scale
    )
    height, width = image.shape[:2]
    scores, labels, found = zip(*oracle(preset, logits, offsets, threshold), strict=True)
    boxes_px = np.multiply([oracles.clip(box) for box in found], [width, height, width, height])
    return Detections(boxes_px.astype(np.float32), np.array(scores, np.float32), np.array(labels, np.int32))


def test_detect_equals_the_oracle_on_odd_sizes(run, best):
    """From a picture of any size to pixels of that picture."""
    expected = [expected_detections(image, run.best, THRESHOLD) for image in pictures()]
    assert all(10 < len(e) < 200 for e in expected)
    assert_alike(best.detect(pictures()), expected)


def test_detections_are_as_promised(best):
    for image, one in zip(pictures(), best.detect(pictures()), strict=True):
        height, width = image.shape[:2]
        assert (one.boxes_px.dtype, one.scores.dtype, one.labels.dtype) == (np.float32, np.float32, np.int32)
        assert one.boxes_px.min() >= 0
        assert one.boxes_px[:, [0, 2]].max() <= width
        assert one.boxes_px[:, [1, 3]].max() <= height
        assert (np.diff(one.scores) <= 0).all()
        assert one.scores.min() > THRESHOLD
        assert set(one.labels) <= {0, 1, 2}


def test_some_box_was_clipped(best):
    """Otherwise the test above shows nothing."""
    prepared = np.stack([best.prepare(image) for image in pictures()])
    raw = best._network.run(prepared)["boxes"]
    assert raw.min() < 0
    assert raw.max() > 1


@pytest.mark.parametrize(
    "nothing", [[], (), iter(()), np.zeros((0, 300, 300, 3), np.uint8)], ids=lambda one: type(one).__name__
)
def test_no_pictures_have_no_detections(best, nothing):
    assert best.detect(nothing) == []


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Three pictures: (arrays, paths of the same pictures)."""
    folder = tmp_path_factory.mktemp("few")
    arrays = pictures(((40, 60), (50, 30), (20, 20)))
    for index, image in enumerate(arrays):
        images.write(folder / f"{index}.png", image)
    return arrays, [folder / f"{index}.png" for index in range(3)]


def test_pictures_may_come_as_paths_as_an_iterator_and_one_alone(best, few):
    arrays, paths = few
    expected = best.detect(arrays)
    assert sum(map(len, expected)) > 0
    best.batch_size = 2
    try:
        for same in (paths, tuple(map(str, paths)), (path for path in paths), [arrays[0], paths[1], arrays[2] / 255]):
            assert_alike(best.detect(same), expected)
    finally:
        best.batch_size = 8
    for one in (arrays[0], paths[0], str(paths[0])):
        found = best.detect(one)
        assert isinstance(found, Detections)
        assert_alike([found], expected[:1])


def test_an_array_of_several_pictures_is_a_batch(best):
    several = pictures(((40, 60), (40, 60)))
    found = best.detect(np.stack(several))
    assert isinstance(found, list)
    assert_alike(found, best.detect(several))


def test_an_iterator_is_read_a_batch_at_a_time(best, few):
    read = []

    def endless():
        while True:
            read.append(1)
            yield few[0][0] if len(read) <= 9 else "missing.jpg"

    with pytest.raises(UserError, match=r"missing\.jpg: no such picture"):
        best.detect(endless())
    assert len(read) == 10


def test_what_is_no_picture_is_named_by_its_place(best, few):
    with pytest.raises(UserError, match=r"^images\[2\], float64 .*: give pixels from 0 to 255"):
        best.detect([few[0][0], few[1][1], few[0][0] - 300.0])


def test_rows_of_a_table(best, few):
    (found,) = best.detect(few[0][:1])
    rows = found.rows(best.class_names)
    assert len(rows) == len(found) > 0
    assert list(rows[0]) == ["class", "score", "xmin", "ymin", "xmax", "ymax"]
    assert [row["class"] for row in rows] == [NAMES[label] for label in found.labels]
    assert [row["score"] for row in rows] == found.scores.tolist()
    edges = [[row[name] for name in ("xmin", "ymin", "xmax", "ymax")] for row in rows]
    np.testing.assert_allclose(edges, found.boxes_px, atol=0.00501)
    assert json.loads(json.dumps(rows)) == rows  # Python's numbers, not NumPy's


def test_settings_that_make_no_sense(run):
    path = Path(run.path)
    for threshold in (1.5, -0.1, np.nan, (0.5, 0.5), [[0.5]], "high", lambda names: None):
        fails(r"threshold .*: give a number from 0 to 1, or .* \(car, bus, person\)", path, threshold=threshold)
    for batch_size in (0, -1):
        fails(f"batch_size {batch_size}: ", path, batch_size=batch_size)


def test_batches_do_not_matter(best):
    batch = pictures()
    together = best.detect(batch)
    assert_alike([best.detect([image])[0] for image in batch], together)
    best.batch_size = 2
    try:
        assert_alike(best.detect(batch), together)
    finally:
        best.batch_size = 8


def test_what_a_detector_tells(best):
    assert best.class_names == NAMES
    assert best.preset == DESCRIPTION.preset
    assert (best.input_size, best.threshold, best.batch_size) == (300, THRESHOLD, 8)


def test_a_higher_threshold_is_a_cut(run, best):
    with detector.load(f"{run.path}@best", precision="float32", threshold=0.88) as strict:
        cut = [d.where(d.scores > 0.88) for d in best.detect(pictures())]
        assert sum(map(len, cut)) > 0
        assert_alike(strict.detect(pictures()), cut)


def test_each_class_may_have_a_threshold_of_its_own(run, best, tmp_path):
    """In the graph of a run, in an exported one, and in one that another threshold is asked of."""
    found, limits = best.detect(pictures()), []
    for label, share in enumerate((0.3, 0.5, 0.7)):  # of the detections of each class are cut
        scores = np.sort(np.concatenate([d.scores[d.labels == label] for d in found]))
        gaps = np.diff(np.append(scores, 1.0))  # a limit in a wide gap: the two networks differ in the last digits
        start = round(share * len(gaps))
        index = start + gaps[start : start + 9].argmax() if len(gaps) > start else 0
        limits.append(round(float(scores[index] + gaps[index] / 2), 6) if len(scores) else 0.9)
    limits = tuple(limits)
    cut = [d.where(d.scores > np.float32(limits)[d.labels]) for d in found]
    assert max(map(len, found)) < DESCRIPTION.preset.keep and 0 < sum(map(len, cut)) < sum(map(len, found))
    with detector.load(run.path, precision="float32", threshold=limits) as loaded:
        assert loaded.threshold == limits
        assert_alike(loaded.detect(pictures()), cut)
    path = tmp_path / "model.pb"
    graph = detector.build_model_graph(config.find_model(run.path), "float32", limits, portable=True)
    path.write_bytes(graph.as_graph_def().SerializeToString())
    assert detector.metadata(graph)["threshold"] == min(limits) and detector.metadata(graph)["thresholds"] == list(
        limits
    )
    with detector.load(str(path), threshold=lambda names: limits if names == NAMES else 0.0) as loaded:
        assert_alike(loaded.detect(pictures()), cut)
    shown = ",".join(f"{name}={limit}" for name, limit in zip(NAMES, limits, strict=True))
    below = max(limits) - 0.001
    fails(f"--threshold {below}: .*model.pb was exported with --threshold {shown};", path, threshold=below)


@pytest.mark.parametrize("threshold", [0.0, 1.0, (0.0, 0.5, 1.0)])
def test_thresholds_reach_from_0_to_1(threshold):
    assert detector._class_thresholds(threshold, NAMES) == threshold


@pytest.mark.parametrize("threshold", [0.5, (0.5, 0.25, 0.9)])
def test_of_a_file_with_a_lower_threshold_a_score_of_exactly_ours_is_not_above_it(threshold):
    looks = detector.Detector(None, DESCRIPTION, precision="float32", threshold=threshold, batch_size=1)
    values = {
        "scores": np.float32([0.75, 0.5, 0.5, 0.25, 0]),
        "classes": np.int32([0, 0, 1, 1, 0]),
        "boxes": np.tile(np.float32([0.1, 0.2, 0.3, 1.5]), (5, 1)),
        "count": 4,
    }
    found = looks._to_detections(values, (100, 200))
    assert found.scores.tolist() == [0.75, *([0.5] if threshold != 0.5 else [])]
    np.testing.assert_allclose(found.boxes_px[0], [10, 40, 30, 200], rtol=1e-6)


def test_last_is_not_best(run):
    image = pictures(((200, 100),))[0]
    with detector.load(f"{run.path}@last", precision="float32", threshold=THRESHOLD) as last:
        (found,) = last.detect([image])
    assert_alike([found], [expected_detections(image, run.last, THRESHOLD)])


def test_an_exported_graph_detects_the_same(frozen, best):
    with detector.load(frozen, threshold=THRESHOLD) as loaded:
        assert loaded.class_names == NAMES
        assert loaded.preset == DESCRIPTION.preset
        assert_alike(loaded.detect(pictures()), best.detect(pictures()))


def test_weights_are_read_back_from_an_exported_graph(run, frozen):
    found = stored_graphs.read_frozen(frozen, detector._is_networks).arrays
    assert found.keys() == run.best.keys()
    for name, array in run.best.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def count_convolutions(graph):
    return sum(op.type == "Conv2D" for op in graph.get_operations())


@pytest.fixture
def exported(run, tmp_path, monkeypatch):
    """precision -> (an exported graph, its file), on a CPU where even this slim network gains from Winograd's form."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    monkeypatch.setattr(winograd, "FEWEST_CHANNELS", 4)

    def export(precision):
        graph = detector.build_model_graph(config.find_model(run.path), precision, 0.1, portable=True)
        path = tmp_path / f"{precision}.pb"
        path.write_bytes(graph.as_graph_def().SerializeToString())
        return graph, path

    return export


def test_an_exported_graph_takes_the_form_of_this_machine(exported, best):
    graph, path = exported("float32")
    assert count_convolutions(graph) == 29
    assert count_convolutions(detector.read_frozen(str(path))[0]) < 20
    with detector.load(str(path), threshold=THRESHOLD) as loaded:
        assert_alike(loaded.detect(pictures()), best.detect(pictures()))


def test_a_narrow_exported_graph_finds_what_it_finds_as_it_is(exported):
    _, path = exported("bfloat16")
    found = []
    for fastest in (True, False):
        with detector.load(str(path), threshold=THRESHOLD, fastest=fastest) as loaded:
            found.append(loaded.detect(pictures()))
    assert_alike(*found)


def test_an_exported_graph_computes_in_its_own_type(exported):
    _, path = exported("bfloat16")
    for precision in ("auto", "bfloat16"):
        detector.load(str(path), precision=precision, threshold=THRESHOLD).close()
    message = f"--precision float32: {path} .*bfloat16"
    fails(message, path, precision="float32", threshold=THRESHOLD)


def test_an_exported_graph_with_other_names_is_refused(exported):
    _, path = exported("float32")
    renamed = path.read_bytes().replace(b"conv1_1/weights", b"conv1_1_weights")  # of the same length
    path.write_bytes(renamed)
    fails(
        r"float32\.pb: its weights are not those of its metadata \(no 'conv1_1/weights'\); export the",
        path,
        threshold=0.1,
    )


def test_exported_graph_has_the_promised_tensors(frozen):
    definition = tf.GraphDef.FromString(Path(frozen).read_bytes())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    promised = {
        "image_input": (tf.uint8, [None, 300, 300, 3]),
        "result/result": (tf.float32, [None, 8732, 1 + 3 + 4]),
        "detections/boxes": (tf.float32, [None, 200, 4]),
        "detections/scores": (tf.float32, [None, 200]),
        "detections/classes": (tf.int32, [None, 200]),
        "detections/count": (tf.int32, [None]),
    }
    for name, (dtype, shape) in promised.items():
        tensor = graph.get_tensor_by_name(f"{name}:0")
        assert (tensor.dtype, tensor.shape.as_list()) == (dtype, shape), name
    with tf.Session(graph=graph) as session:
        metadata = json.loads(session.run("metadata/json:0"))
    assert metadata["class_names"] == list(NAMES)
    assert metadata["threshold"] == 0.1
    assert ssd_utils.SSDPreset.from_json(metadata["preset"]) == DESCRIPTION.preset


def test_bfloat16_finds_much_the_same(run, best):
    """Nearly all detections with high scores are found again."""
    batch = pictures(((300, 300),))
    (wanted,) = best.detect(batch)
    with detector.load(run.path, precision="bfloat16", threshold=THRESHOLD - 0.1) as loaded:
        (found,) = loaded.detect(batch)
    sure = wanted.where(wanted.scores > THRESHOLD + 0.05)
    again = (boxes.iou(sure.boxes_px, found.boxes_px) > 0.7) & (sure.labels[:, None] == found.labels)
    assert len(sure) > 10
    assert again.any(axis=1).mean() > 0.8


# Errors
def fails(message, model, **options):
    with pytest.raises(UserError, match=message) as error:
        detector.load(str(model), **options)
    assert "\n" not in str(error.value)


def test_models_that_are_not_there(tmp_path):
    fails("nothing: ", tmp_path / "nothing")
    fails("nothing.pb: ", tmp_path / "nothing.pb")
    fails("config.json", tmp_path)


def test_exported_graph_cannot_go_below_its_threshold(frozen):
    fails(r"--threshold 0\.01: .*\.pb .*--threshold 0\.1; .*--threshold 0\.01$", frozen)


def test_damaged_graphs(frozen, tmp_path):
    path = tmp_path / "model.pb"
    whole = Path(frozen).read_bytes()
    for content in (b"", b"a text file, not a graph\n", whole[: len(whole) // 2], whole[:-1], whole[1:]):
        path.write_bytes(content)
        fails(r"model\.pb: .*export_model\.py", path)


def test_graphs_of_other_programs(tmp_path):
    path = tmp_path / "model.pb"
    metadata = json.dumps({**DESCRIPTION.to_json(), "threshold": 0.01})
    for text in (None, "{}", "[1]", "not JSON", metadata):
        with tf.Graph().as_default() as graph:
            tf.constant(1.0, name="image_input")
            if text is not None:
                tf.constant(text, name="metadata/json")
        path.write_bytes(graph.as_graph_def().SerializeToString())
        fails(r"model\.pb: .*export_model\.py", path)


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run to damage, and the folder of its best checkpoint."""
    path = shutil.copytree(run.path, tmp_path / "run")
    return path, path / "checkpoints" / config.read_index(run.path)["best"]


def test_of_weights_with_moving_averages_these_are_read(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        values = {"conv1_1/weights": 1.0, f"conv1_1/weights/{ssd_vgg.AVERAGE}": 2.0, "conv1_1/biases": 3.0}
        variables = {name: tf.Variable(value) for name, value in values.items()}
        session.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(session, str(tmp_path / "model"), write_meta_graph=False)
    assert detector.read_weights(str(tmp_path / "model")) == {"conv1_1/weights": 2.0, "conv1_1/biases": 3.0}


def test_an_exported_file_takes_the_batch_that_it_was_exported_for_and_smaller_ones():
    values = {"class_names": NAMES, "outputs": file_metadata.RAW, "precision": "float32", "batch": 4}
    for size in (None, 1, 4):
        assert detector._check_flags("m.onnx", values, "auto", 0.5, size) == 0.5
    with pytest.raises(detector.TooLargeBatch, match=r"--batch-size 5: m\.onnx takes 4 at a time"):
        detector._check_flags("m.onnx", values, "auto", 0.5, 5)


@pytest.mark.parametrize(("label", "known"), [(-1, False), (0, True), (2, True), (3, False)])
def test_a_file_that_finds_a_class_without_name_is_refused(label, known):
    class Opened:
        metadata = {"class_names": NAMES, "batch": None, "outputs": "detections"}  # noqa: RUF012

        def run(self, batch):
            return {"classes": np.array([[label]], np.int32)}

    network = detector._FileNetwork("m.onnx", Opened(), 0.5)
    if known:
        assert network.run(None)["classes"].item() == label
        return
    with pytest.raises(UserError, match=r"m\.onnx: finds a class that it does not name"):
        network.run(None)


@pytest.mark.parametrize("several", [False, True])
def test_arrays_of_16_bits_are_spread_as_in_training(several):
    class Network:
        batch = None

        def run(self, batch, names):
            self.seen = batch
            shapes = {"boxes": (len(batch), 1, 4), "scores": (len(batch), 1), "classes": (len(batch), 1)}
            empty = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
            return {**empty, "count": np.zeros(len(batch), np.int32)}

    description = config.ModelDescription(dataclasses.replace(TINY, gray16="2000-4000"), NAMES)
    network = Network()
    looks = detector.Detector(network, description, precision="float32", threshold=0.5, batch_size=2)
    thermal = np.full((64, 64), 3000, np.uint16)
    looks.detect([thermal] if several else thermal)
    assert set(np.unique(network.seen)) == {images.spread(thermal, "2000-4000")[0, 0]} != {3000 >> 8}


def test_damaged_checkpoints(copy):
    path, checkpoint = copy
    (data,) = checkpoint.glob("model.data-*")
    os.truncate(data, data.stat().st_size // 2)
    fails("checkpoints/.*/model: ", path)
    data.unlink()
    fails("checkpoints/.*/model: ", path)
    (checkpoint / "model.index").write_bytes(b"x" * 100)
    fails("checkpoints/.*/model: ", path)


def test_config_of_another_model(copy):
    path, _ = copy
    for description in (
        dataclasses.replace(DESCRIPTION, class_names=("car",)),
        dataclasses.replace(DESCRIPTION, preset=dataclasses.replace(DESCRIPTION.preset, width=1 / 16)),
        dataclasses.replace(
            DESCRIPTION, preset=dataclasses.replace(ssd_utils.get_preset("vgg512"), width=DESCRIPTION.preset.width)
        ),
    ):
        config.write_config(str(path), description, None, {})
        fails("run: .*checkpoint .*config.json", path)


def test_unknown_precision(run):
    fails("--precision float8: .*auto, float32", run.path, precision="float8")


# What suits the machine
@pytest.mark.parametrize(("gpus", "expected"), [([], 8), (["GPU:0"], 32)])
def test_the_batch_size_suits_the_machine(run, monkeypatch, gpus, expected):
    monkeypatch.setattr(devices, "has_gpu", lambda: bool(gpus))
    monkeypatch.setattr(detector, "build_model_graph", lambda *_, batch_size, **__: _ends_of_nothing(batch_size))
    with detector.load(run.path) as loaded:
        assert loaded.batch_size == expected
        assert loaded._network.batch == (expected if gpus else None)
    with detector.load(run.path, batch_size=3) as loaded:
        assert loaded.batch_size == 3


def _ends_of_nothing(batch_size):
    """A graph with the ends of a detection graph."""
    with tf.Graph().as_default() as graph:
        tf.placeholder(tf.uint8, [batch_size, 300, 300, 3], "image_input")
        for name in detector.OUTPUTS:
            tf.constant(0, name=f"detections/{name}")
        tf.constant(0, name="result/result")
        values = {**DESCRIPTION.to_json(), "threshold": 0.01, "precision": "float32"}
        tf.constant(json.dumps(values), name="metadata/json")
    return graph


FULL = (
    tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nHint"),
    tf.errors.InternalError(None, None, "cudaSetDevice() on GPU:0 failed. Status: out of memory"),
    tf.errors.NotFoundError(
        None,
        None,
        "No algorithm worked!  Error messages:\n  Profiling failure on CUDNN engine 1: "
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 95420720 bytes.",
    ),
    tf.errors.NotFoundError(
        None, None, "No algorithm worked!  Error messages:\n  Profiling failure: UNKNOWN: CUDNN_STATUS_ALLOC_FAILED"
    ),
)
NO_LIBRARY = (
    tf.errors.InternalError(None, None, "2 root error(s) found.\n  (0) INTERNAL: No BLAS for stream."),
    tf.errors.FailedPreconditionError(None, None, "DNN library initialization failed. Look at the errors above"),
)


@pytest.mark.parametrize("error", FULL)
@pytest.mark.parametrize(("batch_size", "remedy"), [(8, "give --batch-size 4, "), (1, "end other programs")])
def test_full_memory_names_the_flag(best, monkeypatch, batch_size, remedy, error):
    def run_out(*_, **__):
        raise error

    monkeypatch.setattr(tf.Session, "run", run_out)
    monkeypatch.setattr(best, "batch_size", batch_size)
    for gpu, memory in ((True, "the GPU"), (False, "this machine")):
        monkeypatch.setattr(devices, "has_gpu", lambda gpu=gpu: gpu)
        with pytest.raises(devices.OutOfMemory, match=f"the memory of {memory} is full: {remedy}"):
            best.detect(pictures())


@pytest.mark.parametrize("error", FULL)
def test_a_gpu_that_is_full_from_the_start_is_named(run, monkeypatch, error):
    def run_out(*_, **__):
        raise error

    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    monkeypatch.setattr(detector, "build_model_graph", run_out)
    with pytest.raises(devices.OutOfMemory, match=r"^the memory of the GPU is full: end other programs"):
        detector.load(run.path)


@pytest.mark.parametrize("error", NO_LIBRARY)
def test_a_gpu_whose_libraries_do_not_start_is_named(best, monkeypatch, error):
    def run_out(*_, **__):
        raise error

    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    monkeypatch.setattr(tf.Session, "run", run_out)
    said = "^the GPU has no memory for cuBLAS or cuDNN, or their versions do not fit TensorFlow: "
    with pytest.raises(devices.OutOfMemory, match=said):
        best.detect(pictures())


@pytest.mark.parametrize("kind", [tf.errors.InternalError, tf.errors.FailedPreconditionError, tf.errors.NotFoundError])
def test_other_errors_inside_tensorflow_keep_their_traceback(best, monkeypatch, kind):
    def fail(*_, **__):
        raise kind(None, None, "Blas GEMM launch failed")

    monkeypatch.setattr(tf.Session, "run", fail)
    with pytest.raises(kind, match="Blas"):
        best.detect(pictures())


# Many files
def test_files_in_order_and_unreadable_ones_named(best, tmp_path):
    paths = []
    for n, image in enumerate(pictures(((40, 60), (50, 30), (20, 20)))):
        paths.append(tmp_path / f"{n}.png")
        cv2.imwrite(str(paths[-1]), image[..., ::-1])
    broken = tmp_path / "broken.png"
    broken.write_bytes(paths[0].read_bytes()[:200])
    paths.insert(1, broken)
    results = list(best.detect_files([(str(path), False) for path in paths]))
    assert [path for path, _, _ in results] == [str(path) for path in paths]
    assert isinstance(results[1][1], images.ImageError)
    assert results[1][2] is None
    good = [result for result in results if result[2] is not None]
    assert_alike([found for _, _, found in good], best.detect([read.image for _, read, _ in good]))
    assert [read.size for _, read, _ in good] == [(60, 40), (30, 50), (20, 20)]


def test_pictures_are_held_only_where_they_are_wanted_and_few_batches_of_them(best, tmp_path):
    (image,) = pictures(((40, 60),))
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    asked = []

    def files():
        for index in range(100):
            asked.append(index)
            yield str(tmp_path / "a.png"), False

    stream = best.detect_files(files(), keep=lambda index: index == 1)
    first, second = next(stream), next(stream)
    assert first[1].image is None and second[1].image.shape == (40, 60, 3)
    assert_alike([first[2]], [second[2]])
    assert len(asked) <= 4 * best.batch_size
    stream.close()


def test_constants_are_not_variables():
    """A detection graph can be run without any initialization."""
    shapes = {}
    with tf.Graph().as_default():
        ssd_vgg.build(tf.placeholder(tf.uint8, [None, 300, 300, 3]), DESCRIPTION.preset, len(NAMES))
        shapes = {v.op.name: v.shape.as_list() for v in tf.global_variables()}
    graph = detector.build_graph(DESCRIPTION, oracles.random_weights(shapes), tf.float32, 0.01)
    assert not [op for op in graph.get_operations() if op.type in ("VarHandleOp", "VariableV2")]


def test_a_graph_for_batches_of_one_size_detects_the_same(run, best, monkeypatch):
    """As on a GPU: a batch that is smaller is filled up, and suppression is done by tensor operations."""
    rng = np.random.default_rng(5)
    pictures = [rng.integers(0, 256, (50, 70, 3), np.uint8) for _ in range(7)]
    monkeypatch.setattr(detector.devices, "has_gpu", lambda: True)
    with detector.load(run.path, precision="float32", threshold=THRESHOLD, batch_size=4) as fixed:
        assert fixed._network.batch == 4
        found = fixed.detect(pictures)
    assert sum(map(len, found)) > 0
    assert_alike(found, best.detect(pictures))


@pytest.mark.parametrize(
    ("name", "classes", "candidates", "on_device"),
    [("vgg512-coco", 80, None, True), ("vgg300", 20, None, True), ("vgg300", 20, 8732, False)],
)
def test_a_gpu_leaves_suppression_among_too_many_boxes_to_the_cpu(name, classes, candidates, on_device, monkeypatch):
    """Imported detectors may have no limit on the candidates: all pairs of them would take 12 GB for each picture."""
    preset = ssd_utils.get_preset(name)
    if candidates:
        preset = dataclasses.replace(preset, candidates_per_class=candidates)
    monkeypatch.setattr(detector.devices, "has_gpu", lambda: True)
    with tf.Graph().as_default() as graph:
        shapes = [1, preset.num_anchors, 1 + classes], [1, preset.num_anchors, 4]
        detector.postprocess(*(tf.placeholder(tf.float32, shape) for shape in shapes), preset, 0.01)
    by_tensorflow = "CombinedNonMaxSuppression" in {op.type for op in graph.get_operations()}
    assert by_tensorflow != on_device


def test_an_exported_graph_is_rebuilt_for_a_gpu(frozen, monkeypatch):
    rng = np.random.default_rng(6)
    pictures = [rng.integers(0, 256, (50, 70, 3), np.uint8) for _ in range(3)]
    with detector.load(frozen, threshold=0.1) as plain:
        expected = plain.detect(pictures)
    monkeypatch.setattr(detector.devices, "has_gpu", lambda: True)
    with detector.load(frozen, threshold=0.1, batch_size=2) as fixed:
        assert fixed._network.batch == 2
        assert_alike(fixed.detect(pictures), expected)
