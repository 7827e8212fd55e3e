"""process_video.py --track with a fake detector: identities in the JSON and in the picture, crops, scores."""

import contextlib
import dataclasses
import itertools
import json
import sys
import threading
import types
import urllib.request

import numpy as np
import pytest

import process_video
from film import frames, sharing
from media import images, track_chart, video, visualization
from media.class_colors import class_colors
from programs import ROOT
from structures import Detections, UserError
from system import tensorflow_loading
from tracking import following, mot_file

WIDTH, HEIGHT = 320, 240


def test_frames_wait_for_half_a_second():
    assert [following.hold(rate, 1) for rate in (2, 25, 60, 120, 240)] == [1, 13, 30, 60, following.MOST_HELD]
    assert [following.hold(25, every) for every in (5, 20, 100)] == [13, 20, following.MOST_HELD]


def box_of(index):
    """Where the car of frame `index` is."""
    return (20 + 4 * index, 60, 80 + 4 * index, 120)


class Finder:
    """Finds a car that moves; the gray level of a picture / 5 is its frame.

    In frames of `missing` it finds none, in those of `low` it gives a low score.
    """

    class_names = ("car", "bus")
    precision = "float32"
    batch_size = 4
    missing: tuple = ()
    low: tuple = ()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def prepare(self, image):
        return np.full((8, 8, 3), image[200:, :, 0].mean().round(), np.uint8)

    def detect_prepared(self, batch, sizes):
        return [self.find(round(int(picture[0, 0, 0]) / 5)) for picture in batch]

    def find(self, index):
        if index in self.missing:
            return Detections.empty()
        score = 0.3 if index in self.low else 0.8 + index / 1000
        return Detections(np.array([box_of(index)], np.float32), np.array([score], np.float32), np.zeros(1, np.int32))


@pytest.fixture
def finder(monkeypatch):
    fake = Finder()

    def load(model, **settings):
        threshold = settings["threshold"]
        fake.batch_size = settings["batch_size"] or 4
        fake.threshold = threshold(fake.class_names) if callable(threshold) else threshold
        return fake

    monkeypatch.setitem(sys.modules, "detector", types.SimpleNamespace(load=load))
    monkeypatch.setattr(tensorflow_loading, "import_tensorflow", lambda: None)
    return fake


@pytest.fixture
def call(tmp_path, finder):
    """Calls the program on a film of 20 frames with further flags -> (frames as drawn, JSON)."""
    (tmp_path / "model.pb").write_bytes(b"")
    film = tmp_path / "film.mp4"
    with video.VideoWriter(film, WIDTH, HEIGHT, 25) as writer:
        for index in range(20):
            writer.write(np.full((HEIGHT, WIDTH, 3), 5 * index, np.uint8))

    def run(*flags, output=tmp_path / "out.mp4"):
        process_video.main(
            [str(tmp_path / "model.pb"), str(film), str(output), "--json", str(tmp_path / "a.json"), *flags]
        )
        with video.VideoReader(output) as reader:
            return [image for image, _ in reader], json.loads((tmp_path / "a.json").read_text())

    return run


def places(timeline):
    """The left edge of the car in each frame, None where it is not."""
    return [frame["detections"][0]["box"][0] if frame["detections"] else None for frame in timeline["frames"]]


def test_the_json_has_identities_and_tracks(call, finder):
    finder.missing, finder.low = (8, 9), (3, 4)
    _, timeline = call("--track")
    assert finder.threshold == 0.2 and timeline["threshold"] == 0.5
    assert len(timeline["frames"]) == 20
    for index, frame in enumerate(timeline["frames"]):
        assert frame["index"] == index and not frame["carried"]
        [one] = frame["detections"]
        assert (one["class"], one["track"], one["carried"]) == ("car", 1, index in finder.missing)
        assert one["box"] == pytest.approx(box_of(index), abs=6)
    assert timeline["frames"][3]["detections"][0]["score"] == pytest.approx(0.3)
    [track] = timeline["tracks"]
    assert track.pop("best_score") == pytest.approx(0.819) and track.pop("best_frame") == 19
    assert (track.pop("last_time"), track.pop("frames_seen")) == (19 / 25, 18)
    assert track == {"id": 1, "class": "car", "first_frame": 0, "last_frame": 19, "first_time": 0.0}
    assert list(timeline["timing"]) == ["decode", "network", "tracking", "drawing", "encoding", "end_to_end"]


def test_without_the_flag_nothing_changes(call, finder):
    finder.low = (3,)
    _, timeline = call()
    assert finder.threshold == 0.5 and "tracks" not in timeline
    assert all(set(one) == {"class", "score", "box"} for frame in timeline["frames"] for one in frame["detections"])


def test_every_moves_boxes_between_runs_of_the_network(call, capsys):
    _, timeline = call("--track", "--every", "4")
    assert [frame["carried"] for frame in timeline["frames"]] == [index % 4 > 0 for index in range(20)]
    assert places(timeline)[:17] == pytest.approx([box_of(index)[0] for index in range(17)], abs=6)
    assert (np.diff(places(timeline)) > 1).all()
    assert "the boxes of the frame before" not in capsys.readouterr().out


def test_a_live_picture_does_not_wait(call, finder, monkeypatch):
    class Live(video.VideoReader):
        def __init__(self, source, *arguments):
            super().__init__(source, *arguments)
            self.live = True

    monkeypatch.setattr(process_video.video, "VideoReader", Live)
    finder.missing = (17, 18, 19)
    held = []
    original = frames.held_back
    monkeypatch.setattr(
        frames, "held_back", lambda *given, **named: held.append(given[1:]) or original(*given, **named)
    )
    _, timeline = call("--track")
    assert held == [(0, True)] and None not in places(timeline)


def test_the_trail_is_where_the_car_was(call):
    (*_, drawn), timeline = call("--track")
    left, top, _, bottom = timeline["frames"][-1]["detections"][0]["box"]
    before = drawn[round((top + bottom) / 2) - 2 : round((top + bottom) / 2) + 3, round(left) - 20 : round(left) - 10]
    beside = drawn[round(top) + 2 : round(top) + 12, round(left) - 20 : round(left) - 10]
    assert np.ptp(before.astype(int), axis=2).max() > 60 and np.ptp(beside.astype(int), axis=2).max() < 20


@pytest.mark.parametrize("rate", [4, 25, 60])
def test_a_trail_is_the_way_of_the_last_second_in_few_parts(rate):
    picture, found = np.zeros((100, 400, 3), np.uint8), following.Following(["car"], 0.5)
    for index in range(3 * rate):
        left = 100 * index / rate
        box = np.array([[left, 20, left + 40, 60]], np.float32)
        one = Detections(box, np.array([0.9], np.float32), np.zeros(1, np.int32))
        time = index / rate
        shown = found.show(index, time, picture, found.update(time, one, picture))
        (trail,), center = shown.trails, shown.detections.boxes_px[0, [0, 2]].mean()
        np.testing.assert_allclose(trail[-1], [center, 40], atol=0.5)
        parts, length = np.diff(trail[:, 0]), min(time, following.TRAIL)
        assert (parts > 0).all() and len(parts) <= following.TRAIL / following.TRAIL_PART + 1
        # It began at most a part ago less than a second ago
        assert 100 * (length - following.TRAIL_PART - 1 / rate) - 5 < parts.sum() < 100 * length + 5


def test_drawing_a_track():
    plain = np.full((240, 320, 3), 90, np.uint8)
    found = Detections(np.array([[150, 80, 220, 160]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int32))
    trail = [np.array([[20.0, 120], [100, 120], [185, 120]])]
    drawn = visualization.draw_tracks(plain, found, [12], trail, ["car"], [False])
    color = class_colors(["car"])[0]
    widths = [(np.abs(drawn[100:140, x].astype(int) - color).max(axis=1) < 20).sum() for x in (60, 140)]
    assert 1 <= widths[0] <= widths[1] and (plain == 90).all()
    none = visualization.draw_tracks(plain, found, [12], [np.zeros((0, 2))], ["car"], [False])
    boxes_only = visualization.draw_detections(plain, found, ["car"])
    assert (none[100:, :] == boxes_only[100:, :]).all() and (none != boxes_only).any()  # the label has the identity
    single = visualization.draw_tracks(plain, found, [12], [trail[0][:1]], ["car"], [False])
    assert (single == none).all()
    guessed = visualization.draw_tracks(plain, found, [12], [np.zeros((0, 2))], ["car"], [True])
    assert (guessed != none).any()  # without a score


def test_crops_are_of_the_best_score(call, tmp_path):
    folder = tmp_path / "crops"
    _, timeline = call("--track-crops", str(folder))
    [track] = timeline["tracks"]
    assert track["crop"] == str(folder / "1.jpg")
    crop = images.read(track["crop"])
    assert abs(crop.shape[0] - 60) <= 2 and abs(crop.shape[1] - 60) <= 2
    assert abs(crop.mean() - 5 * track["best_frame"]) < 3 and np.ptp(crop) < 12  # nothing is drawn in it


def test_several_films_have_crops_and_files_of_their_own(call, tmp_path):
    (tmp_path / "other.mp4").write_bytes((tmp_path / "film.mp4").read_bytes())
    films = [str(tmp_path / name) for name in ("film.mp4", "other.mp4")]
    output = str(tmp_path / "out")
    flags = ["--json", output, "--track-crops", str(tmp_path / "crops"), "--max-frames", "5"]
    process_video.main([str(tmp_path / "model.pb"), *films, output, *flags])
    found = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "crops").rglob("*.jpg"))
    assert found == ["crops/film/1.jpg", "crops/other/1.jpg"]
    with pytest.raises(UserError, match=r"--score-tracks .*one video"):
        process_video.main([str(tmp_path / "model.pb"), *films, output, "--score-tracks", write_truth(tmp_path)])


def write_truth(folder, names=("car",)):
    path = str(folder / "film.gt.txt")
    mot_file.write(path, [mot_file.objects([5], [0], [box_of(index)], [True]) for index in range(20)], names)
    return path


def test_tracks_are_scored(call, tmp_path, capsys):
    path = write_truth(tmp_path)
    _, timeline = call("--score-tracks", path)
    scores = timeline["track_scores"]
    assert (scores["truth"], scores["boxes"], scores["mota"], scores["idf1"]) == (path, 20, 1, 1)
    assert 0.7 < scores["hota"] <= 1 and scores["per_class"]["car"]["hota"] == scores["hota"]
    assert "0 changes of identity for 1 object" in capsys.readouterr().out
    _, timeline = call("--score-tracks", path, "--max-frames", "7")
    assert timeline["track_scores"]["boxes"] == 7


def test_frames_that_are_missing_leave_tracks_without_scores(call, tmp_path):
    """The lines of the truth after them would be compared with other frames than their own."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(20):
        images.write(folder / f"{index}.png", np.full((HEIGHT, WIDTH, 3), 5 * index, np.uint8))
    (folder / "4.png").write_bytes(b"no picture")
    words = [str(tmp_path / "model.pb"), str(folder), str(tmp_path / "out.mp4"), "--json", str(tmp_path / "out.json")]
    with pytest.raises(
        UserError, match=r"1 picture left out, .*4\.png.*; tracks are scored only where no frame is missing$"
    ):
        process_video.main([*words, "--score-tracks", write_truth(tmp_path)])
    timeline = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert "track_scores" not in timeline and timeline["tracks"][0]["last_frame"] == 19


def test_a_file_that_is_no_truth_is_refused_by_its_flag(tmp_path):
    (tmp_path / "gt.txt").write_bytes(b"\xff\xd8")
    for path, named in ((tmp_path / "gt.txt", r"gt\.txt, line 1: not UTF-8"), (ROOT / "README.md", r"README\.md:\d: ")):
        with pytest.raises(UserError, match=f"^--score-tracks: .*{named}"):
            process_video.main(["model.pb", "film.mp4", tmp_path / "out.mp4", "--score-tracks", path])


def test_a_truth_of_other_classes_is_refused(call, tmp_path):
    with pytest.raises(UserError, match=r"film\.gt\.txt: has the classes tram.*labels\.txt"):
        call("--score-tracks", write_truth(tmp_path, ["tram"]))
    with pytest.raises(UserError, match="none is detected"):
        call("--score-tracks", write_truth(tmp_path), "--classes", "bus")


def test_each_class_has_its_threshold(call, finder):
    call("--track", "--threshold", "car=0.05,bus=0.7")
    assert finder.threshold == (0.05, 0.2)
    finder.low = tuple(range(20))
    _, timeline = call("--track", "--threshold", "car=0.1,bus=0.7")
    assert timeline["thresholds"] == {"car": 0.1, "bus": 0.7} and len(timeline["tracks"]) == 1


@pytest.fixture
def zone(tmp_path):
    """A file with a zone that the car comes into in frame 10, by the middle of its box's lower edge."""
    (tmp_path / "zones.json").write_text('{"yard": [[90, 100], [300, 100], [300, 140], [90, 140]]}')
    return str(tmp_path / "zones.json")


def test_lines_and_zones_are_counted(call, tmp_path, zone, capsys):
    table = tmp_path / "counts.csv"
    flags = ["--line", "gate=100,20,100,200", "--line", "0.4,0.9,0.4,0.1", "--zone", zone, "--csv", str(table)]
    frames, timeline = call(*flags)
    gate, other = timeline["counts"]["lines"]
    assert (gate["in"], gate["out"], other["in"], other["out"]) == ({}, {"car": 1}, {}, {})
    assert [one["track"] for one in gate["crossings"]] == [1] and abs(gate["crossings"][0]["frame"] - 13) <= 1
    (yard,) = timeline["counts"]["zones"]
    assert (yard["in"], yard["out"], yard["seen"]) == ({"car": 1}, {}, {"car": 1})
    assert yard["dwell"]["car"]["longest"] == pytest.approx(9 / 25, abs=2 / 25)
    assert table.read_text() == (
        "kind,name,class,in,out,seen,mean_seconds,median_seconds,longest_seconds\n"
        "line,gate,car,0,1,,,,\n"
        "line,line 2,car,0,0,,,,\n" + "zone,yard,car,1,0,1,{mean},{median},{longest}\n".format(**yard["dwell"]["car"])
    )
    said = capsys.readouterr().out
    assert "gate: 0 in, 1 out (car 1)" in said and "yard: 1 visit, 0.3 s each, 1 in (car 1), 0 out" in said
    assert frames[10][60:90, 98:103].max() > 180  # the line is drawn


def test_the_same_command_replaces_what_it_wrote(call, tmp_path, zone):
    written = [tmp_path / "counts.csv", tmp_path / "when.png"]
    flags = ["--zone", zone, "--csv", str(written[0]), "--timeline", str(written[1])]
    call(*flags)
    first = [path.read_bytes() for path in written]
    for path in written:
        path.write_bytes(path.read_bytes()[:20])
    call(*flags)
    assert [path.read_bytes() for path in written] == first


def test_counts_agree_with_the_boxes_in_the_json(call):
    """The slow way: on which side of the line the middle of the lower edge is in each frame."""
    _, timeline = call("--line", "70,10,110,230")
    feet = [((a + c) / 2, d) for frame in timeline["frames"] for a, _, c, d in [frame["detections"][0]["box"]]]
    sides = [(110 - 70) * (y - 10) - (230 - 10) * (x - 70) >= 0 for x, y in feet]
    (line,) = timeline["counts"]["lines"]
    assert line["out"] == {"car": 1} and sides == [True] * sides.index(False) + [False] * (20 - sides.index(False))
    assert line["crossings"][0]["frame"] == sides.index(False)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--line", "10,10,400,10"], r"--line 10,10,400,10: reaches out .*320×240"),
        (["--csv", "a.csv"], r"--csv a\.csv: .*--line or --zone"),
        (["--blur", "tram"], r"--blur tram: the model has car, bus"),
        (["--line", "a=1,1,2,2", "--line", "a=3,3,4,4"], "'a'"),
    ],
)
def test_wrong_places(call, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        call(*flags)
    assert not (tmp_path / "out.mp4").exists()


def test_a_picture_of_when_tracks_were_there(call, tmp_path):
    call("--timeline", str(tmp_path / "when.png"))
    picture = images.read(tmp_path / "when.png")
    color = class_colors(Finder.class_names)[0]
    bar = (np.abs(picture.astype(int) - color).max(axis=2) < 4).sum(axis=0)
    assert (bar > 0).mean() > 0.6  # the car is there from the first to the last second


def test_tracks_share_a_row_where_they_do_not_overlap():
    rng = np.random.default_rng(0)
    first = rng.uniform(0, 100, 60)
    spans = list(zip(first.tolist(), (first + rng.uniform(0, 20, 60)).tolist(), strict=True))
    rows = track_chart.lanes(spans)
    assert sorted(span for row in rows for span in row) == sorted(spans)
    assert all(one[1] < other[0] for row in rows for one, other in itertools.pairwise(row))
    assert len(rows) == max(sum(a <= time <= b for a, b in spans) for time in first)  # as many as there are at once


@pytest.mark.parametrize("flags", [[], ["--track"]])
def test_the_legend(call, flags, monkeypatch):
    lines = []
    monkeypatch.setattr(
        visualization, "_legend", lambda given, size: lines.append(given) or np.zeros((0, 0, 3), np.uint8)
    )
    call("--legend", *flags)
    assert [text for text, _ in lines[12]][1:] == ["car 1, 1 so far" if flags else "car 1"]
    assert lines[12][0][0].startswith("0:00.5, ") and lines[12][0][0].endswith(" frames/s")


@pytest.fixture
def textured(tmp_path):
    """Frames of stripes, whose lower part has the gray level of the frame, which Finder reads."""
    path = tmp_path / "film.mp4"
    stripes = np.where(np.arange(WIDTH) // 4 % 2, 200, 60).astype(np.uint8)

    def write():
        with video.VideoWriter(path, WIDTH, HEIGHT, 25) as writer:
            for index in range(20):
                frame = np.repeat(np.broadcast_to(stripes, (HEIGHT, WIDTH))[..., None], 3, axis=2).copy()
                frame[195:] = 5 * index
                writer.write(frame)

    return write


def stripes(frame, index):
    """How much of the stripes is seen inside the car's box, and far from it."""
    x0, y0, x1, y1 = (round(edge) for edge in box_of(index))
    return [
        frame[rows, columns, 1].std(axis=1).mean()
        for rows, columns in ((slice(y0 + 15, y1 - 15), slice(x0 + 15, x1 - 15)), (slice(130, 180), slice(200, 300)))
    ]


def test_blurred_classes_are_unrecognizable_everywhere(call, finder, textured, tmp_path):
    """In gaps, with low scores, and where the class is not shown."""
    textured()
    finder.missing, finder.low = (8, 9), (3,)
    plain, _ = call("--track")
    hidden, timeline = call("--blur", "car", "--track-crops", str(tmp_path / "crops"))
    assert len(timeline["tracks"]) == 1
    for index in range(20):
        inside, outside = stripes(hidden[index], index)
        assert inside < 25 < 50 < outside and stripes(plain[index], index)[0] > 50, index
    assert images.read(tmp_path / "crops" / "1.jpg")[20:40, 20:40].std() < 25
    unseen, timeline = call("--blur", "car", "--classes", "bus")
    assert not timeline["tracks"] and not any(frame["detections"] for frame in timeline["frames"])
    assert all(stripes(unseen[index], index)[0] < 25 for index in range(20))


@pytest.mark.parametrize("most", [64, 4])
def test_gaps_are_hidden_where_too_few_frames_can_wait_for_their_end(call, finder, textured, monkeypatch, most):
    """As at 240 frames a second: 64 of them are less than half a second."""
    textured()
    monkeypatch.setattr(following, "MOST_HELD", most)
    finder.missing = tuple(range(8, 16))
    hidden, _ = call("--blur", "car")
    assert all(stripes(hidden[index], index)[0] < 25 for index in range(20))


def test_what_turns_out_to_be_of_a_blurred_class_is_hidden_from_its_start(call, finder, textured, monkeypatch):
    """Three frames take a car for a bus. A film in which cars are hidden waits until it is known to be one."""
    textured()
    original = finder.find

    def find(index):
        found = original(index)
        return found if index >= 3 else dataclasses.replace(found, labels=np.ones(1, np.int32))

    monkeypatch.setattr(finder, "find", find)
    hidden, timeline = call("--track", "--blur", "car")
    assert len(timeline["tracks"]) == 1
    assert all(stripes(hidden[index], index)[0] < 25 for index in range(20))


def test_events_are_filmed_and_no_film_is_written(call, tmp_path, finder):
    (tmp_path / "out.mp4").write_bytes((tmp_path / "film.mp4").read_bytes())
    before = (tmp_path / "out.mp4").read_bytes()
    process_video.main(
        [str(tmp_path / "model.pb"), str(tmp_path / "film.mp4"), "-", "--events", str(tmp_path / "seen")]
    )
    assert (tmp_path / "out.mp4").read_bytes() == before and not (tmp_path / "-").exists()
    [line] = [json.loads(text) for text in (tmp_path / "seen" / "events.jsonl").read_text().splitlines()]
    assert (line["class"], line["track"], line["frame"]) == ("car", 1, 0)
    with video.VideoReader(line["clip"]) as reader:
        drawn = [image for image, _ in reader]
    color = class_colors(Finder.class_names)[0]
    assert len(drawn) == 20 and (np.abs(drawn[5].astype(int) - color).max(axis=2) < 60).any()


def test_the_page_is_served_meanwhile(call, finder, monkeypatch, capsys):
    """What is not ticked is not drawn, but stays in the JSON."""
    pages = []

    class Page(process_video.Page):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.shown = 0
            pages.append(self)
            self.tick("car", False)

        def add(self, frame):
            super().add(frame)
            self.shown += 1

    monkeypatch.setattr(process_video, "Page", Page)
    frames, timeline = call("--track", "--serve", "0")
    assert "http://127.0.0.1:" in capsys.readouterr().out and pages[0].shown == 20
    assert all(np.ptp(frame.astype(int), axis=2).max() < 20 for frame in frames)
    assert all(len(frame["detections"]) == 1 for frame in timeline["frames"])
    with pytest.raises(OSError):
        urllib.request.urlopen(pages[0].address, timeout=5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--live"], r"--live: .*film\.mp4 is a video file"),
        (["--serve", "80000"], "--serve: '80000' is not PORT"),
        (["--patience", "-1"], "--patience: '-1'"),
    ],
)
def test_wrong_flags_of_live_pictures(call, flags, message):
    with pytest.raises(UserError, match=message):
        call(*flags)


@pytest.fixture
def cameras(tmp_path, monkeypatch):
    """Addresses that play the film of `call`, and end."""

    class Camera(video.VideoReader):
        def __init__(self, source, *arguments):
            super().__init__(tmp_path / "film.mp4", *arguments)
            self.source, self.live = source, True

    monkeypatch.setattr(process_video.video, "VideoReader", Camera)
    return ["rtsp://me:secret@one/front", "rtsp://two"]


def test_several_cameras_share_the_network(call, finder, cameras, tmp_path, monkeypatch, capsys):
    batches, meeting = [], threading.Barrier(2, timeout=10)
    original = Finder.detect_prepared

    def detect(self, batch, sizes):
        batches.append(len(batch))
        return original(self, batch, sizes)

    monkeypatch.setattr(sharing, "GATHER", 1.0)

    class Shared(process_video.SharedDetector):
        def detect_prepared(self, batch, sizes):
            with contextlib.suppress(threading.BrokenBarrierError):
                meeting.wait()  # both ask at the same time
            return super().detect_prepared(batch, sizes)

    monkeypatch.setattr(Finder, "detect_prepared", detect)
    monkeypatch.setattr(process_video, "SharedDetector", Shared)
    output = tmp_path / "out"
    arguments = [str(tmp_path / "model.pb"), *cameras, str(output), "--track", "--json", str(output), "--patience", "0"]
    with pytest.raises(UserError, match=r"rtsp://two.*: not processed, or not to the end"):
        process_video.main(arguments)
    said = capsys.readouterr().out
    assert f"{output}/two.mp4: is written as {output}/two.unfinished.mp4 first" in said
    assert sum(batches[1:]) == 40 and max(batches) == 2  # after the one that warms the network up
    for name in ("one_front", "two"):
        timeline = json.loads((output / f"{name}.json").read_text())
        assert len(timeline["frames"]) == 20 and timeline["live"]["interruptions"] == 0
        assert places(timeline) == pytest.approx([box_of(index)[0] for index in range(20)], abs=6)
        with video.VideoReader(output / f"{name}.mp4") as reader:
            assert len(list(reader)) == 20
