"""A run or an exported model -> detections on images; decoding and suppression are done in the graph and only there.

Tensors of every graph, exported or not (docs/formats.md): `image_input:0`, `result/{result,logits,offsets}:0`,
`detections/{boxes,scores,classes,count}:0`, `metadata/json:0`. The constants of a frozen graph have the names of the
checkpoint's variables (`conv1_1/weights`), by which `read_frozen` finds them. Files of other formats are opened by
exports/.
"""

import system.quiet_tensorflow  # noqa: F401

import contextlib
import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

import boxes as box_geometry
import config
import pretrained
import ssd_utils
import ssd_vgg
import transforms
from config import ModelDescription
from exports import file_metadata, frozen, model_files, saved_model, stored_graphs
from exports.opened import DETECTION_OUTPUTS as OUTPUTS
from exports.opened import INPUT, METADATA, RESULT, Opened
from exports.opened import OUTPUTS as OPERATIONS
from kernels import devices, suppression, winograd
from media import images as image_files
from media import pictures
from settings.computation import PRECISIONS
from ssd_utils import SSDPreset
from structures import Detections, UserError
from system import stages, wording, worker_processes
from tiling import tiles as tiling

Threshold = file_metadata.Threshold
MOST_INPUTS = 256  # tiles of several pictures, about, that wait for the network together: 70 MB for vgg300


class TooLargeBatch(UserError):
    """A batch_size above that of an exported model."""


class ReadImage(NamedTuple):
    """A picture read from a file.

    prepared: uint8 [h,w,3] or [T,h,w,3], of `Detector.prepare`.
    size: the picture's own (width, height) in pixels.
    image: uint8 RGB [H,W,3]; None if it was not to be kept.
    predictions: float32 [A,1+classes+4], the network's probabilities and offsets; None unless the Detector keeps them.
    """

    prepared: np.ndarray
    size: tuple[int, int]
    image: np.ndarray | None
    predictions: np.ndarray | None = None


def postprocess(
    logits: tf.Tensor, offsets: tf.Tensor, preset: SSDPreset, threshold: Threshold, portable: bool = False
) -> dict[str, tf.Tensor]:
    """Logits [N,A,1+classes] and offsets [N,A,4] -> tensors boxes, scores, classes, count, result.

    boxes: float32 [N,keep,4] (xmin, ymin, xmax, ymax) in 0..1, not clipped unless the preset clips before
    suppression; scores: float32 [N,keep], falling; classes: int32 [N,keep], labels; count: int32 [N], how many of the
    rows are detections; result: float32 [N,A,1+classes+4], probabilities and offsets. For each class, the best
    candidates_per_class with scores above threshold enter NMS, if they are among the best candidates_per_map of their
    feature map; then the best `keep` of all classes are kept. (arXiv 1512.02325 section 2.2 "Inference"; Caffe's
    DetectionOutput layer.)
    portable: with TensorFlow's own suppression; otherwise with the one that is faster here, of the same results.
    """
    with tf.name_scope("result"):
        probabilities = tf.nn.softmax(logits)
        result = tf.concat([probabilities, offsets], axis=2, name=RESULT)
        logits, offsets = tf.identity(logits, name="logits"), tf.identity(offsets, name="offsets")
    with tf.name_scope("detections"):
        decoded = _decode(offsets, preset)
        by_class = tf.transpose(probabilities[:, :, 1:], [0, 2, 1])  # [N,classes,A]
        if preset.classes_per_anchor == "best":  # a score of 0 is not above any threshold
            best = tf.argmax(by_class, axis=1, output_type=tf.int32)  # [N,A]
            by_class *= tf.one_hot(best, by_class.shape[1], axis=1)
        if preset.candidates_per_map is not None:
            by_class = _best_of_maps(by_class, preset)
        if preset.drop_empty_boxes:
            has_area = tf.reduce_all(decoded[..., 2:] > decoded[..., :2], axis=-1)  # [N,A]
            by_class *= tf.cast(has_area, tf.float32)[:, None]
        scores, anchors = tf.math.top_k(by_class, preset.candidates)  # [N,classes,candidates]
        boxes = tf.gather(decoded, anchors, batch_dims=1)  # [N,classes,candidates,4]
        fits = suppression.fits(*scores.shape.as_list()[1:])
        on_device = devices.has_gpu() and not portable and fits
        suppress = suppression.suppress if on_device else suppression.suppress_on_cpu
        if isinstance(threshold, tuple):  # suppression has one for all; a score of 0 is not above any
            scores = tf.where(scores > tf.constant(threshold)[:, None], scores, tf.zeros_like(scores))
        lowest = file_metadata.lowest_threshold(threshold)
        kept = suppress(boxes, scores, iou_threshold=preset.nms_iou, score_threshold=lowest, keep=preset.keep)
        found = {name: tf.identity(tensor, name=name) for name, tensor in zip(OUTPUTS, kept, strict=True)}
        return {**found, RESULT: result}


def _best_of_maps(by_class, preset):
    """Scores [N,classes,A] with 0 in place of those that are not among the best candidates_per_map of their map."""
    kept, classes = [], by_class.shape[1]
    for part in tf.split(by_class, preset.anchors_per_map, axis=2):
        count = min(preset.candidates_per_map, classes * part.shape[2])
        last = tf.math.top_k(tf.reshape(part, [-1, classes * part.shape[2]]), count).values[:, -1]
        kept.append(tf.where(part >= last[:, None, None], part, tf.zeros_like(part)))
    return tf.concat(kept, axis=2)


def _decode(offsets, preset):
    """`ssd_utils.decode_boxes` in the graph: offsets [N,A,4] -> boxes [N,A,4]."""
    anchors = tf.constant(ssd_utils.make_anchors(preset))
    center_variance, size_variance = preset.variances
    center = offsets[..., :2] * center_variance * anchors[:, 2:] + anchors[:, :2]
    log_size = offsets[..., 2:] * size_variance
    if preset.size_offset_limit is not None:
        log_size = tf.minimum(log_size, preset.size_offset_limit)
    half = tf.exp(log_size) * anchors[:, 2:] / 2
    boxes = tf.concat([center - half, center + half], axis=-1)
    return tf.clip_by_value(boxes, 0.0, 1.0) if preset.clip_boxes == "before_nms" else boxes


def build_graph(
    description: ModelDescription,
    weights: Mapping[str, np.ndarray],
    dtype: tf.DType,
    threshold: Threshold,
    portable: bool = False,
    batch_size: int | None = None,
) -> tf.Graph:
    """A tf.Graph from uint8 images to detections, with constants for weights and its metadata inside.

    weights: by variable name, as from `read_weights`. threshold: detections score above it. portable: as in
    `ssd_vgg.build`; other graphs need the session of `open_session`. batch_size: images that a run takes, None for any
    number. Raises KeyError or ValueError if the weights do not fit the description.
    """
    preset = description.preset
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.uint8, [batch_size, *preset.image_shape], INPUT)
        logits, offsets = ssd_vgg.build(
            images, preset, len(description.class_names), compute_dtype=dtype, weights=weights, portable=portable
        )
        postprocess(logits, offsets, preset, threshold, portable)
        values = {**file_metadata.describe(description, threshold, dtype.name), "batch": batch_size}
        tf.constant(json.dumps(values), name=METADATA)
    return graph


def read_weights(checkpoint: str) -> dict[str, np.ndarray]:
    """A checkpoint prefix -> dict of the network's arrays by variable name. Raises UserError if it is damaged.

    If the training kept moving averages (--ema), these are returned.
    """
    try:
        reader = tf.train.load_checkpoint(checkpoint)
        names = reader.get_variable_to_shape_map()
        averages = {name: f"{name}/{ssd_vgg.AVERAGE}" for name in names}
        return {
            name: reader.get_tensor(averages[name] if averages[name] in names else name)
            for name in names
            if _is_networks(name)
        }
    except (
        Exception
    ) as error:  # the reader raises Python's exceptions instead of TensorFlow's: IndexError, RuntimeError, …
        raise UserError(f"{checkpoint}: cannot be read ({wording.reason(error)}); use another checkpoint") from None


def read_current(source: config.ModelSource) -> tuple[config.ModelSource, dict[str, np.ndarray]]:
    """The weights of a run (a config.ModelSource), and the ModelSource whose checkpoint they are of, with its size.

    A training deletes its last checkpoint when the next one is saved: then that one is read. Raises UserError.
    """
    assert source.checkpoint, f"{source.name} is not a run"
    while True:
        try:
            size = source.size()  # before the weights: those of a checkpoint that is half removed cannot be read
            return dataclasses.replace(source, checkpoint_bytes=size), read_weights(source.checkpoint)
        except UserError:
            newer = config.find_model(source.name)
            if newer.checkpoint in (None, source.checkpoint):
                raise
            source = newer


def load(
    model: str | os.PathLike,
    *,
    precision: str = "auto",
    threshold: Threshold | Callable[[tuple[str, ...]], Threshold] = 0.01,
    batch_size: int | None = None,
    fastest: bool = True,
    keep_predictions: bool = False,
    tiles: tuple[int, int] | None = None,
    tile_size: int | None = None,
    overlap: float = tiling.OVERLAP,
) -> "Detector":
    """MODEL (a run directory, `RUN@last` or the like, an exported model, or a published detector) -> Detector.

    precision: of the network ("auto", "float32", "bfloat16", "float16"); an exported model has its own.
    threshold: detections score above it; one number, a tuple with one for each class, or a function of the class names
    that returns either. batch_size: images that go through the network at once, None for the number that suits this
    machine or is fixed in the file. fastest: whether a frozen graph or SavedModel is built anew in the form that is
    fastest here, and not run as it is in the file. keep_predictions: as in `Detector`. tiles: (columns, rows) that
    pictures are also looked at in, to find small things; the network runs once for each and once for the whole.
    tile_size: in place of it, pixels of a tile's sides, of which each picture has as many as it needs. overlap: of a
    tile's side, that it shares with the next one. Raises UserError if there is no such model, if it is damaged, if a
    package that runs it is missing, if it was exported with another precision, a smaller batch or a higher threshold,
    if it does not have the predictions to keep, or for thresholds and numbers without sense.
    """
    cut = tiling.choose(tiles, tile_size, overlap)
    source = pretrained.fetched(config.find_model(os.fspath(model)))
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size {batch_size}: give a whole number above 0, or None")
    try:
        if source.exported:
            facts = _of_file(source, precision, threshold, batch_size, fastest, keep_predictions)
        else:
            facts = _of_weights(*read_current(source), precision, threshold, batch_size)
    except devices.MEMORY_ERRORS as error:
        devices.check_memory(error)
        raise devices.OutOfMemory(f"{devices.full_memory(error)}: end other programs that hold memory") from None
    return Detector(**facts, keep_predictions=keep_predictions, cut=cut)


def of_run(
    source: config.ModelSource, weights: Mapping[str, np.ndarray], *, precision: str, threshold: Threshold
) -> "Detector":
    """The Detector of a run with weights of `read_current`; the rest as in `load`. Raises UserError."""
    return Detector(**_of_weights(source, weights, precision, threshold, None))


def _of_weights(source, weights, precision, threshold, batch_size):
    """The arguments of Detector that a run decides, a dict. Raises UserError."""
    limit = _class_thresholds(threshold, source.description.class_names)
    graph = build_model_graph(source, precision, limit, batch_size=_graph_batch(batch_size), weights=weights)
    return {
        "network": GraphNetwork(open_session(graph), *_ends(graph)),
        "description": source.description,
        "precision": metadata(graph)["precision"],
        "threshold": limit,
        "batch_size": batch_size or devices.detection_batch(),
        "checkpoint": source.checkpoint,
        "checkpoint_bytes": source.checkpoint_bytes,
    }


def _of_file(source, precision, threshold, batch_size, fastest, keep_predictions):
    """The arguments of Detector that an exported model decides, a dict. Raises UserError."""
    network, limit, values = _open_exported(source, precision, threshold, batch_size, fastest, keep_predictions)
    return {
        "network": network,
        "description": ModelDescription.from_json(values),
        "precision": values["precision"],
        "threshold": limit,
        "batch_size": batch_size or values["batch"] or devices.detection_batch(),
        "file_batch": values["batch"],
    }


def _graph_batch(batch_size):
    """The size of batches that a graph is built for, None for any: a GPU chooses its algorithms anew for each size."""
    return (batch_size or devices.detection_batch()) if devices.has_gpu() else None


def _class_thresholds(threshold: Any, class_names: tuple[str, ...]) -> Threshold:
    """The Threshold that `load` was given, or that the function it was given returns. Raises UserError."""
    given = threshold(class_names) if callable(threshold) else threshold
    try:
        values = np.asarray(given, np.float64)
        fits = values.shape in ((), (len(class_names),)) and ((values >= 0) & (values <= 1)).all()
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise UserError(
            f"threshold {given}: give a number from 0 to 1, or a tuple of them in the order of the classes "
            f"({', '.join(class_names)})"
        )
    return tuple(values.tolist()) if values.shape else float(values)


def _open_exported(source, precision, threshold, batch_size, fastest, keep_predictions):
    """An exported model (a config.ModelSource) -> (Network, Threshold, its metadata). Raises UserError as `load`."""
    path = source.exported
    if source.format in ("frozen", "savedmodel") and fastest:
        stored = _read_stored(source)
        limit = _check_flags(path, stored.metadata, precision, threshold, batch_size)
        graph = _rebuilt(path, stored, limit, _graph_batch(batch_size))
        return GraphNetwork(open_session(graph), *_ends(graph)), limit, stored.metadata
    if source.format == "frozen":
        graph, _, values = read_frozen(path, fastest=False)
        limit = _check_flags(path, values, precision, threshold, batch_size)
        return GraphNetwork(open_session(graph), *_ends(graph)), limit, values
    if source.format == "savedmodel":
        _read_stored(source)  # refuses what must not be run
    opened = model_files.open_file(source.format, path)
    with contextlib.ExitStack() as stack:
        stack.callback(opened.close)
        values = opened.metadata
        limit = _check_flags(path, values, precision, threshold, batch_size)
        if keep_predictions and values["outputs"] != file_metadata.RAW:
            raise UserError(
                f"--dump-predictions: {path} has detections only; use the run, a frozen graph, or a file of --raw"
            )
        network = _FileNetwork(path, opened, limit)
        stack.pop_all()  # the network closes it
    return network, limit, values


def _check_flags(path, values, precision, threshold, batch_size):
    """The Threshold; UserError if an exported model with this metadata is not what the flags ask for."""
    limit = _class_thresholds(threshold, tuple(values["class_names"]))
    if values["outputs"] != file_metadata.RAW:  # a raw file has no threshold inside
        _check_threshold(path, limit, file_metadata.threshold_of(values), values["class_names"])
    if precision not in ("auto", values["precision"]):
        raise UserError(
            f"--precision {precision}: {path} computes in {values['precision']}; leave the flag out, or "
            f"export it again with --precision {precision}"
        )
    batch = values["batch"]
    if batch and batch_size and batch_size > batch:  # a smaller one is filled up
        raise TooLargeBatch(
            f"--batch-size {batch_size}: {path} takes {batch} at a time; leave the flag out, or export it again with "
            "--batch free"
        )
    return limit


def _check_threshold(path, threshold, exported, class_names):
    """Raise UserError if a threshold is below that of an exported model, which has no detections below its own."""
    pairs = np.broadcast_arrays(threshold, exported, np.zeros(len(class_names)))[:2]
    if (pairs[0] >= pairs[1]).all():
        return
    wanted, has = (wording.per_class(one, class_names) for one in (threshold, exported))
    raise UserError(
        f"--threshold {wanted}: {path} was exported with --threshold {has}; export it again with --threshold {wanted}"
    )


def open_session(graph: tf.Graph) -> tf.Session:
    """A session for a graph of `build_graph` or `read_frozen`, initialized."""
    session = tf.Session(graph=graph, config=devices.session_config())
    winograd.initialize(session)
    return session


def _ends(graph):
    """The input tensor and the dict of output tensors of a detection graph. Raises KeyError."""
    tensors = {name: graph.get_tensor_by_name(f"{OPERATIONS[name]}:0") for name in (*OUTPUTS, RESULT)}
    return graph.get_tensor_by_name(f"{INPUT}:0"), tensors


def build_model_graph(
    source: config.ModelSource,
    precision: str,
    threshold: Threshold,
    portable: bool = False,
    batch_size: int | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
) -> tf.Graph:
    """The detection graph of a run's checkpoint (a config.ModelSource). Raises UserError.

    portable, batch_size: as in `build_graph`. weights: of `read_current`; None to read them.
    """
    if weights is None:
        source, weights = read_current(source)
    assert source.description
    try:
        dtype = devices.compute_dtype(precision)
        return build_graph(source.description, weights, dtype, threshold, portable, batch_size)
    except (KeyError, ValueError) as error:
        raise UserError(f"{source.name}: the checkpoint does not fit config.json ({error}); use another run") from None


def read_frozen(
    path: str, batch_size: int | None = None, fastest: bool = True
) -> tuple[tf.Graph, ModelDescription, dict[str, Any]]:
    """An exported .pb -> (graph, ModelDescription, its metadata).

    batch_size: as in `build_graph`. fastest: whether the graph is built anew from the file's arrays, in the form that
    is fastest here; else it is the one in the file, which has only operations that export_model.py writes, but may
    be damaged so that TensorFlow ends the process: for one's own files. Raises UserError if it cannot be read or was
    not written by export_model.py.
    """
    stored = stored_graphs.read_frozen(path, _is_networks)
    values = stored.metadata
    try:
        graph = _rebuilt(path, stored, file_metadata.threshold_of(values), batch_size) if fastest else frozen.load(path)
    except UserError:
        raise
    except Exception as error:  # of protobuf and the importer
        raise UserError(f"{path}: not a graph of export_model.py ({wording.reason(error)})") from None
    return graph, ModelDescription.from_json(values), values


def _read_stored(source):
    """The StoredGraph of an exported model that has one. Raises UserError."""
    if source.format == "frozen":
        return stored_graphs.read_frozen(source.exported, _is_networks)
    values = saved_model.read_metadata(source.exported)
    return stored_graphs.read_saved_model(source.exported, values, _is_networks)


def _rebuilt(path, stored, threshold, batch_size):
    """The graph of a StoredGraph, made of its arrays and its metadata alone. Raises UserError if they do not fit."""
    values = stored.metadata
    if values["precision"] not in PRECISIONS:  # the metadata of other formats may say int8
        raise UserError(f"{path}: says that it computes in {values['precision']}, which it cannot; export it again")
    dtype, description = tf.as_dtype(values["precision"]), ModelDescription.from_json(values)
    try:
        batch_size = values["batch"] or batch_size
        return build_graph(description, stored.arrays, dtype, threshold, batch_size=batch_size)
    except (KeyError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise UserError(
            f"{path}: its weights are not those of its metadata ({reason}); export the model again"
        ) from None


def metadata(graph: tf.Graph) -> dict[str, Any]:
    """The metadata in a graph of `build_graph`: the fields of ModelDescription, "threshold", "precision".

    Where the classes have different thresholds, also "thresholds", a list.
    """
    return json.loads(tf.make_ndarray(graph.get_operation_by_name(METADATA).get_attr("value")).item())


def _is_networks(name):
    """Whether a variable is a layer's weights, biases or scale; the optimizer's have longer names or other endings."""
    return name.count("/") == 1 and name.rpartition("/")[2] in ("weights", "biases", "scale")


class Network(Protocol):
    """What turns prepared pictures into detections.

    batch: how many pictures it takes at a time, None for any number.
    """

    batch: int | None

    def run(self, batch: np.ndarray, names: Sequence[str] = OUTPUTS) -> Mapping[str, np.ndarray]:
        """uint8 [N,h,w,3] -> arrays of `postprocess`. names: those that are wanted at least."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class GraphNetwork:
    """A Network that is a session.

    batch: as in `Network`.
    """

    def __init__(
        self, session: tf.Session, images: tf.Tensor, tensors: Mapping[str, tf.Tensor], owns_session: bool = True
    ) -> None:
        """images: the input; tensors: of `postprocess`; owns_session: whether `close` closes the session."""
        self._session, self._images, self._tensors = session, images, tensors
        self._owns_session = owns_session
        self.batch: int | None = images.shape[0]

    def run(self, batch: np.ndarray, names: Sequence[str] = OUTPUTS) -> Mapping[str, np.ndarray]:
        """As `Network.run`."""
        return self._session.run({name: self._tensors[name] for name in names}, {self._images: batch})

    def close(self) -> None:
        """Close the session, if it is owned."""
        if self._owns_session:
            self._session.close()


class _FileNetwork:
    """A Network that is an opened file; what a raw file leaves out is done by the graph of `postprocess`."""

    def __init__(self, path: str, opened: Opened, threshold: Threshold):
        self._path, self._opened, self._classes = path, opened, len(opened.metadata["class_names"])
        self.batch = opened.metadata["batch"]
        is_raw = opened.metadata["outputs"] == file_metadata.RAW
        self._after = self._open_postprocess(threshold) if is_raw else None

    def _open_postprocess(self, threshold):
        description = ModelDescription.from_json(self._opened.metadata)
        preset, columns = description.preset, 1 + len(description.class_names)
        with tf.Graph().as_default() as graph:
            self._logits = tf.placeholder(tf.float32, [None, preset.num_anchors, columns])
            self._offsets = tf.placeholder(tf.float32, [None, preset.num_anchors, 4])
            self._detections = postprocess(self._logits, self._offsets, preset, threshold)
        return open_session(graph)

    def run(self, batch, names=OUTPUTS):
        values = self._opened.run(batch)
        if not self._after:
            if not ((values["classes"] >= 0) & (values["classes"] < self._classes)).all():
                raise UserError(f"{self._path}: finds a class that it does not name; export the model again")
            return values
        wanted = {name: self._detections[name] for name in names}
        return self._after.run(wanted, {self._logits: values["logits"], self._offsets: values["offsets"]})

    def close(self):
        self._opened.close()
        if self._after:
            self._after.close()


def _with_predictions(read, predictions):
    """A ReadImage with the next of some predictions, a copy that holds no others; an error as it is."""
    return read._replace(predictions=next(predictions).copy()) if isinstance(read, ReadImage) else read


class Detector:
    """A network that turns images into detections.

    Use it as a context manager or call close().

    class_names: by label.
    preset: of the network.
    input_size: side of the network's input in pixels; the width, where `preset.input_height` is another.
    precision: type that the network computes in.
    threshold: detections score above it; one number, or a tuple with one for each class.
    batch_size: images that go through the network at once.
    file_batch: the most that an exported file takes at once; None for any number.
    keep_predictions: whether `detect_files` also gives what the network itself says, a megabyte for each picture.
    cut: how pictures are cut into the tiles in which they are looked at too; None for as a whole only.
    checkpoint: the prefix of the checkpoint that the weights are of; None for an exported model.
    checkpoint_bytes: the size that it had when it was read, since a training may remove it; None as above.
    """

    def __init__(
        self,
        network: Network,
        description: ModelDescription,
        *,
        precision: str,
        threshold: Threshold,
        batch_size: int,
        file_batch: int | None = None,
        keep_predictions: bool = False,
        cut: tiling.Cut | None = None,
        checkpoint: str | None = None,
        checkpoint_bytes: int | None = None,
    ) -> None:
        """Raises UserError for tiles with kept predictions."""
        if cut and keep_predictions:
            raise UserError(
                "--dump-predictions: the output for each tile is not kept; leave it out, or --tiles and --tile-size"
            )
        self._network = network
        self.checkpoint = checkpoint
        self.checkpoint_bytes = checkpoint_bytes
        self.class_names = description.class_names
        self.preset = description.preset
        self.input_size = description.preset.input_size
        self.precision = precision
        self.threshold = threshold
        self.batch_size = batch_size
        self.file_batch = file_batch
        self.keep_predictions = keep_predictions
        self.cut = cut

    def __enter__(self) -> "Detector":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the network."""
        self._network.close()

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """uint8 RGB [H,W,3] of any size -> uint8 [h,w,3] of the preset, resized as the original does at test time.

        With tiles uint8 [T,h,w,3], the whole and each tile. Raises UserError for too many of them.
        """
        if self.cut is None:
            return transforms.warp(image, self.preset.input_wh)
        edges = self.cut.edges_px(image.shape[1::-1]).tolist()
        return np.stack([transforms.warp(image[y0:y1, x0:x1], self.preset.input_wh) for x0, y0, x1, y1 in edges])

    def detect_prepared(
        self, batch: np.ndarray | Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """N of `prepare`, as an array or a list, and the N original sizes (width, height) -> N Detections in pixels of
        the originals.

        Without tiles they go through the network at once, tiles `batch_size` at a time. Raises devices.OutOfMemory.
        """
        if self.cut is None:
            return self._unpack(self._run(np.asarray(batch)), sizes)
        edges = [self.cut.edges_px(size) for size in sizes]
        tile_sizes = [(x1 - x0, y1 - y0) for one in edges for x0, y0, x1, y1 in one.tolist()]
        inputs, most = [one for picture in batch for one in picture], self.batch_size
        found: list[Detections] = []
        for start in range(0, len(inputs), most):
            found += self._unpack(self._run(np.stack(inputs[start : start + most])), tile_sizes[start : start + most])
        rest, nms_iou, keep = iter(found), self.preset.nms_iou, self.preset.keep
        parts = [list(itertools.islice(rest, len(one))) for one in edges]
        return [tiling.merge(*one, nms_iou, keep) for one in zip(parts, edges, sizes, strict=True)]

    def _run(self, batch):
        """uint8 [N,h,w,3] -> {name: array} of OUTPUTS, and RESULT if predictions are kept. Raises OutOfMemory."""
        missing = (self._network.batch or len(batch)) - len(batch)
        if missing > 0:  # a graph for batches of one size
            batch = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), batch.dtype)])
        try:
            return self._network.run(batch, (*OUTPUTS, *[RESULT] * self.keep_predictions))
        except devices.MEMORY_ERRORS as error:
            devices.check_memory(error)
            raise devices.OutOfMemory(f"{devices.full_memory(error)}: {self._smaller_batch()}") from None

    def _unpack(self, values, sizes):
        """Arrays of `_run` -> the Detections of the images of these sizes."""
        return [
            self._to_detections({name: values[name][index] for name in OUTPUTS}, size)
            for index, size in enumerate(sizes)
        ]

    def _smaller_batch(self):
        """What to do where memory is full."""
        free = "end other programs that hold memory"
        return f"give --batch-size {self.batch_size // 2}, or {free}" if self.batch_size > 1 else free

    @overload
    def detect(self, images: str | os.PathLike | Image.Image) -> Detections: ...  # type: ignore[overload-overlap]

    @overload
    def detect(self, images: np.ndarray) -> Any: ...

    @overload
    def detect(self, images: Iterable[pictures.Picture]) -> list[Detections]: ...

    def detect(self, images: Any) -> Any:
        """One picture -> its Detections; several -> a list of Detections, in their order.

        images: uint8 RGB [H,W,3] of any size, or a picture in another form that `media.pictures` takes: a path, gray or
        transparent, floats, a Pillow picture. Several are a list, an iterator, which is read a batch at a time, or an
        array [N,H,W,3]. Arrays are RGB: those of OpenCV are given as image[..., ::-1].
        Raises UserError for what is no picture or needs too many tiles, devices.OutOfMemory.
        """
        if pictures.is_one(images):
            return self._detect_arrays([pictures.as_rgb(images, self.preset.gray16)])[0]
        numbered = enumerate(images)
        arrays = (pictures.as_rgb(image, self.preset.gray16, f"images[{index}]") for index, image in numbered)
        return [one for group in stages.batched(arrays, self.batch_size) for one in self._detect_arrays(group)]

    def _detect_arrays(self, group):
        """A batch of uint8 RGB [H,W,3] -> list of Detections."""
        return self.detect_prepared([self.prepare(image) for image in group], [image.shape[1::-1] for image in group])

    def detect_files(
        self,
        files: Iterable[tuple[str, bool]],
        threads: int | None = None,
        keep: Callable[[int], bool] = lambda index: True,
    ) -> Iterator[tuple[str, ReadImage | image_files.ImageError, Detections | None]]:
        """Yield (path, ReadImage or images.ImageError, Detections or None) for each of `files`, in their order.

        files: (path, whether to apply EXIF orientation), of any number; only a few batches are read ahead. threads:
        that read, None for as many as suit this machine. keep: index of a file -> whether its ReadImage keeps the
        pixels; four batches of 8 photographs take a gigabyte. Reading, the network and the caller's work on the results
        overlap. Raises devices.OutOfMemory.
        """
        threads = threads or worker_processes.beside_network()

        def read(numbered):
            index, (path, exif) = numbered
            return path, self._read_or_error(path, exif, keep(index))

        ahead = threads if self.cut else self.batch_size  # a picture in tiles keeps the network busy for longer
        pictures = stages.parallel_map(read, enumerate(files), threads=threads, ahead=ahead)
        batches = stages.parallel_map(self._detect_read, self._groups(pictures), threads=1, ahead=1)
        # Closing the outer stage first ends the threads of both if the caller stops early
        with contextlib.closing(pictures), contextlib.closing(batches):
            for results in batches:
                yield from results

    def _groups(self, pictures):
        """Yield lists of (path, ReadImage or error): `batch_size` of them, or as many as have MOST_INPUTS tiles."""
        if self.cut is None:
            yield from stages.batched(pictures, self.batch_size)
            return
        group, inputs = [], 0
        for path, read in pictures:
            group.append((path, read))
            inputs += len(read.prepared) if isinstance(read, ReadImage) else 0
            if len(group) == self.batch_size or inputs >= MOST_INPUTS:
                yield group
                group, inputs = [], 0
        if group:
            yield group

    def _read_or_error(self, path, exif, keep):
        try:
            image = image_files.read(path, exif=exif, gray16=self.preset.gray16)
        except image_files.ImageError as error:
            return error
        try:
            prepared = self.prepare(image)
        except UserError as error:  # more tiles than anyone waits for
            return image_files.ImageError(path, str(error))
        return ReadImage(prepared, image.shape[1::-1], image if keep else None)

    def _detect_read(self, group):
        """One batch of (path, ReadImage or error) -> list of (path, ReadImage or error, Detections or None)."""
        readable = [read for _, read in group if isinstance(read, ReadImage)]
        if not readable:
            return [(path, error, None) for path, error in group]
        batch, sizes = [read.prepared for read in readable], [read.size for read in readable]
        if not self.keep_predictions:
            found = iter(self.detect_prepared(batch, sizes))
        else:
            values = self._run(np.stack(batch))
            found = iter(self._unpack(values, sizes))
            predictions = iter(values[RESULT])
            group = [(path, _with_predictions(read, predictions)) for path, read in group]
        return [(path, read, next(found) if isinstance(read, ReadImage) else None) for path, read in group]

    def _to_detections(self, values, size):
        """One image's rows of the outputs -> Detections in pixels, clipped to the image."""
        scores, labels = values["scores"][: values["count"]], values["classes"][: values["count"]]
        limits = np.array(self.threshold, np.float32)
        rows = np.flatnonzero(scores > (limits[labels] if limits.ndim else limits))
        width, height = size
        boxes_px = values["boxes"][rows] * np.array([width, height, width, height], np.float32)
        return Detections(box_geometry.clip(boxes_px, width, height), scores[rows], values["classes"][rows])
