"""The records of a training: metrics.csv, TensorBoard events, plots.

A resume cuts all three back to the checkpoint, so that an interrupted training leaves the same records as an
uninterrupted one.
"""

import contextlib
import csv
import glob
import io
import itertools
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
import tensorflow.compat.v1 as tf

from media import charts, visualization
from media.lettering import drawable
from structures import UserError
from system import atomic, cli, files, wording, write_errors
from training.ration import Ration

# Columns of metrics.csv that differ from one execution to the next
TIMING_COLUMNS = ("seconds", "images_per_second")
# Columns of metrics.csv that are curves in TensorBoard, beside those of AP
EPOCH_COLUMNS = (
    "loss",
    "valid_loss",
    "valid_confidence",
    "valid_localization",
    "l2",
    "valid_total",
    "images_per_second",
)
HISTOGRAM_BINS = 60
CUT_SUFFIX = ".cut"  # of the event file that merges what a resume keeps
PICTURE_SIDE = 1000  # largest side of recorded pictures, in pixels: a long training records many
_numbers = itertools.count()  # distinguish the event files of a second
LOSSES = ("loss", "confidence", "localization")  # that the learning curves show
STEPS_OF_A_POINT = 100  # of the learning curves: their losses are means over so many optimizer steps
EVENTS_AGAIN = 60  # seconds
PLOT_SECONDS = 60  # at least, from one drawing of the plots to the next: on a GPU an epoch may take seconds


class Summaries:
    """Writes the records of one run: RUN/events, RUN/metrics.csv (one row per epoch) and RUN/plots.

    events: a folder in place of RUN/events, or None. `open` comes first and returns a context manager. All methods
    raise UserError if the disk is full or not writable; an event file that failed ends with its last whole record, and
    another is tried after EVENTS_AGAIN seconds. Leaving the context raises nothing: it warns.
    """

    def __init__(self, run: str, class_names: Sequence[str], events: str | None = None) -> None:
        self._run = run
        self._class_names = class_names
        # Of the tags: protobuf refuses a lone surrogate, and TensorBoard shows control characters as they are
        self._tags = {name: drawable(name) for name in class_names}
        self._events = events or os.path.join(run, "events")
        self._file: _EventFile | None = None  # `open` makes it; None also after a failure
        self._next_try = -math.inf  # time.monotonic()
        self._last_plots = -math.inf  # time.monotonic()
        self._not_plotted: list[dict] = []
        self._not_listed: list[dict] | None = None  # rows of metrics.csv that wait
        self._listing = Ration()
        self._losses: list[dict] = []  # of the recorded steps: step, and those of LOSSES

    def open(self, step: int, rows: list[dict], graph: tf.Graph | None = None) -> "Summaries":
        """Start at optimizer step `step` with the rows of the epochs before it; later records are deleted.

        graph: what TensorBoard shows as the graph, recorded if there are no records yet.
        """
        self.write_rows(rows)
        with _writing(self._events):
            is_new = not _event_files(self._events)
            self._losses = cut_events(self._events, step)
            self._file = _EventFile(self._events)
            if graph is not None and is_new:
                content = graph.as_graph_def().SerializeToString()
                self._file.write(tf.Event(wall_time=time.time(), graph_def=content))
        return self

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        with not_costing("the last records"):
            self.close()

    def close(self) -> None:
        """Write the rows and draw the plots that are due, flush and close the event file."""
        try:
            if self._not_listed:
                self._list()
            if self._not_plotted:
                self._plot()
        finally:
            with _writing(self._events):
                if self._file:
                    self._file.close()

    def record_step(
        self, step: int, losses: dict[str, float], rate: float, others: Mapping[str, float] | None = None
    ) -> None:
        """Record losses and learning rate of one optimizer step, and other values by their tags."""
        values = {f"loss/{name}": value for name, value in losses.items()}
        self._losses.append({"step": step, **{name: losses[name] for name in LOSSES if name in losses}})
        self._scalars(step, {**values, "learning_rate": rate, **(others or {})})

    def record_epoch(self, row: dict, evaluation: dict | None, rows: list[dict]) -> None:
        """Record a finished epoch: scalars; metrics.csv and plots, which may be written later.

        row: its row of metrics.csv; evaluation: dict of `average_precision.evaluate`, or None; rows: those of all
        epochs, this one's last.
        """
        self._not_listed = self._not_plotted = rows
        if self._listing.is_due():  # a training of few pictures may have many thousands of epochs
            self._list()
        values = {f"epoch/{name}": row.get(name) for name in EPOCH_COLUMNS}
        values["mean_ap/train_voc07"] = row.get("train_voc07")
        if evaluation:
            values["mean_ap/voc07"] = evaluation["voc07"]["mean"]
            values["mean_ap/area"] = evaluation["area"]["mean"]
            for name, value in evaluation["voc07"]["per_class"].items():
                values[f"ap_voc07/{self._tags[name]}"] = value
        self._scalars(row["step"], values)
        if time.monotonic() - self._last_plots >= PLOT_SECONDS:
            self._plot()

    def _list(self):
        rows, self._not_listed = self._not_listed, None  # also if it fails
        with self._listing.work():
            self.write_rows(rows)

    def _plot(self):
        rows, self._not_plotted, self._last_plots = self._not_plotted, [], time.monotonic()  # also if it fails
        plots = os.path.join(self._run, "plots")
        with _writing(plots):
            os.makedirs(plots, exist_ok=True)
            path = os.path.join(plots, "learning_curves.png")
            charts.plot_learning_curves(path, rows, mean_losses(self._losses))

    def write_rows(self, rows: list[dict]) -> None:
        """Replace metrics.csv."""
        path = os.path.join(self._run, "metrics.csv")
        text = io.StringIO()
        columns = dict.fromkeys(name for row in rows for name in row) or ["epoch"]  # older versions had fewer
        writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="raise")
        writer.writeheader()
        writer.writerows(rows)
        files.write(path, text.getvalue())

    def record_pictures(self, step: int, examples: list[tuple], kind: str = "validation") -> None:
        """Record pictures with detections and ground truth. examples: those of `engine.evaluate`; kind: their tag."""
        values = []
        for index, (image, detections, sample) in enumerate(examples):
            shown = detections.where(detections.scores >= visualization.SHOW_THRESHOLD)
            drawn = _shrink(visualization.draw_detections(image, shown, self._class_names, gt=sample))
            _, encoded = cv2.imencode(".jpg", drawn[:, :, ::-1])
            height, width = drawn.shape[:2]
            picture = tf.Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded.tobytes())
            values.append(tf.Summary.Value(tag=f"{kind}/{index}", image=picture))
        self._add(values, step)

    def record_filters(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """Record a histogram of each array. arrays: {variable name: array}."""
        values = [tf.Summary.Value(tag=f"filters/{name}", histo=_histogram(array)) for name, array in arrays.items()]
        self._add(values, step)

    def _scalars(self, step, values):
        entries = [
            tf.Summary.Value(tag=name, simple_value=value) for name, value in values.items() if value is not None
        ]
        self._add(entries, step)

    def _add(self, values, step):
        event = tf.Event(wall_time=time.time(), step=step, summary=tf.Summary(value=values))
        if self._file is None and time.monotonic() < self._next_try:
            return
        with _writing(self._events):
            file, self._file, self._next_try = self._file, None, time.monotonic() + EVENTS_AGAIN
            file = file or _EventFile(self._events)
            file.write(event)
            self._file = file


@contextlib.contextmanager
def _writing(folder):
    try:
        yield
    except UserError:
        raise
    except (OSError, tf.errors.OpError) as error:
        raise write_errors.unwritable(folder, error) from None


@contextlib.contextmanager
def not_costing(what: str) -> Iterator[None]:
    """Context manager: whatever fails in the block is said once on stderr, and ends there: a training goes on.

    what: the records that are missing then, in words.
    """
    try:
        yield
    except Exception as error:  # of the disk, and of all that draws: Matplotlib, Pillow, OpenCV, protobuf
        cli.warn_once(f"{what} cannot be recorded: {wording.reason(error)}; training continues without them")


class _EventFile:
    """A new event file. That of tf.summary has a thread, which would report a full disk late and twice."""

    def __init__(self, folder: str) -> None:
        """Raises OSError or tf.errors.OpError, as `write`; no incomplete record stays then."""
        os.makedirs(folder, exist_ok=True)
        numbers = (f"{time.time():.0f}", socket.gethostname(), str(os.getpid()), str(next(_numbers)))
        self._path = os.path.join(folder, ".".join(["events.out.tfevents", *numbers]))
        self._size = 0  # of the records that are written whole
        self._writer = tf.python_io.TFRecordWriter(self._path)
        self.write(tf.Event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, event: tf.Event) -> None:
        """Append one event, and give it to the system."""
        try:
            self._writer.write(event.SerializeToString())
            self._writer.flush()
            self._size = os.path.getsize(self._path)
        except (OSError, tf.errors.OpError):
            with contextlib.suppress(OSError, tf.errors.OpError):
                self._writer.close()
            with contextlib.suppress(OSError):  # what follows an incomplete record would not be read
                os.truncate(self._path, self._size) if self._size else os.remove(self._path)
            raise

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def mean_losses(losses: Sequence[dict]) -> list[dict]:
    """Means of the losses over each hundred steps, as dicts like those given; `step` is the last of each hundred."""
    groups: dict[int, list[dict]] = {}
    for one in losses:
        groups.setdefault((one["step"] - 1) // STEPS_OF_A_POINT, []).append(one)
    means = []
    for group in groups.values():
        names = [name for name in LOSSES if all(name in one for one in group)]
        means.append({"step": group[-1]["step"], **{name: np.mean([one[name] for one in group]) for name in names}})
    return means


def cut_events(folder: str, step: int) -> list[dict]:
    """Merge the event files of a folder into one that ends with optimizer step `step`.

    What follows an incomplete record, which a killed program leaves, is not read.
    Returns the losses of each recorded step, by rising step: dicts as `record_step` keeps.
    """
    paths, losses = _event_files(folder), dict[int, dict]()
    if not paths:
        return []
    merged = os.path.join(folder, "cut.tmp")
    if os.path.islink(merged):
        os.remove(merged)  # the writer would empty what it points to
    with tf.python_io.TFRecordWriter(merged) as writer:
        for path in paths:
            for record in _whole_records(path):
                event = tf.Event.FromString(record)
                if event.step <= step:
                    writer.write(record)
                    _collect(event, losses)
    # A name of its own: a writer that opens within the same second would reuse the first file's. A crash before the
    # others are deleted leaves records twice, which TensorBoard accepts
    final = paths[0].removesuffix(CUT_SUFFIX) + CUT_SUFFIX
    atomic.publish(merged, final)
    for path in paths:
        if path != final:
            os.remove(path)
    return [losses[one] for one in sorted(losses)]


def _collect(event, losses):
    """Add the losses of an event to {step: those that are known}."""
    for value in event.summary.value:
        kind, _, name = value.tag.partition("/")
        if kind == "loss" and name in LOSSES:
            losses.setdefault(event.step, {"step": event.step})[name] = value.simple_value


def _event_files(folder):
    found = sorted(glob.glob(os.path.join(glob.escape(folder), "events.out.tfevents.*")))
    return [path for path in found if os.path.isfile(path)]


def _whole_records(path):
    records = tf.python_io.tf_record_iterator(path)
    while True:
        try:
            yield next(records)
        except (StopIteration, tf.errors.DataLossError):
            return


def _shrink(image):
    """A picture, uint8 [H,W,3], shrunk until no side is longer than PICTURE_SIDE."""
    scale = PICTURE_SIDE / max(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image


def _histogram(array):
    """A tf.HistogramProto of finite numbers. In their own type: for 26 million a third of np.histogram's time."""
    values = np.asarray(array).ravel()
    low, high = float(values.min()), float(values.max())
    width = (high - low) / HISTOGRAM_BINS or 1.0
    bins = np.minimum((values - low) / width, HISTOGRAM_BINS - 1).astype(np.int64)
    return tf.HistogramProto(
        min=low,
        max=high,
        num=values.size,
        sum=values.sum(dtype=np.float64),
        sum_squares=float(np.vdot(values, values)),
        bucket_limit=low + width * np.arange(1, HISTOGRAM_BINS + 1),
        bucket=np.bincount(bins, minlength=HISTOGRAM_BINS),
    )
