"""A cache gives what images.read gives, also after a change of the file, and decodes no more than it must."""

import os
import time

import numpy as np
import pytest
from PIL import Image

from media import images, picture_cache
from media.picture_cache import Picture, PictureCache
from system import array_folder
from system.shared_arrays import MemoryStore

KINDS = ("8", "4", "2", "1")
MUCH = 1 << 20


def photo(seed, width=83, height=61):
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """Pictures of all sorts that are older than a moment."""
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(1).save(tmp_path / "plain.jpg")
    photo(2).save(tmp_path / "turned.jpg", exif=exif)
    photo(3).save(tmp_path / "is_png.jpg", "PNG")
    photo(4).save(tmp_path / "is_jpeg.png", "JPEG")
    photo(5).convert("RGBA").save(tmp_path / "clear.png")
    photo(6).convert("L").save(tmp_path / "gray.bmp")
    photo(7, 1, 1).save(tmp_path / "dot.jpg")
    return tmp_path


@pytest.fixture
def decoded(monkeypatch):
    """[(path, reduce)] of what is decoded; pictures may be kept however new they are."""
    calls, real = [], images.read

    def read(path, exif=True, reduce=1, gray16=images.FULL):
        calls.append((os.path.basename(path), reduce))
        return real(path, exif, reduce, gray16)

    monkeypatch.setattr(images, "read", read)
    monkeypatch.setattr(picture_cache, "RECENT_NS", 0)
    return calls


def pictures_of(folder):
    return [Picture(str(path), exif) for path in sorted(folder.iterdir()) if path.is_file() for exif in (False, True)]


@pytest.fixture(params=["ram", "disk"])
def open_cache(request, tmp_path_factory):
    """Callable, pictures -> PictureCache; on disk, calls share a folder."""
    opened, folder = [], str(tmp_path_factory.mktemp("cache"))

    def open_one(pictures, kinds=KINDS, limit=MUCH):
        if request.param == "ram":
            store = MemoryStore(len(pictures), [limit] * len(kinds))
        else:
            names = array_folder.Names(folder, [f"{one.path} {one.exif}" for one in pictures], kinds)
            signatures = [picture_cache.signature(one.path) for one in pictures]
            store = array_folder.reserve(1 << 40, names, [limit] * len(kinds), signatures).store
        opened.append(PictureCache(pictures, kinds, store))
        return opened[-1]

    yield open_one
    for cache in opened:
        cache.close()


def test_every_picture_is_read_as_without(folder, open_cache, decoded):
    pictures = pictures_of(folder)
    cache = open_cache(pictures)
    expected = {(one, reduce): images.read(*one, reduce) for one in pictures for reduce in (1, 2, 4, 8)}
    for _ in range(3):
        for (one, reduce), image in expected.items():
            found = cache.read(*one, reduce)
            assert found.shape == image.shape
            np.testing.assert_array_equal(found, image)
    decoded.clear()
    for one, reduce in expected:
        cache.read(*one, reduce)
    assert decoded == []


def test_what_cannot_be_decoded_smaller_is_kept_once(folder, open_cache, decoded):
    """By its content, not by its suffix."""
    for name, times in [("is_png.jpg", 1), ("clear.png", 1), ("gray.bmp", 1), ("is_jpeg.png", 4), ("plain.jpg", 4)]:
        one = Picture(str(folder / name), False)
        cache = open_cache([one])
        decoded.clear()
        for reduce in (4, 1, 2, 8, 4):
            cache.read(*one, reduce)
        assert len(decoded) == times, name


def test_a_changed_file_is_decoded_anew(folder, open_cache, decoded):
    one = Picture(str(folder / "plain.jpg"), False)
    cache = open_cache([one])
    before = cache.read(*one)
    times = os.stat(one.path)
    Image.fromarray(images.read(folder / "is_jpeg.png")).save(folder / "new.jpg")
    os.replace(folder / "new.jpg", one.path)
    os.utime(one.path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as `cp --preserve` does
    after = cache.read(*one)
    assert (before != after).any()
    np.testing.assert_array_equal(after, images.read(one.path, False))
    photo(9).save(one.path, "PNG")
    for reduce in (4, 2, 4):
        np.testing.assert_array_equal(cache.read(*one, reduce), images.read(one.path, False))


def test_a_picture_that_disappears_or_breaks_fails_as_without(folder, open_cache, decoded):
    one = Picture(str(folder / "plain.jpg"), False)
    cache = open_cache([one])
    cache.read(*one)
    os.truncate(one.path, 200)
    with pytest.raises(images.ImageError, match="truncated"):
        cache.read(*one)
    os.remove(one.path)
    with pytest.raises(images.ImageError, match="no such file"):
        cache.read(*one)
    photo(8).save(one.path)
    np.testing.assert_array_equal(cache.read(*one), images.read(one.path, False))


def test_a_file_that_was_just_written_is_not_kept(folder, open_cache, decoded, monkeypatch):
    """It may change again within a tick of the clock that its time is read from."""
    one = Picture(str(folder / "plain.jpg"), False)
    cache = open_cache([one])
    monkeypatch.setattr(picture_cache, "RECENT_NS", 600 * 10**9)
    for _ in range(3):
        cache.read(*one)
    assert len(decoded) == 3
    monkeypatch.setattr(picture_cache, "RECENT_NS", 1)
    time.sleep(0.01)
    for _ in range(3):
        cache.read(*one)
    assert len(decoded) == 4


def test_without_room_pictures_are_decoded(folder, open_cache, decoded):
    pictures = pictures_of(folder)
    cache = open_cache(pictures, limit=10)
    for _ in range(2):
        for one in pictures:
            np.testing.assert_array_equal(cache.read(*one), images.read(*one))
    unknown = Picture(str(folder / "plain.jpg"), True)
    cache = open_cache([Picture(unknown.path, False)], kinds=("1",))
    for reduce in (1, 2):
        np.testing.assert_array_equal(cache.read(*unknown, reduce), images.read(*unknown, reduce))


def test_sixteen_bits_are_spread_as_without(tmp_path, decoded):
    path = str(tmp_path / "deep.png")
    Image.fromarray(np.random.default_rng(0).integers(2000, 4000, (20, 30), dtype=np.uint16)).save(path)
    one = Picture(path, False)
    cache = PictureCache([one], KINDS, MemoryStore(1, [MUCH] * 4), "2000-4000")
    for reduce in (1, 2):
        np.testing.assert_array_equal(cache.read(*one, reduce), images.read(path, False, 1, "2000-4000"))
    assert (cache.read(*one) != images.read(path, False)).any()
    cache.close()


def test_what_is_made_of_a_picture_is_made_once(folder, open_cache, decoded):
    one = Picture(str(folder / "plain.jpg"), False)
    cache = open_cache([one], kinds=("rows", "1"))
    for _ in range(3):
        made = cache.made("rows", lambda image: image[::7], *one, 2)
        np.testing.assert_array_equal(made, images.read(*one, 2)[::7])
    assert decoded.count(("plain.jpg", 2)) == 4  # three of them by this test


def test_the_decoders_have_a_name_that_changes_with_each_of_them(monkeypatch):
    """What was decoded by others is not taken from a cache; another libjpeg is seen in OpenCV's build alone."""
    names = [images.decoders()]
    for module, name, value in (
        (images.cv2, "__version__", "99.1"),
        (images.cv2, "getBuildInformation", lambda: "JPEG: another"),
        (images.PIL, "__version__", "99.2"),
        (images, "READING", "another"),
    ):
        monkeypatch.setattr(module, name, value)
        names.append(images.decoders())
    assert len(set(names)) == 5 and "OpenCV 99.1" in names[-1] and "Pillow 99.2" in names[-1]
    assert not any("\n" in name for name in names)
