"""The compute type, the session settings and the batch size that fit this machine."""

import os

import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.core.framework import attr_value_pb2

from kernels import cpu
from settings.computation import PRECISIONS
from structures import UserError

# GPU memory grows on demand. The settings of a session do not suffice: building a loop or a function opens TensorFlow's
# context for eager execution first, which would take the whole card for the process
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
# What --xla auto takes on a GPU (XLA_FORMS): by how many images the training is going to see at least. An H100
# at batch 8 compiles for 74 s with "on" and then saves 1.45 ms an image. docs/gpu.md, "Which form of the training
# step", says what to measure before this is changed
XLA_BY_IMAGES = ((0, "off"), (50_000, "on"))
# From how many images on cuDNN tries its algorithms for each convolution: on an H200 that took 20 s of the first step
# for 2% of the speed (docs/gpu.md, "The first step without XLA")
TRIALS_FROM_IMAGES = 50_000


def compute_dtype(precision):
    """A --precision flag -> tf.float32, tf.bfloat16 or tf.float16.

    "auto" is bfloat16 where the hardware is faster with it: CPUs with AMX, AMD's with AVX512-BF16, GPUs from compute
    capability 8.0 (Ampere); float16 on GPUs from 7.0 (Volta, Turing); else float32, since earlier GPUs are not faster
    with float16 and most are far slower. Raises UserError for an unknown name.
    """
    if precision == "auto":
        precision = _fastest()
    if precision not in PRECISIONS:
        raise UserError(f"--precision {precision}: choose one of {', '.join(PRECISIONS)}")
    return tf.as_dtype(precision)


def _fastest():
    """Name of the type that all devices compute fastest with."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "bfloat16" if cpu.bfloat16_is_faster() else "float32"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    oldest = min(detail.get("compute_capability", (0, 0)) for detail in details)
    return "bfloat16" if oldest >= (8, 0) else "float16" if oldest >= (7, 0) else "float32"


def has_gpu():
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def detection_batch():
    """How many images should go through the network at once in detection.

    8 already fill the cores of a CPU; an H100 does half as many images again a second with 32 (docs/gpu.md).
    """
    return 32 if has_gpu() else 8


def peak_memory():
    """The most memory of the first GPU that TensorFlow has used in this process, in bytes; None without a GPU."""
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] if has_gpu() else None


class OutOfMemory(UserError):
    """TensorFlow gets no memory, from the GPU or from a machine without one, for a network or the images of a batch."""


# What `check_memory` tells apart
MEMORY_ERRORS = (
    tf.errors.ResourceExhaustedError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
    tf.errors.NotFoundError,
    tf.errors.UnknownError,
)
# What the others say where a GPU is full: CUDA's own calls, before the program takes its first part of it, and the
# trials of cuDNN's algorithms, of which none works then
NO_MEMORY = ("out of memory", "cudnn_status_alloc_failed")
# cuBLAS and cuDNN, which start with the first operation that needs them. cuDNN fails so in a wrong version too
NO_LIBRARY = (
    "no blas for stream",
    "without blas support",
    "no dnn in stream executor",
    "dnn library initialization failed",
)


def says_memory_is_full(error):
    """Whether an error of TensorFlow says that it gets no memory."""
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return True
    return isinstance(error, MEMORY_ERRORS) and _says(error, NO_MEMORY + NO_LIBRARY)


def _says(error, texts):
    return any(text in str(error).lower() for text in texts)


def check_memory(error):
    """Return if one of MEMORY_ERRORS says that TensorFlow gets no memory; raise it otherwise."""
    if isinstance(error, MEMORY_ERRORS) and not says_memory_is_full(error):
        raise error


def full_memory(error):
    """Which memory is full when TensorFlow gets none, as words for a message. error: what it raised."""
    if has_gpu() and _says(error, NO_LIBRARY):
        return "the GPU has no memory for cuBLAS or cuDNN, or their versions do not fit TensorFlow"
    return f"the memory of {'the GPU' if has_gpu() else 'this machine'} is full"


def xla_form(choice, images):
    """A --xla flag -> one of XLA_FORMS. images: how many the training is going to see.

    "auto": what XLA_BY_IMAGES says on a GPU, so that compiling takes less time than it saves; "off" on a CPU.
    """
    if choice != "auto":
        return choice
    return [form for least, form in XLA_BY_IMAGES if images >= least][-1] if has_gpu() else "off"


def set_cudnn_trials(form, images):
    """Leave out cuDNN's trials of its algorithms in a training too short for them; call it before the first session.

    form: of XLA, which tries for itself what it compiles; images: how many the training is going to see. A
    TF_CUDNN_USE_AUTOTUNE that is set already stays.
    """
    if has_gpu() and form in ("off", "update") and images < TRIALS_FROM_IMAGES:
        os.environ.setdefault("TF_CUDNN_USE_AUTOTUNE", "0")


def session_config(compile=False, exchange_beside=False):
    """Settings of every session: GPU memory grows on demand; one operation at a time on a CPU.

    compile: whether XLA compiles what it chooses, but not what `left_to_tensorflow` or `leave_to_tensorflow` names.
    exchange_beside: whether values go to other processes while the network computes.
    """
    settings = tf.ConfigProto(allow_soft_placement=True)
    settings.gpu_options.allow_growth = True
    if compile:
        settings.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_1
    if not has_gpu():
        # One convolution already fills all cores and caches; two at a time slow each other down. But a single thread
        # first goes down to the first layer, and only then comes to what it left beside the way, such as an exchange
        settings.inter_op_parallelism_threads = 2 if exchange_beside else 1
    return settings


def left_to_tensorflow():
    """Context manager: XLA compiles none of the operations that are built meanwhile."""
    return tf.xla.experimental.jit_scope(compile_ops=False)


def leave_to_tensorflow(operations):
    """Let XLA compile none of some operations, nor of what they depend on. Call it before a session runs them."""
    waiting, seen = list(operations), set()
    while waiting:
        operation = waiting.pop()
        if operation not in seen:
            seen.add(operation)
            operation._set_attr("_XlaCompile", attr_value_pb2.AttrValue(b=False))
            waiting += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]


def make_deterministic():
    """Make every operation give the same result in every run; one that cannot then raises an error."""
    tensorflow.config.experimental.enable_op_determinism()  # not part of compat.v1
