"""What the machine offers TensorFlow: the compute type and the session's settings."""

import tensorflow
import tensorflow.compat.v1 as tf

import config
from kernels import cpu
from structures import UserError


def compute_dtype(precision):
    """A --precision flag -> tf.float32, tf.bfloat16 or tf.float16.

    "auto" takes bfloat16 where the hardware is faster at it: CPUs with AMX, AMD's with AVX512-BF16, GPUs from compute
    capability 8.0 (Ampere); float16 on GPUs from 7.0 (Volta, Turing); else float32: earlier GPUs multiply
    float16 no faster, most of them far slower. Raises UserError for an unknown name.
    """
    if precision == "auto":
        precision = _fastest()
    if precision not in config.PRECISIONS:
        raise UserError(f"--precision {precision}: choose one of {', '.join(config.PRECISIONS)}")
    return tf.as_dtype(precision)


def _fastest():
    """What all devices multiply fastest, by name."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "bfloat16" if cpu.bfloat16_is_faster() else "float32"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    oldest = min(detail.get("compute_capability", (0, 0)) for detail in details)
    return "bfloat16" if oldest >= (8, 0) else "float16" if oldest >= (7, 0) else "float32"


def session_config():
    """Settings of every session: GPU memory grows on demand, XLA joins a GPU's ops, one op at a time."""
    settings = tf.ConfigProto(allow_soft_placement=True)
    settings.gpu_options.allow_growth = True
    if tf.config.list_physical_devices("GPU"):
        settings.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_1
    # Two convolutions at a time fight for the cores and caches that one already fills
    settings.inter_op_parallelism_threads = 1
    return settings


def make_deterministic():
    """Have every op give the same result in every execution, or refuse where none can."""
    tensorflow.config.experimental.enable_op_determinism()  # not part of compat.v1
