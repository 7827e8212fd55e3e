"""What the machine offers TensorFlow: the compute type and the session's settings."""

import tensorflow
import tensorflow.compat.v1 as tf

import cpu
from structures import UserError

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def compute_dtype(precision):
    """A --precision flag -> tf.float32, tf.bfloat16 or tf.float16.

    "auto" takes bfloat16 where the hardware multiplies it: CPUs with AVX512-BF16 or AMX, GPUs from compute
    capability 8.0 (Ampere). Raises UserError for an unknown name.
    """
    if precision == "auto":
        precision = "bfloat16" if _has_fast_bfloat16() else "float32"
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: choose one of {', '.join(PRECISIONS)}")
    return tf.as_dtype(precision)


def _has_fast_bfloat16():
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    return bool(cpu.flags() & {"avx512_bf16", "amx_bf16"})


def session_config():
    """Settings of every session: GPU memory grows on demand, one op at a time."""
    config = tf.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    # Two convolutions at a time fight for the cores and caches that one already fills
    config.inter_op_parallelism_threads = 1
    return config


def make_deterministic():
    """Have every op give the same result in every execution, or refuse where none can."""
    tensorflow.config.experimental.enable_op_determinism()  # not part of compat.v1
