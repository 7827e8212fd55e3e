"""The video program with a fake detector: order, counts, times, speed report, damage, Ctrl-C."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import process_video
from film import frames as stages_of_a_film
from film.events import Events
from film.timeline import Timeline
from media import frame_folder, images, live, video
from programs import ROOT, wait_until
from structures import Detections, UserError
from system import tensorflow_loading, write_errors

DASHCAM = ROOT.parent / "shared" / "data" / "dashcam.mp4"


class FakeDetector:
    """Finds a bus, and a car whose xmin is the gray level of the picture / 10, which identifies the frame."""

    class_names = ("car", "bus")
    input_size = 8
    precision = "float32"
    batch_size = 8
    threshold = 0.5

    def __init__(self):
        self.batches = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def prepare(self, image):
        return np.full((8, 8, 3), image[:, :, 0].mean().round(), np.uint8)

    def detect_prepared(self, batch, sizes):
        self.batches.append(len(batch))
        found = []
        for picture, (width, height) in zip(batch, sizes, strict=True):
            level = picture[0, 0, 0] / 10
            boxes = np.array([[level, 1, width - 1, height - 1], [0, 0, 2, 2]], np.float32)
            found.append(Detections(boxes, np.array([0.9, 0.6], np.float32), np.array([0, 1], np.int32)))
        return found


@pytest.fixture
def detector(monkeypatch):
    """A fake `detector` module that records the calls of its `load`."""
    fake = FakeDetector()
    fake.calls = []

    def load(model, **settings):
        fake.calls.append((model, settings))
        fake.batch_size, fake.threshold = settings["batch_size"] or 8, settings["threshold"]
        return fake

    monkeypatch.setitem(sys.modules, "detector", types.SimpleNamespace(load=load))
    monkeypatch.setattr(tensorflow_loading, "import_tensorflow", lambda: None)
    return fake


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.pb"
    path.write_bytes(b"")
    return str(path)


def make(path, count=20, width=64, height=48, rate=Fraction(25), times=None):
    """A video whose frames grow brighter, by 10 of 255 each."""
    with video.VideoWriter(path, width, height, rate) as writer:
        for index in range(count):
            picture = np.full((height, width, 3), 10 * index % 250, np.uint8)
            writer.write(picture, times[index] if times else None)
    return str(path)


def read(path):
    with video.VideoReader(path) as reader:
        return reader, list(reader)


def found_levels(timeline):
    """The number of each frame, read from the fake's box in it."""
    return [round(frame["detections"][0]["box"][0]) for frame in timeline["frames"]]


def run(tmp_path, *arguments):
    output, timeline = str(tmp_path / "out.mp4"), str(tmp_path / "out.json")
    process_video.main([*arguments[:2], output, "--json", timeline, *arguments[2:]])
    with open(timeline, encoding="utf-8") as file:
        return output, json.load(file)


def test_frames_come_out_in_order_with_their_detections(tmp_path, detector, model):
    output, timeline = run(tmp_path, model, make(tmp_path / "a.mp4", 21), "--batch-size", "4")
    reader, frames = read(output)
    assert (len(frames), reader.rate, reader.width, reader.height) == (21, 25, 64, 48)
    np.testing.assert_allclose([seconds for _, seconds in frames], np.arange(21) / 25, atol=1e-6)
    assert found_levels(timeline) == list(range(21))
    assert [frame["index"] for frame in timeline["frames"]] == list(range(21))
    assert [frame["time"] for frame in timeline["frames"]] == [round(index / 25, 6) for index in range(21)]
    assert timeline["frames"][3]["detections"][1] == {"class": "bus", "score": pytest.approx(0.6), "box": [0, 0, 2, 2]}
    assert detector.batches == [4, 4, 4, 4, 4, 1]
    assert detector.calls == [
        (
            model,
            {"precision": "auto", "threshold": 0.5, "batch_size": 4, "tiles": None, "tile_size": None, "overlap": 0.2},
        )
    ]
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "model.pb", "out.json", "out.mp4"]


def test_tiles_of_a_size(tmp_path, detector, model):
    source = make(tmp_path / "a.mp4", 2)
    run(tmp_path, model, source, "--tile-size", "32", "--overlap", "0.3")
    settings = detector.calls.pop()[1]
    assert (settings["tiles"], settings["tile_size"], settings["overlap"]) == (None, 32, 0.3)
    with pytest.raises(UserError, match=r"a\.mp4: 64×48 pixels need 1200 tiles of 2, more than 256, .*--tile-size"):
        run(tmp_path, model, source, "--tile-size", "2")
    with pytest.raises(UserError, match="--tiles and --tile-size"):
        run(tmp_path, model, source, "--tile-size", "32", "--tiles", "3x2")
    assert not detector.calls


def test_the_detector_chooses_the_batch_size_but_for_a_camera(tmp_path, detector, model, monkeypatch):
    source = make(tmp_path / "a.mp4", 9)
    run(tmp_path, model, source)
    assert detector.calls.pop()[1]["batch_size"] is None and detector.batches == [8, 1]

    class Live(video.VideoReader):
        def __init__(self, source, *arguments):
            super().__init__(source, *arguments)
            self.live = True

    detector.batches.clear()
    monkeypatch.setattr(video, "VideoReader", Live)
    run(tmp_path, model, source, "--batch-size", "4")
    assert detector.calls.pop()[1]["batch_size"] == 1 and detector.batches == [1] * (1 + 9)  # the first warms it up
    detector.batches.clear()
    for flags, expected in ((["--batch-size", "4"], 4), (["--batch-size", "9"], 7), ([], 7)):
        run(tmp_path, model, source, "--tiles", "3x2", *flags)  # the picture and its six tiles go together
        assert detector.calls.pop()[1]["batch_size"] == expected and detector.batches == [1] * (1 + 9)
        detector.batches.clear()


def test_no_file_and_no_message_has_the_password_of_a_camera(tmp_path, detector, model, monkeypatch, capsys):
    source = make(tmp_path / "a.mp4", 9)

    class Camera(video.VideoReader):
        def __init__(self, address, *arguments):
            super().__init__(source, *arguments)
            self.source, self.name = address, video.without_password(address)

    monkeypatch.setattr(video, "VideoReader", Camera)
    _, timeline = run(tmp_path, model, "rtsp://me:secret@camera/front", "--timeline", str(tmp_path / "when.png"))
    assert timeline["input"] == "rtsp://camera/front"
    refused = {
        "is a video file": ["--live"],
        "more than 256": ["--tile-size", "1"],
        "a camera or stream runs until": [str(tmp_path / "a.mp4")],  # one more input
    }
    for message, more in refused.items():
        output = tmp_path / ("many" if message.startswith("a camera") else "b.mp4")
        with pytest.raises(UserError, match=message) as caught:
            process_video.main([str(model), "rtsp://me:secret@camera/front", *more, str(output)])
        assert "rtsp://camera/front" in str(caught.value) and "secret" not in str(caught.value)
    assert "secret" not in "".join(capsys.readouterr())
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


def test_full_memory_ends_with_the_flag_to_change(tmp_path, trained, memory_full_at_the_second_batch):
    """The frames before it are in a video that plays."""
    source, output = make(tmp_path / "a.mp4", 12), str(tmp_path / "out.mp4")
    with pytest.raises(
        UserError, match=r"memory .*--batch-size 2.*out\.unfinished\.mp4 holds the \d+ frames before that"
    ):
        process_video.main([str(trained), source, output, "--batch-size", "4"])
    assert len(memory_full_at_the_second_batch) == 3


def test_boxes_are_drawn_and_the_rest_stays(tmp_path, detector, model):
    output, _ = run(tmp_path, model, make(tmp_path / "a.mp4", 3, 320, 240), "--classes", "bus")
    for index, (image, _) in enumerate(read(output)[1]):
        assert np.abs(image[120:, 160:].astype(int) - 10 * index).max() < 12
        assert image[:40, :40].std() > 3  # something was drawn where the bus is


def test_timing_of_every_stage(tmp_path, detector, model):
    _, timeline = run(tmp_path, model, make(tmp_path / "a.mp4"))
    assert list(timeline["timing"]) == ["decode", "network", "drawing", "encoding", "end_to_end"]
    for stage in timeline["timing"].values():
        assert stage["frames"] == 20 and stage["seconds"] > 0
        assert stage["frames_per_second"] == pytest.approx(20 / stage["seconds"])
    assert timeline["frame_count"] == 20 and timeline["error"] is None and not timeline["interrupted"]


def test_stages_overlap(tmp_path, detector, model, monkeypatch):
    source = make(tmp_path / "a.mp4", 25)
    meeting = threading.Barrier(4, timeout=60)

    def meet(function, at):
        """`function`, which at its call number `at` waits for the other stages, then works as long as they do."""
        calls = itertools.count(1)

        def wrapped(*arguments, **named):
            if next(calls) == at:
                meeting.wait()  # raises an error unless all four stages are at work
                time.sleep(0.5)
            return function(*arguments, **named)

        return wrapped

    monkeypatch.setattr(detector, "prepare", meet(detector.prepare, 4))
    monkeypatch.setattr(detector, "detect_prepared", meet(detector.detect_prepared, 3))
    monkeypatch.setattr(stages_of_a_film.visualization, "draw_detections", meet(lambda image, *_, **__: image, 2))
    monkeypatch.setattr(video.VideoWriter, "write", meet(video.VideoWriter.write, 1))
    _, timeline = run(tmp_path, model, source, "--batch-size", "1")
    timing = timeline["timing"]
    stages = sum(timing[name]["seconds"] for name in ("decode", "network", "drawing", "encoding"))
    assert timing["end_to_end"]["seconds"] < 0.7 * stages  # one after the other: all of it


def test_every_carries_boxes_and_reports_it(tmp_path, detector, model, capsys):
    _, timeline = run(tmp_path, model, make(tmp_path / "a.mp4", 10), "--every", "4", "--batch-size", "2")
    assert found_levels(timeline) == [0, 0, 0, 0, 4, 4, 4, 4, 8, 8]
    assert [frame["carried"] for frame in timeline["frames"]] == [index % 4 > 0 for index in range(10)]
    assert timeline["every"] == 4 and timeline["timing"]["network"]["frames"] == 3
    assert sum(detector.batches) == 3 and "--every 4" in capsys.readouterr().out


def test_every_holds_a_bounded_number_of_frames(detector):
    film = (stages_of_a_film.Frame(i, 0.0, None, b"" if i % 100 == 0 else None) for i in range(250))
    assert max(map(len, stages_of_a_film.group_frames(film, 8))) == stages_of_a_film.GROUP_FRAMES


def test_frames_that_the_network_skips_wait_for_none_that_it_sees(detector):
    """Those of a camera, of which 1 frame makes a batch: their detections are known when they come."""
    taken = []

    def film():
        for index in range(8):
            taken.append(index)
            yield stages_of_a_film.Frame(index, 0.0, None, b"" if index % 4 == 0 else None)

    seen = [(group[0].index, len(group), len(taken)) for group in stages_of_a_film.group_frames(film(), 1)]
    assert seen == [(index, 1, index + 1) for index in range(8)]
    groups = [[frame.index for frame in group] for group in stages_of_a_film.group_frames(film(), 2)]
    assert groups == [[0, 1, 2, 3, 4], [5], [6], [7]]


def test_variable_rate_keeps_its_times(tmp_path, detector, model):
    times = [0.0, 0.04, 0.1, 0.9, 1.0, 1.5]
    output, timeline = run(tmp_path, model, make(tmp_path / "a.mp4", 6, times=times))
    np.testing.assert_allclose([seconds for _, seconds in read(output)[1]], times, atol=1e-5)
    np.testing.assert_allclose([frame["time"] for frame in timeline["frames"]], times, atol=1e-5)


def test_padding_of_odd_sides_is_noted(tmp_path, detector, model, monkeypatch, capsys):
    class OddReader(video.VideoReader):
        """Cuts a row and a column off, as H.264 test files have even sides."""

        def __init__(self, source, *arguments):
            super().__init__(source, *arguments)
            self.width, self.height = 63, 47

        def __iter__(self):
            return ((image[:47, :63], seconds) for image, seconds in super().__iter__())

    monkeypatch.setattr(video, "VideoReader", OddReader)
    _, timeline = run(tmp_path, model, make(tmp_path / "a.mp4", 3))
    assert timeline["padding"] == {"right": 1, "bottom": 1}
    assert (timeline["width"], timeline["height"]) == (63, 47)
    assert "right and the bottom" in capsys.readouterr().out


def test_max_frames(tmp_path, detector, model):
    output, timeline = run(tmp_path, model, make(tmp_path / "a.mp4"), "--max-frames", "7")
    assert len(read(output)[1]) == len(timeline["frames"]) == 7 and sum(detector.batches) == 7


def test_classes_filter(tmp_path, detector, model):
    _, timeline = run(tmp_path, model, make(tmp_path / "a.mp4", 3), "--classes", "bus")
    assert [[d["class"] for d in frame["detections"]] for frame in timeline["frames"]] == [["bus"]] * 3


def test_cut_off_input_gives_its_frames_and_an_error(tmp_path, detector, model):
    path = tmp_path / "a.mp4"
    with video.VideoWriter(path, 64, 48, 25) as writer:
        for picture in np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), np.uint8):
            writer.write(picture)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"a\.mp4: .*out\.mp4") as caught:
        run(tmp_path, model, str(path))
    assert "\n" not in str(caught.value)
    timeline = json.loads((tmp_path / "out.json").read_text())
    assert len(read(tmp_path / "out.mp4")[1]) == len(timeline["frames"]) > 5
    assert timeline["error"].startswith(f"{path}: ")


@pytest.mark.parametrize("stage", ["prepare", "detect_prepared", "draw_detections", "write"])
def test_failure_of_any_stage_ends_all(tmp_path, detector, model, monkeypatch, stage):
    def fail(*_, **__):
        raise UserError(f"{stage} failed")

    owners = {"draw_detections": stages_of_a_film.visualization, "write": video.VideoWriter}
    monkeypatch.setattr(owners.get(stage, detector), stage, fail)
    before = threading.active_count()
    with pytest.raises(UserError, match=f"^{stage} failed($|; .*out.unfinished.mp4 has the )"):
        run(tmp_path, model, make_with_av(tmp_path / "a.mp4"))
    assert threading.active_count() == before
    # Nothing is begun before the first frame is ready, and nothing replaced by a part
    assert (tmp_path / "out.unfinished.json").exists() == (stage == "write")
    assert not (tmp_path / "out.json").exists()


def test_without_a_film_an_unfinished_timeline_leaves_the_old_one(tmp_path, detector, model, monkeypatch):
    found, many = detector.detect_prepared, make(tmp_path / "a.mp4", 20)
    arguments = [model, many, "-", "--json", str(tmp_path / "out.json"), "--batch-size", "1"]
    process_video.main(arguments)
    whole = (tmp_path / "out.json").read_text()
    assert len(json.loads(whole)["frames"]) == 20

    def fail(batch, sizes):
        if len(detector.batches) == 30:
            raise UserError("broken")
        return found(batch, sizes)

    monkeypatch.setattr(detector, "detect_prepared", fail)
    with pytest.raises(UserError, match=r"^broken$"):
        process_video.main(arguments)
    assert (tmp_path / "out.json").read_text() == whole
    assert len(json.loads((tmp_path / "out.unfinished.json").read_text())["frames"]) < 20


def test_what_is_printed_without_a_film(tmp_path, detector, model, capsys):
    """Nothing is encoded then, so there is no rate of it, and no name of a film."""
    path = make(tmp_path / "a.mp4", 3)
    process_video.main([model, path, "-"])
    said = capsys.readouterr().out
    assert said.startswith(f"{path}: 3 frames; ") and "end to end" in said and "encoding" not in said
    run(tmp_path, model, path)
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path}/out.mp4: 3 frames; ") and "encoding" in said and "unfinished" not in said


def test_a_timeline_that_does_not_fit_is_reported_and_leaves_the_old_one(
    tmp_path, detector, model, monkeypatch, capsys
):
    (tmp_path / "out.json").write_text("[1, 2]")

    def fail(*_):
        raise OSError(28, "No space left on device")

    source = make(tmp_path / "a.mp4", 2)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match=r"out\.mp4: .*No space left on device"):  # nor does the video
        run(tmp_path, model, source)
    assert f"warning: {tmp_path}/out.json: cannot be written (No space left on device)" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"out\.json: .*No space left on device"):
        process_video.main([model, source, "-", "--json", str(tmp_path / "out.json")])
    assert (tmp_path / "out.json").read_text() == "[1, 2]"
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "model.pb", "out.json", "out.unfinished.mp4"]


def test_where_all_outputs_fail_the_error_says_what_is_left_of_the_video(
    tmp_path, detector, model, monkeypatch, capsys
):
    """As on a full disk."""
    written, closed = video.VideoWriter.write, Events.close

    def write(writer, *arguments):
        if writer.frames == 5 and writer.path.endswith("out.mp4"):
            raise write_errors.unwritable(writer.path, OSError(28, "No space left on device"), "5 frames are safe")
        written(writer, *arguments)

    def fail(output, *_):
        if isinstance(output, Events):
            closed(output)
        raise UserError(f"{type(output).__name__} is lost")

    source = make(tmp_path / "a.mp4", 20)
    monkeypatch.setattr(video.VideoWriter, "write", write)
    monkeypatch.setattr(Timeline, "finish", fail)
    monkeypatch.setattr(Events, "close", fail)
    with pytest.raises(UserError, match=r"out\.mp4: cannot be written .*5 frames are safe"):
        run(tmp_path, model, source, "--events", str(tmp_path / "seen"))
    said = capsys.readouterr().err
    assert "warning: Timeline is lost\n" in said and "warning: Events is lost\n" in said


def make_with_av(path):
    """Like `make`, without VideoWriter, whose `write` a test may replace."""
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        black = np.zeros((48, 64, 3), np.uint8)
        for _ in range(40):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(black, format="rgb24")))
        output.mux(stream.encode(None))
    return str(path)


def test_wrong_flags_and_files_are_one_line_before_tensorflow(tmp_path, model, monkeypatch):
    monkeypatch.setattr(tensorflow_loading, "import_tensorflow", lambda: pytest.fail("TensorFlow was imported"))
    source, text = make(tmp_path / "a.mp4", 2), tmp_path / "text.mp4"
    text.write_text("hello")
    (tmp_path / "link.mp4").symlink_to(source)
    out = str(tmp_path / "out.mp4")
    cases = [
        ([str(tmp_path / "no.pb"), source, out], r"no\.pb"),
        ([model, str(tmp_path / "no.mp4"), out], r"no\.mp4"),
        ([model, str(text), out], r"text\.mp4"),
        ([model, source, source], r"OUTPUT .*a\.mp4.* INPUT"),
        ([model, source, str(tmp_path / "link.mp4")], r"OUTPUT .*link\.mp4.* INPUT"),
        (
            [model, source, out, "--json", source],
            r"--json: .*a\.mp4' exists and is not JSON; the output would replace it",
        ),
        ([model, source, out, "--json", out], r"--json .*out\.mp4.* OUTPUT"),
        ([model, source, out, "--json", str(tmp_path)], rf"--json {tmp_path}: .*{tmp_path}/out\.json"),
        (
            [model, source, out, "--timeline", str(tmp_path)],
            rf"--timeline {tmp_path}: is a folder, .*{tmp_path}/out\.png",
        ),
        ([model, source, out, "--json", f"{tmp_path}/new/"], rf"--json {tmp_path}/new/: is a folder, .*/new/out\.json"),
        ([source, model, out], rf"process_video\.py {model} {source} {out}$"),
        ([model, out, source], r"out\.mp4: no such file; INPUT comes before OUTPUT, and OUTPUT .*a\.mp4 exists"),
        ([model, "", out], "an empty name: no such file"),
        ([source, out, "ssd300-coco"], rf"process_video\.py ssd300-coco {source} {out}$"),
        ([model, source, str(tmp_path / "out.avi")], r"out\.avi.*\.mp4"),
        ([model, source, out, "--timeline", str(tmp_path / "x.jpg")], r"--timeline: '.*x\.jpg': is drawn as PNG; give"),
        ([model, source, out, "--timeline", str(tmp_path / "x.v2")], r"--timeline: '.*x\.v2': .* or a folder as NAME/"),
        ([model, source, str(tmp_path / "x.v2")], r"OUTPUT: '.*x\.v2': .* or a folder as NAME/"),
        ([model, source, str(text / "out.mp4")], r"OUTPUT: .*text\.mp4/out\.mp4"),
        ([model, source, out, "--every", "0"], "--every: '0'"),
        ([model, source, out, "--threshold", "2"], "--threshold: '2'"),
        ([model, source, out, "--max-frames", "x"], "--max-frames: 'x'"),
        ([model, source, out, "--precision", "int8"], "--precision"),
        ([model, source, out, "--rate", "0.00004"], r"--rate: '0\.00004' is not a number from 0\.0001 to 1000"),
        ([model, source, out, "--rate", "1e10"], "--rate: '1e10'"),
        ([model, source, out, "--rate", "30000/0"], "--rate: '30000/0'"),
    ]
    for arguments, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            process_video.main(arguments)
        assert "\n" not in str(caught.value)
    assert not os.path.exists(out)
    assert len(read(source)[1]) == 2


def test_what_is_read_is_not_replaced(tmp_path, model, monkeypatch):
    monkeypatch.setattr(tensorflow_loading, "import_tensorflow", lambda: pytest.fail("TensorFlow was imported"))
    monkeypatch.chdir(tmp_path)
    names = ["a.mp4", "zones.json", "scores.json", "link.json", "gt.txt", "labels.txt"]
    make("a.mp4", 2)
    (tmp_path / "zones.json").write_text('{"yard": [[1, 1], [60, 1], [60, 40]]}')
    (tmp_path / "scores.json").write_text('{"car": 0.5, "bus": 0.5}')
    (tmp_path / "gt.txt").write_text("1,1,1,1,20,20,1,1,1\n")
    (tmp_path / "labels.txt").write_text("car\n")
    (tmp_path / "link.json").symlink_to("zones.json")
    before = {name: (tmp_path / name).read_bytes() for name in names}
    truth, zone = ["--score-tracks", "gt.txt"], ["--zone", "zones.json"]
    cases = [
        (["a.mp4", "b.mp4", *zone, "--json", "zones.json"], r"--json zones\.json: .*--zone"),
        (["a.mp4", "b.mp4", *zone, "--json", "link.json"], r"--json link\.json: .*--zone"),
        (["a.mp4", "b.mp4", *zone, "--csv", "zones.json"], r"--csv zones\.json: .*--zone"),
        (["a.mp4", "b.mp4", *truth, *zone, "--csv", "gt.txt"], r"--csv gt\.txt: .*--score-tracks"),
        (["a.mp4", "b.mp4", *truth, *zone, "--csv", "labels.txt"], r"--csv labels\.txt: .*labels"),
        (["a.mp4", "b.mp4", "--threshold", "scores.json", "--json", "scores.json"], r"--json scores\.json: .*--thresh"),
        (["a.mp4", "b.mp4", *zone, "--csv", "model.pb"], r"--csv model\.pb: .*MODEL"),
    ]
    for arguments, message in cases:
        with pytest.raises(UserError, match=message):
            process_video.main([model, *arguments])
    assert {name: (tmp_path / name).read_bytes() for name in names} == before


def test_a_video_of_another_program_is_not_replaced(tmp_path, detector, model):
    """As where two recordings are named by *.mp4: the second is in the place of OUTPUT."""
    sources = [make(tmp_path / name, 2) for name in ("a.mp4", "b.mp4")]
    recording = make_with_av(tmp_path / "out.mp4")
    (tmp_path / "folder").mkdir()
    shutil.copy(recording, tmp_path / "folder" / "b.mp4")
    before = Path(recording).read_bytes()
    for arguments, named in (([sources[0], recording], recording), ([*sources, str(tmp_path / "folder")], "b.mp4")):
        with pytest.raises(UserError, match=f"OUTPUT .*{named}: is not replaced, since .*; give another name .*remove"):
            process_video.main([model, *arguments])
    assert Path(recording).read_bytes() == (tmp_path / "folder" / "b.mp4").read_bytes() == before
    for _ in range(2):  # and what it has written itself is replaced
        process_video.main([model, *sources, str(tmp_path / "new")])
        process_video.main([model, sources[0], sources[1]])


def test_what_is_no_video_is_replaced(tmp_path, detector, model):
    for content in (b"", b"text", make_with_av(tmp_path / "b.mp4") and (tmp_path / "b.mp4").read_bytes()[:100]):
        (tmp_path / "out.mp4").write_bytes(content)
        run(tmp_path, model, make(tmp_path / "a.mp4", 2))


def test_an_unfinished_film_replaces_nothing_that_is_used(tmp_path, model, monkeypatch):
    """What a killed call left is a film that plays, and so what the next call may read."""
    monkeypatch.setattr(tensorflow_loading, "import_tensorflow", lambda: pytest.fail("TensorFlow was imported"))
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "a.unfinished.mp4"):
        make(name, 2)
    (tmp_path / "json").mkdir()
    cases = [
        (["a.unfinished.mp4", "a.mp4"], r"OUTPUT a\.mp4: .*a\.unfinished\.mp4.* INPUT"),
        (["a.mp4", "a.unfinished.mp4", "out"], r"OUTPUT out/a\.unfinished\.mp4: .* OUTPUT"),
        (["a.unfinished.mp4", "a.mp4", "out"], r"OUTPUT out/a\.mp4: .*out/a\.unfinished\.mp4.* OUTPUT"),
        (["a.mp4", "b.mp4", "--json", "a.json", "--csv", "a.unfinished.json", "--line", "1,1,9,9"], r"--csv .* --json"),
    ]
    for arguments, message in cases:
        with pytest.raises(UserError, match=message):
            process_video.main([model, *arguments])
    assert len(read("a.unfinished.mp4")[1]) == 2
    assert not (tmp_path / "b.mp4").exists()


def test_unknown_class_leaves_an_old_output_alone(tmp_path, detector, model):
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises(UserError, match=r"--classes tram.*car, bus"):
        run(tmp_path, model, make(tmp_path / "a.mp4", 2), "--classes", "tram")
    assert (tmp_path / "out.mp4").read_text() == "precious"


SLOW_PROGRAM = """
import sys, time, types
sys.path.insert(0, "tests")
import process_video, test_process_video
from system import cli, tensorflow_loading
fake = test_process_video.FakeDetector()
quick = fake.detect_prepared
def slow(batch, sizes):
    time.sleep(0.02)
    return quick(batch, sizes)
fake.detect_prepared = slow
sys.modules["detector"] = types.SimpleNamespace(load=lambda *_, **__: fake)
tensorflow_loading.import_tensorflow = lambda: None
cli.run(process_video.main)
"""


def stop_half_way(tmp_path, model, number):
    """Run the program on a long video and send it a signal in the middle; returns its exit code and stderr."""
    source, output = make(tmp_path / "a.mp4", 500), str(tmp_path / "out.mp4")
    command = [sys.executable, "-c", SLOW_PROGRAM, model, source, output, "--batch-size", "1"]
    process = subprocess.Popen(
        [*command, "--json", str(tmp_path / "out.json")], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    unfinished = video.unfinished_name(output)
    wait_until(lambda: os.path.exists(unfinished) and os.path.getsize(unfinished) > 20_000, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors


def test_a_stop_before_the_first_frame_leaves_old_outputs_alone(tmp_path, model):
    source, output, timeline = make(tmp_path / "a.mp4", 5), tmp_path / "out.mp4", tmp_path / "out.json"
    output.write_text("precious")
    timeline.write_text("{}")
    program = SLOW_PROGRAM.replace("time.sleep(0.02)", "print('working', flush=True); sys.stdin.readline()")
    command = [sys.executable, "-c", program, model, source, str(output), "--json", str(timeline)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    while "Ctrl-C" not in process.stderr.readline():
        assert process.poll() is None
    _, errors = process.communicate("go on\n", timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors
    assert (output.read_text(), timeline.read_text()) == ("precious", "{}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_video_and_timeline(tmp_path, model, number):
    code, errors = stop_half_way(tmp_path, model, number)
    assert code == 130 and "Traceback" not in errors
    timeline = json.loads((tmp_path / "out.json").read_text())
    assert timeline["interrupted"] and timeline["error"] is None
    assert 5 < len(timeline["frames"]) < 500
    assert len(read(tmp_path / "out.mp4")[1]) == len(timeline["frames"]) == timeline["frame_count"]


def test_killed_run_leaves_video(tmp_path, model):
    code, _ = stop_half_way(tmp_path, model, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not (tmp_path / "out.mp4").exists() and 5 < len(read(tmp_path / "out.unfinished.mp4")[1]) < 500


@pytest.mark.skipif(not DASHCAM.exists(), reason="shared data is not here")
def test_dashcam_goes_through(tmp_path, detector, model):
    output, timeline = run(tmp_path, model, str(DASHCAM), "--every", "3")
    reader, frames = read(output)
    assert (len(frames), reader.rate, reader.width, reader.height) == (38, 25, 1280, 720)
    assert len(timeline["frames"]) == 38 and timeline["audio"] == "aac, copied"


def write_frames(folder, names, size=(64, 48)):
    """Pictures that grow brighter by 10 of 255 each, in the order of the names."""
    folder.mkdir()
    for index, name in enumerate(names):
        images.write(folder / name, np.full((*size[::-1], 3), 10 * index, np.uint8))
    return str(folder)


def test_a_folder_of_numbered_pictures_is_a_film(tmp_path, detector, model):
    names = [f"frame_{number}.png" for number in range(8, 12)]  # frame_10 comes after frame_9
    frames = write_frames(tmp_path / "frames", names)
    output, timeline = run(tmp_path, model, frames, "--rate", "12.5")
    assert found_levels(timeline) == [0, 1, 2, 3]
    reader, shown = read(output)
    assert (reader.rate, reader.width, reader.height, len(shown)) == (Fraction(25, 2), 64, 48, 4)
    assert timeline["audio"] is None and timeline["error"] is None


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("29.97", Fraction(2997, 100)),
        ("23.976", Fraction(2997, 125)),
        ("0.0001", Fraction(1, 10_000)),
        ("0.0017", Fraction(17, 10_000)),
        ("1000", Fraction(1000)),
    ],
)
def test_a_rate_is_kept_as_it_is_given(tmp_path, detector, model, text, rate):
    frames = write_frames(tmp_path / "frames", ["1.png", "2.png"])
    output, timeline = run(tmp_path, model, frames, "--rate", text)
    assert timeline["rate"] == float(rate)
    _, shown = read(output)
    np.testing.assert_allclose([seconds for _, seconds in shown], [0, float(1 / rate)], rtol=1e-4)


@pytest.mark.parametrize("names", [("b.mov", "c.MOV"), ("b.mov", "b.jpg", "c.mov", "c.jpg")])
def test_a_folder_of_videos_is_not_a_video(tmp_path, model, monkeypatch, names):
    """Also where each has a thumbnail: that of b.mov would be the first frame."""
    folder = tmp_path / "clips"
    write_frames(folder, [name for name in names if name.endswith(".jpg")])
    for name in names:
        if not name.endswith(".jpg"):
            make(tmp_path / "a.mp4", 1)
            os.rename(tmp_path / "a.mp4", folder / name)
    monkeypatch.setattr(tensorflow_loading, "import_tensorflow", lambda: pytest.fail("too late"))
    with pytest.raises(UserError, match=rf"^{folder}: holds 2 videos; name the videos, such as {folder}/\*\.mov, and"):
        process_video.main([model, str(folder), str(tmp_path / "out")])


def test_names_are_sorted_as_people_count():
    names = ["a²9.jpg", "a²10.jpg", "²1.jpg", "2.jpg", "10.jpg"]  # ² is a digit but no number
    assert sorted(names, key=frame_folder.by_number)[:2] == ["2.jpg", "10.jpg"]
    assert sorted(names[:2], key=frame_folder.by_number) == names[:2]


def test_frames_that_do_not_fit_are_left_out_and_named(tmp_path, detector, model):
    frames = write_frames(tmp_path / "frames", ["1.png", "2.png", "3.png", "4.png"])
    images.write(tmp_path / "frames" / "2.png", np.zeros((48, 60, 3), np.uint8))
    (tmp_path / "frames" / "3.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"2 pictures left out, the first is .*2\.png \(60×48 pixels, not 64×48\)"):
        run(tmp_path, model, frames)
    _, shown = read(tmp_path / "out.mp4")
    assert [seconds for _, seconds in shown] == pytest.approx([0, 3 / 25])  # at its own time
    frames_found = json.loads((tmp_path / "out.json").read_text("utf-8"))["frames"]
    assert [(one["index"], one["time"]) for one in frames_found] == [(0, 0), (3, 0.12)]  # and in its own place
    with pytest.raises(UserError, match="2 pictures left out"):  # also where the end is not reached
        run(tmp_path, model, frames, "--max-frames", "2")
    (tmp_path / "frames" / "1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"1\.png: .*the first frame decides the size"):
        run(tmp_path, model, frames)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no pictures in it"):
        run(tmp_path, model, str(tmp_path / "none"))


def test_pictures_that_are_left_out_leave_no_gap_in_every(tmp_path, detector, model):
    """The network looks at every third of those that are there: boxes are never older than two pictures."""
    frames = write_frames(tmp_path / "frames", [f"{number:02}.png" for number in range(9)])
    (tmp_path / "frames" / "03.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="1 picture left out"):
        run(tmp_path, model, frames, "--every", "3")
    found = json.loads((tmp_path / "out.json").read_text("utf-8"))["frames"]
    assert [one["index"] for one in found if not one["carried"]] == [0, 4, 7]


def test_several_films_in_one_call(tmp_path, detector, model, capsys):
    films = [make(tmp_path / "a.mp4", 3), write_frames(tmp_path / "b", ["1.png", "2.png"]), str(tmp_path / "c.mp4")]
    (tmp_path / "c.mp4").write_bytes(b"no film")
    out, timelines = tmp_path / "out", tmp_path / "json"
    timelines.mkdir()
    with pytest.raises(UserError, match=f"^{films[2]}: not processed"):
        process_video.main([model, films[0], films[2], films[1], str(out), "--json", str(timelines)])
    assert sorted(os.listdir(out)) == ["a.mp4", "b.mp4"]
    assert [len(read(out / name)[1]) for name in ("a.mp4", "b.mp4")] == [3, 2]
    for name, frames in (("a", 3), ("b", 2)):
        assert json.loads((timelines / f"{name}.json").read_text("utf-8"))["frame_count"] == frames
    assert "warning: " in capsys.readouterr().err
    assert len(detector.calls) == 1  # loaded once


def test_a_slash_at_the_end_makes_a_new_folder(tmp_path, detector, model):
    """Also one whose name has a dot, which would be a suffix."""
    sources = [make(tmp_path / "a.mp4", 2), make(tmp_path / "b.mp4", 2)]
    folders = [f"{tmp_path / name}/" for name in ("out.v2", "json.v2", "charts.v2", "tables.v2")]
    more = ["--json", folders[1], "--timeline", folders[2], "--line", "0.5,0,0.5,1", "--csv", folders[3]]
    process_video.main([model, *sources, folders[0], *more])
    for folder, suffix in zip(folders, ("mp4", "json", "png", "csv"), strict=True):
        assert sorted(os.listdir(folder)) == [f"a.{suffix}", f"b.{suffix}"]


def test_each_of_several_films_is_opened_once(tmp_path, detector, model, monkeypatch):
    opened, original = [], process_video._open

    def open_(film, stop):
        opened.append(original(film, stop))
        return opened[-1]

    monkeypatch.setattr(process_video, "_open", open_)
    films = [make(tmp_path / name, 2) for name in ("a.mp4", "b.mp4")]
    process_video.main([model, *films, str(tmp_path / "out")])
    assert len(opened) == 2
    assert [len(read(tmp_path / "out" / name)[1]) for name in ("a.mp4", "b.mp4")] == [2, 2]


def test_a_fault_at_one_camera_ends_the_others(monkeypatch):
    """Cameras never end: nobody would learn of it."""
    ends = time.monotonic() + 60

    def process(film, *_):
        if film.input_name == "broken":
            raise OSError("a fault")
        while not stop.requested and time.monotonic() < ends:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(process_video, "_process", process)
    films = [types.SimpleNamespace(input_name=name) for name in ("good", "broken")]
    stop, left = types.SimpleNamespace(requested=False), []
    shared = types.SimpleNamespace(left=lambda: left.append(1))
    with pytest.raises(OSError, match="a fault"):
        process_video._process_together(films, [None, None], shared, None, stop)
    assert time.monotonic() < ends and len(left) == 2  # the network waits for neither


def test_the_network_learns_which_cameras_are_away(monkeypatch):
    monkeypatch.setattr(process_video, "_process", lambda film, reader, *_: reader.away(True))
    camera = types.SimpleNamespace(source="", name="", stream=1, alone=False, width=8, height=8, rate=25)
    camera.pixel_aspect, camera.streams, told = 1, 1, []
    reader = live.LiveReader(camera, True, 1.0, lambda: False)
    shared = types.SimpleNamespace(left=lambda: None, away=told.append)
    films = [types.SimpleNamespace(input_name="a")]
    process_video._process_together(films, [reader], shared, None, types.SimpleNamespace(requested=False))
    assert told == [True]


@pytest.mark.parametrize(
    ("inputs", "output", "named"),
    [
        (["a.mp4", "a.mp4"], "out.mp4", "give a folder"),
        (["a.mp4", "0"], "out", "process videos in another call"),
        (["a.mp4", "missing.mp4"], "out", "missing.mp4: no such file"),
        (["a.mp4", "in/a.mp4"], "out", "would have the same name"),
        (["a.mp4"], "out.avi", "MP4"),
        (["a.mp4", "in/b.mp4"], "in", "is the same file"),
    ],
)
def test_films_that_cannot_be_told_apart_are_refused(tmp_path, detector, model, monkeypatch, inputs, output, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "in/a.mp4", "in/b.mp4"):
        make(tmp_path / name, 1)
    with pytest.raises(UserError, match=named):
        process_video.main([model, *inputs, output])
    assert not detector.calls
