"""Presets, anchors by hand, matching and encoding against the oracles."""

import dataclasses
import math

import hypothesis.extra.numpy
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import oracles
import ssd_layers
import ssd_utils
from structures import UserError

ROOT2, ROOT3 = math.sqrt(2), math.sqrt(3)
BLOCKS_300 = {38: 0, 19: 5776, 10: 7942, 5: 8542, 3: 8692, 1: 8728}  # first anchor of each map of vgg300


@pytest.fixture(scope="module")
def anchors_300():
    return ssd_utils.make_anchors(ssd_utils.get_preset("vgg300"))


@pytest.fixture(scope="module")
def anchors_512():
    return ssd_utils.make_anchors(ssd_utils.get_preset("vgg512"))


def in_pixels(anchors, first, last, size):
    return anchors[first:last].astype(np.float64) * size


def test_counts(anchors_300, anchors_512):
    assert anchors_300.shape == (8732, 4)
    assert anchors_512.shape == (24564, 4)
    assert anchors_300.dtype == anchors_512.dtype == np.float32
    assert ssd_utils.get_preset("vgg300").num_anchors == 8732
    assert ssd_utils.get_preset("vgg512").num_anchors == 24564
    assert ssd_utils.get_preset("vgg300").anchors_per_cell == (4, 6, 6, 6, 4, 4)
    assert ssd_utils.get_preset("vgg512").anchors_per_cell == (4, 6, 6, 6, 6, 4, 4)


def test_first_cells_of_vgg300(anchors_300):
    between = math.sqrt(30 * 60)
    shapes = [(30, 30), (between, between), (30 * ROOT2, 30 / ROOT2), (30 / ROOT2, 30 * ROOT2)]
    expected = [(4, 4, *shape) for shape in shapes] + [(12, 4, *shape) for shape in shapes]
    np.testing.assert_allclose(in_pixels(anchors_300, 0, 8, 300), expected, atol=1e-4)
    # The row below begins after 38 cells: y grows, x starts again
    np.testing.assert_allclose(in_pixels(anchors_300, 38 * 4, 38 * 4 + 1, 300), [(4, 12, 30, 30)], atol=1e-4)


def test_middle_cell_of_the_second_map_of_vgg300(anchors_300):
    first = BLOCKS_300[19] + (3 * 19 + 7) * 6  # row 3, column 7
    between = math.sqrt(60 * 111)
    expected = [
        (120, 56, 60, 60),
        (120, 56, between, between),
        (120, 56, 60 * ROOT2, 60 / ROOT2),
        (120, 56, 60 / ROOT2, 60 * ROOT2),
        (120, 56, 60 * ROOT3, 60 / ROOT3),
        (120, 56, 60 / ROOT3, 60 * ROOT3),
    ]
    np.testing.assert_allclose(in_pixels(anchors_300, first, first + 6, 300), expected, atol=1e-4)


def test_coarse_maps_of_vgg300(anchors_300):
    # The last cell of 10×10 lies outside the picture's middle: 9.5 · 32 = 304
    last = BLOCKS_300[5] - 6
    np.testing.assert_allclose(in_pixels(anchors_300, last, last + 1, 300), [(304, 304, 111, 111)], atol=1e-4)
    first = BLOCKS_300[3]
    np.testing.assert_allclose(in_pixels(anchors_300, first, first + 1, 300), [(50, 50, 213, 213)], atol=1e-4)
    between = math.sqrt(264 * 315)
    shapes = [(264, 264), (between, between), (264 * ROOT2, 264 / ROOT2), (264 / ROOT2, 264 * ROOT2)]
    expected = [(150, 150, *shape) for shape in shapes]
    np.testing.assert_allclose(in_pixels(anchors_300, BLOCKS_300[1], 8732, 300), expected, atol=1e-4)


def test_cells_of_vgg512(anchors_512):
    expected = [(4, 4, 35.84, 35.84), (4, 4, math.sqrt(35.84 * 76.8), math.sqrt(35.84 * 76.8))]
    np.testing.assert_allclose(in_pixels(anchors_512, 0, 2, 512), expected, atol=1e-4)
    fc7 = 64 * 64 * 4
    last_of_row = fc7 + 31 * 6
    np.testing.assert_allclose(
        in_pixels(anchors_512, last_of_row, last_of_row + 1, 512), [(504, 8, 76.8, 76.8)], atol=1e-4
    )
    wide = in_pixels(anchors_512, fc7 + 4, fc7 + 5, 512)
    np.testing.assert_allclose(wide, [(8, 8, 76.8 * ROOT3, 76.8 / ROOT3)], atol=1e-4)
    between = math.sqrt(460.8 * 537.6)
    expected = [(256, 256, 460.8, 460.8), (256, 256, between, between)]
    np.testing.assert_allclose(in_pixels(anchors_512, 24560, 24562, 512), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "size", "smallest", "largest"),
    [
        ("vgg300", 300, (30, 60, 111, 162, 213, 264), 315),
        ("vgg300-coco", 300, (21, 45, 99, 153, 207, 261), 315),
        ("vgg300-article", 300, (30, 60, 112.5, 165, 217.5, 270), 322.5),
        ("vgg512", 512, (35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8), 537.6),
        ("vgg512-coco", 512, (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8), 542.72),
        ("vgg512-article", 512, (35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8), 537.6),
    ],
)
def test_square_sizes_of_every_preset(name, size, smallest, largest):
    preset = ssd_utils.get_preset(name)
    anchors = in_pixels(ssd_utils.make_anchors(preset), 0, None, size)
    first, found = 0, []
    for side, shapes in zip(preset.feature_maps, preset.anchors_per_cell, strict=True):
        found += [anchors[first, 2], anchors[first + 1, 2]]
        first += side**2 * shapes
    expected = []
    for low, high in zip(smallest, (*smallest[1:], largest), strict=True):
        expected += [low, math.sqrt(low * high)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert first == len(anchors)


def test_clipping_variants(anchors_300):
    preset = ssd_utils.get_preset("vgg300")
    size = ssd_utils.make_anchors(dataclasses.replace(preset, clip_anchors="size"))
    everything = ssd_utils.make_anchors(dataclasses.replace(preset, clip_anchors="all"))
    assert anchors_300[:, 2:].max() > 1.2  # vgg300 as such is not clipped
    np.testing.assert_array_equal(size[:, :2], anchors_300[:, :2])
    np.testing.assert_array_equal(size[:, 2:], np.minimum(anchors_300[:, 2:], 1))
    assert np.count_nonzero(size[:, 1] > 1) == 60  # the last row of the 10×10 map stays centered at 1.0133
    assert size[:, :2].max() == pytest.approx(304 / 300)
    np.testing.assert_array_equal(everything, anchors_300.clip(0, 1))


def test_what_follows_the_network_by_default():
    preset = ssd_utils.get_preset("vgg300")
    assert (preset.score_threshold, preset.nms_iou) == (0.01, 0.45)
    assert (preset.candidates_per_class, preset.keep) == (400, 200)
    assert (preset.clip_boxes, preset.size_offset_limit) == ("output", None)
    assert (preset.mean, preset.channel_order) == ((123, 117, 104), "RGB")
    assert preset.variances == (0.1, 0.2)


@pytest.mark.parametrize(
    ("per_class", "per_map", "expected"),
    [
        (400, None, 400),
        (10_000, None, 8732),
        (10_000, 1000, 3 * 1000 - 400 + 150 + 36 + 4),
        (400, 1000, 400),
        (9, 2, 9),
    ],
)
def test_how_many_anchors_can_enter_suppression(per_class, per_map, expected):
    """The maps of vgg300 have 5776, 2166, 600, 150, 36 and 4."""
    changes = {"candidates_per_class": per_class, "candidates_per_map": per_map}
    assert dataclasses.replace(ssd_utils.get_preset("vgg300"), **changes).candidates == expected


@pytest.mark.parametrize(("name", "base"), [("vgg300-coco", "vgg300"), ("vgg512-article", "vgg512")])
def test_the_base_of_a_preset_is_known_and_not_stored(name, base):
    preset = ssd_utils.get_preset(name)
    assert dataclasses.replace(preset, name="imported").base == base
    assert "base" not in preset.to_json()


@pytest.mark.parametrize("name", list(ssd_utils.PRESETS))
def test_preset_survives_json(name):
    preset = ssd_utils.get_preset(name)
    assert ssd_utils.SSDPreset.from_json(preset.to_json()) == preset


def test_unknown_preset_is_the_users_error():
    with pytest.raises(UserError, match=r"--preset vgg400: .*vgg300.*vgg512"):
        ssd_utils.get_preset("vgg400")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"color": "red"}, "'color' is unknown"),
        ({"steps": [8, 16]}, "steps has 2 entries for 6"),
        ({"clip_anchors": "some"}, "clip_anchors 'some'"),
        ({"channel_order": "GBR"}, "channel_order 'GBR'"),
        ({"clip_boxes": "later"}, "clip_boxes 'later'"),
        ({"conv12_form": "5x5"}, "conv12_form '5x5'"),
        ({"feature_maps": [512] * 6}, "the number of anchors is 7,864,320, more than 1,000,000"),
    ],
)
def test_bad_preset_is_refused(change, message):
    values = {**ssd_utils.get_preset("vgg300").to_json(), **change}
    with pytest.raises(ValueError, match=message):
        ssd_utils.SSDPreset.from_json(values)


def test_the_mean_side_of_an_input_is_that_of_a_square_with_its_area():
    preset = ssd_utils.get_preset("vgg300")
    assert preset.mean_side == 300
    assert ssd_layers.for_input(preset, 448, 288).mean_side == pytest.approx(math.sqrt(448 * 288))


def test_incomplete_preset_is_refused():
    values = ssd_utils.get_preset("vgg300").to_json()
    del values["steps"]
    with pytest.raises(ValueError, match="steps"):
        ssd_utils.SSDPreset.from_json(values)


# Matching. Boxes on a coarse grid, so that ties, duplicates, touching and empty boxes come up all the time and float32
# is exact up to the one division.
COORDINATES = st.integers(0, 6).map(lambda v: v / 4)


@st.composite
def matching_cases(draw):
    anchors = draw(
        hypothesis.extra.numpy.arrays(np.float32, st.tuples(st.integers(0, 9), st.just(4)), elements=COORDINATES)
    )
    gt = draw(hypothesis.extra.numpy.arrays(np.float32, st.tuples(st.integers(0, 6), st.just(4)), elements=COORDINATES))
    return anchors, gt


@given(matching_cases(), st.booleans(), st.sampled_from([0.5, 0.25, 0.7]))
@settings(deadline=None, max_examples=200)
def test_matching_equals_the_oracle(case, bipartite, threshold):
    anchors, gt = case
    kept = anchors.copy(), gt.copy()
    matches = ssd_utils.match_anchors(anchors, gt, threshold, bipartite=bipartite)
    assert matches.dtype == np.int32
    assert matches.tolist() == oracles.match(anchors, gt, threshold, bipartite)
    np.testing.assert_array_equal(anchors, kept[0])
    np.testing.assert_array_equal(gt, kept[1])


def test_bipartite_gives_each_ground_truth_an_anchor_of_its_own():
    # Both ground truths like anchor 0 best, the second more; none reaches 0.5 elsewhere
    anchors = np.array([[0.5, 0.5, 0.5, 0.5], [0.6, 0.5, 0.2, 0.2]], np.float32)
    gt = np.array([[0.5, 0.4, 0.75, 0.75], [0.25, 0.25, 0.75, 0.7]], np.float32)
    assert ssd_utils.match_anchors(anchors, gt).tolist() == [1, 0]
    assert ssd_utils.match_anchors(anchors, gt, bipartite=False).tolist() == [1, -1]


def test_one_anchor_serves_the_best_of_two():
    anchors = np.array([[0.5, 0.5, 0.5, 0.5]], np.float32)
    gt = np.array([[0.25, 0.25, 0.75, 0.5], [0.25, 0.25, 0.75, 0.75]], np.float32)
    assert ssd_utils.match_anchors(anchors, gt).tolist() == [1]


def test_an_overlap_of_exactly_the_threshold_matches():
    anchors = np.array([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.25]], np.float32)
    gt = np.array([[0.25, 0.25, 0.75, 0.75]], np.float32)
    assert ssd_utils.match_anchors(anchors, gt).tolist() == [0, 0]
    assert ssd_utils.match_anchors(anchors, gt, 0.51).tolist() == [0, -1]


def test_a_ground_truth_outside_all_anchors_stays_alone(anchors_300):
    gt = np.array([[2, 2, 2.5, 2.5], [0.3, 0.3, 0.3, 0.6]], np.float32)  # far away; without area
    assert (ssd_utils.match_anchors(anchors_300, gt) == -1).all()


def test_an_object_much_smaller_than_every_anchor_has_one(anchors_300):
    """Of a third of a pixel: its best overlap is 1e-4."""
    gt = np.array([[0.5, 0.5, 0.501, 0.501]], np.float32)
    assert np.count_nonzero(ssd_utils.match_anchors(anchors_300, gt) >= 0) == 1


@pytest.mark.parametrize("seed", range(3))
def test_matching_on_the_real_anchors(seed, anchors_300):
    """A crowd of ground truths, with duplicates: the oracle on the anchors that can matter."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.8, (12, 2))
    gt = np.concatenate([low, low + rng.uniform(0.02, 0.5, (12, 2))], axis=1).clip(0, 1).astype(np.float32)
    gt[5], gt[6] = gt[4], gt[4]
    matches = ssd_utils.match_anchors(anchors_300, gt)
    table = np.array([[oracles.iou(oracles.edges(a), g) for g in gt.tolist()] for a in anchors_300.tolist()])
    some = np.unique(np.concatenate([np.flatnonzero(table.max(axis=1) >= 0.4), *np.argsort(-table, axis=0)[:20].T]))
    expected = np.full(len(anchors_300), -1)
    expected[some] = oracles.match(anchors_300[some], gt)
    np.testing.assert_array_equal(matches, expected)
    assert set(matches) == {-1, *range(12)}


# Encoding
def test_encoding_by_hand():
    anchors = np.array([[0.5, 0.5, 0.2, 0.4]], np.float32)
    gt = np.array([[0.35, 0.4, 0.75, 0.8]], np.float32)  # center (0.55, 0.6), 0.4 × 0.4
    expected = [[0.05 / 0.2 * 10, 0.1 / 0.4 * 10, math.log(2) * 5, 0]]
    np.testing.assert_allclose(ssd_utils.encode_boxes(gt, anchors), expected, atol=1e-5)


@st.composite
def boxes_with_area(draw, count):
    """Float32 [count,4] corners, of sizes from a five-hundredth to 1.5."""
    low = [[draw(st.floats(-0.5, 1, width=32)) for _ in "xy"] for _ in range(count)]
    size = [[draw(st.floats(0.002, 1.5)) for _ in "xy"] for _ in range(count)]
    return np.concatenate([low, np.add(low, size)], axis=1).astype(np.float32)


@given(boxes_with_area(4), boxes_with_area(4))
@settings(deadline=None)
def test_encoding_equals_the_oracle_and_decoding_undoes_it(gt, others):
    anchors = np.array([[(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1] for x1, y1, x2, y2 in others], np.float32)
    offsets = ssd_utils.encode_boxes(gt, anchors)
    assert offsets.dtype == np.float32
    expected = [oracles.encode(g, a) for g, a in zip(gt, anchors, strict=True)]
    np.testing.assert_allclose(offsets, expected, rtol=1e-3, atol=2e-3)  # float32 edges of a tiny box
    decoded = ssd_utils.decode_boxes(offsets, anchors)
    np.testing.assert_allclose(decoded, gt, atol=1e-5)
    expected = [oracles.decode(o, a) for o, a in zip(offsets, anchors, strict=True)]
    np.testing.assert_allclose(decoded, expected, atol=1e-5)


def test_other_variances_are_used_both_ways():
    anchors = np.array([[0.5, 0.5, 0.2, 0.4]], np.float32)
    gt = np.array([[0.35, 0.4, 0.75, 0.8]], np.float32)
    offsets = ssd_utils.encode_boxes(gt, anchors, (1.0, 1.0))
    np.testing.assert_allclose(offsets, [[0.25, 0.25, math.log(2), 0]], atol=1e-6)
    np.testing.assert_allclose(ssd_utils.decode_boxes(offsets, anchors, (1.0, 1.0)), gt, atol=1e-6)


def test_targets_are_label_plus_one_and_background_is_0(anchors_300):
    gt = np.array([[0.1, 0.1, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]], np.float32)
    labels = np.array([0, 4], np.int32)
    matches = ssd_utils.match_anchors(anchors_300, gt)
    classes, offsets = ssd_utils.encode_targets(anchors_300, gt, labels, matches)
    assert classes.dtype == np.int32
    assert set(classes[matches == 0]) == {1}
    assert set(classes[matches == 1]) == {5}
    assert set(classes[matches == -1]) == {0}
    assert not offsets[matches == -1].any()
    for a in np.flatnonzero(matches >= 0):
        np.testing.assert_allclose(offsets[a], oracles.encode(gt[matches[a]], anchors_300[a]), atol=1e-4)


def test_targets_of_a_picture_without_objects(anchors_300):
    nothing = np.zeros((0, 4), np.float32)
    matches = ssd_utils.match_anchors(anchors_300, nothing)
    classes, offsets = ssd_utils.encode_targets(anchors_300, nothing, np.zeros(0, np.int32), matches)
    assert (matches == -1).all()
    assert not classes.any()
    assert offsets.shape == (8732, 4)
    assert not offsets.any()
