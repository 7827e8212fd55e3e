"""An exported graph gives the detections of its run, with nothing but TensorFlow."""

import errno
import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import config
import detector
import export_model
import ssd_utils
from export_cases import assert_three_detections, lines_of_the_documents, make_run
from kernels import devices
from media import images
from programs import error_of, run
from structures import UserError
from system import files, write_errors


@pytest.fixture(scope="module", params=["vgg300", "vgg512"])
def exported(request, tmp_path_factory):
    """(run, its exported graph)."""
    folder = tmp_path_factory.mktemp(request.param)
    path = make_run(folder / "run", request.param)
    run("export_model.py", path, "--output", folder / "model.pb", "--precision", "float32")
    return path, folder / "model.pb"


def test_frozen_graph_equals_its_run(exported):
    path, frozen = exported
    graph_def = tf.GraphDef()
    graph_def.ParseFromString(frozen.read_bytes())
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.import_graph_def(graph_def, name="")
        metadata = json.loads(session.run("metadata/json:0"))
        side = metadata["preset"]["input_size"]
        pictures = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
        names = ["boxes", "scores", "classes", "count"]
        values = session.run([f"detections/{name}:0" for name in names], {"image_input:0": pictures})
        boxes, scores, classes, count = values
        raw = session.run("result/result:0", {"image_input:0": pictures})
        assert not [n for n in graph_def.node if "Variable" in n.op or "Adam" in n.name or "VarHandle" in n.op]
        assert graph.get_tensor_by_name("image_input:0").dtype == tf.uint8
    assert metadata["class_names"] == ["car", "bus"]
    assert raw.shape == (2, ssd_utils.get_preset(metadata["preset"]["name"]).num_anchors, 1 + 2 + 4)
    np.testing.assert_allclose(raw[..., :3].sum(axis=-1), 1, atol=1e-5)
    assert boxes.shape == (2, 200, 4)
    assert classes.dtype == np.int32
    with detector.load(str(path), precision="float32") as loaded:
        expected = loaded.detect_prepared(pictures, [(1, 1), (1, 1)])
    for index, found in enumerate(expected):
        assert len(found) == count[index] > 10
        np.testing.assert_allclose(scores[index, : len(found)], found.scores, atol=1e-4)
        np.testing.assert_allclose(boxes[index, : len(found)].clip(0, 1), found.boxes_px, atol=1e-4)
        assert (classes[index, : len(found)] == found.labels).all()


def test_the_lines_of_the_documents_print_three_detections(exported, shapes, capsys):
    path, frozen = exported
    picture = sorted((shapes / "JPEGImages").glob("*.png"))[0]
    exec(lines_of_the_documents(picture, frozen), {})
    assert_three_detections(capsys.readouterr().out, path, picture)


def test_exported_graph_is_a_model_for_the_other_programs(exported, shapes, tmp_path):
    path, frozen = exported
    for model, out in ((path, "run"), (frozen, "pb")):
        run(
            "infer.py",
            model,
            shapes / "JPEGImages",
            "--output",
            tmp_path / out,
            "--threshold",
            "0.3",
            "--precision",
            "float32",
            "--no-draw",
        )
    run_json, pb_json = (
        json.loads((tmp_path / out / "detections.json").read_text("utf-8"))["images"] for out in ("run", "pb")
    )
    assert run_json == pb_json
    assert sum(len(entry["detections"]) for entry in run_json) > 0


def test_file_is_smaller_than_the_checkpoint_and_halved_by_bfloat16(exported, tmp_path):
    path, frozen = exported
    run("export_model.py", path, "--output", tmp_path / "half.pb", "--precision", "bfloat16")
    checkpoint = sum(f.stat().st_size for f in (path / "checkpoints").glob("step-*/model.data*"))
    # In so slim a model the anchors (float32 at any precision) and the nodes count too; the rest is weights
    anchors = config.read_config(str(path))[0].preset.num_anchors * 4 * 4
    overhead = anchors + 60_000
    assert frozen.stat().st_size - overhead < 0.4 * checkpoint  # Adam keeps two more values for each weight
    assert (tmp_path / "half.pb").stat().st_size - overhead < 0.6 * (frozen.stat().st_size - overhead)


def test_some_outputs_and_the_type_that_auto_chose(exported, tmp_path):
    path, _ = exported
    some = tmp_path / "some.pb"
    done = run("export_model.py", path, "--output", some, "--precision", "auto", "--outputs", "result,count")
    assert f", {devices.compute_dtype('auto').name}, 2 classes" in done.stdout
    names = {node.name for node in tf.GraphDef.FromString(some.read_bytes()).node}
    assert {"image_input", "result/result", "detections/count", "metadata/json"} <= names
    assert not {"detections/boxes", "detections/classes"} & names
    with pytest.raises(UserError, match=r"some.pb: was exported with --outputs; export it again with all"):
        detector.load(str(some))
    every = ",".join(reversed(export_model.OUTPUTS))
    assert export_model._outputs(every) == export_model.OUTPUTS


def test_mistakes_get_one_line(exported, tmp_path):
    path, frozen = exported
    out = tmp_path / "x.pb"
    assert "nothing" in error_of("export_model.py", "nothing", "--output", out)
    assert "already" in error_of("export_model.py", frozen, "--output", out)
    assert "--outputs: 'box' is not one of boxes, " in error_of(
        "export_model.py", path, "--output", out, "--outputs", "box"
    )
    said = error_of("export_model.py", path, "--output", tmp_path / "x.onnx")
    assert ".pb" in said and "--format onnx" in said
    picture, damaged = tmp_path / "a.png", tmp_path / "damaged.pb"
    images.write(picture, np.zeros((30, 40, 3), np.uint8))
    call = [picture, "--output", tmp_path / "out"]
    assert "--threshold 0.001" in error_of("infer.py", frozen, *call, "--threshold", "0.001")
    damaged.write_bytes(frozen.read_bytes()[:5000])
    assert f"{damaged}: " in error_of("infer.py", damaged, *call)


def test_a_full_disk_is_named_and_the_older_file_stays(tmp_path):
    """Whatever library writes it: TensorFlow's error has the reason somewhere in its lines."""
    path = tmp_path / "model.pb"
    path.write_text("an older one")
    said = r"model\.pb: .*\(No space left on device\); an earlier file stays as it is; free"
    with pytest.raises(UserError, match=said), export_model._pending(str(path)) as temporary:
        raise RuntimeError(f"Graph execution error:\n{temporary}; No space left on device\n")
    with pytest.raises(RuntimeError, match="a bug"), export_model._pending(str(path)):
        raise RuntimeError("a bug")
    assert path.read_text() == "an older one" and list(tmp_path.iterdir()) == [path]


def test_an_unwritable_file_is_named_as_output_has_it(tmp_path):
    """And not by its name in the temporary folder."""
    path, long = tmp_path / "model.pb", tmp_path / f"{'x' * 254}.pb"
    with pytest.raises(UserError) as raised, export_model._pending(str(path)) as temporary:
        raise write_errors.unwritable(temporary, OSError(errno.ENOSPC, "No space left on device"))
    said = f"{path}: cannot be written (No space left on device); an earlier file stays as it is; free some space"
    assert str(raised.value).startswith(said)
    with pytest.raises(UserError) as raised, export_model._pending(str(long)) as temporary:
        files.write(temporary, b"any")
    assert str(raised.value).startswith(f"{long}: cannot be written (File name too long)")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_link", [False, True])
def test_an_earlier_folder_stays_until_the_new_one_is_there(is_link, tmp_path, monkeypatch):
    """A SavedModel of some GB takes a while to get to the disk, and Ctrl-C may come."""
    place = tmp_path / ("other" if is_link else "model")
    place.mkdir()
    (place / "saved_model.pb").write_text("old")
    if is_link:
        (tmp_path / "model").symlink_to("other")

    def write():
        with export_model._pending(str(tmp_path / "model")) as temporary:
            os.mkdir(temporary)
            (pathlib.Path(temporary) / "saved_model.pb").write_text("new")

    def interrupted(_):
        raise KeyboardInterrupt

    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write()
    assert (tmp_path / "model" / "saved_model.pb").read_text() == "old"
    monkeypatch.setattr(os, "fsync", fsync)
    write()
    assert (tmp_path / "model" / "saved_model.pb").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == (["model", "other"] if is_link else ["model"])
