"""Draw detections into a video. The output is H.264 with the size, times and sound of the source.

INPUT is a video file, a folder of numbered pictures (frame_1.jpg, frame_2.jpg, …), a camera's number or a stream's
address; cameras and streams run until Ctrl-C. An interrupted run leaves a video that plays.

    python process_video.py runs/mine drive.mp4 drive_annotated.mp4
    python process_video.py runs/mine monday.mp4 tuesday.mp4 frames/ annotated/
    python process_video.py runs/mine drive.mp4 drive_tracks.mp4 --track --json drive.json
"""

import system.environment  # noqa: F401

import argparse
import collections
import contextlib
import dataclasses
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import tqdm

import config
import pretrained
from exports import file_metadata
from formats import class_lists
from media import frame_folder, video, visualization
from scoring import score_threshold
from structures import Detections, UserError
from system import cli, files, stages, wording
from system.wording import plural
from tracking import following
from tracking.tracker import Sighting, held_back

AHEAD = 4  # frames that a stage computes in advance
GROUP_FRAMES = 32  # most frames held to fill one batch of the network, which bounds memory with --every


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. argv: its arguments, by default the command line's. Raises UserError, KeyboardInterrupt."""
    flags = _parse(argv)
    config.refuse_later_model("process_video.py", argv, flags.model, [*flags.inputs, flags.output])
    films = _films(flags)
    model = config.find_model(flags.model)
    class_lists.check_classes(flags.classes, model.class_names)
    threshold = score_threshold.resolve(flags.threshold, model, visualization.SHOW_THRESHOLD)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(cli.StopRequest())
        first = stack.enter_context(_open(films[0]))
        for film in films:
            _check_outputs(film)
        pretrained.fetched(model, stop.raise_if_requested)
        cli.import_tensorflow()
        import detector  # TensorFlow loads only after all flags and paths are checked

        batch_size = 1 if first.live else flags.batch_size  # a live picture should not wait for others
        lowest = following.lowered(threshold) if flags.track else threshold
        settings = {"precision": flags.precision, "threshold": lowest, "batch_size": batch_size}
        loaded = stack.enter_context(detector.load(flags.model, **settings))
        wanted = class_lists.find_labels(flags.classes, loaded.class_names)
        if flags.track:
            for film in films:
                film.threshold = threshold(loaded.class_names) if callable(threshold) else threshold
        stop.raise_if_requested()
        if len(films) == 1:
            _process(films[0], first, loaded, wanted, stop)
        else:
            _process_all(films, loaded, wanted, stop)


def _process_all(films, detector, wanted, stop):
    """Process several films. What is wrong with one is said, and raised at the end, after the others."""
    failed = []
    for film in films:
        try:
            with _open(film) as reader:
                _process(film, reader, detector, wanted, stop)
        except UserError as error:
            cli.warn(error)
            failed.append(film.input)
    if failed:
        raise UserError(f"{', '.join(failed)}: not processed, or not to the end; the warnings say why")


def _films(flags):
    """The flags of each film: its `input`, `output` and `json`."""
    flags.track = bool(flags.track or flags.track_crops or flags.score_tracks)
    flags.truth = following.read_truth(flags.score_tracks) if flags.score_tracks else None
    single = len(flags.inputs) == 1 and flags.output.lower().endswith(".mp4")
    if single:
        if flags.json and os.path.isdir(flags.json):
            better = os.path.join(flags.json, f"{wording.stem(flags.output)}.json")
            raise UserError(f"--json {flags.json}: is a folder, but OUTPUT is one film; give a file, such as {better}")
        source = flags.inputs[0]
        is_path = source and not source.isdigit() and "://" not in source
        if is_path and not os.path.exists(source) and os.path.exists(flags.output):
            raise UserError(f"{source}: no such file; INPUT comes before OUTPUT, and OUTPUT {flags.output} exists")
        return [argparse.Namespace(**{**vars(flags), "input": source})]
    if flags.output.lower().endswith(".mp4"):
        raise UserError(f"OUTPUT {flags.output}: is one film, but there are {len(flags.inputs)}; give a folder")
    if flags.truth:
        raise UserError(f"--score-tracks {flags.score_tracks}: is of one film; give one INPUT and OUTPUT.mp4")
    _check_folder("OUTPUT", flags.output)
    if flags.json:
        _check_folder("--json", flags.json)
    films, names = [], dict[str, str]()
    for source in flags.inputs:
        if source.isdigit() or "://" in source:
            raise UserError(f"{source}: a camera or stream runs until Ctrl-C; give it alone, with OUTPUT.mp4")
        if not os.path.exists(source):
            raise UserError(f"{source}: no such file or folder")
        name = wording.stem(os.path.normpath(source))
        if name in names:
            raise UserError(f"{source}: would have the same name as {names[name]} in {flags.output}; call them in turn")
        names[name] = source
        timeline = os.path.join(flags.json, f"{name}.json") if flags.json else None
        crops = os.path.join(flags.track_crops, name) if flags.track_crops else None
        output = os.path.join(flags.output, f"{name}.mp4")
        paths = {"input": source, "output": output, "json": timeline, "track_crops": crops}
        films.append(argparse.Namespace(**{**vars(flags), **paths}))
    return films


def _check_folder(name, path):
    """Raise UserError unless a path is a folder that can be written to; made if it is missing."""
    try:
        os.makedirs(cli.output_folder(path), exist_ok=True)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{name}: {error}") from None


def _open(film):
    """The reader of a film's input, open."""
    if os.path.isdir(film.input):
        return frame_folder.FrameFolder(film.input, film.rate)
    reader = video.VideoReader(film.input, film.stream)
    if reader.streams > 1:
        print(f"{film.input}: video stream {film.stream} of {reader.streams}; --stream N takes another")
    return reader


def _process(flags, reader, detector, wanted, stop):
    """Decode, detect, draw and encode the whole video. Raises UserError if it was damaged."""
    names = ("decode", "network", *(["tracking"] if flags.track else []), "drawing", "encoding")
    meters = {name: stages.Meter() for name in names}
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        timeline = stack.enter_context(Timeline(flags, reader, detector)) if flags.json else None
        threads = stack.enter_context(stages.Threads(lambda: stop.requested))
        tracks = _following(flags, detector, wanted) if flags.track else None
        frames = _connect(threads, flags, reader, detector, wanted, meters, tracks)
        first = next(frames, None)
        if first is None:  # stopped; the output of an earlier call is kept
            raise KeyboardInterrupt
        writer = video.VideoWriter(
            flags.output,
            reader.width,
            reader.height,
            reader.rate,
            audio_from=None if reader.live or os.path.isdir(flags.input) else flags.input,
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
            threads.end()
            summary = {**_summary(writer, reader, stop, meters, start), **(tracks.summary() if tracks else {})}
            if timeline:
                timeline.finish(summary)
    _report(flags, summary, detector.precision)
    if stop.requested:
        raise KeyboardInterrupt
    if reader.error:
        raise UserError(f"{reader.error}; {flags.output} holds what was decoded, {plural(writer.frames, 'frame')}")


def _following(flags, detector, wanted):
    """The following.Following of a film."""
    names = None if wanted is None else [detector.class_names[label] for label in sorted(wanted)]
    return following.Following(
        detector.class_names, flags.threshold, crops=flags.track_crops, truth=flags.truth, wanted=names
    )


def _connect(threads, flags, reader, detector, wanted, meters, tracks):
    """Start the stages before encoding, each in its own thread -> iterator of finished Frames, in order."""
    batch = detector.batch_size
    frames = threads.run(_decode(reader, detector, flags, meters["decode"]), ahead=max(AHEAD, batch))
    frames = threads.run(_detect(frames, detector, batch, wanted, meters["network"]), ahead=AHEAD)
    if tracks:
        hold = 0 if reader.live else min(max(following.HOLD, flags.every), following.MOST_HELD)
        frames = threads.run(_track(frames, tracks, hold, reader.live, meters["tracking"]), ahead=AHEAD)
    return threads.run(_draw(frames, detector.class_names, meters["drawing"]), ahead=AHEAD)


@dataclasses.dataclass
class Frame:
    """One frame on its way through the stages.

    index: 0 for the first.
    time: seconds from the start.
    image: uint8 RGB [H,W,3].
    prepared: uint8 [S,S,3], the network's input; None if the network skips this frame, which then has the detections
        of the frame before.
    detections: None before the network; with --track, those of its tracks.
    tracks: with --track, what is known of them, in the order of the detections.
    """

    index: int
    time: float
    image: np.ndarray
    prepared: np.ndarray | None
    detections: Detections | None = None
    tracks: following.Shown | None = None


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


def _track(frames, tracks, hold, live, meter):
    """Replace the detections by tracks; yields Frames, `hold` later than they come."""

    def associated() -> Iterator[tuple[Frame, list[Sighting]]]:
        for frame in frames:
            with meter.measure():
                found = tracks.update(frame.time, None if frame.prepared is None else frame.detections)
            yield frame, found

    for frame, sightings in held_back(associated(), hold, live):
        with meter.measure(0):
            frame.tracks = tracks.show(frame.index, frame.time, frame.image, sightings)
            frame.detections = frame.tracks.detections
        yield frame


def _draw(frames, class_names, meter):
    for frame in frames:
        with meter.measure():
            if frame.tracks is None:
                frame.image = visualization.draw_detections(frame.image, frame.detections, class_names)
            else:
                one = frame.tracks
                frame.image = visualization.draw_tracks(
                    frame.image, one.detections, one.ids, one.trails, class_names, one.carried
                )
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

    def __init__(self, flags: argparse.Namespace, reader: video.VideoReader, detector: Any) -> None:
        """detector: the detector.Detector that runs; `class_names` of it are used, and `threshold` without --track."""
        class_names = detector.class_names
        threshold = flags.threshold if flags.track else detector.threshold  # tracks need low scores too
        self._class_names = class_names
        self._separator = "\n"
        self._file = files.PendingFile(flags.json)
        head = {
            "model": flags.model,
            "input": flags.input,
            "output": flags.output,
            "class_names": list(class_names),
            "threshold": file_metadata.lowest_threshold(threshold),
            "every": flags.every,
            "width": reader.width,
            "height": reader.height,
            "rate": float(reader.rate),
        }
        if isinstance(threshold, tuple):
            head["thresholds"] = dict(zip(class_names, threshold, strict=True))
        self._file.write(json.dumps(head)[:-1] + ', "frames": [')

    def add(self, frame: Frame) -> None:
        """Add a frame: index, time in seconds, whether its boxes are carried over, detections, which may be tracks."""
        found = frame.detections
        assert found is not None  # the network stage is done
        rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes_px.tolist(), strict=True)
        listed: list[dict[str, Any]] = [{"class": self._class_names[k], "score": s, "box": box} for k, s, box in rows]
        if frame.tracks:
            known = zip(listed, frame.tracks.ids.tolist(), frame.tracks.carried.tolist(), strict=True)
            listed = [{**one, "track": key, "carried": carried} for one, key, carried in known]
        entry = {
            "index": frame.index,
            "time": round(frame.time, 6),
            "carried": frame.prepared is None,
            "detections": listed,
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
    print(
        f"{flags.output}: {plural(summary['frame_count'], 'frame')}; frames/s in {precision}: {rates.replace('_', ' ')}"
    )
    if "tracks" in summary:
        _report_tracks(summary)
    elif flags.every > 1:
        print(f"--every {flags.every}: the frames in between have the boxes of the frame before")
    if any(summary["padding"].values()):
        sides = [side for side, pixels in summary["padding"].items() if pixels]
        print(f"H.264 needs even sides: a line of pixels was added at the {' and the '.join(sides)}")
    if summary["audio"]:
        print(f"sound: {summary['audio']}")


def _report_tracks(summary):
    counts = collections.Counter(track["class"] for track in summary["tracks"])
    kinds = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    print(f"{plural(len(summary['tracks']), 'track')}{f' ({kinds})' if kinds else ''}")
    if scores := summary.get("track_scores"):
        parts = ", ".join(f"{name.upper()} {scores[name]:.3f}" for name in ("hota", "mota", "idf1"))
        changes = plural(scores["id_switches"], "change") + " of identity"
        print(f"{scores['truth']}: {parts}; {changes} for {plural(scores['objects'], 'object')}")


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


def _mp4_or_folder(text):
    suffix = os.path.splitext(text)[1]
    if suffix.lower() == ".mp4":
        return cli.output_file(text)
    if suffix and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r}: videos are written as MP4; give a name in .mp4, or a folder")
    return cli.output_folder(text)


def _rate(text):
    return Fraction(cli.positive_float(text)).limit_denominator(1001)


def _json_path(text):
    return cli.output_folder(text) if os.path.isdir(text) else cli.output_json(text)


def _parse(argv):
    parser = cli.ArgumentParser(description=__doc__)
    _input_flags(parser.add_argument_group("what it reads").add_argument)
    _detection_flags(parser.add_argument_group("how it detects").add_argument)
    _output_flags(parser.add_argument_group("what it writes").add_argument)
    _tracking_flags(parser.add_argument_group("how it follows objects").add_argument)
    return parser.parse_args(argv)


def _input_flags(add):
    add("model", metavar="MODEL", help=config.MODEL_HELP)
    add(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="video files, folders of numbered pictures, or one camera's number (0) or address (rtsp://…)",
    )
    add(
        "--stream",
        type=cli.positive_int,
        default=1,
        metavar="N",
        help="which video stream of a file that has several, such as a dashcam's front and rear camera",
    )
    add("--rate", type=_rate, default="25", metavar="X", help="frames per second of folders of pictures")
    add("--max-frames", type=cli.positive_int, metavar="N", help="stop after N frames (default: all)")


def _detection_flags(add):
    add(
        "--threshold",
        type=score_threshold.parse,
        metavar="X",
        help=f"show detections that score above X: {score_threshold.HELP} (default: {visualization.SHOW_THRESHOLD})",
    )
    add("--classes", metavar="NAMES", help="show only these classes, separated by commas (default: all)")
    add(
        "--every",
        type=cli.positive_int,
        default=1,
        metavar="N",
        help="run the network on every Nth frame only, and keep its boxes in between; with --track they move on",
    )
    add(
        "--batch-size",
        type=cli.positive_int,
        metavar="N",
        help="frames that the network processes at once; always 1 for a camera or stream (default: 8, on a GPU 32)",
    )
    add("--precision", choices=config.PRECISIONS, default="auto", help="number type of the network")


def _output_flags(add):
    add(
        "output",
        metavar="OUTPUT",
        type=_mp4_or_folder,
        help="the video to write, in .mp4, or a folder for INPUT.mp4 of each; existing files are replaced",
    )
    add(
        "--json",
        type=_json_path,
        metavar="FILE",
        help="write the detections of every frame and the speed of every stage to FILE; where OUTPUT is a folder, a "
        "folder too",
    )


def _tracking_flags(add):
    add(
        "--track",
        action="store_true",
        help="give each object an identity, drawn with a trail of its last second: ByteTrack, which also uses scores "
        "from 0.1 on; boxes are smoothed and carried through gaps of up to half a second (default: no)",
    )
    add(
        "--track-crops",
        type=cli.output_folder,
        metavar="DIR",
        help="--track, and write each track's picture of the best score to DIR/ID.jpg; of several films, in a folder "
        "for each (default: none)",
    )
    add(
        "--score-tracks",
        type=cli.existing_file,
        metavar="gt.txt",
        help="--track, and score the tracks with a ground truth in MOT's format: HOTA, MOTA, IDF1 (default: none)",
    )


if __name__ == "__main__":
    cli.run(main)
