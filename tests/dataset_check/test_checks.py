"""The rules of the checks by hand, at their limits; whole data sets are in tests/test_check_dataset.py."""

import types

import pytest

from dataset_check import checks, duplicates
from formats import annotations

BEYOND = annotations.OUTSIDE_TOLERANCE


@pytest.mark.parametrize(
    ("box", "defect"),
    [
        ((10, 10, 60, 30), None),
        ((0, 0, 512, 256), None),
        ((10, 10, 10, 30), "empty-box"),
        ((10, 30, 60, 30), "empty-box"),
        ((60, 10, 10, 30), "inverted-box"),
        ((10, 30, 60, 10), "inverted-box"),
        ((512, 10, 530, 30), "outside-box"),  # it only touches the picture
        ((10, 256, 60, 300), "outside-box"),
        ((-20, 10, 0, 30), "outside-box"),
        ((10, 10, 512 + BEYOND, 30), None),
        ((10, 10, 512 + BEYOND + 0.5, 30), "reaching-box"),
        ((10, -BEYOND, 60, 30), None),
        ((10, 10, 60, 300), "reaching-box"),  # below the picture, though not as far as it is wide
        ((0, 0, 16, 8), None),  # exactly 8 × 8 pixels of the input
        ((0, 0, 16, 7.9), "tiny-box"),
        ((0, 0, 4, 32), None),
    ],
)
def test_the_defect_of_a_box(box, defect):
    """In a picture of 512 × 256, for an input of 256 × 256."""
    assert checks.box_defect(box, (512, 256), 256) == defect


@pytest.mark.parametrize(
    ("count", "most", "rare"), [(9, 200, True), (10, 1000, False), (8, 160, False), (8, 161, True), (9, 9, False)]
)
def test_a_class_is_rare_by_number_and_by_share(count, most, rare):
    assert checks.is_rare(count, {"often": most, "seldom": count}) == rare


@pytest.mark.parametrize(
    ("name", "other", "times", "meant"),
    [
        ("dogg", "dog", 5, True),
        ("dogg", "dog", 4.9, False),
        ("lorry", "lorryman", 50, False),  # alike, but of another length
        ("car", "cart", 50, False),  # Pascal VOC's own name
    ],
)
def test_the_name_that_a_seldom_one_is_meant_to_be(name, other, times, meant):
    assert checks._meant(name, {name: 10, other: int(10 * times)}) == (other if meant else None)


def split(name, *ids, home="VOC2007"):
    return types.SimpleNamespace(name=name, ids=ids, home=home)


@pytest.mark.parametrize(
    ("one", "two", "conflict"),
    [
        (split("train", "a"), split("trainval", "a", "b"), False),
        (split("train", "a"), split("all", "a", "b"), False),  # by its name
        (split("train", "a", "c"), split("all", "a", "b"), True),
        (split("train", "a"), split("test", "a", "b"), True),
        (split("train", "a", home="one"), split("train_2", "a", "b", home="two"), False),
        (split("train", "a", home="one"), split("val", "a", "b", home="two"), True),
    ],
)
def test_splits_that_conflict(one, two, conflict):
    assert duplicates.conflicts([one, two]) == ({(one.name, two.name), (two.name, one.name)} if conflict else set())


def picture(key, splits, *objects, readable=True):
    items = [types.SimpleNamespace(name=name, edges_px=edges, crowd=crowd) for name, edges, crowd in objects]
    annotation = types.SimpleNamespace(objects=items)
    return types.SimpleNamespace(key=key, splits=splits, readable=readable, size=(200, 100), annotation=annotation)


def test_boxes_as_training_sees_them():
    """Clipped; without crowds, what has no area in the picture, other classes, other splits and boxes in fractions."""
    own = [
        ("cat", (20, 10, 120, 110), False),
        ("dog", (0, 0, 100, 50), True),
        ("dog", (200, 0, 220, 50), False),
        ("dog", (50, 50, 50, 80), False),
        ("cow", (0, 0, 100, 100), False),
    ]
    pictures = [
        picture("a", ("train",), *own),
        picture("b", ("val",), ("dog", (0, 0, 200, 100), False)),
        picture("c", ("train",), ("dog", (0, 0, 1, 1), False)),
        picture("d", ("train",), ("dog", (0, 0, 200, 100), False), readable=False),
        picture("e", ("val", "train"), ("dog", (0, 50, 200, 100), False)),
    ]
    scan = types.SimpleNamespace(splits=[split("train"), split("val")], pictures=pictures)
    finding = types.SimpleNamespace(defect="fractions", picture=pictures[2])
    found = checks.ground_truth(scan, [finding], ("dog", "cat"))
    assert found.boxes.tolist() == [[0.1, 0.1, 0.6, 1], [0, 0.5, 1, 1]]
    assert (found.labels.tolist(), found.names, found.splits) == ([1, 0], ("dog", "cat"), ("train",))
    everything = checks.ground_truth(scan, [finding])
    assert (everything.labels.tolist(), everything.names) == ([0, 1, 2], ("cat", "cow", "dog"))
    untold = types.SimpleNamespace(splits=[split("val"), split("test")], pictures=pictures)
    found = checks.ground_truth(untold, [])
    assert (len(found.boxes), found.splits) == (2, ("val", "test"))  # none is for training
