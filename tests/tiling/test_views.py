"""Which objects a tile of a training picture shows, and which tile is shown when, against loops over boxes."""

import numpy as np
import pytest

from tiling import views
from tiling.tiles import Cut

CUTS = [(Cut((3, 2)), (480, 360)), (Cut((2, 1), overlap=0.4), (101, 77)), (Cut(side=200), (640, 333))]


def boxes_of(seed, count):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.95, (count, 2))
    return np.concatenate([low, np.minimum(low + rng.uniform(0.01, 0.8, (count, 2)), 1)], axis=1).astype(np.float32)


def by_hand(cut, size, boxes):
    """{number of a view: [(index of an object, its box as fractions of the view)]}, box by box."""
    (width, height), found = size, {}
    for number, (x0, y0, x1, y1) in enumerate(cut.edges_px(size).tolist()):
        shown = []
        for index, (left, top, right, bottom) in enumerate(boxes.astype(float).tolist()):
            left, right, top, bottom = left * width, right * width, top * height, bottom * height
            inner = max(left, x0), max(top, y0), min(right, x1), min(bottom, y1)
            shared = max(inner[2] - inner[0], 0) * max(inner[3] - inner[1], 0)
            if shared >= 0.3 * (right - left) * (bottom - top):
                place = [
                    (edge - start) / (end - start)
                    for edge, start, end in zip(inner, (x0, y0) * 2, (x1, y1) * 2, strict=True)
                ]
                shown.append((index, place))
        if shown:
            found[number] = shown
    return found


@pytest.mark.parametrize(("cut", "size"), CUTS, ids=str)
@pytest.mark.parametrize("seed", range(8))
def test_a_picture_is_shown_once_in_each_view_that_shows_an_object(cut, size, seed):
    boxes = boxes_of(seed, 1 + seed % 4)
    expected = by_hand(cut, size, boxes)
    for start in (0, 7 * len(expected)):
        seen = [views.in_epoch(cut, size, boxes, seed, 5, start + turn) for turn in range(len(expected))]
        assert sorted(view.number for view in seen) == sorted(expected)
        for view in seen:
            assert view.edges_px == tuple(cut.edges_px(size)[view.number].tolist())
            assert view.kept.tolist() == [index for index, _ in expected[view.number]]
            assert view.boxes.dtype == np.float32 and view.boxes.min() >= 0 and view.boxes.max() <= 1
            np.testing.assert_allclose(view.boxes, [box for _, box in expected[view.number]], atol=1e-5)


def test_the_order_depends_on_seed_picture_and_round():
    boxes = np.array([[0, 0, 0.2, 0.2], [0.8, 0.8, 1, 1], [0.4, 0.4, 0.6, 0.6], [0.8, 0, 1, 0.1]], np.float32)

    count = len(by_hand(*CUTS[0], boxes))

    def order(seed, index, again=0):
        epochs = range(again * count, (again + 1) * count)
        return [views.in_epoch(*CUTS[0], boxes, seed, index, epoch).number for epoch in epochs]

    assert order(0, 0) == order(0, 0) and len(order(0, 0)) > 4
    assert len({tuple(order(*key)) for key in [(0, 0), (1, 0), (0, 1), (0, 0, 1)]}) == 4
    first = [order(0, index)[0] for index in range(200)]
    assert all(first.count(number) > 10 for number in set(order(0, 0)))


def test_a_picture_without_objects_is_shown_whole():
    for epoch in range(5):
        view = views.in_epoch(*CUTS[0], boxes_of(0, 0), 0, 0, epoch)
        assert (view.number, view.edges_px, len(view.boxes)) == (0, (0, 0, 480, 360), 0)


def test_an_object_without_area_is_one_of_the_whole_picture_only():
    """Where the augmentation drops it, as without tiles."""
    boxes = np.array([[0.5, 0.5, 0.5, 0.6]], np.float32)
    assert [views.in_epoch(*CUTS[0], boxes, 0, 0, epoch).number for epoch in range(4)] == [0] * 4


def test_a_tile_that_shows_too_little_of_an_object_is_not_where_it_is_largest():
    """The 27.5 % of it in a left one of four tiles would be larger than all of it in the picture."""
    box = np.array([[0.225, 0.25, 0.725, 0.75]], np.float32)
    assert views.largest(Cut((2, 2), overlap=0.0), (1000, 1000), box).tolist() == box.tolist()


@pytest.mark.parametrize(("cut", "size"), CUTS, ids=str)
def test_where_an_object_is_largest(cut, size):
    boxes = boxes_of(3, 20)
    found = views.largest(cut, size, boxes)
    for index, box in enumerate(found):
        seen = [place for shown in by_hand(cut, size, boxes).values() for one, place in shown if one == index]
        areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in seen]
        assert min(np.abs(np.subtract(box, place)).max() for place in seen) < 1e-5
        assert (box[2] - box[0]) * (box[3] - box[1]) == pytest.approx(max(areas), rel=1e-4)
    assert views.largest(cut, size, boxes[:0]).shape == (0, 4)
