"""Cameras and streams: what comes faster than it is read, what drops out and comes back; over a socket and without."""

import itertools
import socket
import threading
import time

import numpy as np
import pytest
import tqdm

from media import live, video
from structures import UserError


class Source:
    """In the place of video.VideoReader: each opening plays the next of `plays`, lists of (gray level, seconds).

    An exception in the place of a list is raised by opening.
    """

    plays: tuple | list = ()
    opened_alone: tuple | list = ()  # what each was told
    width, height, rate, pixel_aspect, streams, live, stream = 64, 48, 25, 1, 1, True, 1

    def __init__(self, source="rtsp://camera", stream=1, alone=False):
        self.source = self.name = source
        self.alone, self.error, self.closed = alone, None, False
        Source.opened_alone.append(alone)
        self.play = self.plays.pop(0)
        if isinstance(self.play, Exception):
            raise self.play

    def __iter__(self):
        for level, seconds in self.play:
            yield np.full((48, 64, 3), level, np.uint8), seconds
        self.error = f"{self.source}: reading ended early"

    def close(self):
        self.closed = True


@pytest.fixture
def opened(monkeypatch):
    """Makes a LiveReader of the given plays, with short pauses."""
    monkeypatch.setattr(live, "VideoReader", Source)
    monkeypatch.setattr(live, "POLL", 0.005)
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.02)

    def make(*plays, newest=False, patience=60.0, stopped=lambda: False, alone=False):
        Source.plays, Source.opened_alone = list(plays), []
        return live.LiveReader(Source(alone=alone), newest, patience, stopped)

    return make


def levels(frames):
    return [int(image[0, 0, 0]) for image, _ in frames]


def numbered(first, count, start=0.0):
    return [(first + index, start + index / 25) for index in range(count)]


def test_a_source_that_drops_out_goes_on(opened, capsys):
    lost = UserError("rtsp://camera: cannot be opened")
    reader = opened(numbered(1, 3), lost, lost, numbered(10, 2, start=700.0), alone=True)
    begun = time.monotonic()
    frames = list(itertools.islice(reader, 5))
    assert levels(frames) == [1, 2, 3, 10, 11]
    times = [seconds for _, seconds in frames]
    assert times[:3] == [0, 1 / 25, 2 / 25] and times[4] - times[3] == pytest.approx(1 / 25)
    away = 0.02 + 0.04 + 0.08
    assert away <= times[3] <= time.monotonic() - begun  # as much passed as on a clock
    assert (reader.interruptions, reader.error) == (1, None) and reader.seconds_lost >= away
    said = capsys.readouterr().err
    assert said.count("rtsp://camera: no picture (reading ended early); trying again") == 1
    assert said.count("rtsp://camera: back after 0 seconds") == 1
    assert Source.opened_alone == [True] * 4  # --within-data holds for each opening


def test_warnings_do_not_stand_behind_the_progress_bar(opened, capsys):
    with tqdm.tqdm(opened(numbered(1, 1), numbered(2, 1)), mininterval=0) as bar:
        assert levels(itertools.islice(bar, 2)) == [1, 2]
    said = capsys.readouterr().err
    for words in ("no picture", "back after"):
        assert said[said.index(f"warning: rtsp://camera: {words}") - 1] in "\r\n"


@pytest.mark.parametrize("newest", [False, True])
def test_it_is_said_while_a_source_is_away(opened, newest):
    seen = []
    reader = opened(numbered(1, 1), UserError("x"), numbered(2, 1), *[UserError("x")] * 99, patience=0.2, newest=newest)
    reader.away = seen.append
    assert levels(reader) == [1, 2]
    assert seen == [True, False, True, False]


def test_pauses_grow(opened, monkeypatch):
    pauses = []
    monkeypatch.setattr(live.LiveReader, "_wait", lambda self, seconds: pauses.append(seconds))
    monkeypatch.setattr(live, "LONGEST_PAUSE", 0.1)
    lost = UserError("x")
    assert levels(itertools.islice(opened(numbered(1, 1), *[lost] * 5, numbered(2, 1)), 2)) == [1, 2]
    assert pauses == [0.02, 0.04, 0.08, 0.1, 0.1, 0.1]


def test_patience_ends(opened):
    reader = opened(numbered(1, 1), *[UserError("x")] * 99, patience=0.2)
    assert levels(reader) == [1]
    assert reader.error == "rtsp://camera: gave no picture for 0.2 seconds" and reader.interruptions == 0


def test_a_stop_ends_the_waiting(opened, monkeypatch):
    monkeypatch.setattr(live, "FIRST_PAUSE", 30.0)
    begun = time.monotonic()
    stop = threading.Event()
    reader = opened(numbered(1, 1), stopped=stop.is_set)
    threading.Timer(0.1, stop.set).start()
    assert levels(reader) == [1] and reader.error is None and time.monotonic() - begun < 20


@pytest.mark.parametrize("newest", [False, True])
def test_the_newest_frame_is_read(opened, newest):
    """A source that gives a frame as soon as it may, and a reader that takes its time."""
    go_on = threading.Semaphore(1)

    def frames():
        for index in range(1, 31):
            go_on.acquire()
            yield index, index / 25

    reader, seen = opened(frames(), newest=newest, patience=0), []
    for image, _ in reader:
        seen.append(int(image[0, 0, 0]))
        if newest:  # three come while this one is processed
            for _ in range(3):
                go_on.release()
            until = time.monotonic() + 20
            while reader.dropped + len(seen) < min(3 * len(seen), 29) and time.monotonic() < until:
                time.sleep(0.001)
        else:
            go_on.release()
    if newest:
        assert len(seen) + reader.dropped == 30 and reader.dropped >= 15 and seen == sorted(set(seen))
    else:
        assert seen == list(range(1, 31)) and reader.dropped == 0


def test_delays_are_those_since_a_frame_came(opened):
    reader = opened([(1, 0.0)], newest=True, patience=0)
    [(_, seconds)] = reader
    time.sleep(0.05)
    reader.shown(seconds)
    facts = reader.facts()
    assert 0.05 <= facts["mean_delay"] == facts["longest_delay"] < 5
    assert "mean_delay" not in opened([(1, 0.0)]).facts()


def test_frames_of_another_size_are_fitted(opened, monkeypatch):
    reader = opened(numbered(1, 1))
    assert reader._fitted(np.full((96, 128, 3), 7, np.uint8)).shape == (48, 64, 3)


def test_an_error_of_the_source_reaches_the_reader(opened):
    def frames():
        yield 1, 0.0
        raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        list(opened(frames(), newest=True))


class Sender:
    """Sends an MPEG transport stream to whoever connects, up to `limit` bytes a connection."""

    def __init__(self, content, limit):
        self.content, self.limit, self.connections = content, limit, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:  # closed
                return
            self.connections += 1
            with connection:
                connection.sendall(self.content[: self.limit])

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(10)


@pytest.fixture
def sender(tmp_path):
    import av

    path = tmp_path / "film.ts"
    with av.open(str(path), "w", format="mpegts") as output:
        stream = output.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(25):
            picture = np.full((48, 64, 3), 10 * index % 250, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    one = Sender(path.read_bytes(), path.stat().st_size)
    yield one
    one.close()


def test_a_stream_over_a_socket_comes_back(sender, monkeypatch):
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.05)
    first = video.VideoReader(sender.address)
    assert first.live
    with live.LiveReader(first, False, 60.0, lambda: False) as reader:
        frames = list(itertools.islice(reader, 60))
    times = np.array([seconds for _, seconds in frames])
    assert len(frames) == 60 and reader.interruptions == 2 and sender.connections == 3
    assert (np.diff(times) > 0).all()
