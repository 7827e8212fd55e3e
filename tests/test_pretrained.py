"""VGG-16 weights from .npz files: what is taken, turned and refused."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest

import pretrained
import ssd_utils
import ssd_vgg
from structures import UserError

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "vgg16_conv_base.npz"
RGB = ssd_utils.get_preset("vgg300")
BGR = dataclasses.replace(RGB, channel_order="BGR")


@pytest.fixture(scope="module")
def shrunk():
    """Shapes with 1/64 of the channels, so that files are small and quick to write."""
    return {
        name: tuple(side if side <= 7 else max(1, side // 64) for side in shape)
        for name, shape in pretrained.vgg_shapes().items()
    }


@pytest.fixture
def small(monkeypatch, shrunk):
    """Have `read_vgg` expect the small shapes; returns fitting arrays."""
    monkeypatch.setattr(pretrained, "vgg_shapes", lambda: shrunk)
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shrunk.items()}


def saved(tmp_path, arrays):
    path = tmp_path / "vgg.npz"
    np.savez(path, **arrays)
    return str(path)


def fails(path, message):
    with pytest.raises(UserError, match=message) as error:
        pretrained.read_vgg(str(path), RGB)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_shapes_are_those_of_the_network():
    """By the names and shapes of the variables, at full width."""
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default():
        ssd_vgg.build(tf.placeholder(tf.uint8, [None, 300, 300, 3]), RGB, 1)
        variables = {v.op.name: tuple(v.shape.as_list()) for v in tf.global_variables()}
    shapes = pretrained.vgg_shapes()
    assert len(shapes) == 2 * 15
    assert shapes == {name: variables[name] for name in shapes}


def test_bgr_file_is_turned_for_an_rgb_network(tmp_path, small):
    path = saved(tmp_path, small)
    found = pretrained.read_vgg(path, RGB)
    np.testing.assert_array_equal(found["conv1_1/weights"][:, :, 0], small["conv1_1/weights"][:, :, 2])
    np.testing.assert_array_equal(found["conv1_1/weights"][:, :, 2], small["conv1_1/weights"][:, :, 0])
    assert found.keys() == small.keys()
    for name in small:
        assert found[name].dtype == np.float32
        if name != "conv1_1/weights":
            np.testing.assert_array_equal(found[name], small[name])


def test_bgr_file_fits_a_bgr_network(tmp_path, small):
    found = pretrained.read_vgg(saved(tmp_path, small), BGR)
    np.testing.assert_array_equal(found["conv1_1/weights"], small["conv1_1/weights"])


def test_fc6_and_fc7_may_be_missing(tmp_path, small):
    convolutions = {name: value for name, value in small.items() if name.startswith("conv")}
    assert pretrained.read_vgg(saved(tmp_path, convolutions), RGB).keys() == convolutions.keys()


def test_every_misfit_is_named(tmp_path, small):
    lacking = {n: v for n, v in small.items() if n not in ("conv3_2/biases", "conv5_1/weights")}
    fails(saved(tmp_path, lacking), "lacks conv3_2/biases, conv5_1/weights;")
    fails(saved(tmp_path, {**small, "fc8/weights": np.zeros(3)}), "has unknown arrays fc8/weights;")
    fails(saved(tmp_path, {**small, "conv1_2/biases": np.zeros(9)}), r"wrongly shaped conv1_2/biases \(9,\)")


def test_the_articles_own_fc6_is_not_taken_as_it_is(tmp_path, small):
    """7×7×512×4096 has to be subsampled first."""
    fails(saved(tmp_path, {**small, "fc6/weights": np.zeros((7, 7, 8, 64))}), "wrongly shaped fc6/weights")


def test_files_that_are_no_npz(tmp_path, small):
    fails(tmp_path / "missing.npz", "no such file")
    fails(tmp_path, "not a readable .npz")
    text = tmp_path / "text.npz"
    text.write_text("not weights")
    fails(text, "not a readable .npz")
    empty = tmp_path / "empty.npz"
    empty.write_bytes(b"")
    fails(empty, "not a readable .npz")
    single = tmp_path / "single.npy"
    np.save(single, np.zeros(3))
    fails(single, "not a readable .npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_truncated_file(tmp_path, small, save):
    path = tmp_path / "vgg.npz"
    save(path, **small)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    fails(path, "not a readable .npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_is_noticed_wherever_it_is(tmp_path, small, save):
    """Eight bytes overwritten anywhere: refused in one line, or of no consequence (a field nobody reads)."""
    path = tmp_path / "vgg.npz"
    save(path, **small)
    whole = path.read_bytes()
    good, refused = pretrained.read_vgg(str(path), BGR), 0
    for start in range(0, len(whole) - 8, len(whole) // 40):
        path.write_bytes(whole[:start] + b"\x5a" * 8 + whole[start + 8 :])
        try:
            found = pretrained.read_vgg(str(path), BGR)
        except UserError:
            refused += 1
        else:
            assert all((found[name] == good[name]).all() for name in good)
    assert refused > 20


def test_an_encrypted_file(tmp_path, small):
    """The zip module has exceptions of yet other kinds."""
    path = tmp_path / "vgg.npz"
    np.savez(path, **small)
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"PK\x01\x02") + 8] |= 1  # the flag in the first entry of the central directory
    path.write_bytes(whole)
    fails(path, "not a readable .npz .*encrypted")


def test_pickled_objects_are_not_loaded(tmp_path, small):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    hostile = {**small, "conv1_1/weights": np.array([Bomb()], dtype=object)}
    fails(saved(tmp_path, hostile), "not a readable .npz")
    assert not (tmp_path / "ran").exists()


def test_an_array_that_is_no_npy(tmp_path, small):
    path = saved(tmp_path, small)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "hello")
    fails(path, "has unknown arrays notes.txt")


def test_words_are_no_weights(tmp_path, small):
    words = np.full(small["conv1_2/biases"].shape, "x")
    fails(saved(tmp_path, {**small, "conv1_2/biases": words}), "conv1_2/biases")


@pytest.mark.skipif(not REAL.is_file(), reason="the real VGG-16 weights are not beside this clone")
def test_the_real_weights():
    found = pretrained.read_vgg(str(REAL), RGB)
    assert set(found) == {name for name in pretrained.vgg_shapes() if name.startswith("conv")}
    with np.load(REAL) as file:
        np.testing.assert_array_equal(found["conv1_1/weights"], file["conv1_1/weights"][:, :, ::-1])
