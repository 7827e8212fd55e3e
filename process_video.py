"""Draw detections into a video. The output is H.264 with the size, times and sound of the source.

INPUT is a video file, a camera's number or a stream's address; cameras and streams run until Ctrl-C. An interrupted
run leaves a video that plays.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tqdm

import config
from formats import class_lists
from media import video, visualization
from structures import Detections, UserError
from system import cli, files, stages

AHEAD = 4  # frames that a stage computes in advance
GROUP_FRAMES = 32  # most frames held to fill one batch of the network, which bounds memory with --every


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. argv: its arguments, by default the command line's. Raises UserError, KeyboardInterrupt."""
    flags = _parse(argv)
    class_lists.check_classes(flags.classes, config.find_model(flags.model).class_names)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(cli.StopRequest())
        reader = stack.enter_context(video.VideoReader(flags.input, flags.stream))
        if reader.streams > 1:
            print(f"{flags.input}: video stream {flags.stream} of {reader.streams}; --stream N takes another")
        _check_outputs(flags)
        cli.import_tensorflow()
        import detector  # TensorFlow loads only after all flags and paths are checked

        batch_size = 1 if reader.live else flags.batch_size  # a live picture should not wait for others
        settings = {"precision": flags.precision, "threshold": flags.threshold, "batch_size": batch_size}
        loaded = stack.enter_context(detector.load(flags.model, **settings))
        wanted = class_lists.find_labels(flags.classes, loaded.class_names)
        stop.raise_if_requested()
        _process(flags, reader, loaded, wanted, stop)


def _process(flags, reader, detector, wanted, stop):
    """Decode, detect, draw and encode the whole video. Raises UserError if it was damaged."""
    meters = {name: stages.Meter() for name in ("decode", "network", "drawing", "encoding")}
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        timeline = stack.enter_context(Timeline(flags, reader, detector.class_names)) if flags.json else None
        threads = stack.enter_context(stages.Threads(lambda: stop.requested))
        frames = _connect(threads, flags, reader, detector, wanted, meters)
        first = next(frames, None)
        if first is None:  # stopped; the output of an earlier call is kept
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
        finally:  # also after Ctrl-C and errors, for the frames that are done
            summary = _summary(writer, reader, stop, meters, start)
            if timeline:
                timeline.finish(summary)
    _report(flags, summary, detector.precision)
    if stop.requested:
        raise KeyboardInterrupt
    if reader.error:
        raise UserError(f"{reader.error}; {flags.output} holds the {writer.frames} frames that were decoded")


def _connect(threads, flags, reader, detector, wanted, meters):
    """Start the stages before encoding, each in its own thread -> iterator of finished Frames, in order."""
    batch = detector.batch_size
    frames = threads.run(_decode(reader, detector, flags, meters["decode"]), ahead=max(AHEAD, batch))
    frames = threads.run(_detect(frames, detector, batch, wanted, meters["network"]), ahead=AHEAD)
    return threads.run(_draw(frames, detector.class_names, meters["drawing"]), ahead=AHEAD)


@dataclasses.dataclass
class Frame:
    """One frame on its way through the stages.

    index: 0 for the first.
    time: seconds from the start.
    image: uint8 RGB [H,W,3].
    prepared: uint8 [S,S,3], the network's input; None if the network skips this frame, which then has the detections
        of the frame before.
    detections: None before the network.
    """

    index: int
    time: float
    image: np.ndarray
    prepared: np.ndarray | None
    detections: Detections | None = None


def _decode(reader, detector, flags, meter):
    """Yield Frames, every Nth prepared for the network."""
    frames = itertools.islice(enumerate(reader), flags.max_frames)
    while True:
        with meter.measure(0):
            read = next(frames, None)
            if read is None:
                return
            index, (image, seconds) = read
            prepared = detector.prepare(image) if index % flags.every == 0 else None
        meter.frames += 1
        yield Frame(index, seconds, image, prepared)


def _detect(frames, detector, batch_size, wanted, meter):
    """Run the network on the prepared frames, a batch at a time; yield all Frames with detections."""
    latest = Detections.empty()
    for group in group_frames(frames, batch_size):
        seen = [frame for frame in group if frame.prepared is not None]
        with meter.measure(len(seen)):
            sizes = [frame.image.shape[1::-1] for frame in seen]
            inputs = [frame.prepared for frame in seen if frame.prepared is not None]
            found = detector.detect_prepared(np.stack(inputs), sizes) if seen else []
        for frame, detections in zip(seen, found, strict=True):
            if wanted is not None:
                detections = detections.where(np.isin(detections.labels, list(wanted)))
            frame.detections = detections
        for frame in group:
            latest = frame.detections = latest if frame.detections is None else frame.detections
            yield frame


def group_frames(frames: Iterable[Frame], batch_size: int) -> Iterator[list[Frame]]:
    """Yield lists of consecutive frames: batch_size prepared ones each, at most GROUP_FRAMES or batch_size long."""
    group: list[Frame] = []
    inputs = 0
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
    """The same frames, with a progress bar that shows rate and remaining time."""
    totals = [number for number in (reader.frame_count, flags.max_frames) if number]
    return tqdm.tqdm(frames, total=min(totals, default=None), unit="frame", dynamic_ncols=True)


class Timeline:
    """The --json file, written frame by frame in constant memory; it appears under its name at the end.

    All methods raise UserError if the file cannot be written.
    """

    def __init__(self, flags: argparse.Namespace, reader: video.VideoReader, class_names: Sequence[str]) -> None:
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

    def add(self, frame: Frame) -> None:
        """Add a frame: index, time in seconds, whether its boxes are carried over, detections."""
        found = frame.detections
        assert found is not None  # the network stage is done
        rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes_px.tolist(), strict=True)
        entry = {
            "index": frame.index,
            "time": round(frame.time, 6),
            "carried": frame.prepared is None,
            "detections": [{"class": self._class_names[k], "score": s, "box": box} for k, s, box in rows],
        }
        self._file.write(self._separator + json.dumps(entry))
        self._separator = ",\n"

    def finish(self, summary: dict[str, Any]) -> None:
        """Add the summary, a dict as from `_summary`, and publish the file."""
        self._file.write("\n], " + json.dumps(summary)[1:] + "\n")
        self._file.commit()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.discard()  # which does not touch a published file


def _summary(writer, reader, stop, meters, start):
    """The part of the JSON after the frames, as a dict.

    Stages overlap, so their seconds add up to more than end_to_end's. "network" counts the frames that it ran on.
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
    """Print what was written."""
    timing = summary["timing"]
    rates = ", ".join(f"{name} {values['frames_per_second'] or 0:.1f}" for name, values in timing.items())
    print(f"{flags.output}: {summary['frame_count']} frames; frames/s in {precision}: {rates.replace('_', ' ')}")
    if flags.every > 1:
        print(f"--every {flags.every}: the frames in between have the boxes of the frame before")
    if any(summary["padding"].values()):
        sides = [side for side, pixels in summary["padding"].items() if pixels]
        print(f"H.264 needs even sides: a line of pixels was added at the {' and the '.join(sides)}")
    if summary["audio"]:
        print(f"sound: {summary['audio']}")


def _check_outputs(flags):
    """Raise UserError if an output file is also an input or another output, or cannot be written."""
    taken = {"INPUT": flags.input}
    for name, path in (("OUTPUT", flags.output), ("--json", flags.json)):
        if path is None:
            continue
        for other, used in taken.items():
            if os.path.realpath(path) == os.path.realpath(used):
                raise UserError(f"{name} {path}: is the same file as {other}; give another file")
        taken[name] = path
        files.check_writable(path)


def _mp4(text):
    if not text.lower().endswith(".mp4"):
        raise argparse.ArgumentTypeError(f"{text!r}: the video is written as MP4; give a name that ends in .mp4")
    return cli.output_file(text)


def _parse(argv):
    parser = cli.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", metavar="MODEL", help=config.MODEL_HELP)
    add("input", metavar="INPUT", help="a video file, a camera's number (0), or an address (rtsp://…)")
    add("output", metavar="OUTPUT.mp4", type=_mp4, help="the video to write; an existing file is replaced")
    show = visualization.SHOW_THRESHOLD
    add(
        "--threshold",
        type=cli.fraction,
        default=show,
        metavar="X",
        help=f"lowest score of the detections to show (default: {show})",
    )
    add("--classes", metavar="NAMES", help="show only these classes, separated by commas (default: all)")
    add(
        "--every",
        type=cli.positive_int,
        default=1,
        metavar="N",
        help="run the network on every Nth frame only, and keep its boxes in between (default: 1)",
    )
    add(
        "--stream",
        type=cli.positive_int,
        default=1,
        metavar="N",
        help="which video stream of a file that has several, such as a dashcam's front and rear camera (default: 1)",
    )
    add("--max-frames", type=cli.positive_int, metavar="N", help="stop after N frames")
    add(
        "--batch-size",
        type=cli.positive_int,
        metavar="N",
        help="frames that the network processes at once; always 1 for a camera or stream (default: 8, on a GPU 32)",
    )
    add("--precision", choices=config.PRECISIONS, default="auto", help="number type of the network (default: auto)")
    add(
        "--json",
        type=cli.output_file,
        metavar="FILE",
        help="write the detections of every frame and the speed of every stage to FILE",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
