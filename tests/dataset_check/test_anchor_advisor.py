"""The matchable share against all anchors, the search for better ones, and the file between two programs."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import boxes as box_geometry
import ssd_utils
from dataset_check import anchor_advisor
from structures import UserError
from system import files

VGG300 = ssd_utils.get_preset("vgg300")


def random_boxes(rng, count, low=0.02, high=0.9, ratio=1.0):
    """float64 [count,4] inside the picture: sides low..high, width / height around a ratio."""
    side = np.exp(rng.uniform(np.log(low), np.log(high), count))
    shape = np.exp(np.log(ratio) + rng.normal(0, 0.2, count)) ** 0.5
    size = np.stack([side * shape, side / shape], axis=1).clip(0.005, 1)
    corner = rng.random((count, 2)) * (1 - size)
    return np.concatenate([corner, corner + size], axis=1)


def iou_with_all(preset, boxes):
    anchors = ssd_utils.make_anchors(preset)
    return box_geometry.iou(boxes, box_geometry.from_cxcywh(anchors.astype(np.float64))).max(axis=1)


@pytest.mark.parametrize("name", ssd_utils.PRESETS)
@pytest.mark.parametrize("clip_anchors", ["none", "size"])
def test_nearest_cells_are_as_good_as_all_anchors(name, clip_anchors):
    preset = dataclasses.replace(ssd_utils.get_preset(name), clip_anchors=clip_anchors)
    boxes = random_boxes(np.random.default_rng(0), 120)
    np.testing.assert_allclose(anchor_advisor.best_iou(preset, boxes), iou_with_all(preset, boxes), atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=5))
def test_any_box_even_empty_or_at_the_border(corners):
    boxes = np.sort(np.array(corners, np.float64).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    found = anchor_advisor.best_iou(VGG300, boxes)
    assert found.shape == (len(boxes),) and np.isfinite(found).all()
    if len(boxes):
        np.testing.assert_allclose(found, iou_with_all(VGG300, boxes), atol=1e-5)


def test_matchable_by_class_and_size_by_hand():
    side = np.array([60, 31, 96]) / 300  # 60: an anchor's own size, at an anchor's own place
    centers = np.array([[24, 24], [24, 24], [150, 150]]) / 300
    boxes = np.concatenate([centers - side[:, None] / 2, centers + side[:, None] / 2], axis=1)
    boxes[1] = [0.5, 0.5, 0.5 + 4 / 300, 0.5 + 90 / 300]  # 4 × 90 pixels: matches nothing
    table = anchor_advisor.matchable(VGG300, boxes, np.array([0, 0, 1]), ("cat", "dog"))
    assert table[anchor_advisor.ALL] == {"all objects": (2, 3), "small": (0, 1), "medium": (1, 1), "large": (1, 1)}
    assert table["cat"] == {"all objects": (1, 2), "small": (0, 1), "medium": (1, 1), "large": (0, 0)}
    assert table["dog"] == {"all objects": (1, 1), "small": (0, 0), "medium": (0, 0), "large": (1, 1)}


def test_long_thin_boxes_get_long_thin_anchors():
    boxes = random_boxes(np.random.default_rng(1), 600, 0.08, 0.4, ratio=6)
    advice = anchor_advisor.propose(VGG300, boxes, np.zeros(600, int))
    assert advice.before < 0.5 and advice.after > 0.9 and advice.worthwhile
    measured = (iou_with_all(advice.preset, boxes) >= 0.5).mean()
    assert abs(measured - advice.after) < 0.005
    assert max(ratio for ratios in advice.preset.aspect_ratios for ratio in ratios) >= 4


def test_small_boxes_of_a_class_that_is_a_tenth():
    rng = np.random.default_rng(2)
    boxes = np.concatenate([random_boxes(rng, 540, 0.2, 0.8), random_boxes(rng, 60, 0.03, 0.06)])
    labels = np.repeat([0, 1], [540, 60])
    advice = anchor_advisor.propose(VGG300, boxes, labels)
    share = (anchor_advisor.best_iou(VGG300, boxes)[540:] >= 0.5).mean()
    advised = (anchor_advisor.best_iou(advice.preset, boxes)[540:] >= 0.5).mean()
    assert advice.after > advice.before and advised > share + 0.4


def test_proposals_keep_what_a_preset_promises():
    boxes = random_boxes(np.random.default_rng(3), 300, 0.02, 0.1, ratio=5)
    preset = anchor_advisor.propose(VGG300, boxes, np.zeros(300, int)).preset
    sizes = [*preset.min_sizes, preset.max_sizes[-1]]
    assert sizes == sorted(sizes) and preset.max_sizes[:-1] == preset.min_sizes[1:]
    assert sizes[-1] >= 0.9 * 300  # pictures are enlarged in training: large anchors stay needed
    assert all(1 <= len(ratios) <= anchor_advisor.MAX_RATIOS for ratios in preset.aspect_ratios)
    assert all(len(new) >= len(old) for new, old in zip(preset.aspect_ratios, VGG300.aspect_ratios, strict=True))
    assert all(type(size) is float for size in sizes[:1]) and preset.name == "vgg300"


def test_anchors_that_fit_are_left_alone():
    boxes = random_boxes(np.random.default_rng(4), 300, 0.3, 0.8)
    advice = anchor_advisor.propose(VGG300, boxes, np.zeros(300, int))
    assert advice.preset == VGG300 and not advice.worthwhile


def test_file_brings_the_same_anchors(tmp_path):
    boxes = random_boxes(np.random.default_rng(5), 200, 0.03, 0.3, ratio=4)
    advice = anchor_advisor.propose(VGG300, boxes, np.zeros(200, int))
    anchor_advisor.write_anchors(tmp_path / "anchors.json", advice)
    assert anchor_advisor.read_anchors(tmp_path / "anchors.json", VGG300) == advice.preset != VGG300
    wide = dataclasses.replace(VGG300, width=0.25)
    assert anchor_advisor.read_anchors(tmp_path / "anchors.json", wide).width == 0.25
    with pytest.raises(UserError, match=r"anchors\.json: .*300, vgg512 has 512"):
        anchor_advisor.read_anchors(tmp_path / "anchors.json", ssd_utils.get_preset("vgg512"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"min_sizes": [30, 60]}, "'min_sizes' is [30, 60], not of 6 entries; there must be an entry for each"),
        ({"max_sizes": None}, "'max_sizes' is None, not a list"),
        ({"min_sizes": [0, 60, 111, 162, 213, 264]}, "'min_sizes[0]' is 0, not a number from 0.01"),
        ({"min_sizes": ["30", 60, 111, 162, 213, 264]}, "'min_sizes[0]' is '30', not a number"),
        ({"min_sizes": [True, 60, 111, 162, 213, 264]}, "'min_sizes[0]' is True, not a number"),
        ({"min_sizes": [10**400, 60, 111, 162, 213, 264]}, "'min_sizes[0]' is 1000"),
        ({"max_sizes": [20, 111, 162, 213, 264, 315]}, "entry 1 of max_sizes, 20, is below"),
        ({"aspect_ratios": [2, 2, 2, 2, 2, 2]}, "'aspect_ratios[0]' is 2, not a list"),
        ({"aspect_ratios": [[2], [0.5], [2], [2], [2], [2]]}, "'aspect_ratios[1][0]' is 0.5, not a number from 1 to"),
        ({"aspect_ratios": [[2], [{}], [2], [2], [2], [2]]}, "'aspect_ratios[1][0]' is {}, not a number"),
        ({"aspect_ratios": [[2], [2, 2], [2], [2], [2], [2]]}, "the aspect_ratios [2, 2] have a 1, one twice"),
        ({"aspect_ratios": [[1], [2], [2], [2], [2], [2]]}, "the aspect_ratios [1] have a 1"),
        ({"aspect_ratios": [[2 + n for n in range(90)]] * 6}, "or more than 20"),
        ({"input_size": [300] * 1000}, "these anchors are for an input of [300,"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path, changes, words):
    path = tmp_path / "anchors.json"
    values = {name: getattr(VGG300, name) for name in anchor_advisor.ANCHOR_FIELDS}
    files.write_json(path, {**values, **changes})
    with pytest.raises(UserError) as caught:
        anchor_advisor.read_anchors(path, VGG300)
    assert words in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
