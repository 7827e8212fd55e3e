"""Small files that ask for hours or gigabytes are refused in one line, before the work begins."""

import io
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import ssd_utils
import training_data
from formats import yolo
from media import images
from settings.training_settings import DEFAULTS
from structures import Sample, UserError
from weights import torch_files, weight_files

ROOT = Path(__file__).parents[1]
# Reads the file of its arguments with 3 GB of address space and 20 s of processor time, and prints the error
READ = """
import resource, sys
from {module} import {name}
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
try:
    {name}.{function}(sys.argv[1])
except Exception as error:
    print(type(error).__name__, error)
"""


def refused(path, module, name, function):
    """The line by which a file is refused in a process with limits."""
    code = READ.format(module=module, name=name, function=function)
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert done.stdout.startswith(("UserError ", "ImageError ")) and done.stdout.count("\n") == 1, done.stdout
    return done.stdout


def webp_of(width, height):
    """A WebP of one color, whose size is not seen in its length: each pixel takes no bit."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "webp", lossless=True)
    content = bytearray(buffer.getvalue())
    at = content.index(b"VP8L") + 9
    (bits,) = struct.unpack("<I", content[at : at + 4])
    content[at : at + 4] = struct.pack("<I", (bits & ~0xFFFFFFF) | (width - 1) | (height - 1) << 14)
    return bytes(content)


def saved(mode, size, form, **options):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, form, **options)
    return buffer.getvalue()


def many_scans(count, side=64):
    """A progressive JPEG whose last scan comes again and again."""
    content = saved("RGB", (side, side), "jpeg", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * count + content[-2:]


def test_a_webp_of_a_few_bytes_and_all_pixels(tmp_path):
    (tmp_path / "a.webp").write_bytes(webp_of(16383, 10900))
    assert len((tmp_path / "a.webp").read_bytes()) < 60
    line = refused(tmp_path / "a.webp", "media", "images", "read")
    assert "16383x10900 pixels of this kind take 4.5 GB to decode, more than 1.4; save it as JPEG" in line


@pytest.mark.parametrize(
    ("content", "memory"),
    [
        (saved("RGB", (64, 64), "webp"), 25),
        (saved("RGBA", (64, 64), "png"), 7.8),
        (saved("P", (64, 64), "gif"), 7.8),
        (saved("RGB", (64, 64), "jpeg2000"), 26),
        (saved("I;16", (64, 64), "tiff"), 26),
        (saved("I;16", (64, 64), "png"), 18),
        (saved("RGB", (64, 64), "jpeg"), 7.8),
        (saved("RGB", (64, 64), "jpeg", progressive=True), 9.5),
    ],
    ids=["webp", "alpha", "gif", "jpeg2000", "tiff16", "png16", "jpeg", "progressive"],
)
def test_memory_is_known_before_it_is_taken(content, memory, tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(content)
    monkeypatch.setattr(images, "MAX_MEMORY", 64 * 64 * memory)
    assert images.read(tmp_path / "a").shape == (64, 64, 3)
    monkeypatch.setattr(images, "MAX_MEMORY", 64 * 64 * memory - 1)
    with pytest.raises(images.ImageError, match="64x64 pixels of this kind take"):
        images.read(tmp_path / "a")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_pictures_are_the_same_in_strips(mode, tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    picture = Image.fromarray(rng.integers(0, 256, (37, 23, 4), np.uint8)).convert(mode)
    picture.save(tmp_path / "a.png", **({"transparency": 3} if mode == "P" else {}))
    whole = images.read(tmp_path / "a.png")
    monkeypatch.setattr(images, "STRIP", 23 * 5 + 1)
    np.testing.assert_array_equal(images.read(tmp_path / "a.png"), whole)
    over = Image.new("RGBA", picture.size, "white")
    over.alpha_composite(Image.open(tmp_path / "a.png").convert("RGBA"))
    np.testing.assert_array_equal(whole, np.array(over.convert("RGB")))


def test_scans_of_a_jpeg_are_counted(tmp_path, monkeypatch):
    (tmp_path / "few.jpg").write_bytes(many_scans(50) + b"\xff\xda" * 999)  # behind its end is another thing
    assert images.read(tmp_path / "few.jpg").shape == (64, 64, 3)
    (tmp_path / "many.jpg").write_bytes(many_scans(4000))
    with pytest.raises(images.ImageError, match=r"64x64 pixels in 40\d\d scans, which takes too long to decode"):
        images.read(tmp_path / "many.jpg")
    monkeypatch.setattr(images, "MAX_SCANNED", 64 * 64 * 40)
    with pytest.raises(images.ImageError, match=r"64x64 pixels in 6\d scans"):
        images.read(tmp_path / "few.jpg")


def test_a_slow_picture_is_left_out_of_a_training_and_named(tmp_path, capsys):
    path = tmp_path / "slow.jpg"
    path.write_bytes(many_scans(4000))
    box = np.array([[0.1, 0.1, 0.9, 0.9]], np.float32)
    sample = Sample("slow", str(path), box, np.zeros(1, np.int32), np.zeros(1, bool), 64, 64)
    preset = ssd_utils.get_preset("vgg300")
    make, fields = training_data.make_item([sample, sample], preset, DEFAULTS), training_data._fields(preset)
    out = {field.name: np.ones(field.shape, field.dtype) for field in fields}
    make((0, 0), out)
    assert not any(array.any() for array in out.values())  # a row without objects
    assert f"training continues without {path}: 64x64 pixels in 40" in capsys.readouterr().err


def legacy_torch(content):
    """A .pth file of the old form with a pickle in the place of its content."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    first = (pickle.dumps(value, 2) for value in (torch_files.LEGACY_MAGIC, 1001, system))
    return b"".join(first) + content + pickle.dumps([], 2)


CASES = {
    "setitem": b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.",
    "setitems": b"\x80\x02}()" + b"2\x86" * 60 + b"K\x01u.",
    "dict": b"\x80\x02()" + b"2\x86" * 60 + b"K\x01d.",
    "ordered": b"\x80\x02ccollections\nOrderedDict\n(]()" + b"2\x86" * 60 + b"K\x01\x86ata\x85tR.",
    "set": b"\x80\x04\x8f()" + b"2\x86" * 60 + b"\x90.",
    "frozenset": b"\x80\x04()" + b"2\x86" * 60 + b"\x91.",
    "storage": b"\x80\x02)" + b"2\x86" * 60 + b"Q.",
    "storage of five": b"\x80\x02()" + b"2\x86" * 60 + b"2222tQ.",
}


@pytest.mark.parametrize("name", CASES)
def test_tuples_in_tuples_are_neither_hashed_nor_shown(name, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(legacy_torch(CASES[name]))
    assert path.stat().st_size < 1200
    assert "w.pth: not a readable .pth (" in refused(path, "weights", "weight_files", "read")


def test_dicts_as_pytorch_writes_them_are_read(tmp_path):
    pairs = b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00bK\x02u."
    assert torch_files._Unpickler("x", io.BytesIO(pairs)).load() == {"a": 1, "b": 2}
    old = pickle.dumps({"a": 1, 2: {"b": None}}, 0)
    assert torch_files._Unpickler("x", io.BytesIO(old)).load() == {"a": 1, 2: {"b": None}}


def test_arrays_of_many_dimensions_are_refused(tmp_path):
    header = ('{"a":{"dtype":"U8","shape":[' + "9," * 299_999 + '9],"data_offsets":[0,0]}}').encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    dims = b"\x3a" + varint(1 + 3 + 300_000) + b"\x0a" + varint(300_000) + b"\x09" * 300_000
    blob = b"\x3a" + varint(len(dims)) + dims
    layer = b"\x0a\x01a" + blob
    (tmp_path / "w.caffemodel").write_bytes(b"\xa2\x06" + varint(len(layer)) + layer)
    for suffix in (".safetensors", ".caffemodel"):
        with pytest.raises(UserError, match="has 300000 dimensions"):
            weight_files.read(tmp_path / f"w{suffix}")
    with pytest.raises(ValueError, match="a tensor has 300000 dimensions"):
        torch_files._rebuild_tensor(torch_files._Storage("0", "float32"), 0, (9,) * 300_000, (1,) * 300_000)


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def test_packed_arrays_that_become_gigabytes_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (30_000_000,)})
        for _ in range(120):
            file.write(bytes(1_000_000))
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = ["a"]
        group = file.create_group("a")
        group.attrs["weight_names"] = ["w"]
        group.create_dataset("w", (750_000_000,), "f4", chunks=(1_000_000,), compression="gzip")
    for name in ("w.npz", "w.h5"):
        assert (tmp_path / name).stat().st_size < 200_000
        with pytest.raises(UserError, match=r"it unpacks to \d{9,10} bytes, more than 100000000"):
            weight_files.read(tmp_path / name)


BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB + "path: *u\ntrain: images\nnames: [a]\n", "has an alias"),
        (BOMB + "train: *u\nnames: [a]\n", "has an alias"),
        ("train: [[images]]\nnames: [a]\n", r"'train\[0\]' is \['images'\], not a string"),
        ("path: {a: b}\ntrain: images\nnames: [a]\n", "'path' is {'a': 'b'}, not a string or a list"),
        ("train: [" + "x, " * 20_000 + "x]\nnames: [a]\n", "'train' is .*, not of 0 to 10000 entries"),
        ("train: " + "a/" * 5000 + "\nnames: [a]\n", "longer than any path"),
        ("train: " + "a" * 300 + "\nnames: [a]\n", "longer than any path"),
        ("names: [a]\ntrain: [" + "x, " * 400_000 + "x]\n", r"has 1,200,\d+ characters, more than 500,000"),
    ],
    ids=["path", "train", "nested", "mapping", "many", "long", "name", "large"],
)
def test_yaml_of_aliases_and_endless_lists_is_refused(text, message, tmp_path):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        yolo.split_names(tmp_path)
    assert "data.yaml: " in str(raised.value) and "\n" not in str(raised.value)
