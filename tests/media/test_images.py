"""Every kind of picture that a folder may hold is read as a viewer shows it, or refused with a reason."""

import argparse
import concurrent.futures
import importlib.util
import io
import os
import pickle
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from media import decoder_messages, images
from structures import UserError

HEIGHT, WIDTH = 48, 80


@pytest.fixture(scope="module")
def picture():
    """uint8 RGB [48,80,3]: smooth, so that JPEG keeps it, and different in each corner and channel."""
    down, right = np.mgrid[0:1:48j, 0:1:80j]
    return np.stack([255 * right, 255 * down, 255 * (1 - right) * down], axis=-1).round().astype(np.uint8)


def encoded(image, kind, **options):
    """Bytes of an array or a Pillow picture as Pillow writes them."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def put(folder, data, name="picture"):
    path = folder / name
    path.write_bytes(data)
    return path


def reason_of(path, function=images.read):
    """The reason of the ImageError; its message is one line that names the path."""
    with pytest.raises(images.ImageError) as caught:
        function(path)
    error = caught.value
    assert isinstance(error, UserError) and error.path == str(path)
    assert str(path) in str(error) and error.reason in str(error)
    assert "\n" not in str(error)
    return error.reason


def assert_reads(path, expected, tolerance=0, **options):
    """read() gives expected, contiguous uint8 RGB; tolerance: mean error, an eighth of the largest."""
    found = images.read(path, **options)
    assert found.dtype == np.uint8 and found.flags.c_contiguous and found.shape == expected.shape
    error = np.abs(found.astype(int) - expected)
    assert error.mean() <= tolerance and error.max() <= 8 * tolerance


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("PPM", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG2000", {}, 0),
        ("JPEG", {"quality": 95, "subsampling": 0}, 1),
        ("JPEG", {"quality": 95, "progressive": True}, 2),
        ("JPEG", {"quality": 95, "restart_marker_blocks": 1}, 2),
    ],
)
def test_formats(tmp_path, picture, kind, options, tolerance):
    path = put(tmp_path, encoded(picture, kind, **options))
    assert_reads(path, picture, tolerance)
    assert images.header(path) == (WIDTH, HEIGHT, 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_gray_bilevel_and_palette(tmp_path, picture, kind, mode):
    if kind == "JPEG" and mode != "L":
        pytest.skip("JPEG holds neither palettes nor the dots of a bilevel picture")
    source = Image.fromarray(picture).convert(mode)
    assert_reads(put(tmp_path, encoded(source, kind)), np.array(source.convert("RGB")), 4 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(tmp_path, picture, kind):
    """Adobe's JPEGs store it inverted; read wrongly, white becomes black."""
    data = encoded(Image.fromarray(picture).convert("CMYK"), kind)
    assert_reads(put(tmp_path, data), np.array(Image.open(io.BytesIO(data)).convert("RGB")), 2)
    assert_reads(put(tmp_path, data), picture, 3)


def test_cmyk_with_black(tmp_path):
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, 16:, 3] = 255
    found = images.read(put(tmp_path, encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=95)))
    assert found[:, :12].min() > 250 and found[:, 20:].max() < 5


def test_16_bits_are_scaled_not_clipped(tmp_path, picture):
    wide = picture.astype(np.uint16) * 257
    for name, data, expected in [
        ("rgb.png", wide[..., ::-1], picture),
        ("rgb.tif", wide[..., ::-1], picture),
        ("gray.png", wide[..., 0], picture[..., [0, 0, 0]]),
        ("gray.tif", wide[..., 0], picture[..., [0, 0, 0]]),
    ]:
        path = put(tmp_path, cv2.imencode(name[-4:], data)[1].tobytes(), name)
        assert_reads(path, expected)
    assert_reads(put(tmp_path, b"P5 80 48 65535\n" + wide[..., 0].astype(">u2").tobytes()), picture[..., [0, 0, 0]])
    alpha = np.dstack([wide[..., ::-1], np.full((HEIGHT, WIDTH), 65535, np.uint16)])
    assert_reads(put(tmp_path, cv2.imencode(".png", alpha)[1].tobytes()), picture)


def test_more_than_16_bits_are_refused(tmp_path):
    for values in (np.full((4, 4), 70000, np.int32), np.full((4, 4), 0.5, np.float32)):
        path = put(tmp_path, encoded(values, "TIFF"))
        assert reason_of(path) == "damaged: its samples are not whole numbers of 8 or 16 bits"


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_shows_white(tmp_path, picture, kind, mode):
    if (kind, mode) == ("WEBP", "LA"):
        pytest.skip("WebP has no gray")
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[:, 20:] = 255
    alpha[:, 60:] = 128
    source = Image.fromarray(picture).convert(mode[:-1])
    base = np.array(source.convert("RGB"))
    source.putalpha(Image.fromarray(alpha))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    found = images.read(put(tmp_path, encoded(source, kind, **options))).astype(int)
    assert (found[:, :20] == 255).all()
    np.testing.assert_array_equal(found[:, 20:60], base[:, 20:60])
    np.testing.assert_allclose(found[:, 60:], base[:, 60:] * (128 / 255) + 255 * (127 / 255), atol=1.01)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_transparent_color_of_a_palette(tmp_path, kind):
    indices = np.zeros((4, 6), np.uint8)
    indices[:, 3:] = 1
    source = Image.fromarray(indices)
    source.putpalette([10, 20, 30, 200, 100, 50])
    found = images.read(put(tmp_path, encoded(source, kind, transparency=0)))
    assert (found[:, :3] == 255).all() and (found[:, 3:] == (200, 100, 50)).all()


def test_transparent_gray_and_color_keys(tmp_path):
    for source, key in [(np.full((2, 2), 7, np.uint8), 7), (np.full((2, 2, 3), (1, 2, 3), np.uint8), (1, 2, 3))]:
        assert (images.read(put(tmp_path, encoded(source, "PNG", transparency=key))) == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(tmp_path, kind):
    frames = [Image.new("RGB", (6, 4), color) for color in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert_reads(put(tmp_path, data), np.full((4, 6, 3), (255, 0, 0), np.uint8), 1)


@pytest.mark.parametrize("shape", [(1, 1), (5000, 2), (2, 5000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_extreme_shapes(tmp_path, shape, kind):
    picture = np.full((*shape, 3), (90, 120, 150), np.uint8)
    path = put(tmp_path, encoded(picture, kind, quality=95))
    assert_reads(path, picture, 2)
    assert images.header(path) == (shape[1], shape[0], 1)
    for reduce in (2, 4, 8):
        smaller = images.read(path, reduce=reduce)
        assert smaller.shape[2] == 3 and min(smaller.shape) >= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, picture, kind, orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    source = Image.fromarray(picture)
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95}
    data = encoded(source, kind, exif=tags, **options)
    path = put(tmp_path, data)
    upright = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert_reads(path, upright, 1)
    assert_reads(path, picture, 2, exif=False)
    assert images.header(path) == (WIDTH, HEIGHT, orientation)
    if kind == "JPEG":
        assert images.read(path, reduce=2).shape == (upright.shape[0] // 2, upright.shape[1] // 2, 3)


def test_orientations_by_hand(tmp_path):
    """The visual top left of a picture with orientation 6 is stored at the bottom left."""
    stored = np.zeros((2, 3, 3), np.uint8)
    stored[1, 0] = 255
    tags = Image.Exif()
    tags[0x0112] = 6
    found = images.read(put(tmp_path, encoded(stored, "PNG", exif=tags)))
    assert found.shape == (3, 2, 3) and (found[0, 0] == 255).all() and found.sum() == 3 * 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_turns_itself(tmp_path, picture, orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    path = put(tmp_path, encoded(picture, "TIFF", exif=tags))
    found = images.read(path)
    assert images.header(path) == (found.shape[1], found.shape[0], 1)
    assert (found.shape[0] > found.shape[1]) == (orientation >= 5)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0\x2a\xff\xff\xff\xff", b"Exif\0\0" + bytes(99)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_broken_exif_is_ignored(tmp_path, picture, kind, exif):
    path = put(tmp_path, encoded(picture, kind, exif=exif))
    assert images.header(path) == (WIDTH, HEIGHT, 1)
    assert images.read(path).shape == picture.shape


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_impossible_orientation_is_ignored(tmp_path, picture, orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    assert images.header(put(tmp_path, encoded(picture, "JPEG", exif=tags))) == (WIDTH, HEIGHT, 1)


def test_a_header_that_comes_in_pieces(tmp_path, picture, monkeypatch):
    """Some network disks return fewer bytes than a read asks for."""
    path, read = put(tmp_path, encoded(picture, "JPEG", comment=b"x" * 300)), os.read
    monkeypatch.setattr(images.os, "read", lambda descriptor, size: read(descriptor, min(size, 100)))
    assert images.header(path) == (WIDTH, HEIGHT, 1)


def test_header_behind_a_long_exif_block(tmp_path, picture):
    tags = Image.Exif()
    tags[0x0112] = 6
    tags[0x9286] = b"x" * 60000
    assert images.header(put(tmp_path, encoded(picture, "JPEG", exif=tags))) == (WIDTH, HEIGHT, 6)


@pytest.mark.parametrize(("reduce", "shape"), [(1, (50, 77)), (2, (25, 39)), (4, (13, 20)), (8, (7, 10))])
def test_reduced_jpeg(tmp_path, reduce, shape):
    source = np.full((50, 77, 3), (200, 100, 50), np.uint8)
    path = put(tmp_path, encoded(source, "JPEG", quality=95))
    assert_reads(path, np.full((*shape, 3), (200, 100, 50)), 2, reduce=reduce)
    assert images.read(put(tmp_path, encoded(source, "PNG")), reduce=reduce).shape == (50, 77, 3)


def test_missing_and_empty(tmp_path):
    for function in (images.read, images.header):
        assert reason_of(tmp_path / "nowhere.jpg", function) == "no such file or directory"
        assert reason_of(tmp_path, function) == "is a directory"
        assert reason_of(put(tmp_path, b""), function) == "the file is empty"


NO_IMAGES = (b"hello, world\n" * 99, b"\0", bytes(5000), b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xff\xd8", b"GIF8")


@pytest.mark.parametrize("data", NO_IMAGES)
def test_not_an_image(tmp_path, data):
    for function in (images.read, images.header):
        assert reason_of(put(tmp_path, data, "text.jpg"), function) == images.NOT_AN_IMAGE


KINDS = ("JPEG", "progressive JPEG", "PNG", "RGBA PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000")


def of_kind(picture, kind):
    if kind == "RGBA PNG":
        return encoded(np.dstack([picture, picture[..., 0]]), "PNG")
    return encoded(picture, kind.split()[-1], progressive=kind.startswith("progressive"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.98, 0.5, 0.2])
def test_truncated(tmp_path, picture, kind, share):
    data = of_kind(picture, kind)
    path = put(tmp_path, data[: int(len(data) * share)])
    with pytest.raises(images.ImageError):
        images.read(path)
    if "JPEG" in kind.split() or "PNG" in kind:
        assert reason_of(path) == images.TRUNCATED


@pytest.mark.parametrize("cut", [1, 2, 3, 300])
def test_jpeg_without_its_end(tmp_path, picture, cut):
    data = encoded(picture, "JPEG")
    assert reason_of(put(tmp_path, data[:-cut])) == images.TRUNCATED
    assert (
        reason_of(put(tmp_path, data[:-cut] + bytes(cut))) == images.TRUNCATED
    )  # a download whose space was reserved in advance


def test_end_of_a_thumbnail_is_not_the_end_of_the_picture(tmp_path, picture):
    thumbnail = encoded(picture[::4, ::4].copy(), "JPEG")
    block = b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\0\0\0\0\0" + thumbnail
    data = encoded(picture, "JPEG", exif=block)
    assert data.count(b"\xff\xd9") == 2
    assert images.read(put(tmp_path, data)).shape == picture.shape
    assert images.header(put(tmp_path, data)) == (WIDTH, HEIGHT, 1)
    assert reason_of(put(tmp_path, data[:-200])) == images.TRUNCATED


def test_jpeg_with_something_behind_its_end(tmp_path, picture):
    """Phones append a video or a depth map."""
    assert_reads(put(tmp_path, encoded(picture, "JPEG", quality=95) + b"more" * 500), picture, 2)


def test_truncated_pictures_are_refused_although_the_decoder_reads_them(tmp_path, picture, monkeypatch):
    """OpenCV before 5.0 returns gray rows instead of None."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
    for kind in ("JPEG", "PNG"):
        data = encoded(picture, kind)
        assert reason_of(put(tmp_path, data[: len(data) * 3 // 4])) == images.TRUNCATED


@pytest.mark.parametrize("kind", ["PNG", "RGBA PNG"])
def test_damaged_in_the_middle(tmp_path, picture, kind):
    data = bytearray(of_kind(picture, kind))
    data[len(data) // 2] ^= 0x55
    assert reason_of(put(tmp_path, bytes(data))).startswith("damaged: ")


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(KINDS), at=st.floats(0, 1), value=st.integers(0, 255), cut=st.floats(0, 1))
def test_any_damage_gives_a_picture_or_an_image_error(tmp_path_factory, picture, kind, at, value, cut):
    data = bytearray(of_kind(picture, kind))
    data[int(at * (len(data) - 1))] = value
    path = put(tmp_path_factory.mktemp("damaged"), bytes(data[: int(len(data) * max(cut, 0.01)) or 1]))
    for function in (images.header, images.read):
        try:
            function(path)
        except images.ImageError as error:
            assert "\n" not in str(error)


def png_of_size(width, height):
    """A PNG that declares a size and holds no pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


@pytest.mark.parametrize("size", [(60000, 60000), (2**31 - 1, 2**31 - 1), (0, 5)])
def test_impossible_sizes_are_refused_before_decoding(tmp_path, picture, size, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    expected = f"{size[0]}x{size[1]} pixels, but 1 to 178 million can be read"
    jpeg = bytearray(encoded(picture, "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", min(size[1], 65535), min(size[0], 65535))
    for function in (images.read, images.header):
        assert reason_of(put(tmp_path, png_of_size(*size)), function) == expected
        if max(size) < 65536:
            assert reason_of(put(tmp_path, bytes(jpeg)), function) == expected


def test_huge_bmp_is_refused(tmp_path, picture):
    data = bytearray(encoded(picture, "BMP"))
    data[18:26] = struct.pack("<ii", 60000, 60000)
    assert "million" in reason_of(put(tmp_path, bytes(data)))


def test_error_survives_pickling(tmp_path):
    error = pickle.loads(pickle.dumps(images.ImageError(tmp_path / "a.jpg", "why")))
    assert (error.path, error.reason) == (str(tmp_path / "a.jpg"), "why")
    assert str(tmp_path / "a.jpg") in str(error) and "why" in str(error)


@pytest.mark.parametrize(("name", "tolerance"), [("a.png", 0), ("a.jpg", 2), ("a.JPEG", 2)])
def test_write_then_read(tmp_path, picture, name, tolerance):
    before = picture.copy()
    images.write(tmp_path / name, picture)
    assert_reads(tmp_path / name, before, tolerance)
    np.testing.assert_array_equal(picture, before)
    assert os.listdir(tmp_path) == [name]


def test_write_replaces_whole_files(tmp_path, picture, monkeypatch):
    images.write(str(tmp_path / "a.png"), picture)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match=r"a\.png: .*No space left on device"):
        images.write(tmp_path / "a.png", picture[:5])
    assert_reads(tmp_path / "a.png", picture)
    assert os.listdir(tmp_path) == ["a.png"]


def test_longest_name_is_written_and_a_longer_one_is_the_pictures_fault(tmp_path, picture):
    images.write(tmp_path / ("a" * 251 + ".jpg"), picture)
    wide = np.zeros((1, 70000, 3), np.uint8)
    for path, image in ((tmp_path / ("a" * 252 + ".jpg"), picture), (tmp_path / "a.jpg", wide)):
        with pytest.raises(images.UnwritableImage):
            images.write(path, image)
    with pytest.raises(UserError) as error:  # no picture can be written here
        images.write(tmp_path / ("a" * 251 + ".jpg") / "a.jpg", picture)
    assert not isinstance(error.value, images.UnwritableImage)


def test_write_where_nothing_can_be_written(tmp_path, picture):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/a\.jpg: "):
        images.write(tmp_path / "file" / "a.jpg", picture)
    with pytest.raises(UserError, match=r"a\.webp: .*\.jpg or \.png"):
        images.write(tmp_path / "a.webp", picture)
    with pytest.raises(UserError, match=r"a.jpg: .*70000x1"):
        images.write(tmp_path / "a.jpg", np.zeros((1, 70000, 3), np.uint8))
    assert os.listdir(tmp_path) == ["file"]


def save_16_bits(path, low=2000, high=4040):
    """A gray picture with all samples from low to high. Returns them, uint16 [H,W]."""
    values = np.linspace(low, high, 1200).round().reshape(30, 40).astype(np.uint16)
    Image.fromarray(values).save(path)
    return values


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_spread(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    values = save_16_bits(path).astype(float)
    low, high = np.percentile(values, (0.1, 99.9))
    expected = {
        "full": values // 256,
        "stretch": ((values - low) / (high - low)).clip(0, 1) * 255,
        "1000-5000": (values - 1000) / 4000 * 255,
        "2500-3000": ((values - 2500) / 500).clip(0, 1) * 255,
    }
    for gray16, wanted in expected.items():
        image = images.read(path, gray16=gray16)
        assert image.dtype == np.uint8 and image.shape == (30, 40, 3)
        np.testing.assert_allclose(image, np.repeat(wanted[..., None], 3, axis=2), atol=1)
    assert images.sixteen_bits(path) == (2000, 4040) and images.uses_few_levels((2000, 4040))
    assert not images.uses_few_levels((0, 65535)) and not images.uses_few_levels(None)


def test_a_flat_picture_is_not_spread_to_noise(tmp_path):
    Image.fromarray(np.full((30, 40), 3000, np.uint16)).save(tmp_path / "a.png")
    assert np.ptp(images.read(tmp_path / "a.png", gray16="stretch")) == 0


def test_eight_bits_are_never_spread(tmp_path, picture):
    for name in ("a.png", "a.jpg", "a.bmp"):
        Image.fromarray(picture).save(tmp_path / name)
        plain = images.read(tmp_path / name)
        np.testing.assert_array_equal(images.read(tmp_path / name, gray16="stretch"), plain)
        assert images.sixteen_bits(tmp_path / name) is None


def test_choices_of_gray16():
    for text in ("full", "stretch", "0-65535", "2000-4040"):
        assert images.gray16_choice(text) == text
    for text in ("", "half", "5-3", "3-3", "0-65536", "-5", "1.5-3"):
        with pytest.raises(argparse.ArgumentTypeError, match="LOW-HIGH"):
            images.gray16_choice(text)


def test_decoders_print_nothing(tmp_path, picture, capfd):
    Image.fromarray(picture).save(tmp_path / "a.png", icc_profile=b"x" * 200)
    Image.fromarray(picture).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[:-2] + bytes(40) + data[-2:])
    with decoder_messages.collected() as lines:
        for name in ("a.png", "a.jpg"):
            images.read(tmp_path / name)
    assert any("libpng" in line for line in lines) and any("Corrupt JPEG data" in line for line in lines)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(images.read, [tmp_path / "a.png", tmp_path / "a.jpg"] * 20))
    print("ours", file=sys.stderr)
    assert capfd.readouterr() == ("", "ours\n")


def test_heif_needs_its_package(tmp_path):
    name = "a.HEIC"
    assert "pip install pillow-heif" in images.unread_suffix(name)
    assert (".heic" in images.SUFFIXES) == (importlib.util.find_spec("pillow_heif") is not None)
    assert ".xyz" in images.unread_suffix("a.xyz")
