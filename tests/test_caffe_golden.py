"""This project against the original's own numbers, tests/fixtures/caffe.

Tolerances are the largest differences that were measured on one machine; where they are larger, a comment says so.
"""

import dataclasses
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import boxes
import caffe_numbers
import config
import detector
import losses
import pretrained
import source_pascal_voc
import ssd_utils
import transforms
from weights import layouts, weight_files

FOLDER = Path(__file__).parent / "fixtures" / "caffe"
CLASSES = 20


def load(name):
    """The arrays of a fixture by name."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def preset(name):
    """A preset whose sizes are whole pixels, as PriorBox has them."""
    whole = ssd_utils.get_preset(name)
    sizes = {key: tuple(map(int, getattr(whole, key))) for key in ("min_sizes", "max_sizes")}
    return dataclasses.replace(whole, channel_order="BGR", **sizes)


PRESETS = {"voc300": preset("vgg300"), "coco300": preset("vgg300-coco"), "voc512": preset("vgg512")}


@pytest.mark.parametrize("name", PRESETS)
def test_priors(name):
    anchors = boxes.from_cxcywh(ssd_utils.make_anchors(PRESETS[name]))
    np.testing.assert_allclose(np.concatenate([anchors[::7], anchors[-1:]]), load("priors")[name], rtol=0, atol=1.2e-7)


# MultiBoxLoss
LOSS = load("multibox_loss")


@pytest.fixture(scope="module")
def gradients():
    """A function: logits, offsets, class targets, offset targets -> (loss, gradients of logits and of offsets)."""
    with tf.Graph().as_default(), tf.Session() as session:
        logits, offsets, offset_targets = (tf.placeholder(tf.float32, [None, None, n]) for n in (CLASSES + 1, 4, 4))
        class_targets = tf.placeholder(tf.int32, [None, None])
        terms = losses.multibox_loss(logits, offsets, class_targets, offset_targets)
        loss = (terms["confidence"] + terms["localization"]) / tf.maximum(terms["positives"], 1)
        fetches = [loss, *tf.gradients(loss, [logits, offsets])]
        inputs = (logits, offsets, class_targets, offset_targets)
        yield lambda *values: session.run(fetches, dict(zip(inputs, values, strict=True)))


@pytest.mark.parametrize("case", range(int(LOSS["cases"])))
def test_loss_and_its_gradients(case, gradients):
    golden = {name.partition("_")[2]: value for name, value in LOSS.items() if name.startswith(f"{case}_")}
    anchors = ssd_utils.make_anchors(PRESETS[str(golden["config"])])
    pictures, objects = int(golden["pictures"]), golden["objects"]
    if not golden["use_difficult"]:
        objects = objects[objects[:, 7] == 0]
    targets = []
    for number in range(pictures):
        mine = objects[objects[:, 0] == number]
        truth, labels = mine[:, 3:7], mine[:, 1].astype(np.int32) - 1
        targets.append(ssd_utils.encode_targets(anchors, truth, labels, ssd_utils.match_anchors(anchors, truth)))
    class_targets, offset_targets = (np.stack(parts) for parts in zip(*targets, strict=True))
    logits = 8 * caffe_numbers.centered(400 + case, pictures, len(anchors), CLASSES + 1)
    offsets = 4 * caffe_numbers.centered(300 + case, pictures, len(anchors), 4)
    loss, of_logits, of_offsets = gradients(logits, offsets, class_targets, offset_targets)
    of_logits, of_offsets = of_logits.reshape(-1, CLASSES + 1), of_offsets.reshape(-1, 4)
    np.testing.assert_array_equal(np.flatnonzero(class_targets), golden["positives"])
    np.testing.assert_array_equal(np.flatnonzero(of_logits.any(axis=1)), golden["chosen"])
    np.testing.assert_allclose(
        loss, golden["loss"], rtol=0, atol=1.6e-5
    )  # measured: 1.1e-5; this is four units in the last place
    near = {"rtol": 0, "atol": 3.6e-7}  # measured: 3.5e-7
    np.testing.assert_allclose(of_offsets[golden["positives"]], golden["offset_gradient"], **near)
    np.testing.assert_allclose(of_logits[golden["logit_gradient_rows"]], golden["logit_gradient"], **near)


# DetectionOutput, and the whole network
def rows(found, picture):
    """Detections of a picture, float64 [M,6] (class from 1, score, box), by class and then by falling score."""
    count = found["count"][picture]
    parts = [found["classes"][picture, :count, None] + 1, found["scores"][picture, :count, None]]
    table = np.concatenate([*parts, found["boxes"][picture, :count]], axis=1)
    return table[np.lexsort((-table[:, 1], table[:, 0]))]


def assert_rows(found, golden, score, box):
    """Equal numbers and labels; scores and boxes within their tolerances."""
    assert found[:, 0].tolist() == golden[:, 0].tolist()
    np.testing.assert_allclose(found[:, 1], golden[:, 1], rtol=0, atol=score)
    np.testing.assert_allclose(found[:, 2:], golden[:, 2:], rtol=0, atol=box)


@pytest.mark.parametrize("case", range(6))
@pytest.mark.parametrize("portable", [True, False])
def test_detection_output(case, portable):
    golden, anchors = load("detection_output"), PRESETS["voc300"].num_anchors
    background, of_logits, of_offsets, larger, every = golden[f"{case}_rule"]
    logits = of_logits * caffe_numbers.centered(500 + case, anchors, CLASSES + 1)
    logits[:, 0] += background
    if every:
        certain = np.arange(0, anchors, int(every))
        logits[certain, 1 + certain % CLASSES] += 16
    offsets = of_offsets * caffe_numbers.centered(600 + case, anchors, 4)
    offsets[:, 2:] += larger
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = tf.constant(logits[None]), tf.constant(offsets[None])
        found = session.run(detector.postprocess(*inputs, PRESETS["voc300"], 0.01, portable))
    assert_rows(rows(found, 0), golden[f"{case}_detections"], 3.2e-6, 1.1e-6)


@pytest.mark.parametrize("part", [8, 32])
def test_whole_network(part):
    golden = load(f"net_voc300_width1over{part}")
    slim = dataclasses.replace(PRESETS["voc300"], width=1 / part)
    arrays = caffe_numbers.caffemodel_arrays(1 / part)
    shapes = pretrained.network_shapes(slim, CLASSES)
    variables, _ = layouts.to_variables("formula", layouts.LAYOUTS["caffe-ssd"], arrays, shapes)
    description = config.ModelDescription(slim, source_pascal_voc.CLASSES)
    graph = detector.build_graph(description, variables, tf.float32, 0.01)
    pictures = [caffe_numbers.picture(number + 1, 300) for number in range(len(golden["logits"]))]
    names = ("logits", "offsets")
    tensors = {name: graph.get_tensor_by_name(f"result/{name}:0") for name in names}
    tensors |= {name: graph.get_tensor_by_name(f"detections/{name}:0") for name in detector.OUTPUTS}
    with detector.open_session(graph) as session:
        found = session.run(tensors, {"image_input:0": np.stack(pictures)})
    # The order of a convolution's sums is the machine's: here and in the detections twice what was measured on one
    for name, tolerance in zip(names, (6.2e-5, 2.6e-5), strict=True):
        seen = found[name][:, :: int(golden["every"])]
        np.testing.assert_allclose(seen, golden[name], rtol=0, atol=tolerance, err_msg=name)
    for number in range(len(pictures)):
        mine = golden["detections"][golden["detections"][:, 0] == number, 1:]
        mine = mine[np.lexsort((-mine[:, 1], mine[:, 0]))]
        assert_rows(rows(found, number), mine, 6.4e-6, 2.2e-6)


def test_a_file_that_caffe_wrote(tmp_path):
    """Its numbers are put back; the digest says that the file is Caffe's to the last byte."""
    golden = load("caffemodel")
    content, arrays = bytearray(golden["content"].tobytes()), caffe_numbers.caffemodel_arrays(1 / 32)
    for place, array in zip(golden["places"], arrays.values(), strict=True):
        data = array.astype("<f4").tobytes()
        content[place : place + len(data)] = data
    assert hashlib.sha256(content).hexdigest() == str(golden["sha256"])
    (tmp_path / "a.caffemodel").write_bytes(content)
    found = weight_files.read(tmp_path / "a.caffemodel")
    assert layouts.recognize("a", found).name == "caffe-ssd"
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


# Augmentation
COLORS = load("colors")


def original_hue(image, hue):
    """The original's hue: where it becomes negative, its uint8 arithmetic stops at 0; ours goes around the circle."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = np.rint(hsv[..., 0] + hue).clip(0, 255)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


@pytest.mark.parametrize("step", range(len(COLORS["kinds"])))
def test_changes_of_color(step):
    """Equal but for a level in a few pixels, as versions of OpenCV round HSV in two ways."""
    kind, amount = str(COLORS["kinds"][step]), float(COLORS["amounts"][step])
    for picture, golden in zip(COLORS["pictures"], COLORS["results"][:, step], strict=True):
        ours = transforms.distort(picture, transforms.Distortion(**{kind: amount}))
        if kind == "hue" and amount < 0:
            hue = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[..., 0]
            stays = np.rint(hue + amount) >= 0
            assert not stays.all()
            assert abs(ours.astype(int) - golden)[stays].max() <= 1
            assert abs(ours.astype(int) - golden)[~stays].max() > 1  # the difference that docs/weights.md names
            ours = original_hue(picture, amount)
        apart = abs(ours.astype(int) - golden)
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.02


def objects_of(golden):
    """[boxes float64 [N,4] of each case]."""
    return [golden["objects"][golden["objects"][:, 0] == case, 1:].astype(np.float64) for case in range(40)]


def furthest(values, levels, quantiles):
    """Kolmogorov–Smirnov: the largest distance of a sample's distribution from one that quantiles describe."""
    ordered = np.sort(values)
    above, below = (np.searchsorted(ordered, quantiles, side) / len(ordered) for side in ("right", "left"))
    return max((levels - above).max(), (below - levels).max())


def test_crops_as_distributions():
    """As of the paper's models. The sampler of the branch's head (2017-04) is another, which this test tells apart."""
    golden, rng = load("samplers"), np.random.default_rng(0)
    cases = objects_of(golden)
    crops = np.array([transforms.draw_crop(cases[draw % 40], rng) for draw in range(8000)])
    whole = (crops == transforms.WHOLE).all(axis=1)
    assert abs(whole.mean() - golden["before_share_of_samplers"][0]) < 5 * (0.25 / len(crops)) ** 0.5
    width, height = (crops[~whole, 2:] - crops[~whole, :2]).T
    seen = {"width": width, "height": height, "log_aspect": np.log(width / height), "scale": np.sqrt(width * height)}
    limit = 2.2 / len(width) ** 0.5  # exceeded by chance once in 8,000
    for name, values in seen.items():
        assert furthest(values, golden["quantiles"], golden[f"before_{name}_quantiles"]) < limit, name
    for name in ("width", "height", "log_aspect"):
        assert furthest(seen[name], golden["quantiles"], golden[f"head_{name}_quantiles"]) > limit, name


def test_objects_in_the_originals_crops():
    """The same objects stay, but for a center within a pixel of an edge; boxes are off by the rounding of windows."""
    golden = load("crops")
    cases, sizes = objects_of(golden), golden["sizes"]
    transform = transforms.train_transforms(ssd_utils.get_preset("vgg300"))
    equal = 0
    for draw, row in enumerate(golden["draws"].astype(np.float64)):
        case = int(row[0])
        left, top, right, bottom = row[5:9]  # the picture in the canvas
        canvas = np.array([-left, -top, 1 - left, 1 - top]) / np.array([right - left, bottom - top] * 2)
        choices = transforms.Choices(canvas=tuple(canvas), crop=tuple(row[9:]), mirror=bool(row[3]))
        labels = np.zeros(len(cases[case]), np.int32)
        plan = transform.compose(*map(int, sizes[case]), cases[case], labels, choices)
        kept = golden["kept"][golden["kept"][:, 0] == draw]
        if plan.kept.tolist() != kept[:, 1].tolist():
            continue
        equal += 1
        pixels = min((row[11] - row[9]) * row[1], (row[12] - row[10]) * row[2])  # of the picture, in the crop
        assert abs(plan.boxes - kept[:, 2:]).max(initial=0) * 300 < 1 + 300 / pixels  # one of the result, one of it
    assert equal >= 0.98 * len(golden["draws"])
