"""Containers of weights: what each kind holds; damaged, hostile and foreign files are refused in one line."""

import collections
import contextlib
import json
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import weight_twins
from structures import UserError
from weights import torch_files, weight_files

ARRAYS = {
    "a/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "a/bias": np.array([0.5, -1.5], np.float32),
    "b/kernel": np.full((1, 1, 1, 5), 7, np.float32),
}
# Names that Caffe can say
CAFFE_ARRAYS = {"a/0": ARRAYS["a/kernel"], "a/1": ARRAYS["a/bias"], "b/0": ARRAYS["b/kernel"]}
CONTAINERS = {
    "npz": ("w.npz", weight_twins.write_npz, ARRAYS),
    "npz-compressed": ("w.npz", lambda path, arrays: np.savez_compressed(path, **arrays), ARRAYS),
    "safetensors": ("w.safetensors", weight_twins.write_safetensors, ARRAYS),
    "h5": ("w.h5", weight_twins.write_h5, ARRAYS),
    "h5-model": ("w.hdf5", lambda path, arrays: weight_twins.write_h5(path, arrays, "model_weights"), ARRAYS),
    "torch": ("w.pth", weight_twins.write_torch, ARRAYS),
    "torch-legacy": ("w.PT", weight_twins.write_torch_legacy, ARRAYS),
    "caffe": ("w.caffemodel", weight_twins.write_caffemodel, CAFFE_ARRAYS),
    "caffe-old": ("w.caffemodel", lambda p, a: weight_twins.write_caffemodel(p, a, old=True), CAFFE_ARRAYS),
}


@pytest.fixture(params=CONTAINERS)
def container(request, tmp_path):
    """(path of a good file, the arrays in it) of every kind."""
    name, write, arrays = CONTAINERS[request.param]
    write(tmp_path / name, arrays)
    return tmp_path / name, arrays


def refused(path, message):
    with pytest.raises(UserError, match=message) as error:
        weight_files.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_every_kind_gives_its_arrays(container):
    path, arrays = container
    found = weight_files.read(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        expected = array[0, 0, 0] if name == "b/0" and len(found[name].shape) == 1 else array  # 1×1×1×5 of an old Caffe
        np.testing.assert_array_equal(found[name], expected, strict=True)


def test_any_truncation_is_refused(container):
    path, arrays = container
    whole = path.read_bytes()
    for length in {0, 1, 8, 100, len(whole) // 3, len(whole) // 2, len(whole) - 12, len(whole) - 1}:
        path.write_bytes(whole[:length])
        if "caffemodel" in path.name:  # protobuf has no end mark: a cut between layers shows as arrays that are missing
            with contextlib.suppress(UserError):
                assert len(weight_files.read(path)) < len(arrays)
        else:
            refused(path, f"{path.name}: .*{path.suffix.lower()}")


def test_damage_is_one_line_or_of_no_consequence(container):
    """Eight bytes overwritten anywhere never raise another exception, nor take unlimited memory or time."""
    path, arrays = container
    whole = path.read_bytes()
    places = 8 if ".h" in path.name else 150  # each HDF5 file costs a process
    for start in range(0, len(whole) - 8, max(1, len(whole) // places)):
        for filler in (b"\x5a", b"\xff"):
            path.write_bytes(whole[:start] + filler * 8 + whole[start + 8 :])
            try:
                found = weight_files.read(path)
            except UserError as error:
                assert "\n" not in str(error)
            else:
                assert sum(array.size for array in found.values()) <= sum(array.size for array in arrays.values())


@pytest.mark.parametrize(
    ("child", "message"),
    [
        ("while True: pass", r"the HDF5 library takes more than 0\.5 s on it"),
        ("import os; os.abort()", "the HDF5 library crashes with signal SIGABRT on it"),
        ("text = 'a' * 200_000_000; import time; time.sleep(60)", r"takes more than 0\.1 GB of memory on it"),
    ],
)
def test_a_library_that_gives_up(tmp_path, monkeypatch, child, message):
    """HDF5 hangs on some damaged files and crashes on others, in a separate process."""
    (tmp_path / "child.py").write_text(child)
    weight_twins.write_h5(tmp_path / "w.h5", ARRAYS)
    monkeypatch.setattr(weight_files, "H5_PROBE", (sys.executable, str(tmp_path / "child.py")))
    if child.startswith("while"):
        monkeypatch.setattr(weight_files, "H5_SECONDS", 0.5)
    if child.startswith("text"):
        monkeypatch.setattr(weight_files, "H5_MEMORY", 100_000_000)
    refused(tmp_path / "w.h5", message)


def test_noise_is_refused(tmp_path):
    noise = np.random.default_rng(0).bytes(1000)
    for ending in weight_files.READERS:
        (tmp_path / f"w{ending}").write_bytes(noise)
        refused(tmp_path / f"w{ending}", rf"w\{ending}: ")


def test_files_that_are_none(tmp_path):
    refused(tmp_path / "w.npz", "no such file")
    refused(tmp_path / "w.bin", ", ".join(weight_files.READERS))
    (tmp_path / "folder.pth").mkdir()
    refused(tmp_path / "folder.pth", "folder.pth: ")


def test_narrow_and_wide_numbers(tmp_path):
    arrays = {kind: np.arange(3).astype(kind) for kind in ("float16", "float64", "int64")}
    for name, write in (("w.npz", weight_twins.write_npz), ("w.safetensors", weight_twins.write_safetensors)):
        write(tmp_path / name, arrays)
        np.testing.assert_equal(weight_files.read(tmp_path / name), arrays)
    weight_twins.write_torch(tmp_path / "w.pth", arrays)
    np.testing.assert_equal(weight_files.read(tmp_path / "w.pth"), arrays)


def test_bfloat16_becomes_float32():
    data = np.array([0x3F80, 0xC0A0, 0x0000], "<u2").tobytes()  # 1, -5, 0
    found = torch_files.from_bytes(data, "bfloat16")
    np.testing.assert_array_equal(found, np.array([1, -5, 0], np.float32), strict=True)


# PyTorch
class Bomb:
    """Touches a file when it is unpickled by Python itself."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def build_bomb(tmp_path):
    return pickle.dumps({"weight": Bomb(tmp_path / "ran")}, protocol=2)


def torch_zip(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)


def test_the_bomb_is_live(tmp_path):
    pickle.loads(build_bomb(tmp_path))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("where", ["zip", "bare", "legacy"])
def test_a_pickle_with_code_runs_nothing(tmp_path, where):
    path, bomb = tmp_path / "w.pth", build_bomb(tmp_path)
    magic = pickle.dumps(torch_files.LEGACY_MAGIC, protocol=2)
    if where == "zip":
        torch_zip(path, bomb)
    else:
        path.write_bytes(bomb if where == "bare" else magic + bomb)
    refused(path, r"(__builtin__\.getattr|pathlib\S*), so it is refused.*torch\.save\(")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'touch ran'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c\x01x\x85R.",
        b"ctorch_files\nos\n.",
        b"ctorch.hub\nload\n(S'x'\ntR.",
        b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        b"\x80\x04\x8c\x0ctorch._utils\x8c\x1f_rebuild_tensor_v2.__globals__.os\x93.",
        b"}r\xff\xff\xff\x7f.",  # 17 GB of memo
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\x00\x00\x00x.",  # text of a terabyte
        b"(S'x'\nios\nsystem\n.",
        b"\x82\x01.",
    ],
)
def test_no_name_but_those_of_tensors(tmp_path, content):
    path = tmp_path / "w.pth"
    torch_zip(path, content)
    refused(path, "w.pth: ")


@pytest.mark.parametrize(
    "content",
    [
        {"a": 1.5},
        [1, 2],
        {"model": {"a": "text"}},
        {3: collections.OrderedDict()},
        "text",
    ],
)
def test_a_pickle_without_tensors(tmp_path, content):
    torch_zip(tmp_path / "w.pth", pickle.dumps(content, protocol=2))
    refused(tmp_path / "w.pth", "w.pth: .*not a (dict of tensors|tensor)")


def test_a_state_dict_inside_a_training_checkpoint(tmp_path):
    """Optimizer state beside the model is not read."""
    for write in (weight_twins.write_torch, weight_twins.write_torch_legacy):
        for key in ("model", "state_dict"):
            write(tmp_path / "w.pth", ARRAYS, wrap=lambda t, key=key: {key: t, "optimizer": {"lr": 0.1}, "epoch": 3})
            assert weight_files.read(tmp_path / "w.pth").keys() == ARRAYS.keys()


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((4, 3), (3, 1), 1),  # one beyond the end
        ((1 << 40,), (0,), 0),  # a number repeated to a terabyte
        ((-1,), (1,), 0),
        ((2,), (-1,), 1),
        ((2, 2), (1,), 0),
        ((2.0,), (1,), 0),
        ((True,), (1,), 0),
        ((2,), (1,), -1),
    ],
)
def test_a_tensor_beyond_its_storage(tmp_path, shape, strides, offset):
    def wrap(tensors):
        storage = tensors["x"].arguments[0]
        return {"x": weight_twins._Tensor(storage, shape, strides, offset)}

    weight_twins.write_torch(tmp_path / "w.pth", {"x": np.zeros((4, 3), np.float32)}, wrap=wrap)
    refused(tmp_path / "w.pth", "w.pth: .*x .*(numbers|shape)")


def test_views_of_one_storage(tmp_path):
    def wrap(tensors):
        storage = tensors["x"].arguments[0]
        return {
            "column": weight_twins._Tensor(storage, (4,), (3,), 1),
            "flipped": weight_twins._Tensor(storage, (3, 4), (1, 3)),
            "empty": weight_twins._Tensor(storage, (0, 4), (4, 1), 12),
            "number": weight_twins._Tensor(storage, (), (), 5),
        }

    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    for write in (weight_twins.write_torch, weight_twins.write_torch_legacy):
        write(tmp_path / "w.pth", {"x": x}, wrap=wrap)
        found = weight_files.read(tmp_path / "w.pth")
        expected = {"column": x[:, 1], "flipped": x.T, "empty": np.zeros((0, 4), "f4"), "number": x[1, 2]}
        np.testing.assert_equal(found, expected)


def test_a_hostile_pickle_does_not_change_how_later_files_are_read(tmp_path):
    """BUILD sets attributes, here the defaults of the function that stands for OrderedDict."""
    weight_twins.write_torch(tmp_path / "good.pth", ARRAYS)
    before = weight_files.read(tmp_path / "good.pth")
    torch_zip(tmp_path / "w.pth", b"\x80\x02ccollections\nOrderedDict\nN}X\x0c\0\0\0__defaults__Ns\x86b.")
    refused(tmp_path / "w.pth", "w.pth: .*sets attributes")
    np.testing.assert_equal(weight_files.read(tmp_path / "good.pth"), before)


def test_the_metadata_of_a_state_dict_is_passed_over(tmp_path):
    def wrap(tensors):
        found = collections.OrderedDict(tensors)
        found._metadata = collections.OrderedDict({"": {"version": 1}})
        return found

    weight_twins.write_torch(tmp_path / "w.pth", ARRAYS, wrap=wrap)
    assert b"_metadata" in zipfile.ZipFile(tmp_path / "w.pth").read("archive/data.pkl")
    np.testing.assert_equal(weight_files.read(tmp_path / "w.pth").keys(), ARRAYS.keys())


def test_a_compressed_pytorch_archive(tmp_path):
    """PyTorch does not compress, so a small file cannot unpack to a large one."""
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    refused(tmp_path / "w.pth", "compressed")


def test_a_torchscript_archive_or_a_keras_one(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("metadata.json", "{}")
    refused(tmp_path / "w.pt", "without data.pkl")


# npz
def test_pickled_objects_in_npz_are_not_loaded(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, a=np.array([Bomb(tmp_path / "ran")], dtype=object))
    refused(path, "w.npz: .*allow_pickle")
    assert not (tmp_path / "ran").exists()


def test_what_is_no_number(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.zeros(3), b=np.array(["x"]), c=np.zeros(2, complex))
    refused(tmp_path / "w.npz", "w.npz: b, c: .*numbers")
    with zipfile.ZipFile(tmp_path / "v.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
    refused(tmp_path / "v.npz", "v.npz: notes.txt: .*numbers")
    np.savez(tmp_path / "u.npz")
    refused(tmp_path / "u.npz", "u.npz: ")


def test_an_encrypted_archive(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, a=np.zeros(3))
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"PK\x01\x02") + 8] |= 1  # the flag in the first entry of the central directory
    path.write_bytes(whole)
    refused(path, "w.npz: .*encrypted")


def test_a_zip_bomb(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "w.npz", a=np.zeros(100_000))
    monkeypatch.setattr(weight_files, "LARGEST", 100_000)
    refused(tmp_path / "w.npz", " 8001.* 100000")


# safetensors
@pytest.mark.parametrize(
    "change",
    [
        {"shape": [3]},
        {"shape": [-1]},
        {"shape": [-1, -2]},
        {"dtype": "F99"},
        {"data_offsets": [0, 4]},
        {"data_offsets": [4, 8]},
        {"data_offsets": [0, 1 << 40]},
        {"data_offsets": [8, 0]},
        {"data_offsets": "0"},
    ],
)
def test_safetensors_that_lie(tmp_path, change):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **change}
    text = json.dumps({"x": entry}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    refused(tmp_path / "w.safetensors", "w.safetensors: ")


def test_safetensors_with_overlap_or_a_huge_header(tmp_path):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = json.dumps({"x": entry, "y": entry}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    refused(path, "w.safetensors: .*y ")
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    refused(path, "w.safetensors: .*header")


# Keras
@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_whole_model_whose_code_is_not_run(tmp_path, as_bytes):
    """Its description is not even read as JSON."""
    weight_twins.write_h5(tmp_path / "w.h5", ARRAYS, "model_weights")
    model = '{"config": {"layers": [{"class_name": "Lambda", "config": {"function": [not JSON'
    with h5py.File(tmp_path / "w.h5", "a") as file:
        file.attrs["model_config"] = model.encode() if as_bytes else model
        file["optimizer_weights/iterations"] = np.int64(3)
    assert weight_files.read(tmp_path / "w.h5").keys() == ARRAYS.keys()


def test_arrays_in_no_list(tmp_path):
    weight_twins.write_h5(tmp_path / "w.h5", ARRAYS)
    with h5py.File(tmp_path / "w.h5", "a") as file:
        file["a/stray"] = np.zeros(3)
    refused(tmp_path / "w.h5", "w.h5: .*a/stray")


def test_h5_of_other_origin(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["x"] = np.zeros(3)
    refused(tmp_path / "w.h5", "w.h5: .*layer_names")


@pytest.mark.parametrize(
    "how", ["external link", "external group", "soft link", "external storage", "virtual", "group"]
)
def test_h5_that_leads_elsewhere(tmp_path, how):
    """HDF5 can present other files of the machine as its arrays."""
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.zeros(2, np.float32)
    path = tmp_path / "w.h5"
    weight_twins.write_h5(path, ARRAYS)
    with h5py.File(path, "a") as file:
        del file["a/bias"]
        if how == "external link":
            file["a/bias"] = h5py.ExternalLink(str(secret), "/x")
        elif how == "external group":
            del file["a"]
            file["a"] = h5py.ExternalLink(str(secret), "/")
        elif how == "soft link":
            file["a/bias"] = h5py.SoftLink("/b/kernel")
        elif how == "external storage":
            file.create_dataset("a/bias", (2,), "f4", external=[(str(secret), 0, 8)])
        elif how == "virtual":
            layout = h5py.VirtualLayout((2,), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "x", (2,))
            file.create_virtual_dataset("a/bias", layout)
        else:
            file.create_group("a/bias")
    refused(path, "a is not a group" if how == "external group" else "a/bias is not an array")


def test_h5_whose_model_lies_elsewhere(tmp_path):
    weight_twins.write_h5(tmp_path / "secret.h5", ARRAYS)
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["model_weights"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")
    refused(tmp_path / "w.h5", "w.h5: .*layer_names")


def test_h5_of_lists(tmp_path):
    """Entries of variable length declare 16 bytes each, however long they are."""
    weight_twins.write_h5(tmp_path / "w.h5", ARRAYS)
    with h5py.File(tmp_path / "w.h5", "a") as file:
        del file["a/bias"]
        file.create_dataset("a/bias", (2,), h5py.vlen_dtype(np.float32))
    refused(tmp_path / "w.h5", "w.h5: .*a/bias .*object")


def test_h5_that_unpacks_without_end(tmp_path):
    """An empty data set takes no space on disk and any amount in memory."""
    weight_twins.write_h5(tmp_path / "w.h5", ARRAYS)
    with h5py.File(tmp_path / "w.h5", "a") as file:
        del file["a/bias"]
        file.create_dataset("a/bias", (1 << 20, 1 << 20), "f4", chunks=(64, 64))
    refused(tmp_path / "w.h5", f" 4398046511[0-9]{{3}} .* {weight_files.USUAL}")


# Caffe
def caffe_blob(**values):
    net = weight_twins.caffe_messages()()
    blob = net.layer.add(name="a").blobs.add()
    for name, value in values.items():
        blob.shape.dim.extend(value) if name == "dim" else getattr(blob, name).extend(value)
    return net


def test_a_blob_that_lies(tmp_path):
    path = tmp_path / "w.caffemodel"
    for dims in ([3], [-2], [1 << 40], [2, 1 << 62], []):
        path.write_bytes(caffe_blob(dim=dims, data=[1.0, 2.0]).SerializeToString())
        refused(path, "a/0 .*2 numbers")


def test_two_layers_of_one_name(tmp_path):
    net = caffe_blob(dim=[1], data=[1.0])
    (tmp_path / "w.caffemodel").write_bytes(net.SerializeToString() * 2)
    refused(tmp_path / "w.caffemodel", "w.caffemodel: .*two layers .*a")


def test_a_net_without_weights(tmp_path):
    (tmp_path / "w.caffemodel").write_bytes(weight_twins.caffe_messages()(name="x").SerializeToString())
    refused(tmp_path / "w.caffemodel", "w.caffemodel: .*no arrays")


def test_numbers_one_by_one(tmp_path):
    """Packed fields may also be written unpacked, which every reader of protobuf must take."""
    numbers = b"".join(b"\x2d" + struct.pack("<f", value) for value in (1.0, 2.0))  # field 5, 4 bytes
    blob = numbers + b"\x3a\x02\x08\x02"  # field 7: {field 1: 2}
    layer = b"\x0a\x01a" + b"\x3a" + bytes([len(blob)]) + blob
    (tmp_path / "w.caffemodel").write_bytes(b"\xa2\x06" + bytes([len(layer)]) + layer)
    np.testing.assert_equal(weight_files.read(tmp_path / "w.caffemodel"), {"a/0": np.array([1, 2], np.float32)})


def test_nothing_of_pytorch_is_imported(tmp_path):
    weight_twins.write_torch(tmp_path / "w.pth", ARRAYS)
    weight_files.read(tmp_path / "w.pth")
    assert "torch" not in sys.modules
