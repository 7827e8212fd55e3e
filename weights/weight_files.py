"""Weight files of five kinds -> named arrays. Nothing in a file is ever run, only numbers are read.

Names: those of PyTorch, safetensors and npz files as they are; `LAYER/WEIGHT NAME` for Keras; `LAYER/INDEX` for Caffe.
"""

import contextlib
import json
import math
import os
import pathlib
import subprocess
import sys
import zipfile

import h5py
import numpy as np

from structures import UserError
from weights import torch_files

# VGG-16 in float64 is 1.1 GB; a small file that unfolds to more than this is no weight file
LARGEST = 4 << 30
SAFETENSORS_HEADER = 100_000_000  # the format's own limit
H5_SECONDS = 60  # far more than it takes to go over the structure of a file
ROOT = pathlib.Path(__file__).parents[1]
H5_PROBE = (sys.executable, "-m", "weights.weight_files")  # run in ROOT; what it does is at the end of this file
SAFETENSORS_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def read(path):
    """A weight file -> dict of arrays (any shape and numeric type) by name. The ending tells the kind.

    Raises UserError, one line, if the file is missing, damaged, of an unknown kind, or holds code.
    """
    path = os.fspath(path)
    ending = check_kind(path)
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file")
    try:
        arrays = READERS[ending](path)
    except UserError:
        raise
    except Exception as error:  # zip, zlib, npy, HDF5, pickle and JSON each have their own exceptions for damage
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a readable {ending} ({reason}); fetch or save it again") from None
    words = sorted(name for name, array in arrays.items() if array.dtype.kind not in "fiub")
    if words or not arrays:
        raise UserError(f"{path}: {', '.join(words) + ': no numbers' if words else 'holds no arrays'}")
    return arrays


def check_kind(path):
    """The ending of a weight file's name, in lower case. Raises UserError if it is none of those that are read."""
    ending = os.path.splitext(path)[1].lower()
    if ending not in READERS:
        raise UserError(f"{path}: not a weight file by its ending; one of {', '.join(READERS)} is needed")
    return ending


def _read_npz(path):
    with zipfile.ZipFile(path) as archive:
        _check_size(sum(entry.file_size for entry in archive.infolist()))
    with np.load(path, allow_pickle=False) as file:
        # An entry that is no .npy comes as bytes
        return {name: np.asarray(file[name]) for name in file.files}


def _check_size(size):
    if size > LARGEST:
        raise ValueError(f"unfolds to {size} bytes")


def _read_safetensors(path):
    """8 bytes of header length, a JSON header {name: dtype, shape, data_offsets}, the numbers without gaps."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(SAFETENSORS_HEADER, os.path.getsize(path)):
            raise ValueError("header longer than the file")
        header = json.loads(file.read(length))
        data = memoryview(file.read())
    header.pop("__metadata__", None)
    arrays, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        if start != end or not start <= stop <= len(data):
            raise ValueError(f"{name} does not follow the array before it")
        numbers = torch_files.from_bytes(data[start:stop], SAFETENSORS_TYPES[entry["dtype"]])
        if math.prod(entry["shape"]) != len(numbers) or min(entry["shape"], default=0) < 0:
            raise ValueError(f"{name} has {len(numbers)} numbers for the shape {entry['shape']}")
        arrays[name], end = numbers.reshape(entry["shape"]), stop
    if end != len(data):
        raise ValueError("numbers that belong to no array, or an end missing")
    return arrays


def _read_h5(path):
    """Keras' weights, or those of a whole saved model. Its structure is never interpreted."""
    _survive(path)
    names = _h5_names(path)
    with h5py.File(path, "r") as file:
        return {name: _h5_root(file)[name][()] for name in names}


def _survive(path):
    """Go over the structure in a process of its own: on damage the HDF5 library may hang or crash for good."""
    try:
        command = [*H5_PROBE, os.path.abspath(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=H5_SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError("the HDF5 library hangs on it") from None
    if done.returncode < 0:
        raise ValueError(f"the HDF5 library crashes on it with signal {-done.returncode}")
    if done.returncode:  # not the file's fault: the probe did not get as far as reading it
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")


def _h5_names(path):
    """Names `LAYER/WEIGHT NAME` of the arrays, by the lists that Keras keeps in attributes; all are checked."""
    with h5py.File(path, "r") as file:
        if '"Lambda"' in _text(file.attrs.get("model_config", "")):
            raise UserError(
                f"{path}: holds a Keras model with a Lambda layer, which is program code, so it is refused; "
                "save the numbers alone with model.save_weights(FILE)"
            )
        root = _h5_root(file)
        layers = list(map(_text, root.attrs["layer_names"]))
        if strange := [layer for layer in layers if not _is_inside(root, layer)]:
            raise ValueError(f"{strange[0]} is not a group of this file")
        names = [f"{layer}/{_text(weight)}" for layer in layers for weight in root[layer].attrs["weight_names"]]
        _check_size(sum(_dataset_size(root, name) for name in names))
        stray = []
        root.visititems(lambda name, item: stray.append(name) if isinstance(item, h5py.Dataset) else None)
        if stray := sorted(set(stray) - set(names)):
            raise ValueError(f"{', '.join(stray)}: in no list of weights")
        return names


def _h5_root(file):
    """The group with the layers: the file's root, or `model_weights` of a whole model."""
    root = file
    if "layer_names" not in file.attrs:
        root = file["model_weights"] if _is_inside(file, "model_weights") else None
    if not isinstance(root, h5py.Group) or "layer_names" not in root.attrs:
        raise ValueError("no layer_names as Keras writes them")
    return root


def _dataset_size(root, name):
    """Bytes of an array of numbers, which must lie in the file itself: HDF5 can lead to any file of the machine."""
    dataset = root[name] if _is_inside(root, name) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} is not an array of this file")
    if dataset.dtype.kind not in "fiu":  # others may take more than they say
        raise ValueError(f"{name} holds {dataset.dtype}, not numbers")
    return dataset.size * dataset.dtype.itemsize


def _is_inside(root, name):
    """Whether every part of a path is in the file, none a link to somewhere else."""
    parts = name.split("/")
    paths = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    return all(isinstance(root.get(path, getlink=True), h5py.HardLink) for path in paths)


def _text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _read_caffemodel(path):
    """NetParameter: layers in field 100 (name 1, blobs 7), or in the older field 2 (name 4, blobs 6)."""
    with open(path, "rb") as file:
        content = memoryview(file.read())
    arrays = {}
    for field, layer in _fields(content):
        if field not in (2, 100) or isinstance(layer, int):
            continue
        name_field, blobs_field = (1, 7) if field == 100 else (4, 6)
        parts = list(_fields(layer))
        names = [bytes(value).decode() for number, value in parts if number == name_field]
        for index, blob in enumerate(value for number, value in parts if number == blobs_field):
            name = f"{names[0]}/{index}"
            if name in arrays:
                raise ValueError(f"two layers of the name {names[0]}")
            arrays[name] = _read_blob(blob, name)
    return arrays


def _read_blob(blob, name):
    """BlobProto: data 5 (packed float), shape 7 (dims in its field 1), or the four dims of old files in 1–4."""
    dims, old_dims, data = None, {}, []
    for number, value in _fields(blob):
        if number == 7:
            dims = [dim for field, packed in _fields(value) if field == 1 for dim in _varints(packed)]
        elif number in (1, 2, 3, 4):
            old_dims[number] = value
        elif number == 5:
            data.append(np.frombuffer(value, "<f4"))
    if dims is None:
        dims = [old_dims.get(number, 1) for number in (1, 2, 3, 4)]
        while len(dims) > 1 and dims[0] == 1:  # a vector of old files is 1×1×1×N
            dims = dims[1:]
    data = data[0] if len(data) == 1 else np.concatenate([np.zeros(0, "<f4"), *data])
    if math.prod(dims) != len(data):
        raise ValueError(f"{name} has {len(data)} numbers for the shape {dims}")
    return data.reshape(dims)


def _fields(message):
    """Yield (field number, value) of a protobuf message: an int for a varint, otherwise the bytes as a memoryview."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        wire = key & 7
        if wire == 0:
            value, position = _varint(message, position)
        elif wire in (1, 2, 5):
            size, position = _varint(message, position) if wire == 2 else ({1: 8, 5: 4}[wire], position)
            if size > len(message) - position:
                raise ValueError(f"ends within field {key >> 3}")
            value, position = message[position : position + size], position + size
        else:
            raise ValueError(f"wire type {wire}, which Caffe does not write")
        yield key >> 3, value


def _varints(packed):
    """The numbers of a packed field, or the one of an unpacked field."""
    if isinstance(packed, int):
        yield packed
        return
    position = 0
    while position < len(packed):
        value, position = _varint(packed, position)
        yield value


def _varint(message, position):
    """The number of variable length at a position -> (number, next position)."""
    value, shift = 0, 0
    while True:
        if position >= len(message) or shift > 63:
            raise ValueError("ends within a number")
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


READERS = {
    ".npz": _read_npz,
    ".h5": _read_h5,
    ".hdf5": _read_h5,
    ".pth": torch_files.read,
    ".pt": torch_files.read,
    ".safetensors": _read_safetensors,
    ".caffemodel": _read_caffemodel,
}

if __name__ == "__main__":  # the process of `_survive`, which reads the same again and raises what this passes over
    with contextlib.suppress(Exception):
        _h5_names(sys.argv[1])
