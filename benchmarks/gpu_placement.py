"""What a GPU cannot do without the host: told from the kernels that TensorFlow registers, on any machine.

Each such operation makes the card wait: its input is copied to the host, computed there, and perhaps copied back. Found
are operations without a GPU kernel for their types, those whose GPU kernel reads or writes a tensor in host memory (as
most with int32 do), and loops, which the host decides. What only depends on constants and fixed shapes does not count,
as TensorFlow computes it once if it is small; nor does what is fed, or goes to the host because it is fetched.

Likewise, TensorFlow's optimizer of graphs can be asked what it makes of a graph on a GPU that is not there.
"""

import collections
import contextlib
import dataclasses
import functools

import bench_ours
import gpu_stages
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import device_properties_pb2 as properties
from tensorflow.python.framework import function_def_to_graph, kernels
from tensorflow.python.grappler import cluster, tf_optimizer

import detector
from kernels import devices
from settings.training_settings import TrainingSettings
from training import optimization

HOST, CARD = "host", "card"
NO_KERNEL, READS, WRITES, LOOPS = "no GPU kernel", "reads in host memory", "writes in host memory", "asks the host"
FED = ("Placeholder", "PlaceholderWithDefault")
COMPUTED_ONCE = 100 * 1024  # bytes; kMaxConstantSize of TensorFlow's constant_folding.cc
LOOP = ("While", "StatelessWhile")
# What is known to wait, of a data type or of "detections". float16: whether all gradients are finite decides a
# branch, and the steps where they are are counted in an int32 variable, which lies on the host. Detections: the loop
# that finds which boxes stay
KNOWN = {
    "float16": {
        ("If", READS),
        ("AddV2(int32)", READS),
        ("AddV2(int32)", WRITES),
        ("GreaterEqual(int32, bool)", READS),
        ("GreaterEqual(int32, bool)", WRITES),
        ("VarHandleOp(resource)", NO_KERNEL),
    },
    "detections": {("StatelessWhile", LOOPS)},
}


@dataclasses.dataclass(frozen=True, order=True)
class Stall:
    """An operation that makes the card wait for the host.

    operation: its type, with those of its tensors, such as `Sum(int32)`; of a loop or branch its type alone
    reason: NO_KERNEL, READS, WRITES or LOOPS
    name: in the graph, behind the function that it is in
    """

    operation: str
    reason: str
    name: str


@contextlib.contextmanager
def as_on_gpu():
    """While open, graphs are built as on a machine with a GPU."""
    before = devices.has_gpu
    devices.has_gpu = lambda: True
    try:
        yield
    finally:
        devices.has_gpu = before


def of_training(precision, width, **changes):
    """The Stalls of a training step of SSD300. changes: of TrainingSettings."""
    settings = TrainingSettings(data="", train="", batch_size=2, **changes)
    description = bench_ours.describe(width=width)
    batch = bench_ours.training_batch(description.preset, 2)
    dtype = tf.as_dtype(precision)
    with as_on_gpu(), tf.Graph().as_default() as graph:
        weights = [1.0] * len(description.class_names)
        step = optimization.TrainingStep(description, settings, dtype, weights, fixed_shapes=True, feed_ahead=True)
        fetched = [gpu_stages.fetches(step, batch, last) for last in (True, False)[: settings.accumulate]]
    return stalls(graph, tf.nest.flatten(fetched))


def detection_graph(precision, width):
    """(the graph of detecting on a batch with SSD300, the tensors that a run fetches)."""
    description = bench_ours.describe(width=width)
    weights = bench_ours.random_weights(description)
    with as_on_gpu():
        graph = detector.build_graph(description, weights, tf.as_dtype(precision), 0.01, batch_size=2)
    return graph, [graph.get_tensor_by_name(f"detections/{name}:0") for name in detector.OUTPUTS]


def optimized(graph, fetched):
    """{type of operation: how many} of what TensorFlow's optimizer makes of a graph on an H100."""
    with graph.as_default():
        for fetch in fetched:
            tf.add_to_collection(tf.GraphKeys.TRAIN_OP, fetch)
        meta_graph = tf.train.export_meta_graph(graph=graph)
    names = {kind: f"/job:localhost/replica:0/task:0/device:{kind}:0" for kind in ("CPU", "GPU")}
    for node in meta_graph.graph_def.node:
        node.device = names["CPU" if _kernel(graph.get_operation_by_name(node.name)) is None else "GPU"]
    card = {"type": "GPU", "num_cores": 132, "environment": {"architecture": "9.0", "cudnn": "9000"}}
    machine = [
        properties.NamedDevice(name=names["CPU"], properties=properties.DeviceProperties(type="CPU", num_cores=16)),
        properties.NamedDevice(name=names["GPU"], properties=properties.DeviceProperties(**card)),
    ]
    found = tf_optimizer.OptimizeGraph(tf.ConfigProto(), meta_graph, cluster=cluster.Cluster(devices=machine))
    return collections.Counter(node.op for node in found.node)


def check(precision, width):
    """A row's dict: whether the card waits for the host only where that is known; how many convolutions are fused."""
    detection = detection_graph(precision, width)
    parts = {precision: of_training(precision, width), "detections": stalls(*detection)}
    counts = optimized(*detection)
    unknown = [stall for part, found in parts.items() for stall in unknown_ones(part, found)]
    return {
        "what": f"training step and detections in {precision}: the card waits for the host only where that is known",
        "stalls": [dataclasses.astuple(stall) for found in parts.values() for stall in found],
        "differing": len(unknown),
        "fused_convolutions": counts["_FusedConv2D"],
        "plain_convolutions": counts["Conv2D"],
        "correct": not unknown,
    }


def unknown_ones(part, found):
    """The Stalls of a part, a data type or "detections", that are not in KNOWN."""
    return [stall for stall in found if (stall.operation, stall.reason) not in KNOWN.get(part, ())]


def stalls(graph, fetched):
    """The Stalls of a run that fetches tensors or operations of a graph, sorted."""
    fetched = {getattr(fetch, "op", fetch) for fetch in fetched}
    return sorted(set(_Walk(graph).stalls(fetched)))


class _Walk:
    """Goes through a graph, or through the body of one of its functions.

    graph: to go through; root: the graph that has the functions, None for the graph itself; prefix: of the names
    """

    def __init__(self, graph, root=None, prefix=""):
        self._root, self._prefix = root or graph, prefix
        self._static = {}

    def stalls(self, fetched):
        """Yield Stalls of what a run of some operations executes."""
        for op in _needed(fetched):
            is_end = op in fetched and op.type == "Identity"
            if not is_end and op.type not in FED and not self._is_static(op):
                yield from self._of(op)

    def _of(self, op):
        if "_XlaMustCompile" in op.node_def.attr:  # the card runs it as a whole
            return
        names = _functions(op)
        for name in names:
            body = self._body(name)
            inside = _Walk(body, self._root, f"{self._prefix}{name}/")
            yield from inside.stalls(set(body.get_operations()))
        what = op.type if names else f"{op.type}({', '.join(_types(op))})"
        for reason in self._reasons(op):
            yield Stall(what, reason, f"{self._prefix}{op.name}")

    def _reasons(self, op):
        if op.type in LOOP:
            yield LOOPS
        elif _kernel(op) is None:
            yield NO_KERNEL
        else:
            if any(_place(op, t) == HOST and self._lies_on_card(t) for t in _data(op.inputs)):
                yield READS
            written = [t for t in _data(op.outputs) if _place(op, t) == HOST]
            if any(_place(reader, t) == CARD for t in written for reader in t.consumers()):
                yield WRITES

    def _lies_on_card(self, tensor):
        return not self._is_static(tensor.op) and _place(tensor.op, tensor) == CARD

    def _is_static(self, op):
        """Whether TensorFlow computes it once: it depends on constants and fixed shapes only."""
        if op not in self._static:
            if op.type in ("Shape", "ShapeN", "Size", "Rank"):
                self._static[op] = all(tensor.shape.is_fully_defined() for tensor in op.inputs)
            elif op.type == "Const":
                self._static[op] = True
            else:
                pure = len(op.inputs) > 0 and not op.op_def.is_stateful and op.type not in FED
                small = all(_bytes(tensor) <= COMPUTED_ONCE for tensor in op.outputs)
                self._static[op] = pure and small and all(self._is_static(tensor.op) for tensor in op.inputs)
        return self._static[op]

    def _body(self, name):
        definition = self._root._get_function(name)
        with self._root.as_default():
            return function_def_to_graph.function_def_to_graph(definition.cached_definition)


def _bytes(tensor):
    """The size of a tensor; 0 where its shape is not known."""
    return (tensor.shape.num_elements() or 0) * (tensor.dtype.size or 0)


def _needed(fetched):
    """The operations that a run of some operations executes, as a list."""
    found, waiting = {}, list(fetched)
    while waiting:
        op = waiting.pop()
        if op not in found:
            found[op] = None
            waiting += [*(tensor.op for tensor in op.inputs), *op.control_inputs]
    return list(found)


def _functions(op):
    """Names of the functions that an operation calls."""
    values = op.node_def.attr.values()
    return [f.name for value in values for f in (value.func, *value.list.func) if f.name]


def _types(op):
    return dict.fromkeys(tensor.dtype.base_dtype.name for tensor in (*op.inputs, *op.outputs))


def _data(tensors):
    """Without the names of variables, which always lie on the host."""
    return [tensor for tensor in tensors if tensor.dtype.base_dtype != tf.resource]


def _place(op, tensor):
    """Where an operation on a GPU reads or writes one of its tensors; None where its kernel does not tell."""
    kernel = _kernel(op)
    if kernel is None or op.type in FED:
        return None
    writes = tensor.op is op
    arguments, tensors = (op.op_def.output_arg, op.outputs) if writes else (op.op_def.input_arg, op.inputs)
    names = [argument.name for argument in arguments for _ in range(_count(op, argument))]
    here = {name for name, other in zip(names, tensors, strict=True) if other is tensor}
    return HOST if here & set(kernel.host_memory_arg) else CARD


def _count(op, argument):
    """How many tensors an argument of an operation's definition stands for."""
    if argument.number_attr:
        return op.node_def.attr[argument.number_attr].i
    return len(op.node_def.attr[argument.type_list_attr].list.type) if argument.type_list_attr else 1


def _kernel(op):
    """The kernel with which a GPU runs an operation; None without one."""
    attributes = op.node_def.attr
    for kernel in _kernels(op.type):
        wanted = {c.name: c.allowed_values.list.type for c in kernel.constraint}
        if all({attributes[n].type, *attributes[n].list.type} - {0} <= set(types) for n, types in wanted.items()):
            return kernel
    return None


@functools.cache
def _kernels(kind):
    """The kernels of a type of operation that a GPU may use, the preferred first. DEFAULT serves every device."""
    fitting = [k for k in kernels.get_registered_kernels_for_op(kind).kernel if k.device_type in ("GPU", "DEFAULT")]
    return sorted((k for k in fitting if not k.label), key=lambda k: (k.device_type != "GPU", -k.priority))
