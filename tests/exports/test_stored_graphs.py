"""A graph from a stranger runs nothing: planted operations are refused by name, damaged files get one line.

The graphs are that of release 0.1.0 and a SavedModel of its run, with operations planted where a load or the first
picture would run them.
"""

import dataclasses
import json
import math
import os
import random
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf import saved_model_pb2

import config
import detector
import export_model
import ssd_utils
import ssd_vgg
from exports import saved_model, stored_graphs
from exports.opened import METADATA
from structures import UserError

RELEASE = Path(__file__).parents[1] / "fixtures" / "release_0_1_0"
PICTURE = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder of a SavedModel."""
    path = tmp_path_factory.mktemp("saved") / "model.savedmodel"
    export_model.main([str(RELEASE / "run"), "--format", "savedmodel", "--output", str(path), "--no-check"])
    return path


def release(precision=None):
    """The GraphDef of release 0.1.0. precision: what its metadata says, None for what it said."""
    definition = tf.GraphDef.FromString((RELEASE / "model.pb").read_bytes())
    if precision:
        (node,) = (node for node in definition.node if node.name == METADATA)
        values = {**json.loads(node.attr["value"].tensor.string_val[0]), "precision": precision}
        node.attr["value"].tensor.string_val[0] = json.dumps(values).encode()
    return definition


def constant(nodes, name, value):
    """Add a constant to nodes of a graph or a function."""
    node = nodes.add(name=name, op="Const")
    tensor = tf.make_tensor_proto(value)
    node.attr["dtype"].type = tensor.dtype
    node.attr["value"].tensor.CopyFrom(tensor)
    return name


def plant(nodes, operation, target, victim, ending=""):
    """Add an operation that `victim`, a node that every run needs, waits for. ending: ":output:0" in functions."""
    node = nodes.add(name="planted", op=operation)
    text = constant(nodes, "planted/text", "planted") + ending
    place = constant(nodes, "planted/place", str(target)) + ending
    if operation == "WriteFile":
        node.input.extend([place, text])
    elif operation == "ReadFile":
        node.input.append(place)
    elif operation == "PrintV2":
        node.input.append(text)
        node.attr["output_stream"].s = f"file://{target}".encode()
    elif operation == "PyFunc":
        node.attr["token"].s = b"pyfunc_0"
        node.attr["Tin"].list.SetInParent()
        node.attr["Tout"].list.SetInParent()
    elif operation == "SaveV2":
        names, slices = (constant(nodes, f"planted/{name}", value) for name, value in (("n", ["a"]), ("s", [""])))
        node.input.extend([place, names + ending, slices + ending, text])
        node.attr["dtypes"].list.type.append(tf.string.as_datatype_enum)
    (waiting,) = (one for one in nodes if one.name == victim)
    waiting.input.append("^planted")


OPERATIONS = ["WriteFile", "ReadFile", "PrintV2", "PyFunc", "SaveV2"]


def detect(path, **options):
    with detector.load(str(path), **options) as loaded:
        return loaded.detect(PICTURE)


@pytest.mark.parametrize("fastest", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_frozen_graph_with_a_planted_operation_is_refused(operation, precision, fastest, tmp_path):
    definition, target = release(precision), tmp_path / "target"
    plant(definition.node, operation, target, "detections/boxes")
    (tmp_path / "m.pb").write_bytes(definition.SerializeToString())
    with pytest.raises(UserError, match=rf"m\.pb: has the operation '{operation}' \(planted\), which export_model"):
        detect(tmp_path / "m.pb", fastest=fastest)
    assert not target.exists()


@pytest.mark.parametrize("fastest", [True, False])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_saved_model_with_a_planted_operation_is_refused(operation, fastest, saved, tmp_path):
    path, target = tmp_path / "m.savedmodel", tmp_path / "target"
    shutil.copytree(saved, path)
    content = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    functions = content.meta_graphs[0].graph_def.library.function
    (body,) = (one for one in functions if any(node.op == "CombinedNonMaxSuppression" for node in one.node_def))
    plant(body.node_def, operation, target, "scores_0", ":output:0")
    (path / "saved_model.pb").write_bytes(content.SerializeToString())
    with pytest.raises(UserError, match=rf"has the operation '{operation}' \(planted\), which export_model"):
        detect(path, fastest=fastest)
    assert not target.exists()


def test_functions_of_a_saved_model_that_another_signature_calls_are_looked_at(saved, tmp_path):
    path = tmp_path / "m.savedmodel"
    shutil.copytree(saved, path)
    content = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    plant(content.meta_graphs[0].graph_def.node, "WriteFile", tmp_path / "target", "NoOp")
    (path / "saved_model.pb").write_bytes(content.SerializeToString())
    with pytest.raises(UserError, match="has the operation 'WriteFile'"):
        detect(path)


def test_a_function_of_a_frozen_graph_is_refused(tmp_path):
    definition = release()
    definition.library.function.add().signature.name = "f"
    (tmp_path / "m.pb").write_bytes(definition.SerializeToString())
    with pytest.raises(UserError, match="it has functions"):
        detect(tmp_path / "m.pb")


def test_what_is_read_is_what_the_run_has(saved):
    wanted = detect(RELEASE / "run", precision="float32")
    for path in (RELEASE / "model.pb", saved):
        for fastest in (True, False):
            found = detect(path, fastest=fastest)
            assert len(found) == len(wanted) > 20
            np.testing.assert_array_equal(found.labels, wanted.labels)
            np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)
            np.testing.assert_allclose(found.boxes_px, wanted.boxes_px, atol=1e-2)


def test_arrays_are_those_that_tensorflow_reads():
    definition = release()
    is_networks = detector._is_networks
    wanted = {node.name: tf.make_ndarray(node.attr["value"].tensor) for node in definition.node if node.op == "Const"}
    found = stored_graphs.read_frozen(str(RELEASE / "model.pb"), is_networks).arrays
    assert found.keys() == {name for name in wanted if is_networks(name)} and len(found) > 60
    for name, array in found.items():
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("form", ["content", "values", "repeated", "one"])
def test_every_form_of_an_array_is_read(form, dtype):
    kind = tf.as_dtype(dtype)
    values = np.array([[1.5, -2.0], [0.25, 0.25]]).astype(kind.as_numpy_dtype)
    tensor = tf.make_tensor_proto(values if form != "one" else values[0, 0], kind)
    if form in ("values", "repeated"):
        tensor.ClearField("tensor_content")
        written = values.reshape(-1)[: 4 if form == "values" else 3]
        if dtype == "float32":
            tensor.float_val.extend(written.tolist())
        else:
            tensor.half_val.extend(written.view(np.uint16).tolist())
    graph = tf.GraphDef()
    node = graph.node.add(name="a/weights", op="Const")
    node.attr["value"].tensor.CopyFrom(tensor)
    nodes, _ = stored_graphs._graph(memoryview(graph.SerializeToString()), stored_graphs._Counter())
    found = stored_graphs._arrays(nodes, lambda name: True)["a/weights"]
    np.testing.assert_array_equal(found, tf.make_ndarray(tensor).astype(np.float32))


def bomb(shape, count=1):
    """A graph whose first layer has `count` numbers for a shape."""
    definition = release()
    (node,) = (node for node in definition.node if node.name == "conv1_1/weights")
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.zeros(count, np.float32)))
    del node.attr["value"].tensor.tensor_shape.dim[:]
    for side in shape:
        node.attr["value"].tensor.tensor_shape.dim.add(size=side)
    return definition.SerializeToString()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: bomb([100000, 100000]), "has 1 numbers for the shape"),
        (lambda: bomb([-1, 3]), "has 1 numbers for the shape"),
        (lambda: bomb([1] * 300000), "has 300000 dimensions"),
        (lambda: bomb([2, 2]), "its weights are not those of its metadata"),
        (lambda: b"\x0a\x00" * 1_000_000, "more than 200000 nodes"),
    ],
)
def test_small_files_of_huge_arrays_get_one_line(content, message, tmp_path):
    (tmp_path / "m.pb").write_bytes(content())
    with pytest.raises(UserError, match=message) as raised:
        detect(tmp_path / "m.pb")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "int4"}, "precision"),
        ({"precision": "auto"}, "precision"),
        ({"precision": "int8"}, "int8"),
        ({"threshold": 10**400}, "threshold"),
        ({"thresholds": [0.5]}, "one threshold for each class"),
        ({"batch": -3}, "batch"),
        ({"format": "1"}, "format"),
        ({"class_names": "car"}, "class_names"),
        ({"class_names": [1, 2]}, "class_names"),
        ({"preset": 5}, "an object"),
        ({"preset": {"keep": 10**9}}, "keep"),
        ({"preset": {"input_size": "300"}}, "input_size"),
        ({"preset": {"input_size": 100000}}, "input_size"),
        ({"preset": {"mean": [math.nan, 1, 1]}}, "mean"),
        ({"preset": {"aspect_ratios": [[0.5] * 10000] * 6}}, "number of anchors"),
    ],
)
def test_metadata_out_of_range_gets_one_line(change, message, tmp_path):
    definition = release()
    (node,) = (node for node in definition.node if node.name == METADATA)
    values = json.loads(node.attr["value"].tensor.string_val[0])
    for name, value in change.items():
        values[name] = {**values[name], **value} if isinstance(value, dict) else value
    node.attr["value"].tensor.string_val[0] = json.dumps(values).encode()
    (tmp_path / "m.pb").write_bytes(definition.SerializeToString())
    with pytest.raises(UserError, match=message) as raised:
        detect(tmp_path / "m.pb")
    assert "m.pb: " in str(raised.value) and "\n" not in str(raised.value)


def damaged(content, random_source):
    """The bytes of a file with a few of them changed, cut or doubled, most in what is no array."""
    content = bytearray(content)
    for _ in range(random_source.randint(1, 4)):
        at = random_source.randrange(len(content))
        kind = random_source.randrange(4)
        if kind == 0:
            content[at] = random_source.randrange(256)
        elif kind == 1:
            del content[at : at + random_source.randint(1, 50)]
        elif kind == 2:
            content[at:at] = content[at : at + random_source.randint(1, 50)]
        else:
            content[at : at + 8] = struct.pack("<Q", random_source.getrandbits(64))
    return bytes(content)


@pytest.mark.parametrize("name", ["frozen", "savedmodel"])
def test_damaged_files_are_read_or_get_one_line(name, saved, tmp_path):
    """As `detector.load` does before it builds anything; the campaign has more."""
    source = random.Random(26)
    frozen = name == "frozen"
    whole = (RELEASE / "model.pb" if frozen else saved / "saved_model.pb").read_bytes()
    skeleton = stored_skeleton(whole)
    folder, refused = tmp_path / "saved", 0
    folder.mkdir()
    path = folder / "saved_model.pb"
    metadata = None if frozen else saved_model.read_metadata(str(saved))
    for _ in range(300):
        path.write_bytes(damaged(skeleton if source.random() < 0.8 else whole, source))
        try:
            if frozen:
                stored_graphs.read_frozen(str(path), detector._is_networks)
            else:
                stored_graphs.read_saved_model(str(folder), metadata, detector._is_networks)
        except UserError as error:
            refused += 1
            assert str(error).startswith(f"{path if frozen else folder}: ") and "\n" not in str(error)
    assert refused > 100


def stored_skeleton(whole):
    """A file without the numbers of its arrays, so that damage hits what says how to read it."""
    is_saved = not whole.startswith(b"\n")
    content = saved_model_pb2.SavedModel.FromString(whole) if is_saved else tf.GraphDef.FromString(whole)
    graph = content.meta_graphs[0].graph_def if is_saved else content
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for node in nodes:
            tensor = node.attr["value"].tensor if "value" in node.attr else None
            if tensor is not None and len(tensor.tensor_content) > 1000:
                tensor.tensor_content = tensor.tensor_content[:16]
    return content.SerializeToString()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_a_file_is_opened(kind, tmp_path):
    path = tmp_path / "m.pb"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(UserError, match=r"m\.pb"):
        stored_graphs.read_frozen(str(path), detector._is_networks)


VARIANTS = [
    {},
    {"channel_order": "BGR", "size_offset_limit": 4.0, "clip_boxes": "before_nms", "clip_anchors": "all"},
    {"classes_per_anchor": "best", "fc_form": "full"},
    {"candidates_per_map": 100, "drop_empty_boxes": True},
    {"drop_empty_boxes": True, "clip_boxes": "before_nms"},
]


@pytest.mark.parametrize("change", VARIANTS, ids=lambda change: "-".join(change) or "plain")
def test_the_list_has_all_that_a_graph_is_made_of(change):
    preset = dataclasses.replace(ssd_utils.get_preset("vgg300"), width=1 / 64, **change)
    with tf.Graph().as_default():
        images = tf.placeholder(tf.uint8, [None, 300, 300, 3], "image_input")
        ssd_vgg.build(images, preset, 2)
        weights = {one.op.name: np.zeros(one.shape.as_list(), np.float32) for one in tf.global_variables()}
    description = config.ModelDescription(preset, ("car", "bus"))
    for dtype in (tf.float32, tf.bfloat16, tf.float16):
        graph = detector.build_graph(description, weights, dtype, (0.1, 0.2), portable=True)
        assert {node.op for node in graph.as_graph_def().node} <= stored_graphs.OPERATIONS
