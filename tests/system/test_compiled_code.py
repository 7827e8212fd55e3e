"""Compiled code is kept per TensorFlow and machine, and what a killed process left does not end the next."""

import os
import subprocess
import sys

import pytest

from programs import ROOT, fresh_environment
from system import compiled_code

PROGRAM = """
from system import tensorflow_loading
tensorflow_loading.import_tensorflow(xla=True)
import tensorflow
import tensorflow.compat.v1 as tf
with tf.Graph().as_default(), tf.Session() as session:
    x = tf.placeholder(tf.float32, [2])
    print(session.run(tensorflow.function(tf.exp, jit_compile=True)(x), {x: [0, 1]}))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where `keep` keeps compiled code; the variables that it sets are restored."""
    monkeypatch.setenv("SSD_TENSORFLOW_CACHE", str(tmp_path / "cache"))
    for name in ("TF_XLA_FLAGS", "XLA_FLAGS"):
        monkeypatch.setenv(name, "")
    return tmp_path / "cache" / "xla" / compiled_code._name()


def compute(cache):
    environment = fresh_environment(SSD_TENSORFLOW_CACHE=str(cache))
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[1. ")
    return done.stderr


def test_a_file_that_was_cut_is_compiled_again(folder, tmp_path):
    cache = folder.parents[1]
    compute(cache)
    (path,) = folder.glob("*.pb")
    whole = path.read_bytes()
    assert compiled_code._is_complete(path)
    for length in (0, 1, 2, 100, len(whole) // 2, len(whole) - 1):
        cut = tmp_path / "cut"
        cut.write_bytes(whole[:length])
        assert not compiled_code._is_complete(cut), length
    path.write_bytes(whole[:-1])
    compute(cache)
    assert compiled_code._is_complete(path)


def test_where_nothing_can_be_kept_a_warning_says_so(tmp_path):
    (tmp_path / "file").write_text("no folder")
    messages = compute(tmp_path / "file")
    assert f"warning: {tmp_path / 'file'}: cannot be written" in messages
    assert messages.count("warning: ") == 1
    if compiled_code.tensorflow_version() >= (2, 21):  # TensorFlow 2.16 adds what XLA has to say
        assert len(messages.strip().splitlines()) == 1


def test_flags_of_the_user_stay(folder, monkeypatch):
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_auto_jit=2 --tf_xla_persistent_cache_directory=/mine")
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/elsewhere")
    monkeypatch.setattr(compiled_code, "tensorflow_version", lambda: compiled_code.TRIALS_ARE_KEPT_SINCE)
    compiled_code.allow_on_cpu()
    compiled_code.keep()
    expected = "--tf_xla_auto_jit=2 --tf_xla_persistent_cache_directory=/mine --tf_xla_cpu_global_jit"
    assert os.environ["TF_XLA_FLAGS"] == expected
    trials = f"--xla_gpu_per_fusion_autotune_cache_dir={folder / 'trials'}"
    assert os.environ["XLA_FLAGS"] == f"--xla_dump_to=/elsewhere {trials}"
    assert (folder / "trials").is_dir()


def test_another_process_may_finish_a_file_meanwhile(folder, monkeypatch):
    compiled_code.keep()
    (folder / "cut").write_bytes(b"\x0a\xff")

    def finish_first(path):
        os.rename(path, f"{path}.done")
        return read(path)

    read = compiled_code._is_complete
    monkeypatch.setattr(compiled_code, "_is_complete", finish_first)
    compiled_code.keep()
    assert (folder / "cut.done").exists()


def test_an_older_tensorflow_gets_no_flag_that_would_end_it(folder, monkeypatch):
    monkeypatch.setattr(compiled_code, "tensorflow_version", lambda: (2, 20))
    compiled_code.keep()
    assert os.environ["XLA_FLAGS"] == ""


def test_a_folder_with_a_space_cannot_be_named(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("SSD_TENSORFLOW_CACHE", str(tmp_path / "my cache"))
    compiled_code.keep()
    assert os.environ["TF_XLA_FLAGS"] == os.environ["XLA_FLAGS"] == ""


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/proc/cpuinfo", "flags\t: fpu avx2\n\n"),
        ("/proc/driver/nvidia/gpus/0/information", "Model: \t NVIDIA A100\nIRQ: 5\n"),
        ("/proc/driver/nvidia/version", "550.1"),
        ("CUDA_VISIBLE_DEVICES", "1"),
        ("tensorflow", "2.20.0"),
        ("nvidia-cudnn-cu12", "9.1"),
    ],
)
def test_another_machine_or_tensorflow_has_another_folder(monkeypatch, path, text):
    values = {
        "/proc/cpuinfo": "flags\t: fpu avx512f\n\nflags\t: other\n",
        "/proc/driver/nvidia/gpus/0/information": "Model: \t NVIDIA H100\nIRQ: 5\n",
        "tensorflow": "2.21.0",
    }
    monkeypatch.setattr(compiled_code, "_read", lambda path: values.get(path, ""))
    monkeypatch.setattr(compiled_code, "_installed", lambda package: values.get(package, "unknown"))
    monkeypatch.setattr(compiled_code.glob, "glob", lambda _: [path for path in values if path.endswith("information")])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    before = compiled_code._name()
    values["/proc/driver/nvidia/gpus/0/information"] += "IRQ: 6\n"
    assert compiled_code._name() == before  # facts that change with every start do not count
    values[path] = text
    if path.isupper():
        monkeypatch.setenv(path, text)
    assert compiled_code._name() != before
