"""Our side of gpu.py: what runs in one process with TensorFlow on the card."""

import contextlib
import subprocess
from typing import NamedTuple

import bench_inputs
import bench_ours
from gpu_worker import serve

from system import load, tensorflow_loading

# Before the next lines, as it sets flags and keeps messages back
tf = tensorflow_loading.import_tensorflow(xla=True, xla_on_cpu=True)

import gpu_correctness  # noqa: E402
import gpu_placement  # noqa: E402
import gpu_stages  # noqa: E402
import gpu_trace  # noqa: E402

import detector  # noqa: E402
from kernels import devices, winograd  # noqa: E402

THRESHOLD = 0.01  # of detections that are to be scored; random weights put every anchor above it


class Variant(NamedTuple):
    """A way to run the training step.

    compile: as of `devices.session_config`; options: more arguments of `optimization.TrainingStep`.
    """

    compile: bool
    options: dict


# A new one needs its words in gpu_plan.VARIANTS
VARIANTS = {
    "plain": Variant(compile=False, options={}),
    "ahead": Variant(compile=False, options={"feed_ahead": True}),
    "update": Variant(compile=False, options={"xla": "update"}),
    "auto": Variant(compile=True, options={"xla": "on"}),
    "whole": Variant(compile=False, options={"xla": "whole"}),
}


class GpuMemory:
    """TensorFlow's memory on the first GPU, beyond what was taken at `start`."""

    def __init__(self):
        self._gpu = "GPU:0" if devices.has_gpu() else None
        for gpu in tf.config.list_physical_devices("GPU"):
            # All sessions share one allocator, which the first of them makes: it must not take the whole card
            tf.config.experimental.set_memory_growth(gpu, True)
        self._before = 0

    def start(self):
        if self._gpu:
            tf.config.experimental.reset_memory_stats(self._gpu)
            self._before = tf.config.experimental.get_memory_info(self._gpu)["current"]

    def peak_mb(self):
        if not self._gpu:
            return None
        return round((tf.config.experimental.get_memory_info(self._gpu)["peak"] - self._before) / 2**20)


def machine():
    """The card, the libraries and the computer: what the first line of the output says."""
    build = tf.sysconfig.get_build_info()
    gpus = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    capability = details.get("compute_capability")
    return {
        "gpu": details.get("device_name"),
        "compute_capability": capability and list(capability),
        "gpus": len(gpus),
        "nvidia_smi": _nvidia_smi(),
        "types": _types(capability),
        "tensorflow": tf.__version__,
        "cuda": build.get("cuda_version"),
        "cudnn": build.get("cudnn_version"),
        **load.machine(),
    }


def _nvidia_smi():
    """Name, driver and memory of the card as its driver says; None where that cannot be asked."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _types(capability):
    """Names of the data types that the card computes fast, the one of --precision auto first."""
    if capability is None:  # a CPU: bfloat16 runs on all of them, however slowly
        return ["float32", "bfloat16"]
    types = ["bfloat16"] * (capability >= (8, 0)) + ["float16"] * (capability >= (7, 0)) + ["float32"]
    return sorted(types, key=lambda name: name != devices.compute_dtype("auto").name)


@contextlib.contextmanager
def step(precision, batch, width, variant):
    """One training step with the defaults of train.py, the batch fed from host memory."""
    chosen = VARIANTS[variant]
    with gpu_stages.training(precision, batch, width, compile=chosen.compile, options=chosen.options) as opened:
        yield {}, opened.run


@contextlib.contextmanager
def network(precision, batch, width, compile=False):
    """uint8 images in host memory -> probabilities and offsets on the card; their sum comes back."""
    graph, description = _detection_graph(precision, batch, width)
    with graph.as_default():
        total = tf.reduce_sum(graph.get_tensor_by_name("result/result:0"))
    with contextlib.closing(tf.Session(graph=graph, config=devices.session_config(compile))) as session:
        winograd.initialize(session)
        yield {}, _fed(session, total, batch, description)


@contextlib.contextmanager
def detections(precision, batch, width, portable=False):
    """uint8 images -> detections, both in host memory. portable: with TensorFlow's suppression, on the CPU."""
    graph, description = _detection_graph(precision, batch, width, portable)
    tensors = [f"detections/{name}:0" for name in detector.OUTPUTS]
    where = "this project's, on the card" if devices.has_gpu() and not portable else "TensorFlow's, on the CPU"
    with contextlib.closing(detector.open_session(graph)) as session:
        yield {"suppression": where}, _fed(session, tensors, batch, description)


def _detection_graph(precision, batch, width, portable=False):
    """(graph with random weights for batches of one size, its ModelDescription)."""
    description = bench_ours.describe(width=width)
    weights = bench_ours.random_weights(description)
    dtype = devices.compute_dtype(precision)
    return detector.build_graph(description, weights, dtype, THRESHOLD, portable, batch_size=batch), description


def _fed(session, fetches, batch, description):
    images = bench_ours.aligned(bench_inputs.images(batch, description.preset.image_shape))

    def run():
        session.run(fetches, {"image_input:0": images})
        return batch

    return run


def random_model(path, width, pictures):
    """Write an exported graph with random weights that finds a few objects in pictures, given by their paths."""
    bench_ours.random_model(path, width=width, pictures=pictures)


TASKS = {"step": step, "stage": gpu_stages.stage, "network": network, "detections": detections}
QUESTIONS = {
    "machine": machine,
    "correct_step": gpu_correctness.step,
    "correct_detections": gpu_correctness.detections,
    "stalls": gpu_placement.check,
    "trace": gpu_trace.trace,
    "random_model": random_model,
}

if __name__ == "__main__":
    serve(TASKS, QUESTIONS, GpuMemory())
