"""Pictures in the forms that Python programs have them in, against the same picture in a file."""

import re

import cv2
import numpy as np
import pytest
from PIL import Image

from media import images, pictures
from structures import UserError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
RGB[0, 0], RGB[0, 1] = 0, 255
GRAY = RGB[..., 0]
RGBA = np.dstack([RGB, RNG.integers(0, 256, (5, 7), np.uint8)])
DEEP = RNG.integers(0, 65536, (5, 7, 3), np.uint16)


def written(path, array):
    """The pixels of a PNG with these samples."""
    order = {2: array, 3: array[..., ::-1] if array.shape[-1] == 3 else array[..., [2, 1, 0, 3]]}[array.ndim]
    assert cv2.imwrite(str(path), order)
    return images.read(path)


@pytest.mark.parametrize("array", [RGB, GRAY, RGBA, DEEP, DEEP[..., 0]], ids=lambda a: f"{a.dtype}{a.ndim}")
def test_an_array_is_read_as_its_file_is(array, tmp_path):
    expected = written(tmp_path / "a.png", array)
    found = pictures.as_rgb(array)
    assert (found.dtype, found.flags.c_contiguous) == (np.uint8, True)
    np.testing.assert_array_equal(found, expected)
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(pictures.as_rgb(path), expected)


def test_16_bits_are_spread_as_the_model_wants(tmp_path):
    narrow = (DEEP >> 6) + 1000
    written(tmp_path / "a.png", narrow)
    for gray16 in ("stretch", "1000-2000"):
        np.testing.assert_array_equal(
            pictures.as_rgb(narrow, gray16), images.read(tmp_path / "a.png", gray16=gray16), err_msg=gray16
        )


@pytest.mark.parametrize(
    "same",
    [
        RGB / 255,
        (RGB / 255).astype(np.float32),
        (RGB / 255).astype(np.float16),
        RGB.astype(np.float32),
        RGB.astype(np.int64),
        np.asfortranarray(RGB),
        RGB[..., ::-1].copy()[..., ::-1],
        Image.fromarray(RGB),
    ],
    ids=lambda one: str(getattr(one, "dtype", "Pillow")),
)
def test_other_types_mean_the_same(same):
    np.testing.assert_array_equal(pictures.as_rgb(same), RGB)


def test_gray_has_one_channel_or_none():
    for gray in (GRAY, GRAY[..., None], Image.fromarray(GRAY), GRAY / 255):
        np.testing.assert_array_equal(pictures.as_rgb(gray), np.stack([GRAY] * 3, axis=-1))


def test_opacity_is_laid_over_white():
    clear = np.dstack([RGB, np.zeros((5, 7), np.uint8)])
    for picture in (clear, clear / 255, Image.fromarray(clear)):
        assert (pictures.as_rgb(picture) == 255).all()
    np.testing.assert_array_equal(pictures.as_rgb(np.dstack([RGB, np.full((5, 7), 255, np.uint8)])), RGB)


def test_what_numpy_makes_an_array_of():
    class Tensor:
        def __array__(self, *_, **__):
            return RGB

    np.testing.assert_array_equal(pictures.as_rgb(Tensor()), RGB)


@pytest.mark.parametrize("black", [np.zeros((5, 7, 3)), np.zeros((5, 7), np.int32), np.zeros((5, 7), np.uint16)])
def test_black_is_black(black):
    assert not pictures.as_rgb(black).any()


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (RGB / 255 - 0.5, "values from -0.5 to 0.5: give pixels from 0 to 255, or floats from 0 to 1, before any mean"),
        (RGB.astype(np.int32) * 2, "give pixels from 0 to 255"),
        (np.full((5, 7, 3), np.nan), "values from nan to nan"),
        (RGB / 255 * 1.02, r"a little above 1; give .clip\(0, 1\)"),
        (GRAY.astype(np.uint16), "uint16 of shape .*16 bits, or 8?"),
        (GRAY > 100, "bool of shape .*not a type for pictures"),
        (np.full((5, 7), "a"), "not a type for pictures"),
        (RGB.transpose(2, 0, 1), r"shape \[3, 5, 7\]: the channels come first; .*transpose\(1, 2, 0\)"),
        (np.zeros((5, 7, 2), np.uint8), "is not a picture; give "),
        (np.zeros((0, 7, 3), np.uint8), "is not a picture"),
        (np.zeros(12, np.uint8), "is not a picture"),
        (np.zeros((1, 5, 7, 3), np.uint8), "is not a picture"),
        (np.array([[RGB], [None]], dtype=object), "as a list"),
        (b"\xff\xd8", "bytes is not a picture; give a path"),
        (None, "NoneType is not a picture"),
        ([[1, 2], [3, 4]], "list is not a picture"),
        ("https://a.org/a.jpg", "https://a.org/a.jpg: is an address"),
    ],
    ids=range(17),
)
def test_what_is_unclear_is_refused_in_one_line(picture, message):
    with pytest.raises(UserError, match=message) as error:
        pictures.as_rgb(picture, name="images[3]")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(("images[3]", "https://"))


def test_numpys_own_complaint_is_shown():
    class OnAnotherDevice:
        def __array__(self, *_, **__):
            raise TypeError("can't convert cuda:0 device type tensor to numpy.\nUse Tensor.cpu()")

    with pytest.raises(UserError, match=r"image: NumPy cannot read this OnAnotherDevice .*to numpy"):
        pictures.as_rgb(OnAnotherDevice())


def test_paths_that_are_no_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    for path, message in (
        ("b.jpg", f"b.jpg: no such picture; the path begins in the current folder, {tmp_path}"),
        (tmp_path / "b.jpg", f"{tmp_path}/b.jpg: no such picture; check the path"),
        ("*.jpg", "*.jpg: no such picture; a pattern is spelled glob.glob('*.jpg')"),
        (tmp_path, f"{tmp_path}: is a folder; give the pictures in it, such as sorted("),
        ("a.txt", "cannot read a.txt: "),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            pictures.as_rgb(path)


def test_a_damaged_file_behind_pillow(tmp_path):
    Image.fromarray(RNG.integers(0, 256, (90, 90, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:9000])
    with pytest.raises(images.ImageError, match=r"a\.png"):
        pictures.as_rgb(Image.open(tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("several", "one"),
    [
        (False, "a.jpg"),
        (False, b"a"),
        (False, RGB),
        (False, GRAY),
        (False, Image.fromarray(RGB)),
        (False, None),
        (True, [RGB]),
        (True, np.stack([RGB, RGB])),
        (True, iter(())),
        (True, ("a.jpg",)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_one_or_several(several, one):
    assert pictures.is_one(one) != several
