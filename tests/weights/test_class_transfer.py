"""The heads' rows follow their classes."""

import numpy as np
import pytest

from structures import UserError
from weights import class_transfer

OLD = ("car", "bus", "person")


def test_sources_by_name_and_by_map():
    find = class_transfer.find_sources
    assert find(OLD, OLD) == (0, 1, 2)
    assert find(OLD, ("person", "cat", "car")) == (2, None, 0)
    assert find(OLD, ("vehicle", "person"), ("car=vehicle",)) == (0, 2)
    assert find(OLD, ("van", "truck", "car"), ("car=van", "car=truck")) == (0, 0, 0)  # a class that is split
    assert find(OLD, ("car", "bus"), ("car=bus", "bus=car")) == (1, 0)
    assert find(OLD, ("car", "bus", "van"), ("car=bus", "bus=van")) == (0, 0, 1)
    assert find(OLD, ("car",), ("car=car", "car=car")) == (0,)
    assert find(OLD, ("cat",)) == (None,)


@pytest.mark.parametrize(
    ("pairs", "named"),
    [
        (("cra=vehicle",), "cra=vehicle: 'cra' .*'car'.*--init-from .*car, bus, person"),
        (("car=vehicel",), "car=vehicel: 'vehicel' .*'vehicle'.*--classes .*vehicle, person"),
        (("vehicle=car",), "vehicle=car: 'vehicle' .*--init-from"),  # the wrong way round
        (("car=vehicle", "bus=vehicle"), "bus=vehicle: 'car' .*'vehicle'"),
        (("bus=person",), "bus=person: .*--init-from .*'person'"),
    ],
)
def test_wrong_maps(pairs, named):
    with pytest.raises(UserError, match=named) as error:
        class_transfer.find_sources(OLD, ("vehicle", "person"), pairs)
    assert "\n" not in str(error.value)


def network(shapes=2, classes=3, channels=5):
    rng = np.random.default_rng(0)
    sizes = {"conv1_1/weights": (3, 3, 3, 4), "norm_conv4_3/scale": (4,)}
    for kind, values in (("logits", 1 + classes), ("offsets", 4)):
        sizes[f"head_fc7_{kind}/weights"] = (3, 3, channels, shapes * values)
        sizes[f"head_fc7_{kind}/biases"] = (shapes * values,)
    return {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}


def test_the_same_classes_change_nothing():
    before = network()
    for name, value in class_transfer.move_heads(before, 3, (0, 1, 2)).items():
        np.testing.assert_array_equal(value, before[name])


def test_rows_by_hand():
    """For each of two anchor shapes: background, car, bus, person -> background, person, new, car, new."""
    before = network()
    copies = {name: value.copy() for name, value in before.items()}
    after = class_transfer.move_heads(before, 3, (2, None, 0, None))
    order = [0, 3, 0, 1, 0, 4, 7, 4, 5, 4]
    for part in ("weights", "biases"):
        expected = before[f"head_fc7_logits/{part}"][..., order]
        if part == "biases":
            expected += np.float32([np.log(0.995), 0, np.log(0.0025), 0, np.log(0.0025)] * 2)
        moved = after[f"head_fc7_logits/{part}"]
        np.testing.assert_allclose(moved, expected, rtol=1e-6)
        assert moved.dtype == np.float32
    for name, value in copies.items():
        np.testing.assert_array_equal(before[name], value)  # the given ones are not changed
        if "_logits" not in name:
            np.testing.assert_array_equal(after[name], value)


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("new", [1, 80])
def test_new_classes_leave_the_scores_alone_and_have_the_largest_gradient(new):
    """For any features: also those in the hundreds, and where background's score is high."""
    arrays, x = network(shapes=1, channels=50), np.random.default_rng(1).normal(0, 100, (1000, 450))
    after = class_transfer.move_heads(arrays, 3, (0, 1, 2, *[None] * new))

    def scores(of):
        weights = of["head_fc7_logits/weights"].reshape(450, -1)
        return softmax(x @ weights + of["head_fc7_logits/biases"])

    old, now = scores(arrays), scores(after)
    np.testing.assert_allclose(now[:, 1:4], old[:, 1:], rtol=1e-5, atol=1e-300)
    np.testing.assert_allclose(now[:, 0] + now[:, 4:].sum(axis=-1), old[:, 0], rtol=1e-5, atol=1e-300)
    assert now[:, 4:].max() < 0.01  # nothing to report yet
    gradient = now[:, 4] - 1  # of cross-entropy where a new class is the target
    assert gradient.max() < -0.99


def test_without_a_common_class_the_heads_start_afresh():
    after = class_transfer.move_heads(network(), 3, (None, None))
    assert after.keys() == {
        "conv1_1/weights",
        "norm_conv4_3/scale",
        "head_fc7_offsets/weights",
        "head_fc7_offsets/biases",
    }


def test_what_is_said():
    sources = class_transfer.find_sources(OLD, ("person", "vehicle", "cat"), ("car=vehicle",))
    assert class_transfer.describe(OLD, ("person", "vehicle", "cat"), sources) == (
        "classes kept: person; copied: car as vehicle; new: cat; left out: bus"
    )
    assert class_transfer.describe(OLD, OLD, (0, 1, 2)) == "classes kept: car, bus, person"
    assert "heads" in class_transfer.describe(OLD, ("cat",), (None,))
