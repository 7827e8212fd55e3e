"""A graph of TensorFlow as a model of ONNX, with our suppression in ONNX's operations.

tf2onnx converts the network. It has no form of our suppression, whose candidates differ from class to class, so
everything after the logits and offsets is built here; `detector.postprocess` is its twin. OpenVINO files start from
this model too.
"""

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

import config
import ssd_utils
from exports import file_metadata, graphs
from exports.file_metadata import Threshold
from exports.opened import DETECTION_OUTPUTS, INPUT, RAW_OUTPUTS
from ssd_utils import SSDPreset
from system import worker_processes

OPSET = 17


def convert(graph: tf.Graph, metadata: Mapping[str, Any]):
    """A portable graph of `detector.build_graph` -> onnx.ModelProto, whose metadata is the property `metadata`.

    Input `image_input`: uint8 [N,H,W,3], or, of a raw model, float32 [N,3,H,W] of 0..255, as OpenCV's blobFromImage
    makes it. Outputs: boxes, scores, classes, count, or logits, offsets.
    """
    import onnx
    import tf2onnx

    raw = metadata["outputs"] == file_metadata.RAW
    outputs = graphs.output_names(file_metadata.RAW)
    definition = graphs.extract(graph, outputs.values())
    if metadata["layout"] == file_metadata.NCHW:
        _take_floats(definition)
    name = f"{INPUT}:0"
    with _quiet(), _without_copies():
        model, _ = tf2onnx.convert.from_graph_def(
            definition,
            name="ssd",
            input_names=[name],
            output_names=[f"{operation}:0" for operation in outputs.values()],
            opset=OPSET,
            inputs_as_nchw=[name] if metadata["layout"] == file_metadata.NCHW else None,
        )
    _rename(model.graph, {name: INPUT, **{f"{operation}:0": name for name, operation in outputs.items()}})
    _name_batch(model.graph)
    if not raw:
        description = config.ModelDescription.from_json(metadata)
        threshold = file_metadata.threshold_of(metadata)
        append_detections(model.graph, description.preset, len(description.class_names), threshold)
    model.producer_name = "ssd-tensorflow"
    onnx.helper.set_model_props(model, {file_metadata.PROPERTY: json.dumps(dict(metadata))})
    onnx.checker.check_model(model)
    return model


@contextlib.contextmanager
def _quiet():
    """Context manager: TensorFlow does not warn of the functions that tf2onnx calls, nor tf2onnx of what it renames."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _without_copies():
    """Context manager: tf2onnx simplifies the graph itself, and passes an error on, instead of a copy at each step.

    At full width its copies, dozens of them with all weights, took 6 GB.
    """
    with worker_processes.with_variable("TF2ONNX_CATCH_ERRORS", "FALSE"):
        yield


def _take_floats(definition):
    """Make the pictures of a GraphDef float32 instead of uint8: the network begins by casting them to that."""
    for node in definition.node:
        if node.name == INPUT:
            node.attr["dtype"].type = tf.float32.as_datatype_enum
        elif list(node.input) == [INPUT]:
            node.attr["SrcT"].type = tf.float32.as_datatype_enum


def _rename(graph, names):
    """Give values of an ONNX graph other names, where they are made and where they are used."""
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)


def _name_batch(graph):
    """Call the free number of pictures "batch" in an ONNX graph, for programs that have to be given it by name."""
    for value in (*graph.input, *graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if not first.HasField("dim_value"):
            first.dim_param = "batch"


class _Nodes:
    """Appends nodes to an ONNX graph."""

    def __init__(self, graph):
        self._graph = graph
        self._count = 0

    def _name(self):
        self._count += 1
        return f"detections/{self._count}"

    def add(self, operation, *inputs, outputs=1, name=None, **attributes):
        """A node of these inputs, names of values or arrays -> the name of its output, or the list of several."""
        import onnx

        made = [name or self._name() for _ in range(outputs)]
        inputs = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self._graph.node.append(onnx.helper.make_node(operation, inputs, made, self._name(), **attributes))
        return made[0] if outputs == 1 else made

    def constant(self, array):
        """The name of a constant."""
        import onnx

        name = self._name()
        self._graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def reshape(self, value, *shape):
        """A value in another shape, in which -1 is what remains."""
        return self.add("Reshape", value, np.array(shape, np.int64))

    def top(self, value, count):
        """The [best values, their places] along the last axis, best first; of equal values the first one."""
        return self.add("TopK", value, np.array([count], np.int64), outputs=2, axis=-1)

    def part(self, value, start, end):
        """The columns from start to end of [N,A,columns]."""
        return self.add("Slice", value, *(np.array([number], np.int64) for number in (start, end, 2)))


def append_detections(graph, preset: SSDPreset, classes: int, threshold: Threshold) -> None:
    """Replace the outputs of an ONNX graph by what `detector.postprocess` makes of its values logits and offsets."""
    nodes = _Nodes(graph)
    logits, offsets = RAW_OUTPUTS
    candidates, decoded = preset.candidates, _decode(nodes, offsets, preset)
    probabilities = nodes.add("Softmax", logits, axis=2)
    by_class = nodes.add("Transpose", nodes.part(probabilities, 1, 1 + classes), perm=[0, 2, 1])  # [N,classes,A]
    if preset.classes_per_anchor == "best":
        best = nodes.add("ArgMax", by_class, axis=1)  # [N,1,A], of equal ones the first
        is_best = nodes.add("Equal", best, np.arange(classes)[:, None])
        by_class = nodes.add("Where", is_best, by_class, np.float32(0))
    if preset.candidates_per_map is not None:
        by_class = _best_of_maps(nodes, by_class, preset, classes)
    if preset.drop_empty_boxes:
        sizes = nodes.add("Sub", nodes.part(decoded, 2, 4), nodes.part(decoded, 0, 2))  # [N,A,2]
        narrow = nodes.add("ReduceMin", nodes.add("Transpose", sizes, perm=[0, 2, 1]), axes=[1])  # [N,1,A]
        by_class = nodes.add("Where", nodes.add("Greater", narrow, np.float32(0)), by_class, np.float32(0))
    scores, anchors = nodes.top(by_class, candidates)  # [N,classes,K]
    boxes = nodes.add("GatherND", decoded, nodes.reshape(anchors, 0, -1, 1), batch_dims=1)
    above = np.array(threshold, np.float32).reshape(-1, 1)  # of all classes, or one for each
    scores = nodes.add("Where", nodes.add("Greater", scores, above), scores, np.float32(0))
    kept = _suppress(nodes, boxes, nodes.reshape(scores, -1, candidates), candidates, preset.nms_iou)  # [N·classes,K]
    _best(nodes, boxes, nodes.reshape(kept, -1, classes * candidates), classes, candidates, preset.keep)
    _declare_outputs(graph, preset.keep)


def _best_of_maps(nodes, by_class, preset, classes):
    """`detector._best_of_maps`: scores [N,classes,A], of which those of no candidates become 0."""
    kept, end = [], 0
    for count in preset.anchors_per_map:
        part = nodes.part(by_class, end, end + count)
        end += count
        best, _ = nodes.top(nodes.reshape(part, 0, 1, -1), min(preset.candidates_per_map, classes * count))
        last = nodes.add("ReduceMin", best, axes=[2])  # [N,1,1]
        is_candidate = nodes.add("GreaterOrEqual", part, last)
        kept.append(nodes.add("Where", is_candidate, part, np.float32(0)))
    return nodes.add("Concat", *kept, axis=2)


def _decode(nodes, offsets, preset):
    """`ssd_utils.decode_boxes`: offsets [N,A,4] -> boxes [N,A,4]."""
    anchors = ssd_utils.make_anchors(preset)
    center_variance, size_variance = map(np.float32, preset.variances)
    shift = nodes.add("Mul", nodes.add("Mul", nodes.part(offsets, 0, 2), center_variance), anchors[:, 2:])
    center = nodes.add("Add", shift, anchors[:, :2])
    log_size = nodes.add("Mul", nodes.part(offsets, 2, 4), size_variance)
    if preset.size_offset_limit is not None:
        log_size = nodes.add("Min", log_size, np.float32(preset.size_offset_limit))
    half = nodes.add("Div", nodes.add("Mul", nodes.add("Exp", log_size), anchors[:, 2:]), np.float32(2))
    boxes = nodes.add("Concat", nodes.add("Sub", center, half), nodes.add("Add", center, half), axis=2)
    return nodes.add("Clip", boxes, np.float32(0), np.float32(1)) if preset.clip_boxes == "before_nms" else boxes


def _suppress(nodes, boxes, scores, candidates, iou):
    """Scores [N·classes,K], with −1 in place of those of boxes that went. boxes: [N,classes·K,4]; K candidates.

    Each class of each picture is a batch entry of its own to ONNX's NonMaxSuppression, which has boxes shared by all
    classes. It gets ranks instead of scores, so that no two are equal: which of equal boxes goes first, and whether a
    score of exactly the threshold stays, differs from program to program.
    """
    ranks = np.arange(candidates, 0, -1, dtype=np.float32)  # of the candidates, which are sorted
    ranked = nodes.add("Where", nodes.add("Greater", scores, np.float32(0)), ranks, np.float32(0))
    selected = nodes.add(  # [M,3] (entry, class 0, place)
        "NonMaxSuppression",
        nodes.reshape(boxes, -1, candidates, 4),
        nodes.reshape(ranked, -1, 1, candidates),
        np.array([candidates], np.int64),
        np.array([iou], np.float32),
        np.array([0.5], np.float32),
    )
    places = nodes.add("Gather", selected, np.array([0, 2], np.int64), axis=1)
    class_0 = nodes.add("Cast", nodes.add("Gather", selected, np.int64(1), axis=1), to=1)  # [M] zeros
    ones = nodes.add("Add", class_0, np.float32(1))
    marks = nodes.add("ScatterND", nodes.add("Mul", ranked, np.float32(0)), places, ones)
    return nodes.add("Where", nodes.add("Greater", marks, np.float32(0.5)), scores, np.float32(-1))


def _best(nodes, boxes, scores, classes, candidates, keep):
    """The outputs from boxes [N,classes·K,4] and scores [N,classes·K], below 0 for boxes that went."""
    if missing := max(0, keep - classes * candidates):
        scores = nodes.add("Pad", scores, np.array([0, 0, 0, missing], np.int64), np.float32(-1))
        boxes = nodes.add("Pad", boxes, np.array([0, 0, 0, 0, missing, 0], np.int64), np.float32(0))
    best, rows = nodes.top(scores, keep)
    there = nodes.add("Greater", best, np.float32(0))
    picked = nodes.add("GatherND", boxes, nodes.add("Unsqueeze", rows, np.array([2])), batch_dims=1)
    mask = nodes.add("Unsqueeze", nodes.add("Cast", there, to=1), np.array([2]))
    nodes.add("Mul", picked, mask, name="boxes")
    nodes.add("Where", there, best, np.float32(0), name="scores")
    label = nodes.add("Cast", nodes.add("Div", rows, np.int64(candidates)), to=6)
    nodes.add("Where", there, label, np.int32(0), name="classes")
    nodes.add("ReduceSum", nodes.add("Cast", there, to=6), np.array([1]), keepdims=0, name="count")


def _declare_outputs(graph, keep):
    """Replace the declared outputs of an ONNX graph by the detections."""
    import onnx

    batch = graph.input[0].type.tensor_type.shape.dim[0]
    batch = batch.dim_value or batch.dim_param
    shapes: dict[str, Sequence] = {"boxes": (batch, keep, 4), "count": (batch,)}
    del graph.output[:]
    for name in DETECTION_OUTPUTS:
        kind = onnx.TensorProto.FLOAT if name in ("boxes", "scores") else onnx.TensorProto.INT32
        graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shapes.get(name, (batch, keep))))
