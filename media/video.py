"""Video in and out: frames with their times from a file, camera or stream; frames into an H.264 MP4.

Both ways go through PyAV (FFmpeg). OpenCV reads video no faster (720p H.264 on two cores: 245 frames/s, PyAV
with the conversion to RGB 260), ignores the stream's colour matrix and cannot write H.264. Frames are uint8
RGB [H,W,3]; times are seconds from the start of the source.
"""

import contextlib
import os
import sys
from fractions import Fraction

import av
import numpy as np

from structures import UserError
from system import files

DEFAULT_RATE = Fraction(25)  # for sources that do not tell theirs
STREAM_TIMEOUT = (10, 10)  # seconds to open a camera or address, and to wait for its next data
BT709, UNSPECIFIED, LIMITED_RANGE = 1, 2, 1  # ISO/IEC 23091-2 code points, as FFmpeg numbers them
# Audio that browsers play inside an MP4; everything else is transcoded to AAC.
MP4_AUDIO = ("aac", "mp3", "opus", "flac")
AAC_RATE = 48000  # for sound whose own rate AAC does not have
MP3_RATE = 16000  # an MP4 holds no MP3 below
# Seconds that times may fall back by; more is a clock set anew: films put together, a camera that restarts
FALL_BACK = 1


class VideoReader:
    """The frames of a file, a camera (its number, '0') or a stream (an address, 'rtsp://…').

    Iterate it once, for (frame uint8 RGB [height,width,3], seconds from the start). Frames are as a player
    shows them, turned by the file's display matrix (phones); the times are the file's own, so a variable
    frame rate stays what it is.

    width, height: of the frames. pixel_aspect: width / height of a pixel as shown, a Fraction. rate: mean
    frames per second, a Fraction. live: camera or endless stream. duration: seconds, frame_count: as the file
    declares it, or duration × rate; both None if live or unknown.
    error: None, or in words why frames are missing; complete only after the last frame. Damage does not stop
    the iteration before what can be decoded has been handed out.
    """

    def __init__(self, source):
        """Open `source` and decode its first frame. Raises UserError unless there is one."""
        self.source = str(source)
        self.error = None
        self._container = _open_source(self.source)
        self._stream = self._find_stream()
        self._stream.thread_type = "AUTO"
        self._describe()
        self._damaged = self._shown = 0
        self._pictures = self._decode()
        self._first = next(self._pictures, None)
        if self._first is None:
            self.close()
            raise UserError(f"{self.source}: no frame can be decoded; give a complete video file")
        self._orient(self._first)

    def _find_stream(self):
        cover = av.stream.Disposition.attached_pic
        streams = [s for s in self._container.streams.video if not s.disposition & cover]
        if not streams or streams[0].codec_context is None:
            self.close()
            raise UserError(f"{self.source}: has no video stream that can be decoded; give a video file")
        return streams[0]

    def _describe(self):
        stream, container = self._stream, self._container
        self.rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
        self.duration = _declared_duration(stream)
        if self.duration is None and container.duration:
            self.duration = container.duration / av.time_base
        self.live = self.duration is None and (self.source.isdigit() or "://" in self.source)
        self.frame_count = stream.frames or (self.duration and max(1, round(self.duration * self.rate)))
        self._start = _start_of(container)

    def _orient(self, picture):
        """Take size, colour matrix and orientation from the first decoded picture."""
        self._size = (picture.width, picture.height)
        # Untagged video is BT.709 from 720 lines on, BT.601 below, as players guess.
        untagged = picture.colorspace == UNSPECIFIED
        self._colorspace = "ITU709" if untagged and picture.height >= 720 else None
        self._reformatter = av.video.reformatter.VideoReformatter()
        matrix = picture.side_data.get("DISPLAYMATRIX")
        self._turns = _turns(np.frombuffer(matrix, np.int32)) if matrix else (False, False, False)
        self.width, self.height = self._size[:: -1 if self._turns[0] else 1]
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        self.pixel_aspect = 1 / aspect if self._turns[0] else aspect

    def _decode(self):
        """Pictures in order of display; damage is skipped and noted in `error`."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self.error = f"{self.source}: broken off ({error.strerror})"
                packet = None
            try:
                # None, and the empty packet that demux ends with, empty the decoder.
                yield from self._stream.decode(packet)
            except EOFError:  # emptied already
                pass
            except av.FFmpegError:
                self._damaged += 1
            if packet is None:
                return

    def __iter__(self):
        picture, clock, time = self._first, _Clock(1 / self.rate), 0
        self._first = None
        while picture is not None:
            time = clock.read(None if picture.pts is None else picture.pts * picture.time_base - self._start)
            self._shown += 1
            yield self._to_rgb(picture), float(time)
            picture = next(self._pictures, None)
        self._report_damage(float(time))

    def _to_rgb(self, picture):
        width, height = self._size  # a stream may change its size on the way: keep the first
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
        """Set `error` if the file declares more than it held."""
        if self.error is None and self.duration and not self.live:
            frame = 1 / float(self.rate)
            missing = self.duration + self._stream_start() - last_time - frame
            counted = self._stream.frames
            # An edit list may hide frames that are counted: too few must agree with too short a time. The last one may
            # stand for long: if all are there, none is missing. A duration alone may be that of a longer sound track.
            limit = frame / 2 if counted else max(1, 0.05 * self.duration)
            if missing > limit and (self._shown < counted or not counted):
                self.error = f"{self.source}: cut off, {missing:.2f} of {self.duration:.2f} s are missing"
        if self.error is None and self._damaged:
            self.error = f"{self.source}: {self._damaged} damaged packets were skipped"

    def _stream_start(self):
        start = self._stream.start_time
        return 0.0 if start is None else float(start * self._stream.time_base - self._start)

    def close(self):
        self._container.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _Clock:
    """Times of frames from their stamps, which may be missing or start again. frame: seconds that one lasts."""

    def __init__(self, frame):
        self._frame, self._time = frame, -frame
        self._shift = self._former = 0  # seconds added to stamps, and before they last fell back

    def read(self, stamp):
        """The time of the next frame, in the unit of `stamp`: seconds, or None if it has none."""
        following = self._time + self._frame
        if stamp is None:
            self._time = following
            return following
        if abs(stamp + self._former - following) <= FALL_BACK:  # one stamp was wrong, the clock is not
            self._shift = self._former
        time = stamp + self._shift
        if time < self._time - FALL_BACK:
            self._former, self._shift, time = self._shift, following - stamp, following
        self._time = time
        return time


def _open_source(source):
    """An open PyAV container for a path, camera number or address. Raises UserError."""
    try:
        if source.isdigit():
            format_name, name = {
                "darwin": ("avfoundation", source),
                "win32": ("vfwcap", source),
            }.get(sys.platform, ("v4l2", f"/dev/video{source}"))
            return av.open(name, format=format_name, timeout=STREAM_TIMEOUT)
        if "://" in source:
            options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
            return av.open(source, options=options, timeout=STREAM_TIMEOUT)
        return av.open(source)
    except FileNotFoundError:
        what = "no such camera" if source.isdigit() else "no such file"
        raise UserError(f"{source}: {what}; give a video file, a camera number or an address") from None
    except (av.error.InvalidDataError, EOFError):
        reason = "not a video, or one that was cut off before the end of its index"
        raise UserError(f"{source}: {reason}; give a complete video file") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{source}: cannot be opened ({reason}); give a video that can be read") from None


def _turns(matrix):
    """int32 [9] display matrix -> (transpose, flip columns, flip rows), to be done in this order.

    The matrix maps (x, y) to (a x + c y, b x + d y) with a, b, c, d = elements 0, 1, 3, 4 (ISO/IEC 14496-12,
    8.3.2); turns by other than quarter circles go to the nearest.
    """
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) > abs(a):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


class VideoWriter:
    """Frames into an H.264 MP4 (yuv420p, BT.709) that browsers play.

    An ordinary MP4 keeps its index in memory until it is closed: a killed run would leave rubbish at `path`.
    A temporary file that is renamed at the end would leave nothing there at all. So the file is written
    fragmented, one frame a fragment, without B-frames or look-ahead: whatever ends the process, even
    kill -9, the frames that reached the disk play, and only the few inside the encoder's threads are lost.
    `close` then copies the streams, without encoding again, into an ordinary MP4 with its index in front
    (which starts at once over a network and tells its length) and moves it over the fragmented one in one
    step.

    padding: (columns, rows) added on the right and at the bottom, 0 or 1 each: yuv420p has even sides.
    frames: frames written. audio: what was done about the sound, in words, None without any.
    faststart: whether `close` could make the ordinary MP4; the fragmented one stays otherwise.
    """

    def __init__(self, path, width, height, rate, *, audio_from=None, pixel_aspect=None):
        """Open `path`, replacing what is there.

        width, height: of the frames that `write` receives. rate: frames per second (a Fraction keeps
        30000/1001 exact). audio_from: a file whose sound is kept, cut to the length of the picture.
        pixel_aspect: width / height of a pixel, if not square.
        Raises UserError if `path` cannot be written.
        """
        self.path = str(path)
        self.width, self.height = width, height
        self.rate = Fraction(rate or DEFAULT_RATE).limit_denominator(100_000)
        self.padding = (width % 2, height % 2)
        self.frames, self.faststart = 0, False
        files.check_writable(self.path)
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
        # About 1/90000 s, and a whole number of units per frame: constant rates are exact, others to 6 µs.
        scale = self.rate.numerator
        self._scale = scale * -(-90_000 // scale)
        self._ticks = self._scale // self.rate.numerator * self.rate.denominator
        self._next_pts = self._floor_pts = 0
        self._reformatter = av.video.reformatter.VideoReformatter()
        # A fragment every 30 ms, so one for each frame. (FFmpeg's frag_every_frame spoils the audio's times.)
        # delay_moov: the header waits for the first frames, to tell when each stream starts.
        flags = {"movflags": "empty_moov+delay_moov+default_base_moof", "frag_duration": "30000"}
        self._container = av.open(self.path, "w", format="mp4", options={**flags, "flush_packets": "1"})
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
        codec.gop_size = max(1, min(250, round(2 * self.rate)))  # a viewer can jump to every second second
        codec.thread_count = min(8, os.cpu_count() or 1)  # each thread holds a frame back
        if pixel_aspect and pixel_aspect != 1:
            codec.sample_aspect_ratio = pixel_aspect
        # crf 20: no visible loss. Look-ahead bought 0.4% of size for 11 frames of delay.
        stream.options = {
            "preset": "veryfast",
            "crf": "20",
            "bf": "0",
            "x264-params": "rc-lookahead=0:sync-lookahead=0",
        }
        return stream

    @property
    def audio(self):
        return self._sound and self._sound.report

    def write(self, frame, time=None):
        """Append one frame, uint8 RGB [height,width,3].

        time: seconds; without it the frame follows the last one by 1 / rate. A time that is not later than
        the last frame's is moved just behind it.
        Raises UserError when the disk is full or the file cannot be written any more.
        """
        if frame.shape != (self.height, self.width, 3) or frame.dtype != np.uint8:
            raise ValueError(f"frame {frame.dtype} {frame.shape} is not uint8 {self.height, self.width, 3}")
        pts = self._next_pts if time is None else max(self._floor_pts, round(time * self._scale))
        self._next_pts, self._floor_pts = pts + self._ticks, pts + 1
        if any(self.padding):
            frame = np.pad(frame, ((0, self.padding[1]), (0, self.padding[0]), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(frame), format="rgb24")
        picture = self._reformatter.reformat(picture, format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        picture.pts, picture.time_base = pts, Fraction(1, self._scale)
        self._encode(picture)
        self.frames += 1
        if self._sound:
            with self._errors():
                self._sound.advance(Fraction(pts, self._scale))

    def _encode(self, picture):
        with self._errors():
            for packet in self._stream.encode(picture):
                packet.duration = packet.duration or self._ticks
                self._container.mux(packet)

    def close(self):
        """Write what is left and turn the file into an ordinary MP4. Without a frame no file is left."""
        container, self._container = self._container, None
        if container is None:
            return
        try:
            if self.frames:
                with self._errors():
                    for packet in self._stream.encode(None):
                        packet.duration = packet.duration or self._ticks
                        container.mux(packet)
                    if self._sound:
                        self._sound.advance(Fraction(self._next_pts, self._scale))
        finally:
            if self._sound:
                self._sound.close()
            with self._errors():
                container.close()
        if self.frames:
            self.faststart = _copy_to_faststart(self.path)
        else:
            os.unlink(self.path)

    @contextlib.contextmanager
    def _errors(self):
        try:
            yield
        except av.FFmpegError as error:
            reason = f"cannot be written ({error.strerror})"
            raise UserError(f"{self.path}: {reason}; free space or give another output path") from None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is None:
            self.close()
        else:
            with contextlib.suppress(UserError):  # the first error is the one to report
                self.close()


def _copy_to_faststart(path):
    """Rewrite a fragmented MP4 as an ordinary one, its index in front. False if that fails: it stays."""
    new = files.temporary_beside(path)
    try:
        with (
            av.open(path) as source,
            av.open(new, "w", format="mp4", options={"movflags": "faststart"}) as target,
        ):
            streams = {stream: target.add_stream_from_template(stream) for stream in source.streams}
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream]
                    target.mux(packet)
        files.publish(new, path)
        return True
    except (av.FFmpegError, OSError):
        return False
    finally:
        with contextlib.suppress(OSError):
            os.unlink(new)


def _declared_duration(stream):
    """Seconds that a stream says it lasts, or None; Matroska's says so in a tag, hours:minutes:seconds."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
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
    """The first audio stream of a file, fed into an output container in step with the picture.

    report: what is done with it, in words.
    """

    @classmethod
    def of(cls, path, output):
        """A _Sound, or None if the file has no audio stream."""
        try:
            source = av.open(str(path))
        except av.FFmpegError:
            return None
        if not source.streams.audio:
            source.close()
            return None
        return cls(source, output)

    def __init__(self, source, output):
        self._source, self._output = source, output
        self._packets, self._waiting = iter(()), None
        stream = source.streams.audio[0]
        codec = stream.codec_context
        if codec is None:
            self.report = "left out, as it is of an unknown kind"
            return
        name = codec.name.removesuffix("float")  # FFmpeg's MP3 decoder is called mp3float
        # Raw AAC (ADTS, in transport streams) has no header to put into the MP4: transcode it too.
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
        """Packets for the output, their times counted from the start of the source."""
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
        except ValueError:  # of PyAV's resampler
            self.report += ", left out from where its channels or their kind change"
        if not self._copy:
            yield from self._stream.encode(None)

    def _transcode(self, packet, start):
        for frame in packet.decode():
            if frame.pts is not None:
                frame.pts -= round(start / frame.time_base)
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
