"""Draw what a detector sees into a video: H.264 with the size, times and sound of the source.

INPUT is a video file, a camera's number or a stream's address; these two run until Ctrl-C. An interrupted
run leaves a video that plays.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import time

import numpy as np
import tqdm

import config
from formats import class_lists
from media import video, visualization
from structures import Detections, UserError
from system import cli, files, stages

AHEAD = 4  # frames that a stage makes in advance
GROUP_FRAMES = 32  # frames held to fill one batch of the network: memory, with --every


def main(argv=None):
    flags = _parse(argv)
    class_lists.check_classes(flags.classes, config.find_model(flags.model).class_names)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(cli.StopRequest())
        reader = stack.enter_context(video.VideoReader(flags.input))
        _check_outputs(flags)
        cli.import_tensorflow()
        import detector  # every flag and path is known to be good before TensorFlow loads

        settings = {"precision": flags.precision, "threshold": flags.threshold, "batch_size": flags.batch_size}
        loaded = stack.enter_context(detector.load(flags.model, **settings))
        wanted = class_lists.find_labels(flags.classes, loaded.class_names)
        stop.raise_if_requested()
        _process(flags, reader, loaded, wanted, stop)


def _process(flags, reader, detector, wanted, stop):
    """The whole video through decoding, network, drawing and encoding. Raises UserError if it was damaged."""
    meters = {name: stages.Meter() for name in ("decode", "network", "drawing", "encoding")}
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        timeline = stack.enter_context(Timeline(flags, reader, detector.class_names)) if flags.json else None
        threads = stack.enter_context(stages.Threads(lambda: stop.requested))
        frames = _connect(threads, flags, reader, detector, wanted, meters)
        first = next(frames, None)
        if first is None:  # stopped; what an earlier call wrote is still there
            raise KeyboardInterrupt
        writer = video.VideoWriter(
            flags.output,
            reader.width,
            reader.height,
            reader.rate,
            audio_from=None if reader.live else flags.input,
            pixel_aspect=reader.pixel_aspect,
        )
        try:
            with writer:
                frames = _progress(itertools.chain([first], frames), reader, flags)
                _encode(frames, writer, timeline, meters["encoding"])
                threads.end()
                with meters["encoding"].measure(0):
                    writer.close()
        finally:  # also after Ctrl-C and errors: what was done counts
            summary = _summary(writer, reader, stop, meters, start)
            if timeline:
                timeline.finish(summary)
    _report(flags, summary, detector.precision)
    if stop.requested:
        raise KeyboardInterrupt
    if reader.error:
        raise UserError(f"{reader.error}; {flags.output} holds the {writer.frames} frames that were decoded")


def _connect(threads, flags, reader, detector, wanted, meters):
    """The stages before encoding, each in a thread of its own -> iterator of finished Frames, in order."""
    batch = 1 if reader.live else flags.batch_size  # a live picture should not wait for others
    frames = threads.run(_decode(reader, detector, flags, meters["decode"]), ahead=max(AHEAD, batch))
    frames = threads.run(_detect(frames, detector, batch, wanted, meters["network"]), ahead=AHEAD)
    return threads.run(_draw(frames, detector.class_names, meters["drawing"]), ahead=AHEAD)


@dataclasses.dataclass
class Frame:
    """One frame on its way: image uint8 RGB [H,W,3], time in seconds, prepared uint8 [S,S,3] network input.

    prepared is None for frames that the network skips; their detections are those of the frame before.
    """

    index: int
    time: float
    image: np.ndarray
    prepared: np.ndarray | None
    detections: Detections | None = None


def _decode(reader, detector, flags, meter):
    """Yield Frames, every Nth with its network input."""
    frames = itertools.islice(enumerate(reader), flags.max_frames)
    while True:
        with meter.measure(0):
            index, (image, seconds) = next(frames, (None, (None, None)))
            if index is None:
                return
            prepared = detector.prepare(image) if index % flags.every == 0 else None
        meter.frames += 1
        yield Frame(index, seconds, image, prepared)


def _detect(frames, detector, batch_size, wanted, meter):
    """Run the network on the prepared frames, a batch at a time; yield all Frames with detections."""
    latest = Detections.empty()
    for group in _groups(frames, batch_size):
        seen = [frame for frame in group if frame.prepared is not None]
        with meter.measure(len(seen)):
            sizes = [frame.image.shape[1::-1] for frame in seen]
            inputs = [frame.prepared for frame in seen]
            found = detector.detect_prepared(np.stack(inputs), sizes) if seen else []
        for frame, detections in zip(seen, found, strict=True):
            if wanted is not None:
                detections = detections.where(np.isin(detections.labels, list(wanted)))
            frame.detections = detections
        for frame in group:
            latest = frame.detections = latest if frame.detections is None else frame.detections
            yield frame


def _groups(frames, batch_size):
    """Yield lists of consecutive frames with batch_size network inputs, at most GROUP_FRAMES long."""
    group, inputs = [], 0
    for frame in frames:
        group.append(frame)
        inputs += frame.prepared is not None
        if inputs == batch_size or len(group) == max(GROUP_FRAMES, batch_size):
            yield group
            group, inputs = [], 0
    if group:
        yield group


def _draw(frames, class_names, meter):
    for frame in frames:
        with meter.measure():
            frame.image = visualization.draw_detections(frame.image, frame.detections, class_names)
        yield frame


def _encode(frames, writer, timeline, meter):
    for frame in frames:
        with meter.measure():
            writer.write(frame.image, frame.time)
        if timeline:
            timeline.add(frame)


def _progress(frames, reader, flags):
    """The same frames, counted by a bar with the rate and the time left."""
    totals = [number for number in (reader.frame_count, flags.max_frames) if number]
    return tqdm.tqdm(frames, total=min(totals, default=None), unit="frame", dynamic_ncols=True)


class Timeline:
    """The --json file, written frame by frame in constant memory; it appears under its name at the end."""

    def __init__(self, flags, reader, class_names):
        self._class_names = class_names
        self._separator = "\n"
        self._file = files.PendingFile(flags.json)
        head = {
            "model": flags.model,
            "input": flags.input,
            "output": flags.output,
            "class_names": list(class_names),
            "threshold": flags.threshold,
            "every": flags.every,
            "width": reader.width,
            "height": reader.height,
            "rate": float(reader.rate),
        }
        self._file.write(json.dumps(head)[:-1] + ', "frames": [')

    def add(self, frame):
        """One frame: its place, time in seconds, whether its boxes are carried over, its detections."""
        found = frame.detections
        rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes_px.tolist(), strict=True)
        entry = {
            "index": frame.index,
            "time": round(frame.time, 6),
            "carried": frame.prepared is None,
            "detections": [{"class": self._class_names[k], "score": s, "box": box} for k, s, box in rows],
        }
        self._file.write(self._separator + json.dumps(entry))
        self._separator = ",\n"

    def finish(self, summary):
        """Add the summary and put the file in its place."""
        self._file.write("\n], " + json.dumps(summary)[1:] + "\n")
        self._file.commit()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.discard()  # which leaves alone what `finish` put in its place


def _summary(writer, reader, stop, meters, start):
    """What the JSON says after the frames, as a dict.

    Stages overlap, so their seconds add up to more than those of end_to_end. The frames of "network" are
    those that it ran on.
    """
    whole = stages.Meter()
    whole.frames, whole.seconds = writer.frames, time.monotonic() - start
    return {
        "frame_count": writer.frames,
        "padding": {"right": writer.padding[0], "bottom": writer.padding[1]},
        "audio": writer.audio,
        "error": reader.error,
        "interrupted": stop.requested,
        "timing": {name: meter.to_json() for name, meter in {**meters, "end_to_end": whole}.items()},
    }


def _report(flags, summary, precision):
    """Say on stdout what was made."""
    timing = summary["timing"]
    rates = ", ".join(f"{name} {values['frames_per_second'] or 0:.1f}" for name, values in timing.items())
    print(f"{summary['frame_count']} frames are in {flags.output}; frames/s in {precision}: {rates.replace('_', ' ')}")
    if flags.every > 1:
        print(f"--every {flags.every}: boxes of the frames in between are those of the frame before")
    if any(summary["padding"].values()):
        sides = [side for side, pixels in summary["padding"].items() if pixels]
        print(f"H.264 has even sides: a line of pixels was added at the {' and the '.join(sides)}")
    if summary["audio"]:
        print(f"sound: {summary['audio']}")


def _check_outputs(flags):
    """Raises UserError if a file to write is one to read, or cannot be written."""
    taken = {"INPUT": flags.input}
    for name, path in (("OUTPUT", flags.output), ("--json", flags.json)):
        if path is None:
            continue
        for other, used in taken.items():
            if os.path.realpath(path) == os.path.realpath(used):
                raise UserError(f"{name} {path}: is also {other}; give another file")
        taken[name] = path
        files.check_writable(path)


def _mp4(text):
    if not text.lower().endswith(".mp4"):
        raise argparse.ArgumentTypeError(f"{text!r}: the video is written as MP4, end its name with .mp4")
    return cli.output_file(text)


def _parse(argv):
    parser = cli.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", metavar="MODEL", help="a run directory (its best checkpoint; RUN@last: its last) or a .pb")
    add("input", metavar="INPUT", help="a video file, a camera's number (0), or an address (rtsp://…)")
    add("output", metavar="OUTPUT.mp4", type=_mp4, help="the video to write; replaced if it exists")
    show = visualization.SHOW_THRESHOLD
    add("--threshold", type=cli.fraction, default=show, metavar="X", help=f"show detections above it (default: {show})")
    add("--classes", metavar="NAMES", help="only these, with commas")
    add(
        "--every",
        type=cli.positive_int,
        default=1,
        metavar="N",
        help="run the network on every Nth frame only, keep its boxes in between (default: 1)",
    )
    add("--max-frames", type=cli.positive_int, metavar="N", help="stop after N frames")
    add(
        "--batch-size",
        type=cli.positive_int,
        default=8,
        metavar="N",
        help="frames at once in the network, 1 for a camera or stream (default: 8)",
    )
    add("--precision", choices=config.PRECISIONS, default="auto", help="of the network (default: auto)")
    add("--json", type=cli.output_file, metavar="FILE", help="write the detections of every frame, and the speeds")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
