"""The same work on the card and on the CPU of the same process, and how far the results lie apart.

On a machine without a GPU both sides are the CPU; then only the data types differ.
"""

import contextlib

import bench_ours
import numpy as np
import tensorflow.compat.v1 as tf

import detector
import ssd_utils
from kernels import devices
from settings.training_settings import TrainingSettings
from training import optimization

# Every negative counts: near equals would else be chosen differently after a rounding, which is no error
ALL_NEGATIVES = 10_000
# The largest relative difference (Euclidean norm) of losses, network outputs and weight changes that is no error
TOLERANCES = {"float32": 1e-3, "float32 with TF32": 2e-2, "float16": 2e-2, "bfloat16": 1e-1}
SCALES = 30  # float16 first lowers the factor on its loss, in steps that change no weight
THRESHOLD = 0.3  # of the compared detections' scores
SAME = 1e-4  # difference of two scores, or of two coordinates in 0..1, that counts as the same
MAY_DIFFER = 0.01  # share of the detections: a rounding may swap two whose scores or overlaps are nearly equal


def step(precision, tf32, batch, width):
    """One training step in `precision` on the card, against float32 on the CPU -> a row's dict.

    TensorFlow keeps a convolution's algorithm for its type and shape, so give each setting of tf32 its own batch.
    """
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    try:
        expected, weights = _one_step("float32", batch, width, _cpu_only())
        got, _ = _one_step(precision, batch, width, devices.session_config(), weights)
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(True)
    name = f"{precision} with TF32" if precision == "float32" and tf32 and devices.has_gpu() else precision
    differences = {key: _difference(got[key], expected[key]) for key in expected}
    tolerance = TOLERANCES[name]
    return {
        "what": f"one training step in {name}, batch {batch}, against float32 on the CPU: relative differences",
        **{key: float(f"{value:.2g}") for key, value in differences.items()},
        "tolerance": tolerance,
        "correct": max(differences.values()) <= tolerance,
    }


def _cpu_only():
    settings = devices.session_config()
    settings.device_count["GPU"] = 0
    return settings


def _one_step(precision, batch, width, session_config, weights=None):
    """One step of momentum, which moves weights by their clipped gradients -> (dict of results, the weights before).

    The results are lists of arrays: losses, outputs (of the network) and update (what the step added to the weights).
    """
    description = bench_ours.describe(width=width)
    settings = TrainingSettings(data="", train="", batch_size=batch, optimizer="momentum", negative_ratio=ALL_NEGATIVES)
    fed = bench_ours.training_batch(description.preset, batch)
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        training_step = optimization.TrainingStep(
            description, settings, devices.compute_dtype(precision), fixed_shapes=True
        )
        trained = training_step.trained
        with tf.Session(config=session_config) as session:
            session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            for variable, value in zip(trained, weights or [], strict=bool(weights)):
                session.run(variable.initializer, {variable.initializer.inputs[1]: value})
            before = session.run(trained)
            outputs = session.run([training_step.logits, training_step.offsets], {training_step.images: fed["images"]})
            for _ in range(SCALES):
                losses = training_step.run(session, fed, rate=1.0)
                after = session.run(trained)
                if any(np.any(new != old) for new, old in zip(after, before, strict=True)):
                    break
    update = [new - old for new, old in zip(after, before, strict=True)]
    return {"losses": [np.array(list(losses.values()))], "outputs": outputs, "update": update}, before


def _difference(got, expected):
    """‖got − expected‖ / ‖expected‖ over two lists of arrays; NaN if something is not finite."""
    far = sum(np.square(g.astype(np.float64) - e).sum() for g, e in zip(got, expected, strict=True))
    return float(np.sqrt(far / sum(np.square(e.astype(np.float64)).sum() for e in expected)))


def detections(batch):
    """Decoding and suppression of the same numbers: on the card, and with TensorFlow's suppression on the CPU."""
    preset = ssd_utils.get_preset("vgg300")
    rng = np.random.default_rng(0)
    outputs = (
        rng.normal(0, 2, (batch, preset.num_anchors, 21)).astype(np.float32),
        rng.normal(0, 1, (batch, preset.num_anchors, 4)).astype(np.float32),
    )
    expected = _rows(outputs, preset, _cpu_only(), portable=True)
    got = _rows(outputs, preset, devices.session_config(), portable=False)
    gaps = [gap for pair in zip(got, expected, strict=True) for gap in _gaps(*pair)]
    differing = sum(gap > SAME for gap in gaps)
    count_differs = [len(g) for g in got] != [len(e) for e in expected]
    return {
        "what": f"decoding and suppression of {batch} pictures of noise on the card, against TensorFlow's on the CPU",
        "detections": len(gaps),
        "differing": differing,
        "largest_difference": float(f"{max((gap for gap in gaps if gap <= SAME), default=0.0):.2g}"),
        "tolerance": f"{SAME:g}, {MAY_DIFFER:.0%} may differ more",
        "correct": differing <= MAY_DIFFER * len(gaps) and len(gaps) > 0 and not count_differs,
    }


def _rows(outputs, preset, session_config, portable):
    """For each picture an array [detections, class · score · box (4)]."""
    with tf.Graph().as_default():
        placeholders = [tf.placeholder(tf.float32, array.shape) for array in outputs]
        tensors = detector.postprocess(*placeholders, preset, THRESHOLD, portable)
        with contextlib.closing(tf.Session(config=session_config)) as session:
            values = session.run(tensors, dict(zip(placeholders, outputs, strict=True)))
    table = np.concatenate([values["classes"][..., None], values["scores"][..., None], values["boxes"]], axis=-1)
    return [rows[:count] for rows, count in zip(table, values["count"], strict=True)]


def _gaps(got, expected):
    """For each row of `expected` the distance to the nearest of `got` of its class: of score or coordinates."""
    if not len(got):
        return [np.inf] * len(expected)
    apart = np.abs(expected[:, None, 1:] - got[None, :, 1:]).max(axis=-1)
    return np.where(expected[:, None, 0] == got[None, :, 0], apart, np.inf).min(axis=1).tolist()
