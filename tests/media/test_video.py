"""Video: frames, times and sound survive writing, damage is reported, and a killed run leaves a video that plays."""

import contextlib
import http.server
import itertools
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from media import video
from structures import UserError
from system import atomic

ROOT = Path(__file__).parents[2]
DASHCAM = ROOT.parent / "shared" / "data" / "dashcam.mp4"


def frame(index, width=64, height=48):
    """A picture of smooth colors (they survive chroma subsampling), different for each index."""
    y, x = np.mgrid[:height, :width]
    channels = 255 * x / width, 255 * y / height, np.full(x.shape, 40 + 10 * index % 200)
    return np.stack(channels, axis=-1).astype(np.uint8)


def write(path, count=10, width=64, height=48, rate=Fraction(25), times=None, **kwargs):
    with video.VideoWriter(path, width, height, rate, **kwargs) as writer:
        for index in range(count):
            writer.write(frame(index, width, height), times[index] if times else None)
    return writer


def read(path):
    with video.VideoReader(path) as reader:
        frames, times = zip(*reader, strict=True)
    return reader, frames, times


def with_sound(path, codec, container, seconds=2, start=0, rate=48000, layout="stereo", shown=None):
    """Write a video at 25/s from `start` seconds on, with sound: a tone of `rate` samples/s after half a second.

    shown: seconds of the picture, if it is shorter than the sound.
    """
    with av.open(str(path), "w", format=container) as output:
        picture_stream = output.add_stream("mpeg4", rate=25)
        picture_stream.width, picture_stream.height, picture_stream.pix_fmt = 64, 48, "yuv420p"
        sound_stream = output.add_stream(codec, rate=rate, layout=layout)
        if codec.startswith("wma"):  # which has no bit rate of its own
            sound_stream.codec_context.bit_rate = 128_000
        for index in range(25 * seconds):
            if index < 25 * (seconds if shown is None else shown):
                picture = av.VideoFrame.from_ndarray(frame(index), format="rgb24")
                picture.pts, picture.time_base = 25 * start + index, Fraction(1, 25)
                output.mux(picture_stream.encode(picture))
            at = np.arange(1920) + 1920 * index
            wave = (np.sin(at * 0.1) * (at >= 24000)).astype(np.float32)
            sound = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
            sound.sample_rate, sound.time_base = 48000, Fraction(1, 48000)
            sound.pts = 48000 * start + 1920 * index
            output.mux(sound_stream.encode(sound))
        output.mux(picture_stream.encode(None))
        output.mux(sound_stream.encode(None))


def sound_onset(path):
    """Seconds from the start of the file to the tone."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="mono")
        for decoded in container.decode(audio=0):
            for sound in resampler.resample(decoded):
                loud = np.flatnonzero(np.abs(sound.to_ndarray()[0]) > 0.3)
                if loud.size:
                    start = (container.start_time or 0) / av.time_base
                    return sound.time + loud[0] / sound.sample_rate - start
    return None


def turn(path, a, b, c, d):
    """Overwrite the display matrix of the first track of an MP4."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60)])
def test_count_rate_size_and_times_come_back(tmp_path, rate):
    writer = write(tmp_path / "a.mp4", 12, rate=rate)
    reader, frames, times = read(tmp_path / "a.mp4")
    assert writer.frames == reader.frame_count == len(frames) == 12
    assert (reader.width, reader.height, reader.rate) == (64, 48, rate)
    assert writer.padding == (0, 0) and writer.audio is None and reader.error is None and not reader.live
    rounding = 0.51 / 90_000 if av.__version__ == "17.0.0" else 1e-6  # which keeps no finer times
    np.testing.assert_allclose(times, np.arange(12) / float(rate), atol=rounding)
    assert reader.duration == pytest.approx(12 / float(rate), abs=1e-3)
    assert frames[0].dtype == np.uint8 and frames[0].shape == (48, 64, 3)


def test_a_stream_of_several_is_chosen(tmp_path):
    """As of a dashcam with a front and a rear camera: a dark and a bright stream of two sizes."""
    with av.open(str(tmp_path / "dual.mp4"), "w") as output:
        streams = [output.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, width in zip(streams, (64, 32), strict=True):
            stream.width, stream.height, stream.pix_fmt = width, 48, "yuv420p"
        for index in range(4):
            for stream, level in zip(streams, (40, 200), strict=True):
                picture = av.VideoFrame.from_ndarray(np.full((48, stream.width, 3), level, np.uint8), format="rgb24")
                picture.pts = index
                output.mux(stream.encode(picture))
        for stream in streams:
            output.mux(stream.encode(None))
    for number, width, level in ((1, 64, 40), (2, 32, 200)):
        with video.VideoReader(tmp_path / "dual.mp4", number) as reader:
            assert (reader.streams, reader.width) == (2, width)
            frames = [image for image, _ in reader]
        assert len(frames) == 4 and abs(int(frames[0].mean()) - level) < 6
    with pytest.raises(UserError, match=r"no video stream 3 .* it has 2"):
        video.VideoReader(tmp_path / "dual.mp4", 3)


def test_a_name_as_long_as_names_can_be(tmp_path):
    writer = write(tmp_path / f"{251 * 'a'}.mp4")
    assert writer.faststart


@pytest.mark.parametrize("height", [48, 720])  # players assume another color matrix from 720 on
def test_colors_come_back(tmp_path, height):
    write(tmp_path / "a.mp4", 2, height=height)
    _, frames, _ = read(tmp_path / "a.mp4")
    for index, got in enumerate(frames):
        error = np.abs(got.astype(int) - frame(index, 64, height)).mean(axis=(0, 1))
        assert (error < 3).all(), error
    stream = av.open(str(tmp_path / "a.mp4")).streams.video[0].codec_context
    assert (stream.colorspace, stream.color_primaries, stream.color_trc, stream.color_range) == (1, 1, 1, 1)
    assert stream.pix_fmt == "yuv420p" and stream.name == "h264"


def test_untagged_high_definition_is_read_as_bt709(tmp_path):
    path, color = str(tmp_path / "a.mp4"), np.array([200, 60, 60], np.uint8)
    with av.open(path, "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 720, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.tile(color, (720, 64, 1)), format="rgb24")
        output.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace="ITU709")))
        output.mux(stream.encode(None))
    assert av.open(path).streams.video[0].codec_context.colorspace == video.UNSPECIFIED
    _, frames, _ = read(path)
    assert np.abs(frames[0].astype(int) - color).max() < 6


def test_variable_rate_keeps_its_times(tmp_path):
    times = [0.0, 0.04, 0.1, 0.9, 1.0, 1.5]
    write(tmp_path / "a.mp4", 6, times=times)
    _, _, got = read(tmp_path / "a.mp4")
    np.testing.assert_allclose(got, times, atol=1e-5)


def test_times_that_do_not_rise_are_moved_on(tmp_path):
    write(tmp_path / "a.mp4", 4, times=[0.0, 0.04, 0.04, 0.02])
    _, _, got = read(tmp_path / "a.mp4")
    assert len(got) == 4 and (np.diff(got) > 0).all()
    assert got[3] == pytest.approx(0.04, abs=1e-3)


def test_odd_sides_are_padded_and_reported(tmp_path):
    writer = write(tmp_path / "a.mp4", 3, width=63, height=47)
    reader, frames, _ = read(tmp_path / "a.mp4")
    assert writer.padding == (1, 1) and (reader.width, reader.height) == (64, 48)
    assert np.abs(frames[0][:47, :63].astype(int) - frame(0, 63, 47)).mean() < 3
    assert np.abs(frames[0][:, 63].astype(int) - frames[0][:, 62]).mean() < 6  # the edge goes on


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # a phone held upright
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),  # a front camera's mirror
    ],
)
def test_display_matrix_turns_the_frames(tmp_path, matrix, expected):
    path = tmp_path / "a.mp4"
    write(path, 2)
    _, straight, _ = read(path)
    turn(path, *matrix)
    reader, turned, _ = read(path)
    np.testing.assert_array_equal(turned[1], expected(straight[1]))
    assert (reader.height, reader.width) == turned[1].shape[:2]


def test_pixel_aspect_is_kept_and_turned(tmp_path):
    path = tmp_path / "a.mp4"
    write(path, 2, pixel_aspect=Fraction(4, 3))
    assert read(path)[0].pixel_aspect == Fraction(4, 3)
    turn(path, 0, 1, -1, 0)
    assert read(path)[0].pixel_aspect == Fraction(3, 4)


@pytest.mark.parametrize(
    ("name", "container", "codec", "start", "report"),
    [
        ("a.mp4", "mp4", "aac", 0, "aac, copied"),
        ("a.mp4", "mp4", "libmp3lame", 0, "mp3, copied"),
        ("a.mkv", "matroska", "aac", 7, "aac, copied"),
        ("a.mkv", "matroska", "ac3", 7, "ac3, transcoded to aac"),
        ("a.ts", "mpegts", "aac", 0, "aac, transcoded to aac"),
    ],
)
def test_sound_is_kept_in_step(tmp_path, name, container, codec, start, report):
    with_sound(tmp_path / name, codec, container, start=start)
    with (
        video.VideoReader(tmp_path / name) as reader,
        video.VideoWriter(tmp_path / "b.mp4", 64, 48, reader.rate, audio_from=tmp_path / name) as writer,
    ):
        for picture, time in reader:
            if time < 1.5:
                writer.write(picture, time)
    assert writer.audio == report and writer.faststart
    assert sound_onset(tmp_path / "b.mp4") == pytest.approx(sound_onset(tmp_path / name), abs=0.002)
    streams = av.open(str(tmp_path / "b.mp4")).streams
    sound_seconds = float(streams.audio[0].duration * streams.audio[0].time_base)
    assert sound_seconds == pytest.approx(1.5, abs=0.08)  # cut to the picture


@pytest.mark.parametrize(("name", "rate"), [("a.avi", 11024), ("a.mov", 192000)])
def test_sound_at_a_rate_that_aac_lacks(tmp_path, name, rate):
    with_sound(tmp_path / name, "pcm_s16le", name[2:], rate=rate)
    writer = write(tmp_path / "b.mp4", audio_from=tmp_path / name, count=50)
    assert writer.audio == "pcm_s16le, transcoded to aac"
    assert av.open(str(tmp_path / "b.mp4")).streams.audio[0].rate == 48000
    assert sound_onset(tmp_path / "b.mp4") == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(("name", "container", "codec"), [("a.wmv", "asf", "wmav2"), ("a.avi", "avi", "wmav1")])
def test_sound_of_windows_media_is_kept_in_step(tmp_path, name, container, codec):
    """The last piece that its decoder gives has no time, and in an AVI the unit is as long as two of AAC's frames."""
    with_sound(tmp_path / name, codec, container)
    writer = write(tmp_path / "b.mp4", audio_from=tmp_path / name, count=50)
    assert writer.audio == f"{codec}, transcoded to aac" and writer.faststart
    assert sound_onset(tmp_path / "b.mp4") == pytest.approx(sound_onset(tmp_path / name), abs=0.005)
    stream = av.open(str(tmp_path / "b.mp4")).streams.audio[0]
    assert float(stream.duration * stream.time_base) == pytest.approx(2, abs=0.1)


def test_mp3_that_an_mp4_cannot_hold_is_transcoded(tmp_path):
    with_sound(tmp_path / "a.avi", "libmp3lame", "avi", rate=8000)
    writer = write(tmp_path / "b.mp4", audio_from=tmp_path / "a.avi", count=50)
    assert writer.audio == "mp3, transcoded to aac" and writer.faststart
    assert sound_onset(tmp_path / "b.mp4") == pytest.approx(sound_onset(tmp_path / "a.avi"), abs=0.05)


def joined(path, *parts):
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_times_of_joined_videos_keep_rising(tmp_path):
    """The clock restarts in the second part: all its frames could get the same time."""
    with_sound(tmp_path / "a.ts", "ac3", "mpegts")
    path = joined(tmp_path / "c.ts", tmp_path / "a.ts", tmp_path / "a.ts")
    _, frames, times = read(path)
    assert len(frames) == 100
    np.testing.assert_allclose(np.diff(times), 1 / 25, atol=1e-3)
    writer = write(tmp_path / "b.mp4", times=times, count=100, audio_from=path)
    assert writer.audio == "ac3, transcoded to aac, left out from where its times start again"
    assert read(tmp_path / "b.mp4")[2] == pytest.approx(times, abs=1e-3)


def times_of(stamps):
    clock = video._Clock(Fraction(1, 25))
    pairs = zip(stamps, [*stamps[1:], None], strict=True)
    return [float(clock.read(stamp, lambda after=after: after)) for stamp, after in pairs]


def test_one_wrong_stamp_moves_no_other():
    stamps = [100, 100.04, 0, 100.12, None, 100.2, 3, 3.04, 3.08]  # one is wrong; later the clock restarts
    times = [100, 100.04, 100.08, 100.12, 100.16, 100.2, 100.24, 100.28, 100.32]
    assert times_of(stamps) == pytest.approx(times)
    times = [0, 0.04, 0.08, 0.12, 0.16, 0.2]
    assert times_of([0, 0.04, 0.08, 3600, 0.16, 0.2]) == pytest.approx(times)
    assert times_of([3600, 0.04, 0.08, 0.12, 0.16, 0.2]) == pytest.approx(times)
    assert times_of([7, 7.04, 0, 0.04, 3600, 0.12]) == pytest.approx([7, 7.04, 7.08, 7.12, 7.16, 7.2])  # restarted


@pytest.mark.parametrize("stamps", [[0, 0.04, 9, 9.04, 9.08], [0, 0.04, 9], [100, 100.04], [0, 1.5, 3, 4.5]], ids=str)
def test_a_pause_is_no_wrong_stamp(stamps):
    assert times_of(stamps) == pytest.approx(stamps)


def test_a_reader_that_looks_ahead_gives_every_frame_in_order(tmp_path, monkeypatch):
    write(tmp_path / "a.mp4", count=12)
    _, frames, times = read(tmp_path / "a.mp4")
    stamp = video.VideoReader._stamp

    def one_is_wrong(self, picture):
        found = stamp(self, picture)
        return 3600 if found == pytest.approx(times[5]) or found == pytest.approx(times[11]) else found

    monkeypatch.setattr(video.VideoReader, "_stamp", one_is_wrong)
    _, found, shown = read(tmp_path / "a.mp4")
    assert shown == pytest.approx(times)
    assert all((one == other).all() for one, other in zip(found, frames, strict=True))


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("a.mkv", "mpeg4"), ("a.mp4", "libx264")])
@pytest.mark.parametrize("last", [0.44, 9.0])
def test_a_last_frame_after_a_pause_keeps_its_time(tmp_path, name, codec, last):
    """Also where B-frames are decoded after it: that MP4 ends before its last frame."""
    with av.open(str(tmp_path / name), "w") as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for at in [*range(11), round(25 * last)]:
            picture = av.VideoFrame.from_ndarray(frame(at), format="rgb24")
            picture.pts, picture.time_base = at, Fraction(1, 25)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    assert read(tmp_path / name)[2] == pytest.approx([*np.arange(11) / 25, last], abs=0.002)


def test_a_camera_does_not_wait_for_its_next_picture(tmp_path, monkeypatch):
    """One that declares 25 pictures a second, and sends one every two seconds."""
    write(tmp_path / "a.mp4", times=[0, 2, 4, 6], count=4)
    taken = []
    with video.VideoReader(tmp_path / "a.mp4") as reader:
        monkeypatch.setattr(reader, "live", True)
        monkeypatch.setattr(reader, "rate", Fraction(25))
        pictures = reader._pictures
        monkeypatch.setattr(reader, "_pictures", (taken.append(one) or one for one in pictures))
        counts = [(len(taken), round(seconds)) for _, seconds in reader]
    assert counts == [(0, 0), (1, 2), (2, 4), (3, 6)]  # the first is read when it is opened


def test_sound_that_changes_its_channels_ends(tmp_path):
    with_sound(tmp_path / "a.ts", "ac3", "mpegts")
    with_sound(tmp_path / "b.ts", "ac3", "mpegts", start=2, layout="mono")
    path = joined(tmp_path / "c.ts", tmp_path / "a.ts", tmp_path / "b.ts")
    writer = write(tmp_path / "d.mp4", count=100, audio_from=path)
    assert writer.audio == "ac3, transcoded to aac, left out from where its channels or their kind change"
    assert len(read(tmp_path / "d.mp4")[1]) == 100


def test_sound_of_an_unknown_kind_is_left_out(tmp_path):
    source = tmp_path / "a.mov"
    with_sound(source, "pcm_s16le", "mov")
    content = source.read_bytes()
    assert content.count(b"sowt") == 1
    source.write_bytes(content.replace(b"sowt", b"????"))
    writer = write(tmp_path / "b.mp4", audio_from=source)
    assert writer.audio.startswith("left out")
    assert not av.open(str(tmp_path / "b.mp4")).streams.audio


def test_no_sound_in_the_source(tmp_path):
    write(tmp_path / "a.mp4")
    assert write(tmp_path / "b.mp4", audio_from=tmp_path / "a.mp4").audio is None


def test_finished_file_starts_with_its_index_and_leaves_nothing_else(tmp_path):
    writer = write(tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    assert writer.faststart and data.index(b"moov") < data.index(b"mdat") and b"moof" not in data
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_failure_to_finish_leaves_the_fragmented_file(tmp_path, monkeypatch):
    """The disk is too full for a second film: the first gets the name, which takes no room."""

    def full(path, *_):
        raise OSError(28, "No space left on device")

    write(tmp_path / "a.mp4", 3)
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "flush", full)
        with pytest.raises(UserError, match=r"a\.mp4: .*No space left.*a\.unfinished\.mp4 plays"):
            write(tmp_path / "a.mp4", 7)
    assert len(read(tmp_path / "a.mp4")[1]) == 3 and len(read(tmp_path / "a.unfinished.mp4")[1]) == 7
    monkeypatch.setattr(video, "_copy_to_faststart", lambda *_: False)
    assert not write(tmp_path / "a.mp4", 7).faststart
    assert len(read(tmp_path / "a.mp4")[1]) == 7 and os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("sound", [False, True])
def test_a_killed_writer_leaves_a_file_that_plays_and_the_older_film(tmp_path, sound):
    source = tmp_path / "sound.mp4"
    with_sound(source, "aac", "mp4")
    script = (
        "import sys, numpy as np\nfrom media import video\n"
        f"w = video.VideoWriter(sys.argv[1], 64, 48, 25, audio_from={str(source) if sound else None!r})\n"
        "for i in range(10**6):\n"
        "    w.write(np.full((48, 64, 3), i % 200, np.uint8))\n"
        "    print(i, flush=True)\n"
    )
    path = tmp_path / "a.mp4"
    path.write_bytes(b"an older film")
    command = [sys.executable, "-c", script, path]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    while int(process.stdout.readline()) < 30:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert path.read_bytes() == b"an older film"
    path = tmp_path / "a.unfinished.mp4"
    reader, frames, times = read(path)
    assert len(frames) > 31 - 8 - 3  # up to 8 encoder threads hold one frame each
    np.testing.assert_allclose(times, np.arange(len(times)) / 25, atol=1e-5)
    assert reader.error is None
    if sound:
        assert sound_onset(path) == pytest.approx(sound_onset(source), abs=0.002)


def test_exception_in_the_block_leaves_a_file_that_plays(tmp_path):
    path = tmp_path / "a.mp4"
    with pytest.raises(KeyboardInterrupt), video.VideoWriter(path, 64, 48, 25) as writer:
        writer.write(frame(0))
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["a.unfinished.mp4"] and len(read(writer.unfinished)[1]) == 1


def test_a_link_in_the_place_of_the_unfinished_film_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "a.unfinished.mp4").symlink_to(tmp_path / "precious")
    write(tmp_path / "a.mp4", 1)
    assert (tmp_path / "precious").read_text() == "precious" and len(read(tmp_path / "a.mp4")[1]) == 1


def test_a_name_that_looks_like_an_address(tmp_path, monkeypatch):
    """FFmpeg takes what comes before the first colon for a protocol, as in the names of recordings."""
    monkeypatch.chdir(tmp_path)
    with_sound(tmp_path / "a.mp4", "aac", "mp4")
    os.rename("a.mp4", "2024-05-01T12:30:00.mp4")
    writer = write("2024-05-01T12:31:00.mp4", audio_from="2024-05-01T12:30:00.mp4", count=50)
    assert writer.audio == "aac, copied" and writer.faststart
    for name in ("2024-05-01T12:30:00.mp4", "2024-05-01T12:31:00.mp4"):
        assert len(read(name)[1]) == 50
    assert sorted(os.listdir()) == ["2024-05-01T12:30:00.mp4", "2024-05-01T12:31:00.mp4"]


def test_the_longest_name_has_an_unfinished_one(tmp_path):
    path = tmp_path / ("é" * 125 + ".mp4")
    write(path, 1)
    assert os.listdir(tmp_path) == [path.name]


def test_no_frame_leaves_no_file(tmp_path):
    write(tmp_path / "a.mp4", 0)
    assert os.listdir(tmp_path) == []


def test_close_may_be_called_twice(tmp_path):
    writer = write(tmp_path / "a.mp4")
    writer.close()
    assert len(read(tmp_path / "a.mp4")[1]) == 10


def test_wrong_frame_is_a_bug_not_a_stretched_picture(tmp_path):
    with video.VideoWriter(tmp_path / "a.mp4", 64, 48, 25) as writer, pytest.raises(ValueError, match="64"):
        writer.write(frame(0, 48, 64))


@pytest.mark.parametrize("where", ["folder", "file/a.mp4", "file/missing/a.mp4"])
def test_unwritable_output_is_one_clear_line(tmp_path, where):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as caught:
        video.VideoWriter(tmp_path / where, 64, 48, 25)
    assert str(tmp_path / where) in str(caught.value) and "\n" not in str(caught.value)


def test_frames_that_are_too_wide_for_the_format_are_one_clear_line(tmp_path):
    message = r"a\.mp4: H\.264 holds frames of up to 16384 pixels a side, not of 16385×16; .*give - as OUTPUT"
    with pytest.raises(UserError, match=message):
        write(tmp_path / "a.mp4", 1, 16385, 16)
    assert not os.listdir(tmp_path)
    write(tmp_path / "a.mp4", 1, 16384, 16)
    assert read(tmp_path / "a.mp4")[0].width == 16384


def test_missing_folders_are_made(tmp_path):
    write(tmp_path / "some" / "where" / "a.mp4", 1)
    assert len(read(tmp_path / "some" / "where" / "a.mp4")[1]) == 1


def test_a_full_disk_names_what_is_safe(tmp_path):
    """A limit on the size of files in place of a full disk. The older film stays, and what was written plays."""
    write(tmp_path / "a.mp4", 3)
    noise, before = np.random.default_rng(0), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        with (
            pytest.raises(UserError, match=r"a\.mp4: .*File too large.*a\.unfinished\.mp4 plays.*ulimit") as caught,
            video.VideoWriter(tmp_path / "a.mp4", 64, 48, 25) as writer,
        ):
            for _ in range(50):
                writer.write(noise.integers(0, 255, (48, 64, 3), np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert len(read(tmp_path / "a.mp4")[1]) == 3 and 5 < len(read(tmp_path / "a.unfinished.mp4")[1]) < 50


def test_unreadable_inputs_are_one_clear_line(tmp_path):
    (tmp_path / "text.mp4").write_text("hello\n" * 100)
    (tmp_path / "empty.mp4").write_text("")
    with av.open(str(tmp_path / "sound.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=48000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 48000
        output.mux([*stream.encode(sound), *stream.encode(None)])
    cases = {
        str(tmp_path / "missing.mp4"): "no such file",
        **{str(tmp_path / f"{name}.mp4"): "not a video, or cut off" for name in ("text", "empty")},
        str(tmp_path / "sound.mp4"): "holds no video stream",
        str(tmp_path): "Is a directory",
        "97": "camera",
        "http://127.0.0.1:9/a.mp4": "Connection refused",
    }
    for source, reason in cases.items():
        with pytest.raises(UserError, match=reason) as caught:
            video.VideoReader(source)
        assert str(caught.value).startswith(f"{source}: ") and "\n" not in str(caught.value)


class Breaks:
    """An open container whose source breaks off after 12 packets, as a camera does."""

    def __init__(self, container):
        self.container = container

    def __getattr__(self, name):
        return getattr(self.container, name)

    def demux(self, *streams):
        yield from itertools.islice(self.container.demux(*streams), 12)
        raise av.FFmpegError(104, "Connection reset by peer")


def test_frames_in_the_decoder_are_shown_when_a_source_breaks_off(tmp_path, monkeypatch):
    """The decoder, which waits for B-frames, gives them without a unit of time."""
    write(tmp_path / "a.mp4", 25)
    open_source = video._open_source
    monkeypatch.setattr(video, "_open_source", lambda source: Breaks(open_source(source)))
    reader, frames, times = read(tmp_path / "a.mp4")
    assert reader.error == f"{tmp_path}/a.mp4: reading ended early (Connection reset by peer)"
    assert len(frames) == 12
    np.testing.assert_allclose(np.sort(times), times)
    assert set(np.round(np.multiply(times, 25), 3)) <= set(range(25))


def test_no_message_has_the_password_of_a_camera():
    with pytest.raises(UserError) as caught:
        video.VideoReader("http://me:sec@ret@127.0.0.1:9/a.mp4")
    assert str(caught.value).startswith("http://127.0.0.1:9/a.mp4: ")


def test_a_camera_is_known_by_its_number_its_device_and_its_address(tmp_path, monkeypatch):
    stat = os.stat
    # No device is here, so another one stands for it
    monkeypatch.setattr(os.path, "realpath", lambda path: "/dev/video0" if "/dev/v" in path else path)
    monkeypatch.setattr(os, "stat", lambda path: stat("/dev/null" if "/dev/v" in str(path) else path))
    for source in ("0", "/dev/video0", "/dev/v4l/by-id/usb-front", "rtsp://camera/front"):
        assert video.is_camera(source), source
    (tmp_path / "video0").write_text("x")
    for source in (str(tmp_path / "video0"), "/dev/null", "film.mp4", "", "a\0b"):
        assert not video.is_camera(source), source


def test_index_cut_off_is_one_clear_line(tmp_path):
    path = str(tmp_path / "a.mp4")
    with_sound(path, "aac", "mp4")  # this one has its index at the end
    data = Path(path).read_bytes()
    for size in (len(data) - 1000, data.index(b"moov") - 100):
        Path(path).write_bytes(data[:size])
        with pytest.raises(UserError, match=f"^{path}: .*index"):
            video.VideoReader(path)


def test_a_file_cut_in_the_middle_gives_its_frames_and_an_error(tmp_path):
    path = tmp_path / "a.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), np.uint8)
    with video.VideoWriter(path, 64, 48, 25) as writer:
        for picture in noise:
            writer.write(picture)
    data = path.read_bytes()
    for share in (0.5, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        reader, frames, _ = read(path)
        assert 20 * share - 4 < len(frames) < 20 * share + 2
        assert reader.error.startswith(f"{path}: ") and "0.80 s" in reader.error


def test_a_last_frame_that_is_shown_for_long_is_no_cut(tmp_path):
    """Screen recordings have few frames while nothing moves."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = []
        for index in range(50):
            packets += stream.encode(av.VideoFrame.from_ndarray(frame(index), format="rgb24"))
        packets += stream.encode(None)
        packets[-1].duration = 250
        output.mux(packets)
    reader, frames, _ = read(path)
    assert (len(frames), reader.duration, reader.error) == (50, pytest.approx(11.96, abs=0.1), None)


@pytest.mark.parametrize("hidden", [0.28, 0.285, 0.3, 0.315])
def test_a_trimmed_video_is_no_cut(tmp_path, hidden):
    """As of `ffmpeg -ss 1.3 -i a.mp4 -c copy`: an edit list hides the first frames, and maybe a part of one."""
    path = tmp_path / "a.mp4"
    write(path, 50)
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                before = round(Fraction(hidden) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - before, packet.dts - before, stream
                target.mux(packet)
    reader, frames, _ = read(tmp_path / "b.mp4")
    assert reader._stream.frames == 50 and len(frames) in (42, 43)
    assert (reader.duration, reader.error) == (pytest.approx(2 - hidden, abs=0.002), None)


def test_a_cut_by_one_frame_is_a_cut(tmp_path):
    """An index in front lists all frames, also where the last is not there."""
    path = tmp_path / "a.mp4"
    write(path, 50)
    with av.open(str(path)) as source:
        last = [packet.pos for packet in source.demux(video=0) if packet.size][-1]
    path.write_bytes(path.read_bytes()[:last])
    reader, frames, _ = read(path)
    assert (len(frames), reader.error) == (49, f"{path}: cut off: 0.04 of 2.00 s are missing")


def test_sound_that_outlasts_the_picture_is_not_a_cut(tmp_path):
    with_sound(tmp_path / "a.mkv", "ac3", "matroska", seconds=8, shown=2)
    reader, frames, _ = read(tmp_path / "a.mkv")
    assert (len(frames), reader.duration, reader.error) == (50, pytest.approx(2, abs=0.1), None)


@pytest.mark.parametrize("tagged", [True, False])
def test_a_piece_of_a_long_matroska_recording_is_no_cut(tmp_path, tagged):
    """Recorders cut their files by the hour and let the clock go on; FFmpeg writes the end as the duration."""
    path = tmp_path / "a.mkv"
    with_sound(path, "ac3", "matroska", start=3600)
    if not tagged:  # as other programs write it
        path.write_bytes(path.read_bytes().replace(b"DURATION", b"LASTING_"))
    reader, frames, times = read(path)
    assert (len(frames), reader.frame_count, reader.error) == (50, 50, None)
    assert (times[0], reader.duration) == (pytest.approx(0, abs=0.05), pytest.approx(2, abs=0.05))


def test_a_piece_of_a_long_windows_media_recording_is_no_cut(tmp_path):
    with_sound(tmp_path / "a.wmv", "wmav2", "asf", start=3600)
    reader, frames, _ = read(tmp_path / "a.wmv")
    assert (len(frames), reader.error) == (50, None) and reader.duration == pytest.approx(2, abs=0.1)


def test_an_avi_that_was_cut_off_gives_its_frames_and_an_error(tmp_path):
    """Its index is at the end: without it FFmpeg takes what is left for all."""
    path = tmp_path / "a.avi"
    noise = np.random.default_rng(0).integers(0, 255, (50, 48, 64, 3), np.uint8)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for picture in noise:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    whole, frames, _ = read(path)
    assert (len(frames), whole.duration, whole.error) == (50, 2, None)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    reader, frames, _ = read(path)
    assert 15 < len(frames) < 30
    assert reader.error.startswith(f"{path}: cut off: ") and reader.error.endswith(" of 2.00 s are missing")


def test_damage_in_the_middle_is_skipped_and_reported(tmp_path):
    path = tmp_path / "a.mp4"
    rng = np.random.default_rng(0)
    with video.VideoWriter(path, 64, 48, 5) as writer:  # a key frame every 10
        for _ in range(40):
            writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20000] = bytes(20000)
    path.write_bytes(data)
    reader, frames, times = read(path)
    assert 20 < len(frames) < 40 and times[-1] == pytest.approx(39 / 5)
    assert reader.error.startswith(f"{path}: ")


class EndlessStream(http.server.BaseHTTPRequestHandler):
    """Serves endless MPEG-TS whose clock started long ago."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        gone = contextlib.suppress(ConnectionError, av.FFmpegError)
        with gone, av.open(self.wfile, "w", format="mpegts") as output:
            stream = output.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for index in itertools.count():
                picture = av.VideoFrame.from_ndarray(frame(index), format="rgb24")
                picture.pts, picture.time_base = 100_000 + index, Fraction(1, 25)
                output.mux(stream.encode(picture))

    def log_message(self, *_):
        pass


def test_stream_runs_until_stopped_and_starts_at_0():
    with http.server.HTTPServer(("127.0.0.1", 0), EndlessStream) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with video.VideoReader(f"http://127.0.0.1:{server.server_port}/live.ts") as reader:
            times = [seconds for _, seconds in itertools.islice(reader, 100)]
        thread.join()
    assert reader.live and reader.duration is None and reader.frame_count is None
    np.testing.assert_allclose(times, np.arange(100) / 25, atol=1e-4)


@pytest.mark.skipif(not DASHCAM.exists(), reason="shared data is not here")
def test_dashcam_goes_through(tmp_path):
    with (
        video.VideoReader(DASHCAM) as reader,
        video.VideoWriter(tmp_path / "a.mp4", reader.width, reader.height, reader.rate, audio_from=DASHCAM) as writer,
    ):
        originals = []
        for picture, time in reader:
            originals.append(picture)
            writer.write(picture, time)
    assert (reader.width, reader.height, reader.rate, reader.frame_count) == (1280, 720, 25, 38)
    assert writer.audio == "aac, copied"
    again, frames, times = read(tmp_path / "a.mp4")
    assert (again.width, again.height, again.rate, len(frames)) == (1280, 720, 25, 38)
    np.testing.assert_allclose(times, np.arange(38) / 25, atol=1e-6)
    assert np.abs(frames[20].astype(int) - originals[20]).mean() < 4
