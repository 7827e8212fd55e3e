"""Weight files of six kinds -> named arrays. Only numbers are read; no code in a file is ever run.

Names are as in the file for PyTorch, safetensors, npz and TensorFlow; `LAYER/WEIGHT NAME` for Keras; `LAYER/INDEX` for
Caffe.
"""

import contextlib
import json
import math
import os
import pathlib
import sys
import zipfile

import h5py
import numpy as np

from structures import UserError
from system import files, limited, wording
from weights import protobuf, tf_checkpoints, torch_files

LARGEST = 1_200_000_000  # bytes of an unpacked file; VGG-16 in float64 has 1.1 GB
USUAL, MOST_TIMES = 100_000_000, 50  # bytes that any file may unpack to; beyond, no more than by times its own size
SAFETENSORS_HEADER = 100_000_000  # bytes, the format's own limit
H5_SECONDS, H5_MEMORY = 60, 1_000_000_000  # bytes; both are far more than reading the structure of a file takes
ROOT = pathlib.Path(__file__).parents[1]
H5_PROBE = (sys.executable, "-m", "weights.weight_files")  # run in ROOT: the end of this file
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
    """A weight file -> dict of arrays (any shape and numeric type) by name. The ending of its name says its kind.

    Raises UserError, one line, if the file is missing, damaged, of an unknown kind, or contains code.
    """
    path = file_of(os.fspath(path))
    ending = check_kind(path)
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file")
    try:
        files.check_regular(path)
        arrays = READERS[ending](path)
    except UserError:
        raise
    except Exception as error:  # zip, zlib, npy, HDF5, pickle and JSON each raise their own exceptions for damage
        raise UserError(
            f"{path}: not a readable {ending} ({wording.reason(error)}); download or save it again"
        ) from None
    others = sorted(name for name, array in arrays.items() if array.dtype.kind not in "fiub")
    if others or not arrays:
        raise UserError(f"{path}: {', '.join(others) + ': not numbers' if others else 'contains no arrays'}")
    return arrays


def file_of(path):
    """The file that a path means: of a SavedModel's folder its variables, else the path itself."""
    inside = os.path.join(path, "variables", "variables.index")
    return inside if os.path.isfile(inside) else path


def check_kind(path):
    """The ending of a weight file's name, in lower case. Raises UserError for an unknown ending."""
    ending = os.path.splitext(path)[1].lower()
    if ending not in READERS:
        raise UserError(f"{path}: not a weight file; its name must end in one of {', '.join(READERS)}")
    return ending


def _read_npz(path):
    with zipfile.ZipFile(path) as archive:
        _check_size(sum(entry.file_size for entry in archive.infolist()), path)
    with np.load(path, allow_pickle=False) as file:
        # An entry that is not an .npy file is read as bytes
        return {name: np.asarray(file[name]) for name in file.files}


def _check_size(size, path):
    """Raise ValueError if a file unpacks to more bytes than it should: weights are not like each other."""
    limit = min(LARGEST, max(USUAL, MOST_TIMES * os.path.getsize(path)))
    if size > limit:
        raise ValueError(f"it unpacks to {size} bytes, more than {limit}")


def _read_safetensors(path):
    """Read 8 bytes of header length, a JSON header {name: dtype, shape, data_offsets}, the numbers without gaps."""
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
            raise ValueError(f"{name} does not start where the array before it ends")
        numbers = torch_files.from_bytes(data[start:stop], SAFETENSORS_TYPES[entry["dtype"]])
        torch_files.check_dimensions(name, entry["shape"])
        if math.prod(entry["shape"]) != len(numbers) or min(entry["shape"], default=0) < 0:
            raise ValueError(f"{name} has {len(numbers)} numbers for the shape {entry['shape']}")
        arrays[name], end = numbers.reshape(entry["shape"]), stop
    if end != len(data):
        raise ValueError("the arrays do not fill the file")
    return arrays


def _read_h5(path):
    """Read Keras' weights, alone or in a saved model, whose structure and code (Lambda layers) are not looked at."""
    _probe_h5(path)
    names = _h5_names(path)
    with h5py.File(path, "r") as file:
        return {name: _h5_root(file)[name][()] for name in names}


def _probe_h5(path):
    """Read the structure in a separate process, since the HDF5 library may hang, fill it or crash on a damaged file."""
    command = [*H5_PROBE, os.path.abspath(path)]
    try:
        code, _ = limited.call(command, str(ROOT), H5_SECONDS, H5_MEMORY)
    except limited.Ended as ended:
        raise ValueError(f"the HDF5 library {ended} on it") from None
    if code:  # the file is not the cause: the probe did not start to read it
        raise RuntimeError(f"{' '.join(command)} failed with exit code {code}")


def _h5_names(path):
    """Names `LAYER/WEIGHT NAME` of the arrays, from the lists that Keras keeps in attributes; checks every array."""
    with h5py.File(path, "r") as file:
        root = _h5_root(file)
        layers = list(map(_text, root.attrs["layer_names"]))
        if outside := [layer for layer in layers if not _is_inside(root, layer)]:
            raise ValueError(f"{outside[0]} is not a group of this file")
        names = [f"{layer}/{_text(weight)}" for layer in layers for weight in root[layer].attrs["weight_names"]]
        _check_size(sum(_dataset_size(root, name) for name in names), path)
        stray = []
        root.visititems(lambda name, item: stray.append(name) if isinstance(item, h5py.Dataset) else None)
        if stray := sorted(set(stray) - set(names)):
            raise ValueError(f"{', '.join(stray)}: not in the lists of weights")
        return names


def _h5_root(file):
    """The group with the layers: the file's root, or `model_weights` of a whole model."""
    root = file
    if "layer_names" not in file.attrs:
        root = file["model_weights"] if _is_inside(file, "model_weights") else None
    if not isinstance(root, h5py.Group) or "layer_names" not in root.attrs:
        raise ValueError("no attribute layer_names, which Keras writes")
    return root


def _dataset_size(root, name):
    """Bytes of an array of numbers, which must be in the file itself: HDF5 can link to any file of the machine."""
    dataset = root[name] if _is_inside(root, name) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} is not an array of this file")
    if dataset.dtype.kind not in "fiu":  # others may take more memory than they say
        raise ValueError(f"{name} contains {dataset.dtype}, not numbers")
    return dataset.size * dataset.dtype.itemsize


def _is_inside(root, name):
    """Whether every part of a path is in the file and none is a link."""
    parts = name.split("/")
    paths = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    return all(isinstance(root.get(path, getlink=True), h5py.HardLink) for path in paths)


def _text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _read_caffemodel(path):
    """Read a NetParameter: layers in field 100 (name 1, blobs 7), or in the older field 2 (name 4, blobs 6)."""
    content = memoryview(files.read_regular(path, LARGEST))
    arrays = {}
    for field, layer in protobuf.fields(content):
        if field not in (2, 100) or isinstance(layer, int):
            continue
        name_field, blobs_field = (1, 7) if field == 100 else (4, 6)
        parts = list(protobuf.fields(layer))
        names = [bytes(value).decode() for number, value in parts if number == name_field]
        for index, blob in enumerate(value for number, value in parts if number == blobs_field):
            name = f"{names[0]}/{index}"
            if name in arrays:
                raise ValueError(f"two layers have the name {names[0]}")
            arrays[name] = _read_blob(blob, name)
    return arrays


def _read_blob(blob, name):
    """Read a BlobProto: data 5 (packed float), shape 7 (dims in its field 1), or an old file's four dims in 1–4."""
    dims, old_dims, data = None, {}, []
    for number, value in protobuf.fields(blob):
        if number == 7:
            dims = [dim for field, packed in protobuf.fields(value) if field == 1 for dim in protobuf.varints(packed)]
        elif number in (1, 2, 3, 4):
            old_dims[number] = value
        elif number == 5:
            data.append(np.frombuffer(value, "<f4"))
    if dims is None:
        dims = [old_dims.get(number, 1) for number in (1, 2, 3, 4)]
        while len(dims) > 1 and dims[0] == 1:  # old files write a vector as 1×1×1×N
            dims = dims[1:]
    torch_files.check_dimensions(name, dims)
    data = data[0] if len(data) == 1 else np.concatenate([np.zeros(0, "<f4"), *data])
    if math.prod(dims) != len(data):
        raise ValueError(f"{name} has {len(data)} numbers for the shape {dims}")
    return data.reshape(dims)


READERS = {
    ".npz": _read_npz,
    ".h5": _read_h5,
    ".hdf5": _read_h5,
    ".pth": torch_files.read,
    ".pt": torch_files.read,
    ".safetensors": _read_safetensors,
    ".caffemodel": _read_caffemodel,
    ".index": tf_checkpoints.read,
}

if __name__ == "__main__":  # the process of `_probe_h5`, whose caller reads again and raises what is ignored here
    with contextlib.suppress(Exception):
        _h5_names(sys.argv[1])
