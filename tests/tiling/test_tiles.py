"""Tiles of a picture: that they cover it, what is merged and what stays, and a detector that sees only large things."""

import argparse
import itertools
import math

import cv2
import numpy as np
import pytest

import detector
import ssd_utils
from config import ModelDescription
from structures import Detections, UserError
from tiling import tiles


def detections(*rows):
    """Of (box, score, label)."""
    boxes, scores, labels = ([row[part] for row in rows] for part in range(3))
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, np.int32)
    )


@pytest.mark.parametrize(("columns", "rows", "overlap"), [(3, 2, 0.2), (1, 4, 0.5), (2, 1, 0.01), (5, 5, 0.3)])
def test_tiles_cover_the_picture_and_share_their_edges(columns, rows, overlap):
    found = tiles.layout(columns, rows, overlap)
    np.testing.assert_allclose(found[0], (0, 0, 1, 1))
    assert found.shape == (1 + columns * rows, 4)
    sides = found[1:, 2:] - found[1:, :2]
    np.testing.assert_allclose(sides, np.broadcast_to(sides[0], sides.shape))  # all of one size
    row = found[1 : 1 + columns]
    assert row[0, 0] == 0 and row[-1, 2] == pytest.approx(1) and found[-1, 3] == pytest.approx(1)
    np.testing.assert_allclose(row[:-1, 2] - row[1:, 0], overlap * sides[0, 0])
    for size in ((640, 480), (7, 5), (1, 1)):
        seen = np.zeros(size[::-1], bool)
        for x0, y0, x1, y1 in tiles.edges_px(found[1:], size):
            assert 0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]
            seen[y0:y1, x0:x1] = True
        assert seen.all()


SIZES = [(640, 480), (641, 480), (1920, 1080), (3840, 2160), (5000, 100), (1, 700), (1664, 1152), (1665, 641)]


@pytest.mark.parametrize("side", [400, 640])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.33, 0.5])
def test_tiles_of_a_size_cover_each_picture_with_as_few_as_it_takes(side, overlap):
    cut = tiles.Cut(side=side, overlap=overlap)
    for width, height in SIZES:
        found = cut.edges_px((width, height)).tolist()
        assert found[0] == [0, 0, width, height]
        if width <= side and height <= side:
            assert len(found) == 1
            continue
        seen = np.zeros((height, width), bool)
        for x0, y0, x1, y1 in found[1:]:
            assert (x1 - x0, y1 - y0) == (min(side, width), min(side, height))
            assert x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height
            seen[y0:y1, x0:x1] = True
        assert seen.all()
        columns, rows = (sorted({tile[axis] for tile in found[1:]}) for axis in (0, 1))
        assert len(found) == 1 + len(columns) * len(rows)
        assert found[1:] == sorted(found[1:], key=lambda tile: (tile[1], tile[0]))
        for starts, length in ((columns, width), (rows, height)):
            gaps = [later - start for start, later in itertools.pairwise(starts)]
            assert not gaps or (max(gaps) <= math.ceil(side * (1 - overlap)) and max(gaps) - min(gaps) <= 1)
            fewest = 1  # with one less the last would not reach the end
            while side + (fewest - 1) * side * (1 - overlap) < length - 1e-6:
                fewest += 1
            assert len(starts) == fewest


def test_a_picture_that_needs_too_many_tiles_is_refused():
    assert len(tiles.Cut(side=100, overlap=0.2).edges_px((1300, 1300))) == 257
    with pytest.raises(UserError, match=r"^1301×1300 pixels need 272 tiles of 100, more than 256, .*--tile-size"):
        tiles.Cut(side=100, overlap=0.2).edges_px((1301, 1300))
    with pytest.raises(UserError, match=r"tiles of 1, "):
        tiles.Cut(side=1, overlap=0.99).edges_px((100_000, 100_000))


def test_how_pictures_are_cut_is_said_once():
    assert tiles.choose(None, None, 0.2) is None
    assert tiles.choose((3, 2), None, 0.3) == tiles.Cut((3, 2), None, 0.3)
    assert tiles.choose(None, 640, 0.2) == tiles.Cut(None, 640, 0.2)
    np.testing.assert_array_equal(
        tiles.Cut((3, 2), None, 0.3).edges_px((90, 80)), tiles.edges_px(tiles.layout(3, 2, 0.3), (90, 80))
    )
    for wrong, match in (
        (((3, 2), 640, 0.2), "--tiles and --tile-size"),
        ((None, 0, 0.2), "tile_size 0"),
        (((3, 2), None, 1.0), "overlap 1"),
    ):
        with pytest.raises(UserError, match=match):
            tiles.choose(*wrong)


# A picture of 200 × 100 as a whole, and its tiles 0..120 and 80..200
EDGES = np.array([[0, 0, 200, 100], [0, 0, 120, 100], [80, 0, 200, 100]])


def merged(whole=(), left=(), right=(), keep=200):
    """(box, score, label) of what is left of detections in the picture and its tiles, in the pixels of each."""
    found = tiles.merge([detections(*part) for part in (whole, left, right)], EDGES, (200, 100), 0.45, keep)
    rows = zip(found.boxes_px.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    return [(tuple(box), round(score, 3), label) for box, score, label in rows]


def test_boxes_are_in_pixels_of_the_picture_best_first():
    found = merged([((10, 10, 60, 60), 0.6, 0)], [((90, 5, 100, 15), 0.5, 0)], [((100, 50, 110, 60), 0.9, 1)])
    assert found == [((180, 50, 190, 60), 0.9, 1), ((10, 10, 60, 60), 0.6, 0), ((90, 5, 100, 15), 0.5, 0)]
    assert merged() == [] and len(merged([((10, 10, 60, 60), 0.6, 0)] * 3, keep=2)) == 2


def test_one_object_in_several_tiles_is_found_once():
    assert merged([((84, 10, 100, 30), 0.6, 0)], [((85, 10, 100, 30), 0.8, 0)], [((4, 11, 20, 30), 0.7, 0)]) == [
        ((85, 10, 100, 30), 0.8, 0)
    ]
    assert len(merged([((84, 10, 100, 30), 0.6, 0)], [((85, 10, 100, 30), 0.8, 1)])) == 2  # other classes are others


def test_what_is_cut_by_a_tile_gives_way_to_the_whole_object():
    """Though its score is higher, and the IoU low."""
    assert merged([((20, 20, 180, 80), 0.5, 0)], [((20, 20, 120, 80), 0.9, 0)], [((0, 20, 100, 80), 0.9, 0)]) == [
        ((20, 20, 180, 80), 0.5, 0)
    ]
    assert merged(left=[((100, 20, 120, 40), 0.9, 0)], right=[((20, 20, 45, 40), 0.6, 0)]) == [
        ((100, 20, 125, 40), 0.6, 0)
    ]


def test_a_small_whole_object_before_a_large_one_that_is_cut():
    """Each is an object of its own, whichever has the higher score."""
    small, large = (20, 20, 40, 40), (10, 10, 120, 90)
    for score in (0.5, 0.95):
        assert sorted(merged(whole=[(small, score, 0)], left=[(large, 0.9, 0)])) == [(large, 0.9, 0), (small, score, 0)]


def test_of_two_that_are_cut_the_small_one_is_a_part_and_the_better_one_stays():
    large = ((80, 20, 120, 80), 0.9, 0)
    assert merged(left=[large], right=[((0, 30, 20, 60), 0.5, 0)]) == [large]
    assert merged(left=[large], right=[((0, 30, 20, 60), 0.95, 0)]) == [((80, 30, 100, 60), 0.95, 0)]


def test_an_overlap_of_exactly_the_threshold_is_not_above_it():
    for nms_iou, count in ((0.5, 2), (0.49, 1)):
        parts = [detections(((20, 20, 40, 40), 0.9, 0)), detections(((20, 20, 40, 30), 0.8, 0)), detections()]
        assert len(tiles.merge(parts, EDGES, (200, 100), nms_iou, 200)) == count


def test_how_near_to_an_edge_of_its_tile_a_box_is_cut():
    """At 2 % of a side of 100 it still is, so that the whole object takes its place."""
    edges = np.array([[0, 0, 200, 100], [0, 0, 100, 100], [100, 0, 200, 100]])
    for right, count in ((98, 1), (97.5, 2)):
        parts = [detections(((20, 20, 180, 80), 0.5, 0)), detections(((20, 20, right, 80), 0.9, 0)), detections()]
        assert len(tiles.merge(parts, edges, (200, 100), 0.5, 200)) == count


def test_what_ends_at_the_edge_of_the_picture_is_not_cut():
    found = merged([((0, 20, 100, 90), 0.9, 0)], [((0, 40, 30, 60), 0.6, 0)])  # a small one before a large one
    assert len(found) == 2


def test_boxes_of_one_tile_are_left_to_its_suppression():
    pair = [((10, 10, 40, 40), 0.9, 0), ((12, 12, 42, 42), 0.8, 0)]
    assert len(merged(left=pair)) == 2


def test_no_two_boxes_of_one_class_overlap_afterwards():
    """And nothing is lost that overlaps no other."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        parts = []
        for x0, _, x1, _ in EDGES:
            low = rng.uniform(0, 0.8, (8, 2)) * (x1 - x0, 100)
            high = np.minimum(low + rng.uniform(5, 60, (8, 2)), (x1 - x0, 100))
            scores = np.sort(rng.uniform(0.3, 1, 8))[::-1]
            parts.append(
                detections(
                    *zip(np.concatenate([low, high], axis=1).tolist(), scores, rng.integers(0, 2, 8), strict=True)
                )
            )
        found = tiles.merge(parts, EDGES, (200, 100), 0.45, 200)
        source = np.concatenate([part.boxes_px + edge[[0, 1, 0, 1]] for part, edge in zip(parts, EDGES, strict=True)])
        labels = np.concatenate([part.labels for part in parts])
        tile = np.repeat([0, 1, 2], 8)

        def iou(a, b):
            shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
            return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)

        rows = [np.flatnonzero((np.abs(source - box) < 1e-3).all(axis=1))[0] for box in found.boxes_px]
        assert (np.diff(found.scores) <= 0).all() and len(set(rows)) == len(rows)
        for one in rows:
            for other in rows:
                if tile[one] != tile[other] and labels[one] == labels[other]:
                    assert iou(source[one], source[other]) <= 0.45 + 1e-6
        alone = [
            one
            for one in range(24)
            if all(
                iou(source[one], source[other]) == 0
                for other in range(24)
                if other != one and labels[other] == labels[one]
            )
        ]
        assert set(alone) <= set(rows)


class LargeThings:
    """A network that finds white rectangles of at least 20 pixels in its input."""

    batch = None

    def __init__(self):
        self.batches = []

    def run(self, batch, names=None):
        self.batches.append(len(batch))
        boxes, count = np.zeros((len(batch), 9, 4), np.float32), []
        for index, picture in enumerate(batch):
            found = cv2.connectedComponentsWithStats((picture[:, :, 0] > 128).astype(np.uint8))[2][1:]
            found = found[found[:, 2:4].min(axis=1) >= 20][:9]
            count.append(len(found))
            boxes[index, : len(found)] = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1) / 300
        scores, classes = np.full((len(batch), 9), 0.9, np.float32), np.zeros((len(batch), 9), np.int32)
        return {"boxes": boxes, "scores": scores, "classes": classes, "count": np.array(count)}

    def close(self):
        pass


def open_detector(grid=None, batch_size=4, side=None):
    description = ModelDescription(ssd_utils.get_preset("vgg300"), ("square",))
    network = LargeThings()
    settings = {"precision": "float32", "threshold": 0.5, "batch_size": batch_size}
    return detector.Detector(network, description, **settings, cut=tiles.choose(grid, side, 0.2)), network


SQUARES = [
    (30, 40, 60, 70),
    (195, 100, 225, 130),
    (400, 300, 430, 330),
    (500, 60, 800, 400),
]  # one at a seam, one large


def picture_of(squares, size=(900, 600)):
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for x0, y0, x1, y1 in squares:
        image[y0:y1, x0:x1] = 255
    return image


def test_small_things_are_found_in_tiles():
    images = [picture_of(SQUARES), picture_of(SQUARES[1:3])]
    plain, _ = open_detector()
    assert [len(one) for one in plain.detect(images)] == [1, 0]
    tiled, network = open_detector((3, 2))
    found = tiled.detect(images)
    for one, expected in zip(found, (SQUARES, SQUARES[1:3]), strict=True):
        boxes = one.boxes_px[np.lexsort(one.boxes_px.T[::-1])]
        np.testing.assert_allclose(boxes, expected, atol=5)
    assert network.batches == [4, 4, 4, 2]  # two pictures of seven, four at once


def test_pictures_of_all_sizes_are_cut_into_tiles_of_one_size():
    """Into as many as each needs, which go through the network together; a small picture is looked at once."""
    images = [picture_of(SQUARES), picture_of([(10, 10, 40, 40)], (300, 250)), picture_of(SQUARES[1:3])]
    tiled, network = open_detector(side=300)
    found = tiled.detect(images)
    for one, expected in zip(found, (SQUARES, [(10, 10, 40, 40)], SQUARES[1:3]), strict=True):
        boxes = one.boxes_px[np.lexsort(one.boxes_px.T[::-1])]
        np.testing.assert_allclose(boxes, sorted(expected), atol=5)
    assert sum(network.batches) == 2 * (1 + 4 * 3) + 1 and set(network.batches[:-1]) == {4}


def test_files_of_which_one_needs_too_many_tiles(tmp_path, monkeypatch):
    """It is an error like a picture that cannot be read, and the others are looked at; few wait for the network."""
    names, sizes = "abcde", [(900, 600), (300, 250), (4200, 4000), (900, 600), (900, 600)]
    for name, size in zip(names, sizes, strict=True):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture_of([(20, 20, 60, 60)], size))
    tiled, network = open_detector(side=300, batch_size=8)
    groups = []
    monkeypatch.setattr(detector, "MOST_INPUTS", 14)
    monkeypatch.setattr(tiled, "detect_prepared", lambda *one: groups.append(len(one[1])) or found_in(*one))
    found_in = type(tiled).detect_prepared.__get__(tiled)
    results = list(tiled.detect_files([(str(tmp_path / f"{name}.png"), False) for name in names]))
    assert [None if found is None else len(found) for _, _, found in results] == [1, 1, None, 1, 1]
    assert "4200×4000 pixels need 306 tiles of 300" in results[2][1].reason
    assert groups == [2, 2] and max(network.batches) <= 8  # 13 inputs and 1; 13 and 13


@pytest.mark.parametrize("way", [{"grid": (3, 2)}, {"side": 300}], ids=str)
def test_tiles_of_files_and_of_one_picture_are_the_same(way, tmp_path):
    image = picture_of(SQUARES)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    tiled, _ = open_detector(**way)
    [(_, read, found)] = tiled.detect_files([(str(tmp_path / "a.png"), False)])
    np.testing.assert_array_equal(found.boxes_px, tiled.detect(image).boxes_px)
    assert read.size == (900, 600)


def test_predictions_of_tiles_are_not_kept():
    description = ModelDescription(ssd_utils.get_preset("vgg300"), ("square",))
    settings = {"precision": "float32", "threshold": 0.5, "batch_size": 4, "keep_predictions": True}
    with pytest.raises(UserError, match="--dump-predictions"):
        detector.Detector(LargeThings(), description, **settings, cut=tiles.Cut((3, 2)))


@pytest.mark.parametrize("text", ["3", "0x2", "1x1", "3x2x1", "axb", "-1x2", "3 x 2", "100x1"])
def test_what_is_no_grid(text):
    with pytest.raises(argparse.ArgumentTypeError, match="3x2"):
        tiles.parse(text)


def test_a_grid():
    assert tiles.parse("3x2") == (3, 2) and tiles.parse("1×4") == (1, 4)


def test_more_tiles_than_anyone_waits_for_are_refused():
    assert tiles.parse("16x16") == (16, 16)
    with pytest.raises(argparse.ArgumentTypeError, match="'99x99' is more than 256 tiles"):
        tiles.parse("99x99")
