"""A damaged file ends no program: it is opened in a process of its own first, once for each content."""

import os
import random
import sys
from pathlib import Path

import pytest

import config
import export_model
import ssd_utils
from exports import file_metadata, file_probe, formats, model_files
from structures import UserError
from system import files, limited, own_folders

DESCRIPTION = config.ModelDescription(ssd_utils.PRESETS["vgg300"], ("car", "bus"))
RELEASE = Path(__file__).parents[1] / "fixtures" / "release_0_1_0"
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tflite": ".tflite"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv(own_folders.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "ran"


@pytest.fixture(scope="module", params=SUFFIXES)
def exported(request, tmp_path_factory):
    """(format, file)."""
    form = formats.FORMATS[request.param]
    if missing := formats.missing((*form.to_write, *form.to_run)):
        pytest.skip(f"{', '.join(missing)} not installed (requirements-export.txt)")
    path = tmp_path_factory.mktemp("exported") / f"m{SUFFIXES[request.param]}"
    export_model.main([str(RELEASE / "run"), "--format", request.param, "--output", str(path), "--no-check"])
    return request.param, path


def calls(monkeypatch):
    """A list of the commands that limited.call is given; they run."""
    made, real = [], limited.call
    monkeypatch.setattr(limited, "call", lambda command, *rest: made.append(command) or real(command, *rest))
    return made


def test_a_file_is_tried_once(exported, cache, monkeypatch):
    name, path = exported
    made = calls(monkeypatch)
    model_files.open_file(name, str(path)).close()
    assert len(made) == 1 and len(os.listdir(cache)) == 1
    model_files.open_file(name, str(path)).close()
    assert len(made) == 1


def test_what_export_model_writes_is_not_tried(tmp_path, monkeypatch):
    made = calls(monkeypatch)
    monkeypatch.setitem(model_files._WRITERS, "tflite", lambda path, graph, metadata: files.write(path, b"any"))
    model_files.write("tflite", str(tmp_path / "m.tflite"), None, {})
    file_probe.check("tflite", str(tmp_path / "m.tflite"))
    assert made == []


def test_an_engine_may_be_of_a_package_of_another_name(tmp_path, monkeypatch):
    """The module onnxruntime also comes with onnxruntime-gpu."""
    monkeypatch.setitem(file_probe.ENGINES, "onnx", "cv2")  # of opencv-python-headless
    (tmp_path / "m.onnx").write_bytes(b"any")
    file_probe.note("onnx", str(tmp_path / "m.onnx"))
    made = calls(monkeypatch)
    file_probe.check("onnx", str(tmp_path / "m.onnx"))
    assert made == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.abort()", r"damaged \(TensorFlow Lite crashes with signal SIGABRT on it\)"),
        ("while True: pass", r"m\.tflite: TensorFlow Lite takes more than 1 s on it.*smaller --batch"),
        (
            "import time; x = bytearray(600_000_000); time.sleep(9)",
            r"m\.tflite: .* takes more than 0\.3 GB of memory on",
        ),
        ("import sys; print('PATH: no'); sys.exit(3)", r"^PATH: no$"),
        ("import sys; sys.exit(5)", r"cannot be run \(exit code 5 of "),
    ],
)
def test_what_ends_the_process_becomes_one_line(code, message, tmp_path, monkeypatch, cache):
    (tmp_path / "m.tflite").write_bytes(b"any")
    monkeypatch.setattr(file_probe, "COMMAND", (sys.executable, "-c", code))
    monkeypatch.setattr(file_probe, "SECONDS", 1 if "while" in code else 30)
    monkeypatch.setattr(file_probe, "MEMORY", 300_000_000)
    with pytest.raises(UserError, match=message) as raised:
        model_files.open_file("tflite", str(tmp_path / "m.tflite"))
    assert "\n" not in str(raised.value)
    assert not cache.exists()


HUNGRY = """
import sys, time
if sys.argv[-1] == "--needs":
    print("some words of a library")
    print("900000000 20")
else:
    held = bytearray(600_000_000)
    time.sleep(0.3)
"""


@pytest.mark.parametrize(
    ("free", "message"), [(10**10, None), (500_000_000, r"m\.onnx: .* takes more than 0\.5 GB of memory on it")]
)
def test_a_file_of_large_batches_may_take_what_they_need(tmp_path, monkeypatch, free, message):
    """But no more than the machine has: what a file says of itself is a stranger's word."""
    (tmp_path / "m.onnx").write_bytes(b"any")
    monkeypatch.setitem(file_probe.ENGINES, "onnx", "tensorflow")
    monkeypatch.setattr(file_probe, "COMMAND", (sys.executable, "-c", HUNGRY))
    monkeypatch.setattr(file_probe, "MEMORY", 300_000_000)
    monkeypatch.setattr(file_probe.free_memory, "available", lambda: free)
    made = calls(monkeypatch)
    if message:
        with pytest.raises(UserError, match=message):
            file_probe.check("onnx", str(tmp_path / "m.onnx"))
    else:
        file_probe.check("onnx", str(tmp_path / "m.onnx"))
    assert [command[-1] == "--needs" for command in made] == [False, True, False]


@pytest.mark.parametrize("said", ["print('-5 7')", "print('many 3')", "pass", "print('5')", "exit(3)", "print('0 0')"])
def test_what_says_no_needs_keeps_the_limits(said, tmp_path, monkeypatch):
    code = f"import sys\nif sys.argv[-1] == '--needs':\n    {said}\nelse:\n    while True: pass"
    (tmp_path / "m.tflite").write_bytes(b"any")
    monkeypatch.setattr(file_probe, "COMMAND", (sys.executable, "-c", code))
    monkeypatch.setattr(file_probe, "SECONDS", 1)
    made = calls(monkeypatch)
    with pytest.raises(UserError, match="takes more than 1 s on it"):
        file_probe.check("tflite", str(tmp_path / "m.tflite"))
    assert len(made) == 2


def test_needs_grow_with_the_batch():
    values = {**file_metadata.describe(DESCRIPTION, 0.01, "float32"), "batch": None}
    assert file_probe._needs(values) == file_probe._needs({**values, "batch": 1}) == (0, 0)
    memory, seconds = file_probe._needs({**values, "batch": 10})
    assert 10 * 2 * 300 * 300 * 64 * 4 < memory < 3e9  # the two largest maps of each picture
    assert file_probe._needs({**values, "batch": 20}) == (2 * memory, 2 * seconds)
    assert file_probe._needs({**values, "batch": 4096})[1] <= 3600


def test_needs_are_those_that_a_file_says(tmp_path, capfd):
    path = tmp_path / "m.tflite"
    flags = ["--format", "tflite", "--batch", "3", "--output", str(path), "--no-check"]
    export_model.main([str(RELEASE / "run"), *flags])
    code, said = limited.call([*file_probe.COMMAND, "tflite", str(path), "--needs"], own_folders.ROOT, 100, 10**10)
    opened = model_files.open_file("tflite", str(path))
    assert code == 0 and said.split() == [str(one) for one in file_probe._needs(opened.metadata)]


def test_the_missing_one_of_two_files_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(file_probe.ENGINES, "openvino", "numpy")  # whichever is installed
    (tmp_path / "m.xml").write_bytes(b"any")
    with pytest.raises(UserError, match=r"/m\.bin: no such file; an OpenVINO model is NAME\.xml and NAME\.bin"):
        file_probe.check("openvino", str(tmp_path / "m.xml"))
    (tmp_path / "m.bin").mkdir()
    with pytest.raises(UserError, match=r"/m\.bin: cannot be read \("):
        file_probe.check("openvino", str(tmp_path / "m.xml"))


def test_damaged_files_get_one_line(exported, tmp_path):
    name, whole = exported
    if name == "tflite":
        pytest.skip("TensorFlow takes seconds for each; the campaign has them")
    source, content = random.Random(7), bytearray(whole.read_bytes())
    damaged = [content.replace(b"Conv", b"\xb1onv", 1)] if name == "onnx" else []  # ONNX Runtime prints a banner
    for _ in range(4):
        changed = content.copy()
        for _ in range(20):
            changed[source.randrange(len(changed))] = source.randrange(256)
        damaged.append(changed)
    path = tmp_path / whole.name
    if name == "openvino":
        (tmp_path / "m.bin").write_bytes(whole.with_suffix(".bin").read_bytes())
    for changed in damaged:
        path.write_bytes(changed)
        try:
            model_files.open_file(name, str(path)).close()
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
