"""Our side: the tasks that bench_worker runs in a process."""

import contextlib
import dataclasses
import hashlib
import sys
import time

import bench_inputs
import bench_pictures
import cv2
import numpy as np
from bench_paths import ROOT  # noqa: F401, lets the next lines find the project
from bench_worker import serve

import average_precision
import config
import oracles_ap
import source_pascal_voc
import sources
import ssd_utils
import training_data
import transforms
from settings.training_settings import TrainingSettings
from system import tensorflow_loading
from training import caching

stack = contextlib.ExitStack()  # what stays open as long as the process
LIKELY = 5  # anchors of a picture on average, of which suppression leaves about half
ALIGNMENT = 64  # bytes, as in the data queue; TensorFlow copies arrays with a smaller alignment


def describe(preset="vgg300", width=1.0, classes=20):
    """The ModelDescription of a preset with some number of classes."""
    preset = ssd_utils.get_preset(preset)
    return config.ModelDescription(
        dataclasses.replace(preset, width=width), tuple(f"class{index}" for index in range(classes))
    )


def aligned(array):
    """A copy that starts at a multiple of ALIGNMENT bytes."""
    room = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def random_weights(description):
    """{variable name: freshly initialized array}; biases too are random, as TensorFlow drops those that are 0."""
    tf = tensorflow_loading.import_tensorflow()
    import ssd_vgg
    from kernels import devices

    with tf.Graph().as_default():
        tf.set_random_seed(0)
        images = tf.placeholder(tf.uint8, [None, *description.preset.image_shape])
        ssd_vgg.build(images, description.preset, len(description.class_names), portable=True)
        with tf.Session(config=devices.session_config()) as session:  # which leaves memory of a GPU to others
            session.run(tf.global_variables_initializer())
            weights = {variable.op.name: variable.eval(session) for variable in tf.global_variables()}
    rng = np.random.default_rng(0)
    biases = {name: value for name, value in weights.items() if name.endswith("/biases")}
    return weights | {name: rng.normal(0, 0.01, value.shape).astype(np.float32) for name, value in biases.items()}


def network(preset="vgg300", width=1.0, classes=20, batch=8, precision="auto"):
    """The frozen graph from uint8 images to `result/result:0`."""
    tf = tensorflow_loading.import_tensorflow()
    import detector
    from kernels import devices

    description = describe(preset, width, classes)
    dtype = devices.compute_dtype(precision)
    graph = detector.build_graph(description, random_weights(description), dtype, 0.01)
    session = detector.open_session(graph)
    images = aligned(bench_inputs.images(batch, description.preset.image_shape))

    def run():
        session.run("result/result:0", {"image_input:0": images})
        return {"items": batch}

    return {"setting": dtype.name, "tensorflow": tf.__version__}, run


def training_step(preset="vgg300", width=1.0, batch=8, precision="auto"):
    """One step of training all layers: forward, loss, backward, Adam."""
    tf = tensorflow_loading.import_tensorflow()
    from kernels import devices
    from training import optimization

    description = describe(preset, width)
    settings = TrainingSettings(data="", train="", adam_epsilon=1e-8, weight_decay=0.0)
    dtype = devices.compute_dtype(precision)
    with tf.Graph().as_default() as graph:
        step = optimization.TrainingStep(description, settings, dtype)
        initializer = tf.group(tf.global_variables_initializer(), tf.local_variables_initializer())
    session = tf.Session(graph=graph, config=devices.session_config())
    session.run(initializer)
    fed = {name: aligned(array) for name, array in training_batch(description.preset, batch).items()}

    def run():
        step.run(session, fed, 1e-5)
        return {"items": batch}

    return {"setting": dtype.name, "tensorflow": tf.__version__}, run


def training_batch(preset, batch):
    """The input of `optimization.TrainingStep.run` from the images and ground truth of bench_inputs."""
    anchors = ssd_utils.make_anchors(preset)
    targets = [
        ssd_utils.encode_targets(anchors, boxes, labels, ssd_utils.match_anchors(anchors, boxes))
        for boxes, labels in bench_inputs.ground_truth(batch)
    ]
    class_targets, offset_targets = (np.stack(parts) for parts in zip(*targets, strict=True))
    images = bench_inputs.images(batch, preset.image_shape)
    return {"images": images, "class_targets": class_targets, "offset_targets": offset_targets}


def data(index, augmentation="full", cache="none", folder=None):
    """Decode, augment, match and encode the pictures of an index one after another, in this thread.

    augmentation, cache, folder: as --augmentation, --cache and --cache-dir.
    """
    training_data.prepare_worker()
    preset = ssd_utils.get_preset("vgg300")
    anchors = ssd_utils.make_anchors(preset)
    samples = bench_pictures.read_index(index)
    transform = transforms.train_transforms(preset, transforms.AUGMENTATIONS[augmentation])
    make_item = training_data.MakeTrainingItem(samples, preset, anchors, transform, "bipartite", seed=0)
    if cache != "none":
        settings = TrainingSettings(data="", train="", augmentation=augmentation, cache=cache, cache_dir=folder)
        with contextlib.redirect_stdout(sys.stderr):  # stdout is the harness's
            opened = stack.enter_context(caching.opened(samples, preset, settings))
        make_item = make_item.sharing(opened)
    out = {
        "images": np.empty(preset.image_shape, np.uint8),
        "class_targets": np.empty(len(anchors), np.int32),
        "offset_targets": np.empty((len(anchors), 4), np.float32),
    }
    epochs = iter(range(1_000_000))

    def run():
        epoch = next(epochs)
        for number in range(len(samples)):
            make_item((epoch, number), out)
        return {"items": len(samples)}

    return {"name": f"--augmentation {augmentation} --cache {cache}"}, run


def workers(index, workers, batches):
    """The data queue with a number of workers, from its first batch to its last."""
    samples = bench_pictures.read_index(index)
    settings = TrainingSettings(data="", train="")
    queue = training_data.make_queue(samples, ssd_utils.get_preset("vgg300"), settings, workers=workers)
    size = settings.batch_size
    rows = list(range(len(samples))) * (1 + size * batches // len(samples))
    epochs = iter(range(1_000_000))

    def run():
        epoch = next(epochs)
        stream = queue.batches([(epoch, row) for row in rows[: size * batches]])
        next(stream).release()
        start = time.perf_counter()
        for batch in stream:
            batch.release()
        return {"items": size * (batches - 1), "seconds": time.perf_counter() - start}

    return {"name": f"{workers} workers"}, run


def matching(objects, images=50):
    """Match and encode the objects of pictures."""
    anchors = ssd_utils.make_anchors(ssd_utils.get_preset("vgg300"))
    columns = ssd_utils.anchor_columns(anchors)
    pairs = bench_inputs.ground_truth(images, objects)

    def run():
        for boxes, labels in pairs:
            ssd_utils.encode_targets(anchors, boxes, labels, ssd_utils.match_columns(columns, boxes))
        return {"items": images}

    return {}, run


def evaluator(images, per_image):
    """The vectorized metric on `images` × `per_image` detections of 20 classes."""
    ground_truth, detections = bench_inputs.evaluation(images, per_image)

    def run():
        start = time.perf_counter()
        curves = average_precision.precision_recall(ground_truth, detections, bench_inputs.CLASSES)
        seconds = time.perf_counter() - start
        true = {curve.name: curve.verdicts == average_precision.TRUE for curve in curves}
        return {"items": images * per_image, "seconds": seconds, "verdicts": _digest(true)}

    return {}, run


def evaluator_loop(images, per_image):
    """The same with the usual loop over detections (tests/oracles_ap.py)."""
    ground_truth, detections = bench_inputs.evaluation(images, per_image)

    def run():
        start = time.perf_counter()
        true = oracles_ap.per_detection(ground_truth, detections, bench_inputs.CLASSES)
        seconds = time.perf_counter() - start
        return {"items": images * per_image, "seconds": seconds, "verdicts": _digest(true)}

    return {"name": "loop over detections, tests/oracles_ap.py"}, run


def _digest(true_of_class):
    """A checksum of the verdicts of all classes, in their order."""
    return hashlib.sha256(b"".join(np.packbits(true).tobytes() for true in true_of_class.values())).hexdigest()


def load_graph(model, precision):
    """MODEL -> (tf.Graph, ModelDescription); an exported .pb has its own precision."""
    tensorflow_loading.import_tensorflow()
    import detector

    source = config.find_model(model)
    if source.format == "frozen":
        return detector.read_frozen(source.exported)[:2]
    return detector.build_model_graph(source, precision, 0.01), source.description


def random_model(path, preset="vgg300", width=1.0, pictures=()):
    """Write an exported graph with random weights to `path`; its run() does nothing.

    pictures: paths of some on which, and on their like, it then finds a few objects, but unevenly; without
    them it finds 200 in each, which take longer to draw than any network.
    """
    tensorflow_loading.import_tensorflow()
    import detector
    from kernels import devices

    description = describe(preset, width)
    dtype = devices.compute_dtype("auto")
    weights = random_weights(description)
    if pictures:
        weights = _finding_little(weights, description, pictures)
    graph = detector.build_graph(description, weights, dtype, 0.01, portable=True)
    with open(path, "wb") as file:
        file.write(graph.as_graph_def().SerializeToString())
    return {}, dict


def _finding_little(weights, description, pictures):
    """The weights with biases for which LIKELY anchors of a picture, on average, have a class that is likely."""
    tf = tensorflow_loading.import_tensorflow()
    import ssd_vgg
    from kernels import devices
    from media import images

    height, width, _ = description.preset.image_shape
    batch = np.stack([cv2.resize(images.read(path), (width, height)) for path in pictures])
    classes = len(description.class_names)
    with tf.Graph().as_default():
        logits, _ = ssd_vgg.build(tf.constant(batch), description.preset, classes, weights=weights, portable=True)
        with tf.Session(config=devices.session_config()) as session:
            logits = session.run(logits)
    margins = logits[..., 1:].max(axis=-1) - logits[..., 0]  # a softmax above 0.5 needs at least 0
    shift = np.quantile(margins, 1 - LIKELY / margins.shape[1])
    background = np.arange(classes + 1) == 0
    return weights | {
        name: value + shift * np.tile(background, len(value) // (classes + 1))
        for name, value in weights.items()
        if name.endswith("_logits/biases")
    }


def model_network(model, batch, batches=1):
    """The network of MODEL alone, up to `result/result:0`, `batches` times."""
    tensorflow_loading.import_tensorflow()
    import detector

    graph, description = load_graph(model, "auto")
    session = detector.open_session(graph)
    images = aligned(bench_inputs.images(batch, description.preset.image_shape))

    def run():
        for _ in range(batches):
            session.run("result/result:0", {"image_input:0": images})
        return {"items": batch * batches}

    return {"name": f"network alone, batch {batch}"}, run


def after_network(batch, model=None, index=None, width=1.0, classes=20):
    """Compute logits and offsets of a batch, then detections of the same batch.

    model, index: a MODEL and its pictures; without them, random weights and noise.
    The answers have "network_seconds" and "all_seconds". Softmax counts as work after the network.
    """
    tensorflow_loading.import_tensorflow()
    import detector
    from kernels import devices
    from media import images as image_files

    if model:
        graph, description = load_graph(model, "auto")
        pictures = [image_files.read(sample.image_path) for sample in bench_pictures.read_index(index)[:batch]]
        fed = aligned(np.stack([transforms.warp(picture, description.preset.input_wh) for picture in pictures]))
    else:
        description = describe(width=width, classes=classes)
        graph = detector.build_graph(description, random_weights(description), devices.compute_dtype("auto"), 0.01)
        fed = aligned(bench_inputs.images(batch, description.preset.image_shape))
    session = detector.open_session(graph)
    probabilities, offsets = graph.get_operation_by_name("result/result").inputs[:2]
    network = [probabilities.op.inputs[0].op, offsets.op]  # operations: nothing is copied out
    everything = [f"detections/{name}:0" for name in detector.OUTPUTS]

    def run():
        times = []
        for fetches in (network, everything):
            start = time.perf_counter()
            values = session.run(fetches, {"image_input:0": fed})
            times.append(time.perf_counter() - start)
        found = float(np.mean(values[-1]))
        return {"items": batch, "network_seconds": times[0], "all_seconds": times[1], "found": found}

    return {}, run


def dataset_load(data):
    """Read the annotations of a data set, split "train"; of a VOC-layout folder, of the class "thing"."""
    names = sources.class_names(data, "train")
    names = ("thing",) if names == source_pascal_voc.CLASSES else names

    def run():
        samples = sources.load(data, "train", names)
        return {"items": len(samples)}

    return {}, run


def queue_start(data):
    """Start a queue with 2 workers on such a folder and wait for its first batch."""
    samples = source_pascal_voc.load(data, "train", ("thing",))
    settings = TrainingSettings(data="", train="")

    def run():
        with training_data.make_queue(samples, ssd_utils.get_preset("vgg300"), settings, workers=2) as queue:
            next(queue.batches(training_data.epoch_jobs(len(samples), 0, 0)))
        return {"items": 1}

    return {}, run


TASKS = {
    function.__name__: function
    for function in (
        network,
        training_step,
        data,
        workers,
        matching,
        evaluator,
        evaluator_loop,
        random_model,
        model_network,
        after_network,
        dataset_load,
        queue_start,
    )
}

if __name__ == "__main__":
    serve(TASKS)
