"""transforms.py against the slow pipeline of oracles_transforms.py, and the bugs that other projects had."""

import dataclasses
import functools
import json
import pickle
import types

import cv2
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles_transforms as oracle
import transforms
from settings.training_settings import TrainingSettings
from transforms import AUGMENTATIONS, WHOLE, Augmentation, Choices, Distortion, TrainTransforms

MEAN = (123, 117, 104)
GEOMETRY = dataclasses.replace(AUGMENTATIONS["none"], expand=4.0, crop=True, mirror=True)
LIGHT, NONE = AUGMENTATIONS["light"], AUGMENTATIONS["none"]
NO_OBJECTS = (np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
ALL_STEPS = Distortion(brightness=20, contrast=1.3, saturation=0.7, hue=-15)


def preset(size=300):
    return types.SimpleNamespace(input_wh=(size, size), mean=MEAN)


def smooth_image(height, width, seed=0):
    """uint8 [height,width,3] without sharp edges, all hues."""
    coarse = np.random.default_rng(seed).uniform(40, 215, (4, 5, 3)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def random_boxes(rng, count):
    """Boxes float32 [count,4] in 0..1 of at least 0.05 a side, labels int32 [count]."""
    size = rng.uniform(0.05, 0.8, (count, 2))
    corner = rng.uniform(0, 1 - size)
    return np.concatenate([corner, corner + size], 1).astype(np.float32), np.arange(count, dtype=np.int32)


# Colors


@pytest.mark.parametrize(
    "distortion",
    [
        Distortion(brightness=-31.6),
        Distortion(brightness=25),
        Distortion(contrast=0.5),
        Distortion(contrast=1.5, brightness=32),
        Distortion(contrast=1.5, brightness=-32, contrast_first=False),
        Distortion(saturation=0.5),
        Distortion(saturation=1.5),
        Distortion(hue=18),
        Distortion(hue=-18),
        Distortion(20, 1.4, 1.3, -9, contrast_first=True),
        Distortion(20, 1.4, 1.3, -9, contrast_first=False),
        Distortion(-30, 0.6, 0.6, 12, contrast_first=False),
    ],
)
def test_distortion_matches_the_float_oracle_pixel_by_pixel(distortion):
    image = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    difference = np.abs(transforms.distort(image, distortion) - oracle.distort(image, distortion))
    in_hsv = distortion.saturation != 1 or distortion.hue != 0
    # A hue of 180 steps is half a step off: 255 / 30 / 2 levels, and contrast multiplies that.
    assert difference.max() <= (8 if in_hsv else 1)
    assert difference.mean() <= (1.5 if in_hsv else 0.5)


def test_the_order_of_contrast_and_color_matters_and_is_obeyed():
    pixel = np.array([[[200, 180, 40]]], np.uint8)
    first = transforms.distort(pixel, Distortion(contrast=1.5, saturation=0.5, contrast_first=True))
    last = transforms.distort(pixel, Distortion(contrast=1.5, saturation=0.5, contrast_first=False))
    assert np.abs(first[0, 0].astype(int) - (255, 255, 158)).max() <= 2  # (255, 255, 60) paled
    assert np.abs(last[0, 0].astype(int) - (255, 255, 180)).max() <= 4  # (200, 190, 120) brightened


def test_hue_and_saturation_change_channels_not_rows():
    """Another project applied them to image[0] and image[1]: rows, not channels."""
    image = np.random.default_rng(2).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    whole = transforms.distort(image, ALL_STEPS)
    for y in range(9):
        for x in range(7):
            alone = transforms.distort(image[y : y + 1, x : x + 1], ALL_STEPS)
            assert np.abs(whole[y, x].astype(int) - alone[0, 0]).max() <= 1  # vector against scalar code


@pytest.mark.parametrize(
    ("rgb", "distortion", "expected"),
    [
        ((255, 0, 0), Distortion(saturation=0.5), (255, 127, 127)),
        ((128, 128, 128), Distortion(saturation=1.5, hue=18), (128, 128, 128)),
        ((255, 0, 0), Distortion(hue=15), (255, 128, 0)),  # 30°: orange
        ((255, 0, 0), Distortion(hue=-15), (255, 0, 128)),  # turns round below 0, not held at red
        ((255, 0, 64), Distortion(hue=15), (255, 64, 0)),  # and above 180
        ((250, 5, 128), Distortion(brightness=32), (255, 37, 160)),  # saturates, does not overflow
        ((250, 5, 128), Distortion(brightness=-32), (218, 0, 96)),
        ((250, 5, 128), Distortion(channels=(2, 0, 1)), (128, 250, 5)),
        ((250, 5, 128), Distortion(brightness=-32, channels=(1, 0, 2)), (0, 218, 96)),
    ],
)
def test_colors_known_by_hand(rgb, distortion, expected):
    changed = transforms.distort(np.array([[rgb]], np.uint8), distortion)[0, 0].astype(int)
    assert np.abs(changed - expected).max() <= 4, changed


def test_each_color_step_happens_half_the_time_within_its_range():
    rng = np.random.default_rng(3)
    drawn = [transforms.draw_distortion(Augmentation(), rng) for _ in range(4000)]
    for name, neutral, reach in [("brightness", 0, 32), ("contrast", 1, 0.5), ("saturation", 1, 0.5), ("hue", 0, 18)]:
        amounts = np.array([getattr(one, name) for one in drawn]) - neutral
        used = amounts[amounts != 0]
        assert abs(len(used) / 4000 - 0.5) < 0.035
        assert 0.97 * reach < np.abs(used).max() <= reach
        assert abs(used.mean()) < 0.06 * reach
    assert abs(np.mean([one.contrast_first for one in drawn]) - 0.5) < 0.035


def test_each_color_step_is_drawn_independently():
    """Neither whether one happens nor how far it goes says anything of another, nor of the order."""
    rng = np.random.default_rng(3)
    drawn = [transforms.draw_distortion(Augmentation(), rng) for _ in range(4000)]
    amounts = np.array([(one.brightness, one.contrast - 1, one.saturation - 1, one.hue) for one in drawn])
    first = np.array([[one.contrast_first] for one in drawn])
    for values in (amounts, amounts != 0, np.abs(amounts)):
        related = np.corrcoef(np.concatenate([values, first], axis=1).T)
        assert np.abs(related - np.eye(5)).max() < 0.07


# The crop


def crops_of(objects, count, seed, draw):
    rng = np.random.default_rng(seed)
    return np.array([draw(objects, rng) for _ in range(count)])


def best_iou(crop, objects):
    return max(oracle.iou(crop, box) for box in objects)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_trials_give_the_same_candidates_as_the_slow_loop(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    objects = random_boxes(rng, 1 + 2 * seed)[0].astype(float)
    trials = np.array([oracle.draw_trial(rng) for _ in range(300)])
    queues = [iter(trials[start : start + 50].tolist()) for start in range(0, 300, 50)]
    expected = oracle.crop_candidates(lambda sampler: tuple(next(queues[sampler])), objects)

    monkeypatch.setattr(transforms, "_draw_trials", lambda count, rng, augmentation: trials.T)
    counts = []
    for pick in range(len(expected)):
        fake = types.SimpleNamespace(integers=lambda count, pick=pick: counts.append(count) or pick)
        assert transforms.draw_crop(objects, fake) == expected[pick]
    assert counts == [len(expected)] * len(expected)


@pytest.mark.parametrize(
    "objects",
    [
        [(0.3, 0.2, 0.8, 0.7)],
        pytest.param(
            [(0.05, 0.1, 0.15, 0.3), (0.6, 0.5, 0.95, 0.9), (0.4, 0.4, 0.5, 0.45)], marks=pytest.mark.slow, id="three"
        ),
    ],
)
def test_crops_are_distributed_as_the_slow_loop_draws_them(objects):
    """Means within five standard errors, and the shares of crops by overlap within five of theirs."""
    objects = np.array(objects)
    count = 2000
    fast = crops_of(objects, count, 10, transforms.draw_crop)
    slow = crops_of(objects, count, 11, oracle.draw_crop)

    def features(crops):
        size = crops[:, 2:] - crops[:, :2]
        overlap = np.array([best_iou(crop, objects) for crop in crops])
        bins = [(low <= overlap) & (overlap < low + 0.1) for low in np.arange(0, 1, 0.1)]
        whole = (crops == WHOLE).all(axis=1)
        return np.stack([*crops.T, *size.T, size.prod(1), size[:, 0] / size[:, 1], overlap, whole, *bins], 1)

    a, b = features(fast), features(slow)
    error = np.sqrt((a.var(0) + b.var(0)) / count) + 1e-9
    assert (np.abs(a.mean(0) - b.mean(0)) < 5 * error).all(), (a.mean(0) - b.mean(0)) / error


def test_trials_have_the_stated_ranges():
    trials = transforms._draw_trials(20000, np.random.default_rng(4), Augmentation()).T
    size = trials[:, 2:] - trials[:, :2]
    scale, ratio = np.sqrt(size.prod(1)), size[:, 0] / size[:, 1]
    assert trials.min() >= 0 and trials.max() <= 1
    assert 0.3 <= scale.min() < 0.302 and 0.99 < scale.max() <= 1
    assert 0.5 - 1e-9 <= ratio.min() < 0.502 and 1.99 < ratio.max() <= 2 + 1e-9
    assert abs(scale.mean() - 0.65) < 0.01  # scale is uniform; area is not
    assert abs(ratio[scale < 0.6].mean() - 1.25) < 0.02  # so is the ratio where it is not clamped
    assert (size < 1).mean() > 0.999  # the ratio is clamped to what fits, not the crop cut at the canvas


def test_trials_reach_the_narrowest_shapes_that_fit():
    """A crop of scale 0.8 may be 0.64 wide and 1 high, or the other way round."""
    for along_ratio, size in ((0.0, (0.64, 1.0)), (1.0, (1.0, 0.64))):
        draws = np.array([[0.5], [along_ratio], [0.0], [0.0]])
        rng = types.SimpleNamespace(random=lambda shape, draws=draws: draws)
        (trial,) = transforms._draw_trials(1, rng, Augmentation(crop_scale=(0.6, 1.0))).T
        assert trial == pytest.approx((0, 0, *size))


def test_the_overlap_condition_can_fail():
    """Another project compared the wrong way and accepted every crop: a far too small object leaves two candidates."""
    objects = np.array([(0.5, 0.5, 0.52, 0.52)])
    crops = crops_of(objects, 1000, 5, transforms.draw_crop)
    whole = (crops == WHOLE).all(axis=1)
    assert abs(whole.mean() - 0.5) < 0.08  # "whole image" and "any"
    assert not all(best_iou(crop, objects) > 0 for crop in crops)


def test_one_object_overlapped_enough_suffices():
    """At least one, not all: two distant objects cannot both be overlapped by half."""
    objects = np.array([(0.0, 0.0, 0.45, 0.45), (0.55, 0.55, 1.0, 1.0)])
    crops = crops_of(objects, 300, 6, transforms.draw_crop)
    assert max(best_iou(crop, objects) for crop in crops) > 0.7


def test_without_objects_the_crop_is_the_whole_image():
    empty_or_inverted = np.array([(0.2, 0.2, 0.2, 0.6), (0.7, 0.1, 0.3, 0.4)])
    for objects in (np.zeros((0, 4)), empty_or_inverted):
        assert (crops_of(objects, 20, 7, transforms.draw_crop) == WHOLE).all()


# The whole chain


@st.composite
def aligned_cases(draw):
    """A picture, boxes and choices where every edge falls on whole pixels of source, canvas and result (60)."""
    width, height = 6 * draw(st.integers(5, 20)), 6 * draw(st.integers(5, 20))
    pads = [6 * draw(st.integers(0, 10)) for _ in range(4)]
    canvas_w, canvas_h = width + pads[0] + pads[2], height + pads[1] + pads[3]
    crop_w = draw(st.sampled_from([side for side in (30, 60, 120, 180) if side <= canvas_w]))
    crop_h = draw(st.sampled_from([side for side in (30, 60, 120, 180) if side <= canvas_h]))
    x = 6 * draw(st.integers(0, (canvas_w - crop_w) // 6))
    y = 6 * draw(st.integers(0, (canvas_h - crop_h) // 6))
    choices = Choices(
        draw(st.sampled_from([Distortion(), ALL_STEPS])),
        (-pads[0] / width, -pads[1] / height, 1 + pads[2] / width, 1 + pads[3] / height),
        (x / canvas_w, y / canvas_h, (x + crop_w) / canvas_w, (y + crop_h) / canvas_h),
        draw(st.sampled_from([cv2.INTER_LINEAR, cv2.INTER_NEAREST, cv2.INTER_AREA])),
        draw(st.booleans()),
        draw(st.booleans()),
    )
    return width, height, choices, draw(st.integers(0, 1000)), draw(st.booleans())


@settings(max_examples=60, deadline=None)
@given(aligned_cases(), st.sampled_from([60, (120, 60), (60, 180)]))
def test_geometry_first_equals_the_slow_pipeline(case, size):
    width, height, choices, seed, clip_boxes = case
    image = smooth_image(height, width, seed)
    boxes, labels = random_boxes(np.random.default_rng(seed), 12)
    transform = TrainTransforms(size, MEAN, Augmentation(clip_boxes=clip_boxes))
    plan = transform.compose(width, height, boxes, labels, choices)
    result = transform.render(plan, image)
    expected, expected_boxes, expected_labels = oracle.transform(image, boxes, labels, choices, size, MEAN, clip_boxes)
    assert plan.labels.tolist() == expected_labels
    np.testing.assert_allclose(plan.boxes, expected_boxes, atol=2e-6)
    difference = np.abs(result.astype(float) - expected)
    # The original blends picture and mean where they meet; here the picture ends sharply. Hence the median.
    assert np.median(difference) <= 3
    assert difference.mean() <= 6


@pytest.mark.parametrize("seed", range(40))
def test_drawn_choices_agree_with_the_slow_pipeline_to_a_pixel(seed):
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(40, 90, 2))
    boxes, labels = random_boxes(rng, 6)
    transform = TrainTransforms(60, MEAN)
    choices = transforms.draw_choices(transform.augmentation, boxes, rng)
    plan = transform.compose(width, height, boxes, labels, choices)
    image = smooth_image(height, width, seed)
    expected, expected_boxes, expected_labels = oracle.transform(image, boxes, labels, choices, 60, MEAN)
    canvas, crop = np.array(choices.canvas), np.array(choices.crop)
    canvas_size = canvas[2:] - canvas[:2]
    corner, window = canvas[:2] + crop[:2] * canvas_size, (crop[2:] - crop[:2]) * canvas_size
    pixel = (1 / (window * (width, height)) + 1 / 60).max()
    centers = ((boxes[:, :2] + boxes[:, 2:]) / 2 - corner) / window
    for label in set(plan.labels) ^ set(expected_labels):  # only a center on the very edge may differ
        assert np.minimum(np.abs(centers[label]), np.abs(centers[label] - 1)).min() <= 1.5 * pixel
    both = sorted(set(plan.labels) & set(expected_labels))
    ours = plan.boxes[np.isin(plan.labels, both)]
    theirs = expected_boxes[np.isin(expected_labels, both)]
    np.testing.assert_allclose(ours, theirs, atol=1.5 * pixel)
    difference = np.abs(transform.render(plan, image).astype(float) - expected)
    assert np.median(difference) <= 6
    assert difference.mean() <= 12


def painted(width, height, box_px):
    """A dark picture with a white rectangle at whole pixels, and the box in fractions."""
    image = np.full((height, width, 3), 10, np.uint8)
    x0, y0, x1, y1 = box_px
    image[y0:y1, x0:x1] = 255
    return image, np.array([box_px], np.float32) / (width, height, width, height)


@pytest.mark.parametrize("reduced", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_boxes_lie_on_the_pixels_that_they_describe(seed, reduced):
    """A white rectangle is found again where its box says, in the full and in the reduced JPEG."""
    rng = np.random.default_rng(seed)
    image, boxes = painted(1003, 745, (301, 220, 655, 489))
    transform = TrainTransforms(100, (0, 0, 0), GEOMETRY)
    plan = transform.plan(1003, 745, boxes.astype(np.float32), np.zeros(1, np.int32), rng)
    if reduced:
        flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 98])[1]
        image = cv2.imdecode(encoded, flags.get(plan.max_reduce, cv2.IMREAD_REDUCED_COLOR_8))
    result = transform.render(plan, image)
    ys, xs = np.nonzero(result[..., 0] > 132)
    if len(plan.boxes):
        found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(found - plan.boxes[0] * 100).max() <= 1


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_part_is_augmented_as_a_picture_of_its_own(name):
    """Bit by bit, where nothing is decoded smaller."""
    image, transform = smooth_image(180, 240), TrainTransforms(300, MEAN, AUGMENTATIONS[name])
    for seed, part in enumerate([(0, 0, 100, 90), (140, 90, 240, 180), (37, 11, 38, 90), (0, 0, 240, 180)] * 5):
        boxes, labels = random_boxes(np.random.default_rng(seed), 3)
        alone = np.ascontiguousarray(image[part[1] : part[3], part[0] : part[2]])
        expected, expected_boxes, expected_labels = transform(alone, boxes, labels, np.random.default_rng(seed))
        plan = transform.plan(240, 180, boxes, labels, np.random.default_rng(seed), part)
        assert plan.max_reduce == 1
        np.testing.assert_array_equal(transform.render(plan, image), expected)
        np.testing.assert_allclose(plan.boxes, expected_boxes, atol=1e-6)
        np.testing.assert_array_equal(plan.labels, expected_labels)


@pytest.mark.parametrize("reduced", [False, True])
def test_boxes_lie_on_the_pixels_of_a_part(reduced):
    image, _ = painted(1003, 745, (421, 220, 655, 489))
    part = (399, 170, 1003, 661)
    transform, factors = TrainTransforms(100, (0, 0, 0), GEOMETRY), set()
    own = (np.array([[421, 220, 655, 489]]) - part[:2] * 2) / (604, 491, 604, 491)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        plan = transform.plan(1003, 745, own.astype(np.float32), np.zeros(1, np.int32), rng, part)
        factors.add(plan.max_reduce)
        factor = plan.max_reduce if reduced else 1
        smaller = cv2.resize(image, (-(-1003 // factor), -(-745 // factor)), interpolation=cv2.INTER_AREA)
        ys, xs = np.nonzero(transform.render(plan, smaller)[..., 0] > 132)
        if len(plan.boxes):
            found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert np.abs(found - plan.boxes[0] * 100).max() <= 1.5
        for edge, end in zip(plan.source_px, (1003, 745) * 2, strict=True):
            assert edge % plan.max_reduce == 0 or edge == end
        outside = np.maximum(np.subtract(part[:2], plan.source_px[:2]), np.subtract(plan.source_px[2:], part[2:]))
        assert plan.source_px == (0, 0, 0, 0) or outside.max() < plan.max_reduce  # widened, but no further
    assert {2, 4} <= factors


def test_reduced_decoding_keeps_the_resolution_of_the_result():
    transform = TrainTransforms(300, MEAN)

    def reduction(width, height, **choices):
        return transform.compose(width, height, *NO_OBJECTS, Choices(**choices)).max_reduce

    assert [reduction(side, 5000) for side in (299, 599, 600, 1199, 1200, 2400, 9600)] == [1, 1, 2, 2, 4, 8, 8]
    assert reduction(5000, 599) == 1
    assert reduction(600, 600, crop=(0.1, 0.1, 0.9, 0.9)) == 1
    assert reduction(300, 300, canvas=(-0.5, -0.5, 1.5, 1.5)) == 2


def test_reductions_down_to_the_least_crop_are_foreseen():
    """Of a side of 0.3 · √0.5, which is hardly ever drawn: 594 of 2,800 pixels are not 2 × 300."""
    assert TrainTransforms(300, MEAN).reductions(2800, 2800) == (1, 2, 4, 8)
    assert TrainTransforms(300, MEAN).reductions(2840, 2840) == (2, 4, 8)


def test_the_edges_of_a_picture_fall_on_the_nearest_pixels_of_the_result():
    """7 of 107 pixels are 6.54 of 100; 93.2 and 107.2 of 200 are 46.6 and 53.6."""
    assert transforms._fit_axis(-7, 100, (0, 100), 100, 100, 1) == (0, 100, 7, 100)
    assert transforms._fit_axis(-93.2, 106.8, (0, 14), 14, 100, 1) == (0, 14, 47, 54)


def test_what_a_window_hardly_covers_has_a_pixel_of_the_result_all_the_same():
    assert transforms._fit_axis(-99.9, 0.05, (0, 100), 100, 10, 1) == (0, 1, 9, 10)
    assert transforms._fit_axis(99.95, 199.9, (0, 100), 100, 10, 1) == (99, 100, 0, 1)


def test_the_last_pixel_of_a_picture_that_a_decoder_rounds_down():
    plan = TrainTransforms(10, MEAN).compose(101, 101, *NO_OBJECTS, Choices())
    plan = dataclasses.replace(plan, source_px=(100, 100, 101, 101), max_reduce=2)
    small = np.arange(50 * 50 * 3).reshape(50, 50, 3).astype(np.uint8)
    np.testing.assert_array_equal(transforms._cut(plan, small), small[-1:, -1:])


def test_source_edges_fall_on_pixels_of_the_reduced_picture():
    transform = TrainTransforms(100, MEAN)
    factors = set()
    for seed in range(100):
        boxes, labels = random_boxes(np.random.default_rng(seed), 3)
        plan = transform.plan(1003, 745, boxes, labels, np.random.default_rng(seed))
        factors.add(plan.max_reduce)
        for edge, end in zip(plan.source_px, (1003, 745) * 2, strict=True):
            assert edge % plan.max_reduce == 0 or edge == end
    assert factors >= {2, 4, 8}


def test_reduced_and_full_decoding_look_the_same():
    image = smooth_image(1200, 1600)
    transform = TrainTransforms(150, MEAN)
    for seed in range(20):
        plan = transform.plan(1600, 1200, *random_boxes(np.random.default_rng(seed), 3), np.random.default_rng(seed))
        side = (1600 // plan.max_reduce, 1200 // plan.max_reduce)
        small = cv2.resize(image, side, interpolation=cv2.INTER_AREA)
        difference = np.abs(transform.render(plan, image).astype(int) - transform.render(plan, small))
        assert difference.mean() < 3 and plan.max_reduce > 1


def test_the_mean_around_an_expanded_picture_is_never_distorted():
    transform = TrainTransforms(100, (123.4, 116.6, 104), Augmentation())
    choices = Choices(Distortion(30, 1.5, 1.5, 18), (-1, -1, 1.5, 1.5), mirror=False)
    plan = transform.compose(200, 200, np.zeros((0, 4)), np.zeros(0, np.int32), choices)
    result = transform.render(plan, np.full((200, 200, 3), 100, np.uint8))
    x0, y0, x1, y1 = plan.target_px
    assert (x0, y0, x1, y1) == (40, 40, 80, 80)
    outside = np.ones((100, 100), bool)
    outside[y0:y1, x0:x1] = False
    assert (result[outside] == MEAN).all()
    gray = transforms.distort(np.full((1, 1, 3), 100, np.uint8), choices.distortion).astype(int)
    assert np.abs(result[y0:y1, x0:x1] - gray).max() <= 1


def test_a_crop_that_misses_the_picture_is_all_mean():
    transform = TrainTransforms(50, MEAN)
    choices = Choices(ALL_STEPS, canvas=(0, 0, 4, 4), crop=(0.5, 0.5, 1, 1), mirror=True)
    boxes, labels = random_boxes(np.random.default_rng(0), 3)
    plan = transform.compose(80, 60, boxes, labels, choices)
    result = transform.render(plan, smooth_image(60, 80))
    assert (result == MEAN).all() and result.shape == (50, 50, 3)
    assert plan.boxes.shape == (0, 4) and plan.labels.shape == (0,) and plan.kept.shape == (0,)


def test_a_mean_of_no_whole_levels_is_rounded_where_nothing_else_is_seen():
    transform = TrainTransforms(50, (123.675, 116.28, 103.53))
    plan = transform.compose(80, 60, *NO_OBJECTS, Choices(canvas=(0, 0, 4, 4), crop=(0.5, 0.5, 1, 1)))
    assert (transform.render(plan, smooth_image(60, 80)) == (124, 116, 104)).all()


@pytest.mark.parametrize("crop", [(0.5, 0, 1, 1), (0, 0, 0.5, 1), (0, 0.5, 1, 1), (0, 0, 1, 0.5)])
def test_a_box_stays_when_its_center_is_on_the_edge_of_the_crop(crop):
    box = np.array([(0.25, 0.25, 0.75, 0.75)], np.float32)
    plan = TrainTransforms(100, MEAN).compose(100, 100, box, np.zeros(1), Choices(crop=crop))
    assert plan.kept.tolist() == [0]


def test_a_box_stays_when_its_center_is_inside_and_is_clipped_or_not():
    boxes = np.array([(0.4, 0.4, 0.7, 0.7), (0.3, 0.4, 0.69, 0.8), (0.45, 0.3, 0.9, 0.9)], np.float32)
    labels = np.array([5, 6, 7], np.int32)
    choices = Choices(crop=(0.5, 0.5, 1, 1))
    plan = TrainTransforms(100, MEAN).compose(100, 100, boxes, labels, choices)
    assert plan.labels.tolist() == [5, 7] and plan.kept.tolist() == [0, 2]
    np.testing.assert_allclose(plan.boxes, [(0, 0, 0.4, 0.4), (0, 0, 0.8, 0.8)], atol=1e-6)
    article = TrainTransforms(100, MEAN, Augmentation(clip_boxes=False))
    plan = article.compose(100, 100, boxes, labels, choices)
    np.testing.assert_allclose(plan.boxes, [(-0.2, -0.2, 0.4, 0.4), (-0.1, -0.4, 0.8, 0.8)], atol=1e-6)


def test_empty_and_inverted_boxes_do_not_survive():
    boxes = np.array([(0.2, 0.2, 0.2, 0.6), (0.7, 0.1, 0.3, 0.4), (0.1, 0.9, 0.6, 0.3), (0.1, 0.1, 0.9, 0.9)])
    transform = TrainTransforms(60, MEAN)
    for seed in range(50):
        plan = transform.plan(70, 50, boxes.astype(np.float32), np.arange(4), np.random.default_rng(seed))
        assert set(plan.labels) <= {3}


@pytest.mark.parametrize("side", [20, 200])
def test_colors_are_distorted_once_whether_before_or_after_resizing(side):
    flat = np.full((side, side, 3), (90, 140, 60), np.uint8)
    plan = TrainTransforms(60, MEAN).compose(side, side, np.zeros((0, 4)), np.zeros(0), Choices(ALL_STEPS))
    result = TrainTransforms(60, MEAN).render(plan, flat)
    once = transforms.distort(flat[:1, :1], ALL_STEPS).astype(int)
    assert np.abs(result - once).max() <= 1  # OpenCV's vector and scalar code differ by a level


# What every result must satisfy

sizes = st.sampled_from([(1, 1), (2, 5000), (5000, 2), (37, 53), (300, 300), (640, 480)])
edges = hnp.arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=st.floats(0, 1, width=32))


@settings(max_examples=150, deadline=None)
@given(
    size=sizes,
    boxes=edges,
    seed=st.integers(0, 2**32),
    augmentation=st.sampled_from([*AUGMENTATIONS.values(), Augmentation(clip_boxes=False), GEOMETRY]),
)
def test_any_picture_and_any_boxes_give_a_legal_sample(size, boxes, seed, augmentation):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    labels = np.arange(len(boxes), dtype=np.int32)
    before = image.copy(), boxes.copy(), labels.copy()
    transform = TrainTransforms(60, MEAN, augmentation)
    result, moved, kept_labels = transform(image, boxes, labels, np.random.default_rng(seed))

    assert result.shape == (60, 60, 3) and result.dtype == np.uint8 and result.flags.c_contiguous
    assert not np.shares_memory(result, image)
    assert moved.dtype == np.float32 and moved.ndim == 2 and kept_labels.dtype == np.int32
    assert len(moved) == len(kept_labels) and (np.diff(kept_labels) > 0).all()
    assert (moved[:, 2:] > moved[:, :2]).all()
    if augmentation.clip_boxes:
        assert (moved >= 0).all() and (moved <= 1).all()
    for array, copy in zip((image, boxes, labels), before, strict=True):
        assert (array == copy).all()

    again = transform(image, boxes, labels, np.random.default_rng(seed))
    for array, copy in zip((result, moved, kept_labels), again, strict=True):
        assert array.tobytes() == copy.tobytes()


def test_plan_and_render_equal_the_call_and_name_the_survivors():
    image = smooth_image(120, 160)
    boxes, labels = random_boxes(np.random.default_rng(1), 8)
    transform = transforms.train_transforms(preset(90))
    transform = pickle.loads(pickle.dumps(transform))  # as workers receive it
    for seed in range(20):
        result, moved, moved_labels = transform(image, boxes, labels + 3, np.random.default_rng(seed))
        plan = transform.plan(160, 120, boxes, labels + 3, np.random.default_rng(seed))
        assert (transform.render(plan, image) == result).all()
        assert (plan.boxes == moved).all() and (plan.labels == moved_labels).all()
        assert (labels[plan.kept] + 3 == moved_labels).all()


def test_a_plan_refuses_another_picture():
    transform = TrainTransforms(50, MEAN)
    plan = transform.compose(200, 100, np.zeros((0, 4)), np.zeros(0, np.int32), Choices())
    transform.render(plan, np.zeros((50, 100, 3), np.uint8))  # half the size is enough for 50 pixels
    for shape in [(200, 100, 3), (25, 50, 3), (100, 199, 3)]:
        with pytest.raises(ValueError, match="200×100"):
            transform.render(plan, np.zeros(shape, np.uint8))


def test_random_choices_have_their_shares():
    boxes = np.array([(0.2, 0.3, 0.7, 0.8)], np.float32)
    rng = np.random.default_rng(8)
    drawn = [transforms.draw_choices(Augmentation(), boxes, rng) for _ in range(3000)]
    sides = np.array([one.canvas[2] - one.canvas[0] for one in drawn])
    assert abs((sides > 1).mean() - 0.5) < 0.04
    assert abs(sides[sides > 1].mean() - 2.5) < 0.1 and 3.9 < sides.max() <= 4
    places = np.array([one.canvas[:2] for one in drawn])[sides > 1] / (1 - sides[sides > 1, None])
    assert places.min() >= 0 and places.max() <= 1
    assert (np.abs(places.mean(axis=0) - 0.5) < 0.03).all() and abs(np.corrcoef(places.T)[0, 1]) < 0.1
    assert all(one.canvas[2] >= 1 - 1e-9 and one.canvas[3] >= 1 - 1e-9 for one in drawn)
    assert abs(np.mean([one.mirror for one in drawn]) - 0.5) < 0.04
    counts = np.bincount([list(transforms.INTERPOLATIONS.values()).index(one.interpolation) for one in drawn])
    assert len(counts) == 5 and np.abs(counts / 3000 - 0.2).max() < 0.04


def test_every_number_of_an_augmentation_counts():
    """Choices by other numbers than the original's, beside the shares and ranges that they should have."""
    chosen = Augmentation(
        brightness_probability=0.9,
        contrast_probability=0.1,
        saturation_probability=0.0,
        hue_probability=1.0,
        contrast_first_probability=0.8,
        reorder_probability=0.6,
        expand=2.0,
        expand_probability=0.2,
        mirror_probability=0.7,
        vertical_flip_probability=0.3,
        min_ious=(0.6,),
        trials=200,
        crop_scale=(0.7, 0.8),
        crop_ratio=(0.9, 1.1),
        interpolations=("cubic", "area"),
    )
    boxes = np.array([(0.1, 0.1, 0.9, 0.9)], np.float32)
    rng = np.random.default_rng(9)
    drawn = [transforms.draw_choices(chosen, boxes, rng) for _ in range(2000)]
    shares = {
        "brightness": (0.9, [one.distortion.brightness != 0 for one in drawn]),
        "contrast": (0.1, [one.distortion.contrast != 1 for one in drawn]),
        "saturation": (0.0, [one.distortion.saturation != 1 for one in drawn]),
        "hue": (1.0, [one.distortion.hue != 0 for one in drawn]),
        "contrast first": (0.8, [one.distortion.contrast_first for one in drawn]),
        "reordered": (0.6 * 5 / 6, [one.distortion.channels != (0, 1, 2) for one in drawn]),
        "expanded": (0.2, [one.canvas != WHOLE for one in drawn]),
        "mirrored": (0.7, [one.mirror for one in drawn]),
        "flipped": (0.3, [one.flip for one in drawn]),
        "both": (0.21, [one.mirror and one.flip for one in drawn]),
        "cubic": (0.5, [one.interpolation == cv2.INTER_CUBIC for one in drawn]),
        "cubic or area": (1.0, [one.interpolation in (cv2.INTER_CUBIC, cv2.INTER_AREA) for one in drawn]),
    }
    for name, (share, happened) in shares.items():
        assert abs(np.mean(happened) - share) < 0.05 * (0 < share < 1) + 1e-12, name
    crops = np.array([one.crop for one in drawn if one.crop != WHOLE and one.canvas == WHOLE])
    assert 0.4 < len(crops) / 1600 < 0.6  # one sampler, which succeeds, and the whole image
    assert min(best_iou(crop, boxes) for crop in crops) >= 0.6
    size = crops[:, 2:] - crops[:, :2]
    scale = np.sqrt(size.prod(1))
    assert scale.min() >= 0.7 - 1e-9 and scale.max() <= 0.8 + 1e-9
    ratio = size[:, 0] / size[:, 1]
    assert 0.9 <= ratio.min() < 0.92 and 1.08 < ratio.max() <= 1.1 + 1e-9


def test_fewer_trials_fail_more_often():
    objects = np.array([(0.2, 0.2, 0.8, 0.8)])
    shares = []
    for trials in (1, 50):
        chosen = Augmentation(min_ious=(0.7,), trials=trials)
        crops = crops_of(objects, 400, 3, functools.partial(transforms.draw_crop, augmentation=chosen))
        shares.append((crops == WHOLE).all(axis=1).mean())
    assert shares[0] > 0.9 and shares[1] < 0.8


def test_narrow_crops_are_decoded_large_enough():
    """Every reduction that a plan has is among those that the cache prepares for."""
    narrow = Augmentation(crop_scale=(0.2, 0.4), crop_ratio=(0.9, 4.0), expand=1)
    transform = TrainTransforms(60, MEAN, narrow)
    boxes, labels = random_boxes(np.random.default_rng(2), 3)
    rng = np.random.default_rng(5)
    found = {transform.plan(900, 700, boxes, labels, rng).max_reduce for _ in range(300)}
    assert len(found) > 1 and found <= set(transform.reductions(900, 700))


def test_the_crop_is_judged_on_the_expanded_canvas(monkeypatch):
    seen = []
    monkeypatch.setattr(transforms, "draw_canvas", lambda augmentation, rng: (-0.5, -1.0, 1.5, 1.0))
    monkeypatch.setattr(transforms, "draw_crop", lambda objects, rng, augmentation: seen.append(objects) or WHOLE)
    boxes = np.array([(0, 0, 1, 1), (0.5, 0.5, 0.75, 1)], np.float32)
    transforms.draw_choices(Augmentation(), boxes, np.random.default_rng(0))
    np.testing.assert_allclose(seen[0], [(0.25, 0.5, 0.75, 1), (0.5, 0.75, 0.625, 1)])


def test_exchanged_channels_leave_the_canvas_and_the_input_alone():
    """Also where a result is written over its source, and where colors come before or after the resizing."""
    image, boxes = np.full((50, 50, 3), (200, 100, 50), np.uint8), np.array([(0, 0, 1, 1)], np.float32)
    for size, canvas in ((100, WHOLE), (25, WHOLE), (100, (0.0, 0.0, 2.0, 2.0))):
        transform = TrainTransforms(size, MEAN, NONE)
        plan = transform.compose(50, 50, boxes, np.zeros(1), Choices(Distortion(channels=(2, 0, 1)), canvas))
        rendered = transform.render(plan, image, np.empty((size, size, 3), np.uint8))
        assert rendered[0, 0].tolist() == [50, 200, 100]
        assert rendered[-1, -1].tolist() == ([50, 200, 100] if canvas == WHOLE else list(MEAN))
    assert (image == (200, 100, 50)).all()
    assert (transforms.distort(image, Distortion(channels=(2, 0, 1)), image) == (50, 200, 100)).all()


def test_mirroring_moves_boxes_with_the_pixels():
    image, boxes = painted(100, 100, (10, 20, 30, 60))
    transform = TrainTransforms(100, MEAN, NONE)
    plan = transform.compose(100, 100, boxes, np.zeros(1), Choices(mirror=True))
    np.testing.assert_allclose(plan.boxes, [(0.7, 0.2, 0.9, 0.6)], atol=1e-6)
    assert (transform.render(plan, image) == image[:, ::-1]).all()


@pytest.mark.parametrize("steps", [Distortion(), Distortion(brightness=20), ALL_STEPS])
def test_flipping_moves_boxes_with_the_pixels(steps):
    """Alone and mirrored too, with colors that are changed before it or after it."""
    image, boxes = painted(100, 100, (10, 20, 30, 60))
    transform = TrainTransforms(100, MEAN, NONE)
    for mirror, expected in ((False, (0.1, 0.4, 0.3, 0.8)), (True, (0.7, 0.4, 0.9, 0.8))):
        plan = transform.compose(100, 100, boxes, np.zeros(1), Choices(steps, mirror=mirror, flip=True))
        np.testing.assert_allclose(plan.boxes, [expected], atol=1e-6)
        turned = image[::-1, ::-1] if mirror else image[::-1]
        rendered = transform.render(plan, image, np.empty((100, 100, 3), np.uint8))
        np.testing.assert_array_equal(rendered, transforms.distort(np.ascontiguousarray(turned), steps))


def test_without_flips_a_seed_gives_what_it_gave():
    boxes = random_boxes(np.random.default_rng(0), 3)[0]
    for seed in range(50):
        rngs = np.random.default_rng(seed), np.random.default_rng(seed)
        never = transforms.draw_choices(Augmentation(), boxes, rngs[0])
        always = transforms.draw_choices(Augmentation(vertical_flip_probability=1), boxes, rngs[1])
        assert always == dataclasses.replace(never, flip=True)


# Parts for a cache, and speed that may not cost a bit


@pytest.mark.parametrize("steps", [dataclasses.replace(LIGHT), Augmentation()], ids=["tone", "all"])
def test_distortion_equals_single_steps_to_the_bit(steps):
    """On views and whole arrays of any size, since vector code and the rest of a row could round differently."""
    rng = np.random.default_rng(5)
    for _ in range(400):
        height, width = rng.integers(1, 50, 2)
        image = rng.integers(0, 256, (height + 3, width + 2, 3), dtype=np.uint8)
        image = image[1:-2, 1:-1] if rng.random() < 0.5 else image
        distortion = transforms.draw_distortion(steps, rng)
        expected = oracle.distort_to_the_bit(image, distortion)
        kept = image.copy()
        assert (transforms.distort(image, distortion) == expected).all()
        assert (image == kept).all()
        out = np.empty_like(expected)
        assert transforms.distort(image, distortion, out) is out and (out == expected).all()


@pytest.mark.parametrize("shift", [0.5, 1.5, -0.5, -2.5, 255.5, 0.49999, -300, 300, 1e-9])
def test_levels_that_are_rounded_at_a_tie(shift):
    """Half a level more is rounded to the even one, so that no single number can be added instead."""
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    for distortion in (Distortion(brightness=shift), Distortion(contrast=abs(shift)), Distortion(contrast=1.5)):
        assert (transforms.distort(image, distortion) == oracle.distort_to_the_bit(image, distortion)).all()


def test_rendering_into_an_array_is_the_same():
    rng = np.random.default_rng(6)
    ring = np.full((2, 60, 60, 3), 7, np.uint8)
    for name, augmentation in AUGMENTATIONS.items():
        transform = TrainTransforms(60, MEAN, augmentation)
        for seed in range(40):
            width, height = (int(side) for side in rng.integers(20, 200, 2))
            image = smooth_image(height, width, seed)
            image.flags.writeable = False  # as a cache hands it out
            plan = transform.plan(width, height, *random_boxes(rng, 3), np.random.default_rng(seed))
            expected = transform.render(plan, image)
            assert transform.render(plan, image, ring[1]) is not None
            assert (ring[1] == expected).all() and (ring[0] == 7).all(), name
            if transform.resizes_whole(width, height):
                resized = transform.resized(plan, image)
                resized.flags.writeable = False
                assert (transform.finish(plan, resized) == expected).all()
                assert (transform.finish(plan, resized, ring[1]) == expected).all()
                other = transform.plan(width, height, *random_boxes(rng, 3), rng)
                assert (transform.resized(other, image) == resized).all()  # whatever is drawn


def test_which_pictures_are_always_resized_whole():
    sizes = [(300, 300), (299, 300), (600, 100), (1000, 800), (900, 100)]
    for name, expected in [("full", []), ("article", []), ("light", sizes), ("none", sizes)]:
        transform = TrainTransforms(300, MEAN, AUGMENTATIONS[name])
        found = [size for size in sizes if transform.resizes_whole(*size)]
        assert found == [size for size in expected if size[0] * size[1] >= 90_000]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_all_reductions_that_are_drawn_are_foreseen(name):
    """And all that are foreseen are drawn, so that room is not kept in vain."""
    transform = TrainTransforms(100, MEAN, AUGMENTATIONS[name])
    for width, height in [(50, 40), (120, 90), (250, 240), (700, 90), (350, 1000), (2500, 2000)]:
        drawn = set()
        for seed in range(600):
            rng = np.random.default_rng(seed)
            drawn.add(transform.plan(width, height, *random_boxes(rng, 2), rng).max_reduce)
        assert drawn == set(transform.reductions(width, height)), (width, height)


# By name


def test_light_changes_tone_and_side_only_and_none_changes_nothing():
    image = smooth_image(120, 160)
    boxes, labels = random_boxes(np.random.default_rng(1), 4)
    plain = transforms.warp(image, 90)
    gray = np.full((40, 40, 3), (90, 100, 110), np.uint8)
    seen = set()
    for seed in range(30):
        result, moved, _ = TrainTransforms(90, MEAN, NONE)(image, boxes, labels, np.random.default_rng(seed))
        assert (result == plain).all()
        np.testing.assert_allclose(moved, boxes, atol=1e-6)
        choices = transforms.draw_choices(LIGHT, boxes, np.random.default_rng(seed))
        assert (choices.canvas, choices.crop, choices.interpolation) == (WHOLE, WHOLE, cv2.INTER_LINEAR)
        assert (choices.distortion.saturation, choices.distortion.hue) == (1, 0)
        seen.add(choices.mirror)
        toned = TrainTransforms(40, MEAN, LIGHT)(gray, boxes, labels, np.random.default_rng(seed))[0]
        assert (toned == toned[0, 0]).all()  # brightness and contrast are one table: exact
    assert seen == {False, True}


def test_augmentations_survive_config_json():
    for augmentation in AUGMENTATIONS.values():
        chosen = TrainingSettings(data="", train="", augmentation=augmentation)
        assert TrainingSettings.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen


def test_validation_warps_linearly_and_copies():
    image = smooth_image(120, 160)
    assert (transforms.warp(image, 90) == cv2.resize(image, (90, 90), interpolation=cv2.INTER_LINEAR)).all()
    square = np.ascontiguousarray(image[:90, :90])
    assert not np.shares_memory(transforms.warp(square, 90), square)
