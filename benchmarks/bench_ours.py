"""Our side: tasks for bench_worker."""

import bench_inputs
import numpy as np
from bench_paths import ROOT  # noqa: F401, lets the next lines find the project
from bench_worker import serve

import cli
import config
import ssd_utils

ALIGNMENT = 64  # bytes; TensorFlow copies what is aligned to less. The data queue's slots are so too


def describe(preset="vgg300", width=1.0, classes=20):
    """ModelDescription of a preset with so many classes."""
    preset = ssd_utils.get_preset(preset)
    return config.ModelDescription(
        config.dataclasses.replace(preset, width=width), tuple(f"class{index}" for index in range(classes))
    )


def aligned(array):
    """A copy that starts at a multiple of ALIGNMENT bytes."""
    room = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def random_weights(description):
    """dict of freshly initialised arrays by variable name."""
    tf = cli.import_tensorflow()
    import ssd_vgg

    side = description.preset.input_size
    with tf.Graph().as_default():
        tf.set_random_seed(0)
        ssd_vgg.build(
            tf.placeholder(tf.uint8, [None, side, side, 3]), description.preset, len(description.class_names)
        )
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            return {variable.op.name: variable.eval(session) for variable in tf.global_variables()}


def network(preset="vgg300", width=1.0, classes=20, batch=8, precision="auto"):
    """The frozen graph from uint8 images to `result/result:0`."""
    tf = cli.import_tensorflow()
    import detector
    import devices

    description = describe(preset, width, classes)
    dtype = devices.compute_dtype(precision)
    graph = detector.build_graph(description, random_weights(description), dtype, 0.01)
    session = tf.Session(graph=graph, config=devices.session_config())
    images = aligned(bench_inputs.images(batch, description.preset.input_size))

    def run():
        session.run("result/result:0", {"image_input:0": images})
        return {"items": batch}

    return {"setting": dtype.name, "tensorflow": tf.__version__}, run


def training_step(preset="vgg300", width=1.0, batch=8, precision="auto"):
    """One step of training all layers: forward, loss, backward, Adam."""
    tf = cli.import_tensorflow()
    import devices
    import optimization

    description = describe(preset, width)
    settings = config.TrainingSettings(data="", train="", adam_epsilon=1e-8, weight_decay=0.0)
    dtype = devices.compute_dtype(precision)
    with tf.Graph().as_default() as graph:
        step = optimization.TrainingStep(description, settings, dtype)
        initializer = tf.global_variables_initializer()
    session = tf.Session(graph=graph, config=devices.session_config())
    session.run(initializer)
    fed = {name: aligned(array) for name, array in training_batch(description.preset, batch).items()}

    def run():
        step.run(session, fed, 1e-5)
        return {"items": batch}

    return {"setting": dtype.name, "tensorflow": tf.__version__}, run


def training_batch(preset, batch):
    """What `optimization.TrainingStep.run` takes, of the images and ground truth of bench_inputs."""
    anchors = ssd_utils.make_anchors(preset)
    targets = [
        ssd_utils.encode_targets(anchors, boxes, labels, ssd_utils.match_anchors(anchors, boxes))
        for boxes, labels in bench_inputs.ground_truth(batch)
    ]
    class_targets, offset_targets = (np.stack(parts) for parts in zip(*targets, strict=True))
    images = bench_inputs.images(batch, preset.input_size)
    return {"images": images, "class_targets": class_targets, "offset_targets": offset_targets}


TASKS = {function.__name__: function for function in (network, training_step)}

if __name__ == "__main__":
    serve(TASKS)
