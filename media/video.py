"""Read frames and their times from a video file, camera or stream; write frames to an H.264 MP4.

Both use PyAV (FFmpeg). OpenCV reads video no faster (720p H.264 on two cores: 245 frames/s, PyAV with the conversion
to RGB 260), ignores the stream's color matrix and cannot write H.264. Frames are uint8 RGB [H,W,3]; times are seconds
from the start of the source.
"""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

from structures import UserError
from system import atomic, files, wording, write_errors
from system.file_names import Path

DEFAULT_RATE = Fraction(25)  # for sources that declare no rate
STREAM_TIMEOUT = (10, 10)  # seconds to open a camera or address, and to wait for more data
LONGEST_NAME = 255  # bytes, of a file on usual disks
LONGEST_SIDE = 16384  # pixels, of what x264 writes
BT709, UNSPECIFIED, LIMITED_RANGE = 1, 2, 1  # ISO/IEC 23091-2 code points, as FFmpeg numbers them
# Of what x264 writes about its settings into the first frame: those of every version of VideoWriter
OWN_SETTINGS = (b"x264 - core", b" subme=2 ", b" bframes=0 ", b" mbtree=0 crf=20.0 ")
# Audio that browsers play inside an MP4; everything else is transcoded to AAC.
MP4_AUDIO = ("aac", "mp3", "opus", "flac")
AAC_RATE = 48000  # for sound at a rate that AAC does not support
MP3_RATE = 16000  # the lowest rate of an MP3 in an MP4
# Seconds that times may go back by; a larger step is a clock that restarts: joined videos, a camera that was restarted
FALL_BACK = 1
# Of files that name others: how they begin, and FFmpeg's names of their formats
PLAYLIST_STARTS, SNIFFED_BYTES = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"v=0"), 1024
PLAYLIST_FORMATS = ("hls", "applehttp", "concat", "dash", "imf", "sdp", "ism", "webm_dash_manifest")


class VideoReader:
    """The frames of a file, a camera (its number, '0', or device, '/dev/video0') or a stream (an address, 'rtsp://…').

    Iterate it once, for (frame uint8 RGB [height,width,3], seconds from the start). Frames are as a player shows them,
    turned by the file's display matrix (phones). The times are those in the file, so a variable frame rate is kept.
    Damage does not end the iteration: all frames that can be decoded are returned.

    source, name: as it was given, and without a password, for messages.
    streams: the number of video streams, such as 2 of a dashcam with a rear camera. stream: which of them, from 1.
    alone: whether a playlist is refused.
    width, height: of the frames.
    pixel_aspect: width / height of a pixel as shown, a Fraction.
    rate: mean frames per second, a Fraction.
    live: whether it is a camera or an endless stream.
    skipped: 0; the frames that damage takes from a video are not counted.
    duration: seconds; None if live or unknown.
    frame_count: as the file declares it, or duration × rate; None if live or unknown.
    error: why frames are missing, or None; complete only after the last frame.
    """

    skipped = 0

    def __init__(self, source: Path, stream: int = 1, alone: bool = False):
        """Open `source` and decode its first frame. Raises UserError if there is none.

        stream: which of its video streams, from 1. alone: whether a file that opens others, a playlist, is refused.
        """
        self.source, self.stream, self.alone = str(source), stream, alone
        self.name = without_password(self.source)
        if alone:
            _refuse_playlist(self.source)
        self.error: str | None = None
        self._container = _open_source(self.source)
        if alone and self._container.format.name.split(",")[0] in PLAYLIST_FORMATS:
            self.close()
            raise _playlist(self.name)
        self._stream = self._find_stream(stream)
        self._stream.thread_type = "AUTO"
        self._describe()
        self._damaged = self._shown = self._packets = 0
        self._pictures = self._decode()
        self._first = next(self._pictures, None)
        if self._first is None:
            self.close()
            raise UserError(f"{self.name}: no frame can be decoded; give a complete video file")
        self._orient(self._first)

    def _find_stream(self, number):
        cover = av.stream.Disposition.attached_pic
        streams = [s for s in self._container.streams.video if not s.disposition & cover]
        if not streams or streams[0].codec_context is None:
            self.close()
            raise UserError(f"{self.name}: holds no video stream that can be decoded; give a video file")
        self.streams = len(streams)
        if number > self.streams or streams[number - 1].codec_context is None:
            self.close()
            raise UserError(f"{self.name}: has no video stream {number} that can be decoded; it has {len(streams)}")
        return streams[number - 1]

    def _describe(self):
        stream, container = self._stream, self._container
        self.rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
        self.duration = _declared_duration(container, stream, self.rate)
        self.live = self.duration is None and is_camera(self.source)
        self.frame_count = stream.frames or (self.duration and max(1, round(self.duration * self.rate)))
        self._start = _start_of(container)

    def _orient(self, picture):
        """Set size, color matrix and orientation from the first decoded picture."""
        self._size = (picture.width, picture.height)
        # Players treat untagged video as BT.709 from 720 lines on, as BT.601 below
        untagged = picture.colorspace == UNSPECIFIED
        self._colorspace = "ITU709" if untagged and picture.height >= 720 else None
        self._reformatter = av.video.reformatter.VideoReformatter()
        matrix = picture.side_data.get("DISPLAYMATRIX")
        self._turns = _turns(np.frombuffer(matrix, np.int32)) if matrix else (False, False, False)
        self.width, self.height = self._size[:: -1 if self._turns[0] else 1]
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        self.pixel_aspect = 1 / aspect if self._turns[0] else aspect

    def _decode(self):
        """Yield pictures in display order; damage is skipped and recorded in `error`."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                self._packets += bool(packet and packet.size)
            except av.FFmpegError as error:
                self.error = f"{self.name}: reading ended early ({error.strerror})"
                packet = None
            try:
                # None, like the empty packet at the end of demux, flushes the decoder
                yield from self._stream.decode(packet)
            except EOFError:  # already flushed
                pass
            except av.FFmpegError:
                self._damaged += 1
            if packet is None:
                return

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        clock, time, coming = _Clock(1 / self.rate), 0, [self._first]
        self._first = None

        def look_ahead():
            coming.append(next(self._pictures, None))
            return self._end() if coming[-1] is None else self._stamp(coming[-1])

        while (picture := coming.pop() if coming else next(self._pictures, None)) is not None:
            # The next frame of a camera is not there yet
            time = clock.read(self._stamp(picture), (lambda: None) if self.live else look_ahead)
            self._shown += 1
            yield self._to_rgb(picture), float(time)
        self._report_damage(float(time))

    def _stamp(self, picture):
        """The time stamp of a picture in seconds; None without one, and of None, which comes after the last."""
        if picture is None or picture.pts is None:
            return None
        # What is left in the decoder when reading ends has no unit
        return picture.pts * (picture.time_base or self._stream.time_base) - self._start

    def _end(self):
        """Where the last frame ends, which says whether its stamp can be right; None if that is not known.

        An MP4 ends where decoding ends, which is before a last frame that comes late and was decoded before others.
        """
        reordered = self._stream.frames and self._stream.codec_context.has_b_frames
        return self.duration + self._stream_start() if self.duration and not reordered else None

    def _to_rgb(self, picture):
        width, height = self._size  # a stream may change its size later: keep the first
        rgb = self._reformatter.reformat(
            picture, width, height, format="rgb24", src_colorspace=self._colorspace
        ).to_ndarray()
        if not any(self._turns):
            return rgb
        transpose, flip_columns, flip_rows = self._turns
        if transpose:
            rgb = rgb.transpose(1, 0, 2)
        return np.ascontiguousarray(rgb[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])

    def _report_damage(self, last_time):
        """Set `error` if the file declares more frames than it held."""
        if self.error is None and self.duration and not self.live:
            frame = 1 / float(self.rate)
            missing = self.duration + self._stream_start() - last_time - frame
            counted = self._stream.frames
            # An edit list may hide frames that are counted, so both count and time must be too small; the last frame
            # may be shown for long. Without a count, the duration may be that of a longer sound track.
            limit = frame / 2 if counted else max(1, 0.05 * self.duration)
            if counted and self._packets >= len(self._stream.index_entries):  # all is there that the index lists
                limit = 1.01 * frame  # of which an edit list may hide a part
            if missing > limit and (self._shown < counted or not counted):
                self.error = f"{self.name}: cut off: {missing:.2f} of {self.duration:.2f} s are missing"
        if self.error is None and self._damaged:
            self.error = f"{self.name}: {self._damaged} damaged packets were skipped"

    def _stream_start(self):
        start = self._stream.start_time
        return 0.0 if start is None else float(start * self._stream.time_base - self._start)

    def close(self) -> None:
        """Close the source."""
        self._container.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _Clock:
    """Computes the times of frames from their stamps, which may be missing, wrong or restart.

    frame: seconds that a frame lasts.
    """

    def __init__(self, frame):
        self._frame, self._time = frame, -frame
        self._shift = self._former = 0  # seconds added to stamps; the same before the last restart

    def read(self, stamp, look_ahead):
        """The time of the next frame, in the unit of `stamp`: seconds, or None if it has none.

        look_ahead: gives the stamp of the frame after it. It is called only where `stamp` is far ahead: once such a
        time is given out, what comes after it cannot go back.
        """
        following = self._time + self._frame
        if stamp is None:
            self._time = following
            return following
        if abs(stamp + self._former - following) <= FALL_BACK:  # only one stamp was wrong
            self._shift = self._former
        time = stamp + self._shift
        if time > following + FALL_BACK:
            after = look_ahead()
            if after is not None and after < stamp and abs(after + self._shift - following - self._frame) <= FALL_BACK:
                time = following  # only this one is wrong
        elif time < self._time - FALL_BACK:
            self._former, self._shift, time = self._shift, following - stamp, following
        self._time = time
        return time


def _open_source(source):
    """An open PyAV container for a path, camera number or address. Raises UserError."""
    name = without_password(source)
    try:
        if source.isdigit() or _is_device(source):
            format_name, camera = {
                "darwin": ("avfoundation", source),
                "win32": ("vfwcap", source),
            }.get(sys.platform, ("v4l2", f"/dev/video{source}" if source.isdigit() else source))
            return av.open(camera, format=format_name, timeout=STREAM_TIMEOUT)
        if "://" in source:
            options = {"rtsp_flags": "prefer_tcp"} if source.startswith("rtsp") else {}  # UDP where a camera has no TCP
            return av.open(source, options=options, timeout=STREAM_TIMEOUT)
        files.check_regular(source)
        return av.open(_local(source))
    except FileNotFoundError:
        what = "no such camera" if source.isdigit() else "no such file"
        raise UserError(
            f"{name or 'an empty name'}: {what}; give a video file, a camera number or an address"
        ) from None
    except (av.error.InvalidDataError, EOFError):
        reason = "not a video, or cut off before the end of its index"
        raise UserError(f"{name}: {reason}; give a complete video file") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UserError(f"{name}: cannot be opened ({wording.reason(error)}); give a video that can be read") from None


def _local(path):
    """A path as FFmpeg takes it for that of a file: 2024-05-01T12:30:00.mp4 alone looks like an address."""
    return os.path.join(os.curdir, path)


def _refuse_playlist(source):
    """Raise UserError for a file that begins as a list of other files, which FFmpeg would open at once."""
    with contextlib.suppress(OSError), files.open_regular(source) as file:
        if file.read(SNIFFED_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(PLAYLIST_STARTS):
            raise _playlist(source)


def _playlist(source):
    return UserError(f"{source}: is a list of other files, which --within-data refuses; give the video itself")


def _is_device(path):
    """Whether a path is that of a video device, or a link to one."""
    with contextlib.suppress(OSError, ValueError):
        return os.path.realpath(path).startswith("/dev/video") and stat.S_ISCHR(os.stat(path).st_mode)
    return False


def _turns(matrix):
    """int32 [9] display matrix -> (transpose, flip columns, flip rows), applied in this order.

    The matrix maps (x, y) to (a x + c y, b x + d y) with a, b, c, d = elements 0, 1, 3, 4 (ISO/IEC 14496-12, 8.3.2).
    Rotations are rounded to quarter turns.
    """
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) > abs(a):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


class VideoWriter:
    """Writes frames to an H.264 MP4 (yuv420p, BT.709) that browsers play.

    An ordinary MP4 keeps its index in memory until it is closed: a killed run would leave an unreadable file. So the
    file is written in fragments of one frame, without B-frames or look-ahead, at `unfinished`: whatever ends the
    process, even kill -9, the frames there play, and only the few in the encoder's threads are lost. `close` then
    copies the streams, without encoding again, into an ordinary MP4 with its index in front (it starts at once over a
    network and shows its length), which takes the name `path`; an older video has stayed there until then.

    unfinished: NAME.unfinished.mp4 beside `path`, until `close`; after an error it stays, if it has a frame.
    padding: (columns, rows) added on the right and at the bottom, 0 or 1 each, as yuv420p needs even sides.
    frames: frames written.
    audio: what was done with the sound, in words; None without sound.
    faststart: whether `close` could write the ordinary MP4; if not, the fragmented one stays.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        rate: Fraction | float | None,
        *,
        audio_from: Path | None = None,
        pixel_aspect: Fraction | None = None,
    ):
        """Open the file at `unfinished`, replacing what an earlier call left there.

        width, height: of the frames that `write` receives.
        rate: frames per second (a Fraction keeps 30000/1001 exact).
        audio_from: a file whose sound is kept, cut to the length of the picture.
        pixel_aspect: width / height of a pixel, if not square.
        Raises UserError if `path` cannot be written.
        """
        self.path, self.unfinished = str(path), unfinished_name(path)
        self.width, self.height = width, height
        self.rate = Fraction(rate or DEFAULT_RATE).limit_denominator(100_000)
        self.padding = (width % 2, height % 2)
        self.frames, self.faststart, self._closed = 0, False, False
        if max(width, height) > LONGEST_SIDE:
            raise UserError(
                f"{self.path}: H.264 holds frames of up to {LONGEST_SIDE} pixels a side, not of {width}×{height}; "
                "make them smaller first, or give - as OUTPUT to write no video"
            )
        files.check_writable(self.path)
        atomic.make_folders(os.path.dirname(os.path.abspath(self.path)))
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.unfinished)  # also a link, which would be followed
        # About 1/90000 s, and a whole number of units per frame: constant rates are exact, others to 6 µs
        scale = self.rate.numerator
        self._scale = scale * -(-90_000 // scale)
        self._ticks = self._scale // self.rate.numerator * self.rate.denominator
        self._next_pts = self._floor_pts = 0
        self._reformatter = av.video.reformatter.VideoReformatter()
        # A fragment every 30 ms, so one for each frame. (FFmpeg's frag_every_frame breaks the audio's times.)
        # delay_moov: the header is written after the first frames, when the start of each stream is known.
        flags = {"movflags": "empty_moov+delay_moov+default_base_moof", "frag_duration": "30000"}
        with self._errors():
            path, options = _local(self.unfinished), {**flags, "flush_packets": "1"}
            self._container = av.open(path, "w", format="mp4", options=options)
        self._stream = self._add_stream(pixel_aspect)
        self._sound = _Sound.of(audio_from, self._container) if audio_from is not None else None
        with self._errors():
            self._container.start_encoding()

    def _add_stream(self, pixel_aspect):
        try:
            stream = self._container.add_stream("libx264", rate=self.rate)
        except (ValueError, av.FFmpegError):
            message = f"{self.path}: this PyAV has no H.264 encoder; install the `av` wheel from PyPI"
            raise UserError(message) from None
        codec = stream.codec_context
        codec.width, codec.height = self.width + self.padding[0], self.height + self.padding[1]
        codec.pix_fmt, codec.time_base = "yuv420p", Fraction(1, self._scale)
        codec.color_primaries = codec.color_trc = codec.colorspace = BT709
        codec.color_range = LIMITED_RANGE
        codec.gop_size = max(1, min(250, round(2 * self.rate)))  # a viewer can jump to every other second
        codec.thread_count = min(8, os.cpu_count() or 1)  # each thread holds a frame
        if pixel_aspect and pixel_aspect != 1:
            codec.sample_aspect_ratio = pixel_aspect
        # crf 20: no visible loss. Look-ahead saved 0.4% of the size and delayed 11 frames.
        stream.options = {
            "preset": "veryfast",
            "crf": "20",
            "bf": "0",
            "x264-params": "rc-lookahead=0:sync-lookahead=0",
        }
        return stream

    @property
    def seconds(self) -> float:
        """How long the video is so far."""
        return self._next_pts / self._scale

    @property
    def audio(self) -> str | None:
        return self._sound.report if self._sound else None

    def write(self, frame: np.ndarray, time: float | None = None) -> None:
        """Append one frame, uint8 RGB [height,width,3].

        time: seconds; without it the frame follows the previous one by 1 / rate. A time that is not after the previous
            frame's becomes the next one possible.
        Raises UserError if the disk is full or the file can no longer be written.
        """
        if frame.shape != (self.height, self.width, 3) or frame.dtype != np.uint8:
            raise ValueError(f"frame {frame.dtype} {frame.shape} is not uint8 {self.height, self.width, 3}")
        pts = self._next_pts if time is None else max(self._floor_pts, round(time * self._scale))
        self._next_pts, self._floor_pts = pts + self._ticks, pts + 1
        if any(self.padding):
            frame = np.pad(frame, ((0, self.padding[1]), (0, self.padding[0]), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(frame), format="rgb24")
        picture = self._reformatter.reformat(
            picture,
            format="yuv420p",
            dst_colorspace="ITU709",  # type: ignore[arg-type]  # PyAV takes names too
            dst_color_range="MPEG",
        )
        picture.pts, picture.time_base = pts, Fraction(1, self._scale)
        self._encode(picture)
        self.frames += 1
        self._advance_sound(pts)

    def _encode(self, picture):
        """Encode and write a picture; None writes those that are still in the encoder."""
        with self._errors():
            for packet in self._stream.encode(picture):
                packet.duration = packet.duration or self._ticks
                self._container.mux(packet)

    def _advance_sound(self, pts):
        if self._sound:
            with self._errors():
                self._sound.advance(Fraction(pts, self._scale))

    def close(self) -> None:
        """Write the remaining frames and give the video its name; without a frame, remove it.

        A second call does nothing. Raises UserError if the file cannot be written.
        """
        if self._closed:
            return
        self._end()
        if not self.frames:
            os.unlink(self.unfinished)
            return
        self.faststart = _copy_to_faststart(self.unfinished, self.path)
        with self._errors():
            if self.faststart:
                os.remove(self.unfinished)
            else:  # there is no room for both: the fragmented file plays too
                atomic.publish(self.unfinished, self.path)

    def _end(self):
        """Write what is left in the encoder and close the file."""
        self._closed = True
        try:
            if self.frames:
                self._encode(None)
                self._advance_sound(self._next_pts)
        finally:
            if self._sound:
                self._sound.close()
            with self._errors():
                self._container.close()

    @contextlib.contextmanager
    def _errors(self):
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            saved = f"{self.unfinished} plays up to there" if self.frames else ""
            raise write_errors.unwritable(self.path, error, saved) from None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is None:
            self.close()
        elif not self._closed:
            with contextlib.suppress(UserError):  # the first error is the one to report
                self._end()
            if not self.frames:
                os.unlink(self.unfinished)


def is_camera(source: str) -> bool:
    """Whether a source is a camera's number or device, or an address, and not a file."""
    return source.isdigit() or "://" in source or _is_device(source)


def without_password(source: str) -> str:
    """A path or address without the user and password that a camera's address may have."""
    scheme, mark, rest = source.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{mark}{place.rpartition('@')[2]}{slash}{path}" if mark else source


def is_of_others(path: Path) -> bool:
    """Whether a file is an MP4 that no VideoWriter has written; nobody may have another copy of it."""
    try:
        files.check_regular(path)
        with av.open(_local(path), format="mp4") as container:  # a playlist would open other files
            first = bytes(next(container.demux(video=0), b""))
    except (av.FFmpegError, OSError, ValueError, IndexError):  # the last where it has no video stream
        return False
    return not all(setting in first for setting in OWN_SETTINGS)


def unfinished_name(path: Path) -> str:
    """Where a file is written before it gets its name: NAME.unfinished.mp4 beside NAME.mp4."""
    folder, name = os.path.split(os.fspath(path))
    stem, suffix = os.path.splitext(name)
    end = f".unfinished{suffix}"
    while len(os.fsencode(stem + end)) > LONGEST_NAME:
        stem = stem[:-1]
    return os.path.join(folder, stem + end)


def _copy_to_faststart(path, final):
    """Write an ordinary MP4 with its index in front from a fragmented one. Returns whether that succeeded."""
    new = atomic.temporary_beside(final)
    try:
        with (
            av.open(_local(path)) as source,
            av.open(_local(new), "w", format="mp4", options={"movflags": "faststart"}) as target,
        ):
            streams = {stream: target.add_stream_from_template(stream) for stream in source.streams}
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream]
                    target.mux(packet)
        atomic.publish(new, final)
        return True
    except (av.FFmpegError, OSError):
        return False
    finally:
        with contextlib.suppress(OSError):
            os.unlink(new)


def _declared_duration(container, stream, rate):
    """How long a file says that the picture, or else all of it, is: seconds, or None."""
    start = stream.start_time and float(stream.start_time * stream.time_base)
    duration = float(stream.duration * stream.time_base) if stream.duration else _tagged_duration(stream)
    if stream.duration and container.format.name == "avi":  # without its index FFmpeg guesses from the size
        return max(duration, float(stream.frames / rate))
    if duration is None and container.duration:
        duration, start = container.duration / av.time_base, float(_start_of(container))
    # FFmpeg writes where a Matroska or Windows Media file ends, and a piece of a recording does not begin at 0
    if duration and start and container.format.name.startswith(("matroska", "asf")) and start < duration:
        return duration - start
    return duration


def _tagged_duration(stream):
    """The duration of a stream of Matroska, which has it in a tag, hours:minutes:seconds; or None."""
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = map(float, parts)
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


def _start_of(container):
    """The time of the source that counts as 0, in seconds: its earliest stream's start."""
    return Fraction(container.start_time or 0, av.time_base)


class _Sound:
    """Copies the first audio stream of a file into an output container in step with the picture.

    report: what is done with the sound, in words.
    """

    @classmethod
    def of(cls, path, output):
        """A _Sound, or None if the file has no audio stream."""
        try:
            files.check_regular(path)
            source = av.open(_local(path))
        except (av.FFmpegError, OSError):
            return None
        if not source.streams.audio:
            source.close()
            return None
        return cls(source, output)

    def __init__(self, source, output):
        self._source, self._output = source, output
        self._packets, self._waiting = iter(()), None
        self._following = Fraction(0)  # seconds at which the next piece of sound begins, as far as is known
        stream = source.streams.audio[0]
        codec = stream.codec_context
        if codec is None:
            self.report = "left out, because its format is unknown"
            return
        name = codec.name.removesuffix("float")  # FFmpeg's MP3 decoder is called mp3float
        # Raw AAC (ADTS, in transport streams) has no header for the MP4: transcode it too
        unfit = (name == "aac" and not codec.extradata) or (name == "mp3" and codec.sample_rate < MP3_RATE)
        self._copy = name in MP4_AUDIO and not unfit
        if self._copy:
            self._stream = output.add_stream_from_template(stream)
            self.report = f"{name}, copied"
        else:
            known = av.Codec("aac", "w").audio_rates  # others are resampled
            self._stream = output.add_stream("aac", rate=codec.sample_rate if codec.sample_rate in known else AAC_RATE)
            self._stream.codec_context.layout = "mono" if codec.layout.nb_channels == 1 else "stereo"
            self.report = f"{name}, transcoded to aac"
        self._packets = self._read(stream)

    def _read(self, stream):
        """Yield packets for the output; their times count from the start of the source."""
        start, last = _start_of(self._source), None
        try:
            for packet in self._source.demux(stream):
                if packet.dts is not None:
                    if last is not None and (packet.dts - last) * packet.time_base < -FALL_BACK:
                        self.report += ", left out from where its times start again"
                        break
                    last = packet.dts
                if self._copy:
                    if packet.dts is not None:
                        shift = round(start / packet.time_base)
                        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                        yield packet
                else:
                    yield from self._transcode(packet, start)
        except av.FFmpegError as error:
            self.report += f", damaged ({error.strerror})"
        except ValueError:  # from PyAV's resampler
            self.report += ", left out from where its channels or their kind change"
        if not self._copy:
            yield from self._stream.encode(None)

    def _transcode(self, packet, start):
        for frame in packet.decode():
            if frame.pts is None:  # what the decoder of WMA gives at the end follows what was before
                time = self._following
            else:
                time = frame.pts * frame.time_base - start
            # A unit of AVI may be as long as the frame, of which the encoder makes several
            frame.pts, frame.time_base = round(time * frame.sample_rate), Fraction(1, frame.sample_rate)
            self._following = time + Fraction(frame.samples, frame.sample_rate)
            yield from self._stream.encode(frame)

    def advance(self, seconds):
        """Write all packets that begin before `seconds`."""
        while True:
            packet = self._waiting or next(self._packets, None)
            self._waiting = packet
            if packet is None or packet.pts * packet.time_base >= seconds:
                return
            self._waiting = None
            packet.stream = self._stream
            self._output.mux(packet)

    def close(self):
        self._source.close()
