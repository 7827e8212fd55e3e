"""Every format of an exported model gives the detections of its run; what a format lacks is said in one line.

Formats whose packages (requirements-export.txt) are missing are skipped.
"""

import copy
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

import config
import detector
import export_model
import infer
import ssd_utils
from export_cases import make_run, pictures
from exports import comparison, file_metadata, formats, frozen, model_files, openvino_file, saved_model, tflite_file
from media import images
from structures import UserError
from toy_road import scenes

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
THRESHOLD = 0.05
DESCRIPTION = config.ModelDescription(ssd_utils.get_preset("vgg300"), ("car", "bus"))
CASES = [(name, False) for name in formats.FORMATS if name != "tflite"]
CASES += [(name, True) for name in formats.FORMATS if name != "frozen"]


def missing_packages(name):
    form = formats.FORMATS[name]
    return formats.missing((*form.to_write, *form.to_run))


def skip_without_packages(name):
    if missing := missing_packages(name):
        pytest.skip(f"{', '.join(missing)} not installed (requirements-export.txt)")


def export(run, path, name, *flags):
    """Export without the check and return the path."""
    export_model.main([str(run), "--format", name, "--output", str(path), "--no-check", *flags])
    return path


@pytest.fixture(scope="module", params=["vgg300", "vgg512"])
def run(request, tmp_path_factory):
    """(run, its detections on `pictures()`)."""
    return detected(make_run(tmp_path_factory.mktemp(request.param) / "run", request.param))


@pytest.fixture(scope="module")
def run300(tmp_path_factory):
    return detected(make_run(tmp_path_factory.mktemp("run300") / "run", "vgg300"))


def detected(path, shown=None):
    with detector.load(str(path), precision="float32", threshold=THRESHOLD) as loaded:
        return path, loaded.detect(shown or pictures())


def assert_same(path, expected, tolerance=formats.TOLERANCES["float32"], strict=True, shown=None):
    """A file's detections are those expected, one to one. shown: the pictures, `pictures()` by default."""
    shown = shown or pictures()
    with detector.load(str(path), threshold=THRESHOLD, fastest=False) as loaded:
        found = loaded.detect(shown)
        keep, nms_iou = loaded.preset.keep, loaded.preset.nms_iou
    sizes = [picture.shape[1::-1] for picture in shown]
    difference = comparison.compare(expected, found, sizes, THRESHOLD, keep, nms_iou, tolerance)
    assert difference.is_within(tolerance), difference
    assert difference.matched > 50 * len(shown)
    if strict:
        assert difference.unmatched == 0, difference
    return difference


def photographs(count=50):
    """Photographs of voc_traffic where they are, else scenes of the toy road."""
    folder = SHARED / "data" / "voc_traffic" / "JPEGImages"
    if not folder.is_dir():
        return [scenes.generate_scene(0, index, "test")[0] for index in range(count)]
    paths = sorted(folder.iterdir())
    return [images.read(path) for path in paths[:: len(paths) // count][:count]]


@pytest.mark.parametrize(("name", "raw"), CASES, ids=[f"{name}{'-raw' * raw}" for name, raw in CASES])
def test_detections_are_those_of_the_run(name, raw, run, tmp_path, caplog):
    skip_without_packages(name)
    path = export(run[0], tmp_path / f"m{config.EXPORTED[name]}", name, *["--raw"] * raw)
    assert_same(path, run[1])
    assert not [record for record in caplog.records if record.name == "absl"]  # of gradients, for example


@pytest.mark.parametrize("name", ["frozen", "tflite", "onnx", "openvino"])
def test_each_class_has_its_threshold(name, run300, tmp_path):
    skip_without_packages(name)
    bus = np.concatenate([one.scores[one.labels == 1] for one in run300[1]])
    each = (THRESHOLD, round(float(np.median(bus)), 3))
    path = export(
        run300[0], tmp_path / f"m{config.EXPORTED[name]}", name, "--threshold", f"car={each[0]},bus={each[1]}"
    )
    with detector.load(str(run300[0]), precision="float32", threshold=each) as loaded:
        wanted = loaded.detect(pictures())
    with detector.load(str(path), threshold=each, fastest=False) as loaded:
        found = loaded.detect(pictures())
    sizes = [picture.shape[1::-1] for picture in pictures()]
    tolerance = formats.TOLERANCES["float32"]
    difference = comparison.compare(wanted, found, sizes, each, 200, 0.45, tolerance)
    assert difference.is_within(tolerance) and difference.unmatched == 0, difference
    kept = [sum((one.labels == label).sum() for one in wanted) for label in (0, 1)]
    assert 0.4 < kept[1] / len(bus) < 0.6 and kept[0] > 0, kept
    if name != "tflite":  # which has no threshold inside
        with pytest.raises(UserError, match=rf"exported with --threshold car=0.05,bus={each[1]:g}"):
            detector.load(str(path), threshold=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.25, 1.0])
@pytest.mark.parametrize("preset", ["vgg300", "vgg512"])
def test_detections_on_photographs(preset, width, tmp_path):
    shown = photographs()
    run = detected(make_run(tmp_path / "run", preset, width), shown)
    for name, raw in CASES:
        if not missing_packages(name):
            path = export(run[0], tmp_path / f"{name}{raw}{config.EXPORTED[name]}", name, *["--raw"] * raw)
            difference = assert_same(path, run[1], strict=False, shown=shown)
            print(name, "raw" * raw, difference)
            assert difference.unmatched == difference.tied  # boxes of equal scores: dark edges all look alike
            gc.collect()  # each graph has weights of 100 MB, and is in cycles


@pytest.mark.parametrize(
    ("name", "precision"),
    [("tflite", "float16"), ("onnx", "float16"), ("openvino", "float16"), ("openvino", "bfloat16")],
)
def test_narrow_types_are_near(name, precision, run300, tmp_path):
    skip_without_packages(name)
    path = export(run300[0], tmp_path / f"m{config.EXPORTED[name]}", name, "--precision", precision)
    assert_same(path, run300[1], formats.TOLERANCES[precision], strict=False)
    with detector.load(str(path)) as loaded:
        assert loaded.precision == precision


@pytest.mark.parametrize("name", ["frozen", "tflite", "onnx", "openvino"])
def test_a_fixed_batch_is_filled_up(name, run300, tmp_path, monkeypatch):
    skip_without_packages(name)
    path = export(run300[0], tmp_path / f"m{config.EXPORTED[name]}", name, "--batch", "2")
    assert_same(path, run300[1])  # 3 pictures
    with detector.load(str(path), threshold=THRESHOLD, batch_size=1, fastest=False) as loaded:  # as for a camera
        found = loaded.detect(pictures()[0])
    np.testing.assert_allclose(found.scores, run300[1][0].scores, atol=1e-4)
    closed: list = []
    if name != "frozen":
        monkeypatch.setattr(model_files._OPENERS[name], "close", lambda opened: closed.append(opened))
    with pytest.raises(UserError, match=r"--batch-size 3: .* takes 2 at a time"):
        detector.load(str(path), batch_size=3)
    assert len(closed) == (name != "frozen")


def test_saved_model_resizes_pictures_and_reads_jpeg(run300, tmp_path):
    path = export(run300[0], tmp_path / "served", "savedmodel")
    signatures = tf.saved_model.load(str(path)).signatures
    files = []
    for index, picture in enumerate(pictures()):
        files.append(tmp_path / f"{index}.jpg")
        images.write(files[-1], picture)
    read = [images.read(file) for file in files]
    with detector.load(str(run300[0]), precision="float32") as loaded:
        expected = loaded.detect(read)
    served = [signatures["serving_default"](pictures=tf.constant(picture[None])) for picture in read]
    jpegs = signatures["jpeg"](jpeg_bytes=tf.constant([file.read_bytes() for file in files]))
    for index, wanted in enumerate(expected):
        for outputs, row in ((served[index], 0), (jpegs, index)):
            count = int(outputs["count"][row])
            assert count == len(wanted) > 20
            np.testing.assert_allclose(outputs["scores"][row, :count], wanted.scores, atol=1e-4)
            np.testing.assert_array_equal(outputs["classes"][row, :count], wanted.labels)
            height, width = read[index].shape[:2]
            boxes = outputs["boxes"][row, :count].numpy().clip(0, 1) * [width, height, width, height]
            np.testing.assert_allclose(boxes, wanted.boxes_px, atol=1e-4 * width)


def test_opencv_reads_raw_onnx(run, tmp_path):
    skip_without_packages("onnx")
    path = export(run[0], tmp_path / "raw.onnx", "onnx", "--raw", "--batch", "1")
    # Cells of noise have no features near 0, whose normalization would magnify rounding errors
    side = config.find_model(str(run[0])).description.preset.input_size
    prepared = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(cv2.dnn.blobFromImage(prepared))
    found = dict(zip(("logits", "offsets"), net.forward(["logits", "offsets"]), strict=True))
    graph = detector.build_model_graph(config.find_model(str(run[0])), "float32", 0.01, portable=True)
    with detector.open_session(graph) as session:
        for name in found:
            wanted = session.run(f"result/{name}:0", {"image_input:0": prepared[None]})
            np.testing.assert_allclose(found[name], wanted, atol=1e-4)


def read_detect_cpp(output):
    """{label: [N,5] score and corners} of the lines of docs/detect.cpp."""
    rows = np.array([line.split() for line in output.splitlines()], np.float64).reshape(-1, 6)
    return {label: rows[rows[:, 0] == label, 1:] for label in (0, 1)}


def opencv_flags():
    """g++'s flags for OpenCV; skips where one of them is missing."""
    if not (shutil.which("g++") and shutil.which("pkg-config")):
        pytest.skip("g++ or pkg-config is not installed")
    query = ["pkg-config", "--cflags", "--libs", "opencv4 >= 4.10"]
    done = subprocess.run(query, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("the headers of OpenCV 4.10 or newer for C++ are not installed")
    return done.stdout.split()


RULES = {"clip_boxes": "before_nms", "size_offset_limit": 0.3, "nms_iou": 0.3, "candidates_per_class": 8732}


@pytest.mark.parametrize("rules", [{}, RULES], ids=["own", "as torchvision"])
def test_cpp_example_detects_as_the_run(rules, tmp_path, monkeypatch):
    skip_without_packages("onnx")
    flags = opencv_flags()
    run = make_run(tmp_path / "run", "vgg300", **rules)
    page = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    (lines,) = (block.split("```")[0] for block in page.split("```python\n")[1:])
    monkeypatch.chdir(tmp_path)
    exec(lines.replace('"RUN"', repr(str(run))), {})
    export(run, tmp_path / "street.onnx", "onnx", "--raw", "--batch", "1")
    images.write(tmp_path / "picture.png", pictures()[0])
    compiler = [
        "g++",
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Werror",
        str(ROOT / "docs" / "detect.cpp"),
        "-o",
        "detect",
        *flags,
    ]
    subprocess.run(compiler, check=True)
    program = ["./detect", "street.onnx", "street.yml", "picture.png"]
    found = read_detect_cpp(subprocess.run(program, check=True, capture_output=True, text=True).stdout)
    for wrong, said in (
        ([*program[:2], "nothing.yml", program[3]], "MODEL.yml of deploy.md"),
        ([*program[:3], "nothing.png"], "a PICTURE that can be read"),
        (program[:3], "usage: ./detect MODEL.onnx"),
    ):
        failed = subprocess.run(wrong, capture_output=True, text=True)
        assert failed.returncode == 1 and said in failed.stderr
    with detector.load(str(run), precision="float32", threshold=0.5) as loaded:
        wanted = loaded.detect(pictures()[0])
    height, width = pictures()[0].shape[:2]
    assert len(wanted) > 100
    last = wanted.scores[-1] if len(wanted) == 200 else 0  # where the run stops, the example goes on
    assert abs(sum((rows[:, 0] > last).sum() for rows in found.values()) - len(wanted)) <= 2
    near = 0
    for box, score, label in zip(wanted.boxes_px, wanted.scores, wanted.labels, strict=True):
        rows = found[label]
        corners = rows[:, 1:].clip(0, [width, height, width, height])
        near += bool(((np.abs(rows[:, 0] - score) < 1e-4) & (np.abs(corners - box).max(axis=1) < 0.1)).any())
    assert near >= len(wanted) - 2  # rounding at the limit of suppression may keep another box


def test_onnx_is_made_without_copies_of_the_weights(run300, tmp_path, monkeypatch):
    skip_without_packages("onnx")
    from tf2onnx import optimizer

    copied = []

    def deepcopy(value):
        copied.append(type(value).__name__)
        return copy.deepcopy(value)

    monkeypatch.setattr(optimizer, "copy", types.SimpleNamespace(deepcopy=deepcopy))
    monkeypatch.delenv("TF2ONNX_CATCH_ERRORS", raising=False)
    export(run300[0], tmp_path / "m.onnx", "onnx")
    assert copied and "Graph" not in copied  # it always copies its statistics
    assert "TF2ONNX_CATCH_ERRORS" not in os.environ


@pytest.mark.parametrize("flags", [(), ("--raw",)])
def test_the_free_number_of_pictures_has_a_name(run, tmp_path, flags):
    """By which trtexec and ONNX Runtime are given it."""
    skip_without_packages("onnx")
    import onnx

    graph = onnx.load(export(run[0], tmp_path / "any.onnx", "onnx", *flags)).graph
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_every_file_says_what_it_is(run300, tmp_path, monkeypatch):
    built, build = [], detector.build_model_graph
    monkeypatch.setattr(detector, "build_model_graph", lambda *values: built.append(values) or build(*values))
    names = [name for name in formats.FORMATS if not missing_packages(name)]
    flags = ["--license", "CC0", "--threshold", "0.2", "--no-check"]
    export_model.main([str(run300[0]), "--format", ",".join(names), "--output", str(tmp_path / "m"), *flags])
    assert len(built) == 1  # for all of them
    for name in names:
        path = tmp_path / f"m{config.EXPORTED[name]}"
        if name == "frozen":
            values = detector.read_frozen(str(path))[2]
        else:
            values = model_files.open_file(name, str(path)).metadata
        assert values["format"] == file_metadata.FORMAT
        assert values["class_names"] == ["car", "bus"]
        assert values["preset"]["name"] == "vgg300"
        assert (values["threshold"], values["license"]) == (0.2, "CC0")
        assert {"anchors", "decoding", "preprocessing", "batch", "outputs", "layout", "precision"} <= values.keys()
        assert config.find_model(str(path)).format == name
    assert json.loads((tmp_path / "m.savedmodel" / saved_model.METADATA).read_text("utf-8"))["license"] == "CC0"
    with zipfile.ZipFile(tmp_path / "m.tflite") as archive:
        assert archive.read("labels.txt") == b"car\nbus\n"
    if "openvino" in names:
        assert (tmp_path / "m.bin").is_file()


def test_a_file_of_another_format_number_is_refused():
    values = file_metadata.describe(DESCRIPTION, 0.01, "float32")
    assert file_metadata.parse("x.onnx", json.dumps(values)) == json.loads(json.dumps(values))
    with pytest.raises(UserError, match=r"x\.onnx: has format 99"):
        file_metadata.parse("x.onnx", json.dumps({**values, "format": 99}))
    for text in (None, "", "[1]", "{}", "no JSON"):
        with pytest.raises(UserError, match=r"x\.onnx: .*export the model again"):
            file_metadata.parse("x.onnx", text)


def test_fields_that_a_file_leaves_out_have_the_values_of_0_1_0():
    values = file_metadata.describe(DESCRIPTION, 0.01, "float32")
    short = {name: value for name, value in values.items() if name not in ("format", "outputs", "batch", "layout")}
    assert file_metadata.parse("x.onnx", json.dumps(short)) == json.loads(json.dumps(values))


def test_an_archive_at_the_end_that_does_not_unpack_is_refused(tmp_path, monkeypatch):
    """As export_model.py writes none: encrypted, compressed in an unknown or broken way, or very large."""
    monkeypatch.setattr(tflite_file, "MOST_METADATA", 1000)
    path = tmp_path / "m.tflite"
    for place, size, changes in [
        (0, 100, {}),  # no archive at all
        (None, 100, {8: 1}),  # encrypted, in the list of what the archive has
        (None, 100, {10: 99}),  # the number of the compression
        (None, 1001, {}),
    ]:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(tflite_file.METADATA, b" " * size)
        content = bytearray(path.read_bytes())
        entry, start = content.index(b"PK\x01\x02"), content.index(b"PK\x03\x04")
        for offset, value in changes.items():
            content[entry + offset] = content[start + offset - 2] = value
        path.write_bytes(content[:place] if place is not None else content)
        with pytest.raises(UserError, match=r"m\.tflite: not a TensorFlow Lite file of export_model\.py$"):
            tflite_file.TFLiteFile(str(path))


def test_a_full_disk_for_temporary_files_is_not_that_of_the_output(run300, tmp_path, monkeypatch):
    def save(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, f"{tmp_path}/tmp/x; No space left on device")

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(tf.saved_model, "save", save)
    with pytest.raises(
        UserError, match=rf"^TMPDIR {tmp_path}/tmp: cannot be written \(No space left on device\); free"
    ):
        export(run300[0], tmp_path / "m.tflite", "tflite")
    assert list((tmp_path / "tmp").iterdir()) == [] and not (tmp_path / "m.tflite").exists()


def test_a_file_that_differs_gets_no_name(run300, tmp_path, monkeypatch):
    def write_spoiled(path, graph, metadata):
        definition = graph.as_graph_def()
        (node,) = (node for node in definition.node if node.name == "conv3_1/weights")
        weights = tf.make_ndarray(node.attr["value"].tensor)
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(weights * 1.05))
        with tf.Graph().as_default() as spoiled:
            tf.compat.v1.import_graph_def(definition, name="")
        frozen.write(path, spoiled, metadata)

    path = tmp_path / "m.pb"
    path.write_bytes(b"earlier")
    monkeypatch.setitem(model_files._WRITERS, "frozen", write_spoiled)
    with pytest.raises(UserError, match=r"m\.pb: not written, since its detections are not those of"):
        export_model.main([str(run300[0]), "--output", str(path)])
    assert path.read_bytes() == b"earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.pb"]


def test_checked_on_pictures_of_a_folder(run300, tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    for index, picture in enumerate(pictures(2)):
        images.write(tmp_path / "pictures" / f"{index}.png", picture)
    path = tmp_path / "m.pb"
    flags = ["--output", str(path), "--check-data", str(tmp_path / "pictures")]
    export_model.main([str(run300[0]), *flags])
    assert "detections on 2 pictures matched, 0 not" in capsys.readouterr().out
    (tmp_path / "pictures" / "1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"--check-data .*1\.png.*remove the picture"):
        export_model.main([str(run300[0]), *flags])


def test_infer_reads_a_file_of_another_format(run300, tmp_path):
    images.write(tmp_path / "a.png", pictures()[0])
    path = export(run300[0], tmp_path / "m.tflite", "tflite")
    entries = []
    for model in (run300[0], path):
        out = tmp_path / f"found_{model.name}"
        flags = ["--output", str(out), "--threshold", "0.3", "--no-draw", "--classes", "bus"]
        infer.main([str(model), str(tmp_path / "a.png"), *flags, "--precision", "float32"])
        (entry,) = json.loads((out / "detections.json").read_text("utf-8"))["images"]
        entries.append(entry["detections"])
    assert len(entries[0]) == len(entries[1]) > 5
    for one, other in zip(*entries, strict=True):
        assert one["class"] == other["class"] == "bus"
        assert abs(one["score"] - other["score"]) < 1e-4
        np.testing.assert_allclose(one["box"], other["box"], atol=0.05)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format", "onnxx", "--output", "x.onnx"], "--format: 'onnxx' is not one of frozen, savedmodel"),
        (["--format", "onnx", "--output", "x.pb"], "--output x.pb: the name must end in .onnx"),
        (["--format", "onnx,tflite", "--output", "x.onnx"], "--output x.onnx: give a name without .onnx"),
        (["--format", "tflite", "--output", "x.tflite", "--precision", "auto"], "--precision auto: tflite has float32"),
        (["--raw", "--output", "x.pb"], "--raw: a frozen graph has the raw outputs"),
        (["--batch", "0", "--output", "x.pb"], "--batch: '0' is not a whole number above 0"),
        (["--batch", "4097", "--output", "x.pb"], "--batch: '4097' is above 4096, the most that a file takes"),
        (["--check-data", "nowhere", "--output", "x.pb"], "--check-data: 'nowhere': no such folder"),
        (["--check-data", ".", "--no-check", "--output", "x.pb"], "--check-data: with --no-check nothing is checked"),
        (["--check-data", ".", "--outputs", "result", "--output", "x.pb"], "with --outputs result nothing is checked"),
    ],
)
def test_mistakes_get_one_line(flags, message, run300):
    with pytest.raises(UserError) as raised:
        export_model.main([str(run300[0]), *flags])
    assert message in str(raised.value)


@pytest.mark.parametrize(("name", "output"), [("savedmodel", "m.bin"), ("openvino", "m.xml")])
def test_other_files_stay(name, output, run300, tmp_path):
    (tmp_path / "m.bin").mkdir()
    (tmp_path / "m.bin" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"--output .*m\.bin"):
        export_model.main([str(run300[0]), "--format", name, "--output", str(tmp_path / output)])
    assert (tmp_path / "m.bin" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("full", ["bin", "xml"])
def test_the_reason_that_openvino_does_not_give_is_found(full, tmp_path, monkeypatch):
    """Its error on a full disk is "basic_ios::clear: iostream error"."""

    def save_model(model, path, compress_to_fp16):
        for suffix in ("bin", "xml"):
            place = Path(path).with_suffix(f".{suffix}")
            if suffix == full:
                place.symlink_to("/dev/full")
                break
            place.write_bytes(b"all")
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setitem(sys.modules, "openvino", types.SimpleNamespace(save_model=save_model))
    model = types.SimpleNamespace(set_rt_info=lambda *_: None)
    path = tmp_path / "m.xml"
    with (
        pytest.raises(
            UserError, match=r"/m\.xml: cannot be written \(No space left on device\); an earlier file stays"
        ),
        export_model._pending(str(path)) as temporary,
    ):
        openvino_file._save(temporary, model, {}, compress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_missing_package_is_named(name, run300, tmp_path, monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda package: None)
    suffix = config.EXPORTED[name]
    with pytest.raises(UserError, match=rf"--format {name}: needs .*; pip install -r requirements-export\.txt"):
        export_model.main([str(run300[0]), "--format", name, "--output", str(tmp_path / f"x{suffix}")])
    (tmp_path / f"x{suffix}").write_bytes(b"any")
    with pytest.raises(UserError, match=rf"x\{suffix}: needs .*; pip install -r requirements-export\.txt"):
        detector.load(str(tmp_path / f"x{suffix}"))


@pytest.mark.parametrize("name", ["tflite", "onnx", "openvino", "savedmodel"])
def test_a_damaged_file_gets_one_line(name, run300, tmp_path):
    skip_without_packages(name)
    path = export(run300[0], tmp_path / f"m{config.EXPORTED[name]}", name)
    damaged = path / config.SAVED_MODEL_GRAPH if name == "savedmodel" else path
    damaged.write_bytes(damaged.read_bytes()[: 3 * damaged.stat().st_size // 4])
    with pytest.raises(UserError, match=str(path)):
        detector.load(str(path))
