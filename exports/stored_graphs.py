"""What a frozen graph or a SavedModel holds, read from its bytes: nothing in it is run, and TensorFlow is not needed.

An operation of a graph can write any file, so a graph from elsewhere is a program (SECURITY.md of TensorFlow). Here
only the arrays are taken from it, from which `detector` builds the graph anew; and a graph with an operation that
export_model.py does not write is refused by the operation's name. (Messages: graph.proto, function.proto, tensor.proto
and meta_graph.proto of TensorFlow; the numbers below are those of their fields.)
"""

import math
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import config
from exports import file_metadata
from exports.opened import DETECTION_OUTPUTS, INPUT, METADATA, OUTPUTS, RESULT
from structures import UserError
from system import files, wording
from weights import protobuf

# All that detector.build_graph makes of any preset, in any precision
OPERATIONS = frozenset(
    [
        "AddV2",
        "All",
        "ArgMax",
        "BiasAdd",
        "Cast",
        "CombinedNonMaxSuppression",
        "ConcatV2",
        "Const",
        "Conv2D",
        "Exp",
        "GatherV2",
        "Greater",
        "GreaterEqual",
        "Identity",
        "MaxPool",
        "Maximum",
        "Minimum",
        "Mul",
        "OneHot",
        "Pad",
        "Placeholder",
        "RealDiv",
        "Relu",
        "Reshape",
        "ReverseV2",
        "Rsqrt",
        "Select",
        "Softmax",
        "SplitV",
        "Square",
        "StridedSlice",
        "Sub",
        "Sum",
        "TopKV2",
        "Transpose",
        "ZerosLike",
    ]
)
CALLS = frozenset(("PartitionedCall", "StatefulPartitionedCall"))
# What TensorFlow adds to a SavedModel: resizing, decoding of JPEG, and its own functions that save and restore
# variables. They are in functions that are not called from the signature that is read here, and never run
BESIDE = frozenset(
    [
        "DecodeJpeg",
        "EnsureShape",
        "Equal",
        "ExpandDims",
        "Floor",
        "FloorDiv",
        "If",
        "Less",
        "LogicalAnd",
        "LogicalOr",
        "MergeV2Checkpoints",
        "NoOp",
        "Pack",
        "Range",
        "RestoreV2",
        "Round",
        "SaveV2",
        "SelectV2",
        "Shape",
        "ShardedFilename",
        "Squeeze",
        "StatelessIf",
        "StatelessWhile",
        "StaticRegexFullMatch",
        "StringJoin",
        "TensorListFromTensor",
        "TensorListGetItem",
        "TensorListReserve",
        "TensorListSetItem",
        "TensorListStack",
        "Unpack",
        "While",
    ]
)
SIGNATURE = "prepared"  # of a SavedModel: what our own programs run
MOST_NODES = 200_000  # a graph of ours has about 1,000
LARGEST = 1 << 30  # bytes; the largest network, with fc6 and fc7 in full, has 0.6 GB
TYPES = {1: "<f4", 14: "<u2", 19: "<f2"}  # numbers in types.proto; bfloat16 is the upper half of a float32
STRING, BFLOAT16 = 7, 14
MOST_REPEATED = 1 << 20  # numbers that a file may give as one that repeats: biases, not the weights of a layer


class StoredGraph(NamedTuple):
    """metadata: of `file_metadata`. arrays: the network's, float32 or float16, by variable name."""

    metadata: dict[str, Any]
    arrays: dict[str, np.ndarray]


class _Node(NamedTuple):
    """A node of a graph or a function: its name, its operation, and its attributes as bytes by name."""

    name: str
    operation: str
    attributes: dict[str, memoryview]


def read_frozen(path: str, is_networks: Callable[[str], bool]) -> StoredGraph:
    """Read a frozen graph. is_networks: whether the constant of a name is one of the network's.

    Raises UserError if the file cannot be read, is damaged, has an operation that is not on the list, was exported
    without outputs that the programs need, or was not written by export_model.py.
    """
    with _one_line(path, "a graph"):
        content = memoryview(read_checked(path))
        (nodes, functions) = _graph(content, _Counter())
        if functions:
            raise ValueError("it has functions, which a frozen graph of export_model.py does not have")
        _check(path, nodes, OPERATIONS)
        of_name = {node.name: node for node in nodes}
        text = _text(of_name[METADATA])
    metadata = file_metadata.parse(path, text)
    needed = [INPUT, *(OUTPUTS[name] for name in (*DETECTION_OUTPUTS, RESULT))]
    if not of_name.keys() >= set(needed):
        raise UserError(f"{path}: was exported with --outputs; export it again with all of them")
    with _one_line(path, "a graph"):
        return StoredGraph(metadata, _arrays(nodes, is_networks))


def read_saved_model(path: str, metadata: dict[str, Any], is_networks: Callable[[str], bool]) -> StoredGraph:
    """Read the SavedModel in a folder; otherwise as `read_frozen`. metadata: what the folder says of it."""
    with _one_line(path, "a SavedModel"):
        nodes = _saved_nodes(path, memoryview(read_checked(os.path.join(path, config.SAVED_MODEL_GRAPH))))
        return StoredGraph(metadata, _arrays(nodes, is_networks))


def called_functions(content: bytes) -> set[str]:
    """The names of the functions of a saved_model.pb that its signature `prepared` calls. Raises ValueError."""
    _, functions, call = _signature(memoryview(content))
    return _reachable(functions, call)


def read_checked(path: str) -> bytes:
    """The bytes of a graph's file. Raises OSError, ValueError."""
    return files.read_regular(path, LARGEST)


class _one_line:
    """Context in which the errors of a damaged file become one UserError. what: which kind of file it should be."""

    def __init__(self, path: str, what: str):
        self._path, self._what = path, what

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None or isinstance(error, UserError) or not isinstance(error, Exception):
            return False
        if isinstance(error, OSError):
            raise UserError(f"{self._path}: cannot be read ({wording.reason(error)})") from None
        reason = f"it has no {error}" if isinstance(error, KeyError) else wording.reason(error)
        raise UserError(f"{self._path}: not {self._what} of export_model.py ({reason})") from None


class _Counter:
    """Counts nodes, so that a file of a million empty ones takes neither time nor memory."""

    def __init__(self):
        self._count = 0

    def add(self):
        self._count += 1
        if self._count > MOST_NODES:
            raise ValueError(f"it has more than {MOST_NODES} nodes")


def _graph(content, counter):
    """A GraphDef -> (its nodes, {name of a function: its nodes})."""
    nodes, functions = [], {}
    for number, value in protobuf.fields(content):
        if number == 1:
            nodes.append(_node(value, counter))
        elif number == 2:
            functions |= dict(_function(inner, counter) for at, inner in protobuf.fields(value) if at == 1)
    return nodes, functions


def _function(content, counter):
    """A FunctionDef -> (name, nodes)."""
    name, nodes = "", []
    for number, value in protobuf.fields(content):
        if number == 1:
            name = next((_name(inner) for at, inner in protobuf.fields(value) if at == 1), "")
        elif number == 3:
            nodes.append(_node(value, counter))
    return name, nodes


def _node(content, counter):
    """A NodeDef -> _Node."""
    counter.add()
    name, operation, attributes = "", "", {}
    for number, value in protobuf.fields(content):
        if number == 1:
            name = _name(value)
        elif number == 2:
            operation = _name(value)
        elif number == 5:
            counter.add()
            entry = dict(protobuf.fields(value))
            attributes[_name(entry.get(1, b""))] = entry.get(2, memoryview(b""))
    return _Node(name, operation, attributes)


def _name(value):
    return bytes(value).decode("utf-8")


def _check(path, nodes, allowed):
    """Raise UserError for the first node whose operation is not allowed."""
    for node in nodes:
        if node.operation not in allowed:
            raise UserError(
                f"{path}: has the operation {node.operation!r} ({node.name}), which export_model.py does not write, so "
                "it is refused; export the model again"
            )


def _saved_nodes(path, content):
    """The nodes of all functions that the signature calls, once every operation of a SavedModel is checked."""
    nodes, functions, call = _signature(content)
    called = _reachable(functions, call)
    every = OPERATIONS | CALLS | BESIDE
    _check(path, nodes, every)
    for name, inside in functions.items():
        _check(path, inside, OPERATIONS | CALLS if name in called else every)
    return [node for name in called for node in functions[name]]


def _signature(content):
    """(nodes, functions, the node that the signature `prepared` names) of a saved_model.pb. Raises ValueError."""
    graphs = [value for number, value in protobuf.fields(content) if number == 2]
    if len(graphs) != 1:
        raise ValueError(f"it has {len(graphs)} graphs")
    nodes, functions, named = [], {}, None
    for number, value in protobuf.fields(graphs[0]):
        if number == 2:
            nodes, functions = _graph(value, _Counter())
        elif number == 5:
            entry = dict(protobuf.fields(value))
            named = entry[2] if _name(entry.get(1, b"")) == SIGNATURE else named
    if named is None:
        raise ValueError(f"it has no signature {SIGNATURE!r}")
    outputs = [dict(protobuf.fields(value)) for number, value in protobuf.fields(named) if number == 2]
    tensors = [_name(dict(protobuf.fields(output[2]))[1]) for output in outputs]
    calls = {tensor.rpartition(":")[0] for tensor in tensors}
    found = [node for node in nodes if node.name in calls]
    if len(found) != 1 or found[0].operation not in CALLS:
        raise ValueError(f"its signature {SIGNATURE!r} calls no function")
    return nodes, functions, found[0]


def _reachable(functions, call):
    """The names of the functions that a node calls, directly or through others."""
    found, open_nodes = set(), [call]
    while open_nodes:
        for name in _called(open_nodes.pop()):
            if name not in functions:
                raise ValueError(f"it calls a function {name!r} that it does not have")
            if name not in found:
                found.add(name)
                open_nodes += functions[name]
    return found


def _called(node) -> Iterator[str]:
    """The names of the functions in the attributes of a node: an AttrValue's `func`, or those of its list."""
    for value in node.attributes.values():
        for number, inner in protobuf.fields(value):
            if number == 10:
                yield _name(dict(protobuf.fields(inner))[1])
            elif number == 1 and not isinstance(inner, int):
                for at, part in protobuf.fields(inner):
                    if at == 9:
                        yield _name(dict(protobuf.fields(part))[1])


def _text(node):
    """The string of a constant."""
    fields = dict(protobuf.fields(_tensor(node)))
    if fields.get(1) != STRING or 8 not in fields:
        raise ValueError(f"{node.name} is not a string")
    return bytes(fields[8])


def _tensor(node):
    """The TensorProto of a constant."""
    return dict(protobuf.fields(node.attributes["value"]))[8]


def _arrays(nodes, is_networks):
    """{name: array} of the network's constants."""
    return {node.name: _array(node) for node in nodes if node.operation == "Const" and is_networks(node.name)}


def _array(node):
    """The array of a constant. A number that stands for many, as protobuf has it, is repeated within limits."""
    kind, shape, content, values = None, (), None, []
    for number, value in protobuf.fields(_tensor(node)):
        if number == 1:
            kind = value
        elif number == 2:
            dims = [dict(protobuf.fields(dim)).get(1, 0) for at, dim in protobuf.fields(value) if at == 2]
            shape = tuple(dims)
        elif number == 4:
            content = np.frombuffer(value, TYPES[kind])
        elif number == 5:
            values.append(np.frombuffer(value, "<f4"))
        elif number == 13:  # halves of 16 bits, as numbers
            values.append(np.array(list(protobuf.varints(value)), "<u2").view(TYPES[kind]))
    if kind not in TYPES:
        raise ValueError(f"{node.name} is of type {kind}, which weights never have")
    if len(shape) > 4:
        raise ValueError(f"{node.name} has {len(shape)} dimensions")
    count = math.prod(shape)
    if content is None:
        content = np.concatenate(values) if values else np.zeros(0, TYPES[kind])
        if 0 < len(content) < count <= MOST_REPEATED:
            content = np.concatenate([content, np.repeat(content[-1:], count - len(content))])
    if len(content) != count:
        raise ValueError(f"{node.name} has {len(content)} numbers for the shape {list(shape)}")
    if kind == BFLOAT16:
        content = (content.astype(np.uint32) << 16).view(np.float32)
    return content.reshape(shape)
