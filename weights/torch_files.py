"""PyTorch's .pth and .pt files -> NumPy arrays, without PyTorch and without running what is in them.

Such a file is a pickle whose tensors refer to raw numbers outside it: in entries of a zip archive or, before PyTorch
1.6, in blocks that follow the pickle (most published SSD weights are that old). A pickle can ask to call any function
of any module. Here the few names that make tensors and dicts are mapped to functions of this module; a file with any
other name is refused before anything is called. (Formats: `torch/serialization.py`.)
"""

import collections
import math
import os
import pickle
import struct
import zipfile
from typing import ClassVar, NamedTuple

import numpy as np

from structures import UserError
from system import files

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
MOST_DIMENSIONS = 8  # of an array; those of convolutions have 4
KEYS = (str, bytes, int, float, bool, type(None))  # types of keys in dicts
STORAGE_TYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


class _Storage(NamedTuple):
    """A block of raw numbers.

    key: its name in the file.
    dtype: a value of STORAGE_TYPES.
    """

    key: str
    dtype: str


class _Tensor(NamedTuple):
    """A strided view of a storage.

    storage: where its numbers are.
    offset: of the first number, in elements.
    shape: of the array.
    strides: by axis, in elements.
    """

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple


def read(path):
    """The tensors of a state dict (bare, or under `model` or `state_dict`) -> dict of arrays by name.

    Raises UserError if the pickle asks for anything but tensors; other exceptions if the file is damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _read_zip(path, archive)
    with files.open_regular(path) as file:
        return _read_legacy(path, file)


def from_bytes(data, dtype):
    """Little-endian bytes -> 1-D array. dtype: NumPy's name of a type, or "bfloat16", which becomes float32."""
    if dtype == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))


def check_dimensions(name, shape):
    """Raise ValueError for an array of more dimensions than weights have: a small file may state many thousands."""
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"{name} has {len(shape)} dimensions")


def _read_zip(path, archive):
    folder = next((n.removesuffix("data.pkl") for n in archive.namelist() if n.endswith("/data.pkl")), None)
    if folder is None:
        raise ValueError("a zip archive without data.pkl")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise ValueError("compressed entries, which PyTorch does not write")
    if sum(entry.file_size for entry in archive.infolist()) > os.path.getsize(path):
        raise ValueError("overlapping entries")
    if folder + "byteorder" in archive.namelist() and archive.read(folder + "byteorder") != b"little":
        raise ValueError("big-endian numbers")
    with archive.open(folder + "data.pkl") as file:
        tensors = _state_dict(_Unpickler(path, file).load())

    def load(storage):
        return from_bytes(archive.read(f"{folder}data/{storage.key}"), storage.dtype)

    return _to_arrays(tensors, load)


def _read_legacy(path, file):
    """Read five pickles (magic number, protocol, system, content, storage keys), then each storage: length, numbers."""
    unpickler = _Unpickler(path, file)
    if unpickler.load() != LEGACY_MAGIC:
        raise ValueError("not a PyTorch file")
    _Unpickler(path, file).load()
    if not _Unpickler(path, file).load()["little_endian"]:
        raise ValueError("big-endian numbers")
    content = _Unpickler(path, file)
    tensors = _state_dict(content.load())
    storages = {}
    for key in _Unpickler(path, file).load():
        dtype = content.storages[key].dtype
        (length,) = struct.unpack("<q", file.read(8))
        size = length * (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
        data = file.read(max(0, size))
        if len(data) != size:
            raise ValueError(f"ends within storage {key}")
        storages[key] = from_bytes(data, dtype)
    return _to_arrays(tensors, lambda storage: storages[storage.key])


# The pure Python version: the C version allocates as much memory as a number in the pickle says (a memo index)
class _Unpickler(pickle._Unpickler):
    """Makes tensors and dicts, nothing else."""

    def __init__(self, path, file):
        super().__init__(file, encoding="utf-8")  # names pickled by Python 2
        self._path = path
        self.storages = {}

    def find_class(self, module, name):
        """The function that a pickle asks for: the only way by which it can reach one."""
        if module == "torch" and name in STORAGE_TYPES:
            return STORAGE_TYPES[name]
        if not (module and name):
            raise EOFError("ends within a name")
        try:
            return _FUNCTIONS[module, name]
        except KeyError:
            raise UserError(
                f"{self._path}: asks to run {module}.{name}, so it is refused; "
                "save the weights alone with torch.save(model.state_dict(), FILE)"
            ) from None

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)  # by opcode

    def _refuse_set(self):
        raise ValueError("it has a set, which no file of weights needs")

    for _code in (pickle.EMPTY_SET, pickle.FROZENSET, pickle.ADDITEMS):
        dispatch[_code[0]] = _refuse_set

    def load_dict(self):
        """A dict of what lies on the stack, keys and values in turn."""
        items = self.pop_mark()
        self.append(_dict(zip(items[::2], items[1::2], strict=True)))

    dispatch[pickle.DICT[0]] = load_dict

    def load_setitem(self):
        """One key and value for a dict."""
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1].update(_dict([(key, value)]))

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self):
        """Keys and values in turn for a dict."""
        items = self.pop_mark()
        self.stack[-1].update(_dict(zip(items[::2], items[1::2], strict=True)))

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_build(self):
        """Attributes for an object, such as the `_metadata` of a state dict, which nobody reads.

        Of a function of this module they would outlast the file.
        """
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise ValueError("it sets attributes of something that is not a dict")

    dispatch[pickle.BUILD[0]] = load_build

    def persistent_load(self, pid):
        """A pickle's reference to a storage -> _Storage."""
        kind, dtype, key, _location, _length, *view = pid
        plain = all(type(value) is str for value in (kind, dtype, key))
        if not plain or kind != "storage" or dtype not in STORAGE_TYPES.values() or view not in ([], [None]):
            raise ValueError("unknown storage")
        return self.storages.setdefault(key, _Storage(key, dtype))


def _dict(pairs=(), kind=dict):
    """A dict of pairs, or of a dict, whose keys are texts or numbers.

    Tuples in tuples take for ever to hash or to show: 1 kB can hold a tree of 2^100 leaves.
    """
    made = kind()
    for key, value in pairs.items() if isinstance(pairs, dict) else pairs:
        if type(key) not in KEYS:
            raise ValueError(f"a key is a {type(key).__name__}, not a string")
        made[key] = value
    return made


def _ordered_dict(pairs=()):
    return _dict(pairs, collections.OrderedDict)


def _rebuild_tensor(storage, offset, shape, strides, *_):
    if not isinstance(storage, _Storage) or type(shape) not in (tuple, list) or type(strides) not in (tuple, list):
        raise ValueError("a tensor without storage or shape")
    check_dimensions("a tensor", shape)
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor, *_):
    return tensor


_FUNCTIONS = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("collections", "Counter"): _dict,  # milestones of learning rate schedules, saved beside the model
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


def _state_dict(content):
    """The dict of tensors: the content itself, or its entry `model` or `state_dict`, as training programs save it."""
    if not isinstance(content, dict):
        raise ValueError("not a dict of tensors")
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), dict):
            content = content[key]
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise ValueError(f"{name if type(name) is str else type(name).__name__} is not a tensor")
    return content


def _to_arrays(tensors, load):
    """dict of _Tensor -> dict of arrays. load: _Storage -> 1-D array. Tensors may share a storage."""
    storages = {}
    arrays = {}
    for name, tensor in tensors.items():
        if tensor.storage not in storages:
            storages[tensor.storage] = load(tensor.storage)
        arrays[name] = _view(name, tensor, storages[tensor.storage])
    return arrays


def _view(name, tensor, data):
    """The elements of a _Tensor as an array. Raises ValueError if some are outside the storage."""
    numbers = (tensor.offset, *tensor.shape, *tensor.strides)
    if any(type(n) is not int or n < 0 for n in numbers) or len(tensor.shape) != len(tensor.strides):
        raise ValueError(f"{name} has an impossible shape")
    span = sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides, strict=True))
    count = math.prod(tensor.shape)
    if count > len(data) or (count and tensor.offset + span >= len(data)):
        raise ValueError(f"{name} needs more numbers than the file has")
    strides = [stride * data.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.shape, strides, writeable=False)
