"""Records of a training, and how a resume cuts them back."""

import csv
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from programs import ROOT
from structures import Detections, Sample, UserError
from training import ration, summaries

ROW = {
    "epoch": 1,
    "step": 5,
    "loss": 2.0,
    "confidence": 1.0,
    "localization": 1.0,
    "voc07": 0.5,
    "area": 0.5,
    "learning_rate": 0.1,
    "seconds": 3.0,
    "images_per_second": 4.0,
}
EVALUATION = {
    "voc07": {"mean": 0.5, "per_class": {"car": 0.5, "bus": None}},
    "area": {"mean": 0.6, "per_class": {"car": 0.6, "bus": None}},
}


def recorded(folder):
    """{(step, tag): scalar} of all event files."""
    found = {}
    for name in sorted(os.listdir(folder)):
        for event in tf.train.summary_iterator(os.path.join(folder, name)):
            found.update({(event.step, value.tag): value.simple_value for value in event.summary.value})
    return found


@pytest.fixture
def written(tmp_path):
    """A run's records of the steps 1 to 9."""
    records = summaries.Summaries(str(tmp_path), ("car", "bus"))
    records.open(0, [])
    for step in range(1, 10):
        records.record_step(step, {"loss": float(step)}, 0.5)
    records.record_epoch({**ROW, "step": 9}, EVALUATION, [{**ROW, "step": 9}])
    records.close()
    return tmp_path


def test_epoch_leaves_scalars_metrics_and_a_plot(written):
    found = recorded(written / "events")
    assert found[9, "ap_voc07/car"] == 0.5
    assert (9, "ap_voc07/bus") not in found
    assert found[4, "loss/loss"] == 4
    with open(written / "metrics.csv", encoding="utf-8", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["9"]
    assert (written / "plots" / "learning_curves.png").stat().st_size > 1000


def test_rows_of_older_versions_lack_columns(tmp_path):
    records = summaries.Summaries(str(tmp_path / "run"), ("car",), str(tmp_path / "elsewhere"))
    (tmp_path / "run").mkdir()
    with records.open(5, [ROW]):
        row = {**ROW, "epoch": 2, "valid_loss": 3.5, "train_voc07": None}
        records.record_epoch(row, None, [ROW, row])
    with open(tmp_path / "run" / "metrics.csv", encoding="utf-8", newline="") as file:
        assert [line["valid_loss"] for line in csv.DictReader(file)] == ["", "3.5"]
    found = recorded(tmp_path / "elsewhere")
    assert found[5, "epoch/valid_loss"] == 3.5 and (5, "mean_ap/train_voc07") not in found
    assert not (tmp_path / "run" / "events").exists()


def test_a_table_that_takes_long_is_not_written_after_each_epoch(tmp_path, monkeypatch):
    """At the end it has all rows."""
    monkeypatch.setattr(ration, "QUICK", 0)
    monkeypatch.setattr(ration, "SPARING", 1e9)
    rows, lengths = [], []
    with summaries.Summaries(str(tmp_path), ("car",)).open(0, []) as records:
        for epoch in (1, 2, 3):
            rows.append({**ROW, "epoch": epoch})
            records.record_epoch(rows[-1], None, rows[:])
            lengths.append(len((tmp_path / "metrics.csv").read_text().splitlines()) - 1)
    assert lengths == [1, 1, 1]
    with open(tmp_path / "metrics.csv", encoding="utf-8", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_the_graph_is_recorded_once(tmp_path):
    with tf.Graph().as_default() as graph:
        tf.constant(1.0, name="one")
    for step in (0, 3):
        with summaries.Summaries(str(tmp_path), ("car",)).open(step, [], graph):
            pass
    names = os.listdir(tmp_path / "events")
    events = [event for name in names for event in tf.train.summary_iterator(str(tmp_path / "events" / name))]
    (graph_def,) = [event.graph_def for event in events if event.graph_def]
    assert [node.name for node in tf.GraphDef.FromString(graph_def).node] == ["one"]


def test_resume_cuts_events_and_metrics_back(written):
    records = summaries.Summaries(str(written), ("car", "bus"))
    records.open(5, [ROW])
    records.record_step(6, {"loss": -6.0}, 0.5)
    records.close()
    found = recorded(written / "events")
    assert max(step for step, _ in found) == 6
    assert found[6, "loss/loss"] == -6
    assert found[5, "loss/loss"] == 5
    with open(written / "metrics.csv", encoding="utf-8", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["5"]


def test_a_resume_reads_records_once_and_plots_go_on(written, monkeypatch):
    """Reading those of a long training takes seconds."""
    read = []
    records_of = summaries._whole_records
    monkeypatch.setattr(summaries, "_whole_records", lambda path: read.append(path) or records_of(path))
    count = len(list((written / "events").iterdir()))
    with summaries.Summaries(str(written), ("car", "bus")).open(5, [ROW]) as records:
        assert len(read) == count
        assert [(one["step"], one["loss"]) for one in records._losses] == [(step, step) for step in range(1, 6)]


def test_events_in_a_folder_named_like_a_pattern_are_cut(written):
    folder = (written / "events").rename(written / "a[1]")
    summaries.cut_events(str(folder), 5)
    assert max(step for step, _ in recorded(folder)) == 5


def test_unwritable_records_are_reported_in_one_line(written, tmp_path):
    """A folder in place of a file simulates a read-only disk, because root ignores permissions."""
    (written / "events" / "cut.tmp").mkdir()
    with pytest.raises(UserError, match=r"events.*: cannot be written") as error:
        summaries.Summaries(str(written), ("car", "bus")).open(5, [ROW])
    assert "\n" not in str(error.value)
    other = tmp_path / "other"
    other.mkdir()
    (other / "events").write_text("", "utf-8")
    with pytest.raises(UserError, match=r"events.*cannot be written"):
        summaries.Summaries(str(other), ("car", "bus")).open(0, [])


FULL = """
import resource, signal, sys
from training import summaries
from structures import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
records = summaries.Summaries(sys.argv[1], ("car",)).open(0, [])
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    with records:
        for step in range(1000):
            records.record_step(step, {"loss": 1.0}, 0.5)
except UserError as error:
    print(step, error)
"""


def test_a_full_disk_is_reported_in_one_line(tmp_path):
    """A limit on the file size simulates the full disk. The records before it are kept."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    (line,) = done.stdout.splitlines()
    assert str(tmp_path / "events") in line and "too large" in line
    summaries.cut_events(str(tmp_path / "events"), 1000)
    assert max(step for step, _ in recorded(tmp_path / "events")) == int(line.split()[0]) - 1


def test_unwritable_plots_are_reported_in_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(summaries.charts, "plot_learning_curves", fail)
    with (
        pytest.raises(UserError, match=r"plots: .*No space"),
        summaries.Summaries(str(tmp_path), ("car", "bus")).open(0, []) as records,
    ):
        records.record_epoch(ROW, EVALUATION, [ROW])


def test_the_first_failure_is_reported(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise UserError("no space for events")

    monkeypatch.setattr(summaries.Summaries, "close", fail)
    records = summaries.Summaries(str(tmp_path), ())
    with pytest.raises(UserError, match="no space for a checkpoint"), records.open(0, []):
        raise UserError("no space for a checkpoint")
    with records.open(0, []):  # a training that has come to its end stays one
        pass
    assert "warning: the last records cannot be recorded: no space for events; " in capsys.readouterr().err


def test_reading_stops_at_an_incomplete_record(written):
    (path,) = (written / "events").iterdir()
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 5)
    summaries.cut_events(str(written / "events"), 100)
    found = recorded(written / "events")
    assert found[9, "loss/loss"] == 9


def test_pictures_and_histograms_are_recorded(tmp_path):
    records = summaries.Summaries(str(tmp_path), ("car",))
    records.open(0, [])
    box = np.array([[0.1, 0.1, 0.5, 0.5]], np.float32)
    sample = Sample("a", "a.jpg", box, np.zeros(1, np.int32), np.zeros(1, bool), 40, 30)
    found = Detections(box * 30, np.ones(1, np.float32), np.zeros(1, np.int32))
    records.record_pictures(3, [(np.zeros((30, 40, 3), np.uint8), found, sample)])
    records.record_filters(3, {"conv1_1/weights": np.arange(12.0).reshape(3, 4)})
    records.close()
    (path,) = (tmp_path / "events").iterdir()
    values = [v for event in tf.train.summary_iterator(str(path)) for v in event.summary.value]
    picture, histogram = values
    assert (picture.image.width, picture.image.height) == (40, 30)
    assert histogram.tag == "filters/conv1_1/weights"
    assert sum(histogram.histo.bucket) == histogram.histo.num == 12


@pytest.mark.parametrize("values", [np.random.default_rng(0).normal(size=5000), np.full(7, 0.25), np.arange(120)])
def test_histograms_are_those_of_numpy(values):
    found = summaries._histogram(values.astype(np.float32))
    counts, _ = np.histogram(values, bins=summaries.HISTOGRAM_BINS)
    assert (found.min, found.max, found.num) == pytest.approx((values.min(), values.max(), values.size))
    assert (found.sum, found.sum_squares) == pytest.approx((values.sum(), np.square(values).sum()), rel=1e-5)
    assert sum(found.bucket) == values.size
    if values.min() < values.max():
        assert np.abs(np.cumsum(found.bucket) - np.cumsum(counts)).max() <= 2  # values on an edge, after a rounding
        assert found.bucket_limit[-1] == pytest.approx(values.max())


def test_the_curves_have_a_mean_of_each_hundred_steps_also_after_a_resume(tmp_path, monkeypatch):
    """Records of steps that the resume repeats do not count twice."""
    drawn = []
    monkeypatch.setattr(summaries.charts, "plot_learning_curves", lambda path, rows, means: drawn.append(means))

    def train(steps, rows, begin):
        with summaries.Summaries(str(tmp_path), ("car",)).open(begin, rows) as records:
            for step in steps:
                losses = {"loss": float(step), "confidence": 2.0 * step, "localization": 0.5, "positives": 3.0}
                records.record_step(step, losses, 0.1)
            records.record_epoch({**ROW, "step": step}, None, [*rows, {**ROW, "step": step}])

    train(range(10, 160, 10), [], 0)
    train(range(60, 231, 10), [{**ROW, "step": 50}], 50)
    expected = [(100, 55), (200, 155), (230, 220)]  # means of 10 … 100, of 110 … 200, of 210 … 230
    assert [(one["step"], one["loss"], one["confidence"]) for one in drawn[-1]] == [(s, m, 2 * m) for s, m in expected]
    assert {one["localization"] for one in drawn[-1]} == {0.5}
    assert drawn[-1][0].keys() == {"step", "loss", "confidence", "localization"}


def test_plots_are_drawn_once_a_minute_and_at_the_end(tmp_path, monkeypatch):
    drawn, clock = [], [1000.0]
    monkeypatch.setattr(summaries.charts, "plot_learning_curves", lambda path, rows, _: drawn.append(len(rows)))
    monkeypatch.setattr(summaries.time, "monotonic", lambda: clock[0])
    with summaries.Summaries(str(tmp_path), ("car",)).open(0, []) as records:
        rows = []
        for seconds in (0, 30, 29, 1, 59):
            clock[0] += seconds
            rows.append(ROW | {"epoch": len(rows) + 1})
            records.record_epoch(rows[-1], None, list(rows))
    assert drawn == [1, 4, 5]


def test_odd_class_names_are_recorded(tmp_path):
    """Names that neither Pillow nor protobuf nor UTF-8 takes; the files keep them as far as they can."""
    names = ("a\nb", "\x85", "\ud800", "$x_{$")
    evaluation = {kind: {"mean": 0.5, "per_class": dict.fromkeys(names, 0.5)} for kind in ("voc07", "area")}
    row = {**ROW, **{f"voc07_{name}": 0.5 for name in names}}
    box = np.array([[0.1, 0.1, 0.9, 0.9]] * 4, np.float32)
    sample = Sample("a", "a.jpg", box, np.arange(4, dtype=np.int32), np.zeros(4, bool), 40, 30)
    found = Detections(box * 30, np.ones(4, np.float32), np.arange(4, dtype=np.int32))
    with summaries.Summaries(str(tmp_path), names).open(0, []) as records:
        records.record_epoch(row, evaluation, [row])
        records.record_pictures(3, [(np.zeros((30, 40, 3), np.uint8), found, sample)])
    tags = {tag for _, tag in recorded(tmp_path / "events")}
    assert {"ap_voc07/a\ufffdb", "ap_voc07/$x_{$", "validation/0"} <= tags
    assert (tmp_path / "plots" / "learning_curves.png").exists()
    with open(tmp_path / "metrics.csv", newline="", encoding="utf-8") as file:
        assert {"voc07_a\nb", "voc07_\\ud800"} <= next(csv.DictReader(file)).keys()


def test_records_go_on_when_there_is_room_again(tmp_path, monkeypatch):
    """Other event files follow, each whole."""
    clock, before = [1000.0], resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(summaries.time, "monotonic", lambda: clock[0])
    records = summaries.Summaries(str(tmp_path), ("car",)).open(0, [])
    records.record_step(1, {"loss": 1.0}, 0.5)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, before[1]))
    try:
        with pytest.raises(UserError, match=r"events: cannot be written \(File too large\)"):
            for step in range(2, 9):
                records.record_step(step, {"loss": 1.0}, 0.5)
        records.record_step(9, {"loss": 1.0}, 0.5)  # at once again: not tried
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    clock[0] += summaries.EVENTS_AGAIN
    records.record_step(10, {"loss": 1.0}, 0.5)
    records.close()
    steps = {step for step, _ in recorded(tmp_path / "events")}
    assert {1, 10} <= steps and 9 not in steps
    summaries.cut_events(str(tmp_path / "events"), 10)
    assert {step for step, _ in recorded(tmp_path / "events")} == steps
