"""The choice of the compute type and the settings of a session."""

import builtins
import io
import os

import pytest
import tensorflow.compat.v1 as tf

from kernels import cpu, devices
from structures import UserError


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_named_precision(precision):
    assert devices.compute_dtype(precision) == tf.as_dtype(precision)


@pytest.mark.parametrize(
    ("vendor", "flags", "dtype"),
    [
        ("AuthenticAMD", "fpu avx512f avx512_bf16", tf.bfloat16),
        ("GenuineIntel", "fpu avx512f avx512_bf16 amx_bf16", tf.bfloat16),
        ("GenuineIntel", "fpu avx512f avx512_bf16", tf.float32),  # has it, at half the rate of float32
        ("AuthenticAMD", "fpu avx512f avx2", tf.float32),
        (None, None, tf.float32),
    ],
)
def test_auto_asks_the_processor(monkeypatch, vendor, flags, dtype):
    def cpuinfo(path, *_, **__):
        assert path == "/proc/cpuinfo"
        if flags is None:
            raise FileNotFoundError(path)
        one = f"processor\t: %d\nvendor_id\t: {vendor}\nflags\t\t: {flags}\nbugs\t\t:\n"
        return io.StringIO(one % 0 + "\n" + one % 1 + "\n")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    monkeypatch.setattr(builtins, "open", cpuinfo)
    cpu._fields.cache_clear()
    try:
        assert devices.compute_dtype("auto") == dtype
    finally:
        cpu._fields.cache_clear()


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ([(8, 0)], tf.bfloat16),
        ([(9, 0), (7, 5)], tf.float16),
        ([(7, 0)], tf.float16),
        ([(7, 5), (6, 1)], tf.float32),
        ([None], tf.float32),
    ],
)
def test_auto_asks_every_gpu(monkeypatch, capabilities, dtype):
    def details(capability):
        return {"compute_capability": capability} if capability else {}

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: capabilities)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details)
    assert devices.compute_dtype("auto") == dtype


def test_unknown_precision():
    with pytest.raises(UserError, match=r"--precision double: .*auto, float32, bfloat16, float16"):
        devices.compute_dtype("double")


def test_session_settings():
    config = devices.session_config()
    assert config.inter_op_parallelism_threads == 1
    assert devices.session_config(exchange_beside=True).inter_op_parallelism_threads == 2
    assert config.gpu_options.allow_growth
    # Also of what TensorFlow opens by itself before the first session
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


@pytest.mark.parametrize(("compile", "level"), [(False, tf.OptimizerOptions.DEFAULT), (True, tf.OptimizerOptions.ON_1)])
def test_sessions_compile_if_asked(compile, level):
    assert devices.session_config(compile).graph_options.optimizer_options.global_jit_level == level


@pytest.mark.parametrize(("gpus", "threads"), [([], 1), (["GPU:0"], 0)])
def test_one_operation_at_a_time_is_for_cpus(monkeypatch, gpus, threads):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: gpus)
    assert devices.session_config().inter_op_parallelism_threads == threads


@pytest.mark.parametrize(
    ("gpu", "form", "images", "given", "expected"),
    [
        (True, "off", 49_999, None, "0"),
        (True, "update", 10, None, "0"),
        (True, "off", 50_000, None, None),
        (True, "on", 10, None, None),
        (True, "off", 10, "1", "1"),
        (False, "off", 10, None, None),
    ],
)
def test_short_trainings_on_a_gpu_leave_out_the_trials_of_cudnn(monkeypatch, gpu, form, images, given, expected):
    monkeypatch.setattr(devices, "has_gpu", lambda: gpu)
    monkeypatch.setenv("TF_CUDNN_USE_AUTOTUNE", given or "")
    if given is None:
        monkeypatch.delenv("TF_CUDNN_USE_AUTOTUNE")
    devices.set_cudnn_trials(form, images)
    assert os.environ.get("TF_CUDNN_USE_AUTOTUNE") == expected
