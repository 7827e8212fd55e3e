"""TensorFlow's checkpoints, as also a SavedModel holds one -> NumPy arrays, without TensorFlow.

PREFIX.index is a sorted table of LevelDB's form: blocks of keys and values, an index block of their places, a footer.
A value is a BundleEntryProto: type, shape and place of a variable in PREFIX.data-00000-of-00001 and the like; that of
the empty key is the header. (Formats: `tensorflow/core/util/tensor_bundle`, `tensorflow/core/lib/io/table_format.txt`.)
"""

import math
import os
import struct

import numpy as np

from system import files
from weights import protobuf, torch_files

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
FOOTER = 48  # bytes
LARGEST_INDEX = 100_000_000  # bytes; that of a training has 20,000
TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}  # of types.proto
SHARDS, DTYPE, SHAPE, SHARD, OFFSET, SIZE, SLICES = 1, 1, 2, 3, 4, 5, 7  # numbers of fields


def read(path):
    """The arrays of a checkpoint by variable name. path: of its .index file. Raises ValueError or OSError."""
    content = memoryview(files.read_regular(path, LARGEST_INDEX))
    entries = dict(_table(content))
    shards = dict(protobuf.fields(entries.pop(b""))).get(SHARDS, 1)
    prefix = os.path.splitext(path)[0]
    places = {}  # (entry, {field: value}; its data file) by name
    for key, value in entries.items():
        entry = dict(protobuf.fields(memoryview(value)))
        places[key.decode()] = entry, f"{prefix}.data-{entry.get(SHARD, 0):05d}-of-{shards:05d}"
    left = sum(map(os.path.getsize, {data for _, data in places.values()}))
    arrays = {}
    for name, place in places.items():
        arrays[name] = _read_array(name, *place)
        left -= arrays[name].nbytes
        if left < 0:  # in this way a small file could fill all memory
            raise ValueError("arrays that lie over each other")
    return arrays


def _read_array(name, entry, path):
    """The array of an entry, {field: value}, from a data file."""
    if entry.get(DTYPE) not in TYPES or SLICES in entry:
        raise ValueError(f"{name} has a type or parts that are not read here")
    dims = [dim for field, dim in protobuf.fields(entry.get(SHAPE, b"")) if field == 2]
    torch_files.check_dimensions(name, dims)
    shape = list(map(_size, dims))
    dtype = np.dtype(TYPES[entry[DTYPE]])
    size = entry.get(SIZE, 0)
    if size != math.prod(shape) * dtype.itemsize or entry.get(OFFSET, 0) + size > os.path.getsize(path):
        raise ValueError(f"{name} is cut off")
    with files.open_regular(path) as file:
        file.seek(entry.get(OFFSET, 0))
        return np.frombuffer(file.read(size), dtype).reshape(shape)


def _size(dim):
    """The size in a Dim of a TensorShapeProto."""
    return dict(protobuf.fields(dim)).get(1, 0)


def _table(content):
    """Yield (key, value), bytes, of a whole table."""
    footer = content[-FOOTER:]
    if bytes(footer[-len(MAGIC) :]) != MAGIC:
        raise ValueError("not the index of a checkpoint")
    _, position = _handle(footer, 0)  # of a block that checkpoints leave empty
    index, _ = _handle(footer, position)
    for _, value in _block(content, *index):
        place, _ = _handle(value, 0)
        yield from _block(content, *place)


def _handle(content, position):
    """((offset, size) of a block, next position)."""
    offset, position = protobuf.varint(content, position)
    size, position = protobuf.varint(content, position)
    return (offset, size), position


def _block(content, offset, size):
    """Yield (key, value), bytes, of a block. A key begins with a part of the one before it."""
    block = content[offset : offset + size]
    if len(block) < size or size < 4 or bytes(content[offset + size : offset + size + 1]) != b"\0":
        raise ValueError("a block is cut off or compressed")
    (restarts,) = struct.unpack("<I", block[-4:])  # of keys that are whole, to search for
    position, end, key = 0, size - 4 * (restarts + 1), b""
    while position < end:
        shared, position = protobuf.varint(block, position)
        length, position = protobuf.varint(block, position)
        size_of_value, position = protobuf.varint(block, position)
        key = key[:shared] + bytes(block[position : position + length])
        position += length
        yield key, bytes(block[position : position + size_of_value])
        position += size_of_value
