"""Draw detections into a video. The output is H.264 with the size, times and sound of the source.

INPUT is a video file, a folder of numbered pictures (frame_1.jpg, frame_2.jpg, …), a camera's number or a stream's
address; cameras and streams run until Ctrl-C. An interrupted run leaves a video that plays.

    python process_video.py runs/mine drive.mp4 drive_annotated.mp4
    python process_video.py runs/mine monday.mp4 tuesday.mp4 frames/ annotated/
    python process_video.py runs/mine drive.mp4 drive_tracks.mp4 --track --json drive.json
"""

import system.environment  # noqa: F401

import contextlib
import itertools
import os
import time
from collections.abc import Sequence

import tqdm

import config
import pretrained
from film import flags as film_flags
from film import frames as film_frames
from film import outcome
from film.legend import Legend
from film.timeline import Timeline
from formats import class_lists
from media import frame_folder, video, visualization
from scoring import score_threshold
from structures import UserError
from system import cli, stages
from system.wording import plural
from tracking import following

AHEAD = 4  # frames that a stage computes in advance


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. argv: its arguments, by default the command line's. Raises UserError, KeyboardInterrupt."""
    flags = film_flags.parse(argv, __doc__)
    config.refuse_later_model("process_video.py", argv, flags.model, [*flags.inputs, flags.output])
    films = film_flags.films(flags)
    model = config.find_model(flags.model)
    class_lists.check_classes(flags.classes, model.class_names)
    class_lists.check_classes(flags.blur, model.class_names, "--blur")
    threshold = score_threshold.resolve(flags.threshold, model, visualization.SHOW_THRESHOLD)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(cli.StopRequest())
        first = stack.enter_context(_open(films[0]))
        _places(films[0], first)
        for film in films:
            film_flags.check_outputs(film)
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
        tracks = _following(flags, reader, detector, wanted) if flags.track else None
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
                film_frames.encode(frames, writer, timeline, meters["encoding"])
                threads.end()
                with meters["encoding"].measure(0):
                    writer.close()
        finally:  # also after Ctrl-C and errors, for the frames that are done
            threads.end()
            summary = {**outcome.summary(writer, reader, stop, meters, start), **(tracks.summary() if tracks else {})}
            if timeline:
                timeline.finish(summary)
            outcome.write_tracks(flags, summary, detector.class_names, writer.seconds)
    outcome.report(flags, summary, detector.precision)
    if stop.requested:
        raise KeyboardInterrupt
    if reader.error:
        raise UserError(f"{reader.error}; {flags.output} holds what was decoded, {plural(writer.frames, 'frame')}")


def _places(flags, reader):
    """The lines and zones of a film, in pixels. Raises UserError if one reaches out of the picture."""
    return [place.in_pixels(reader.width, reader.height) for place in flags.places]


def _following(flags, reader, detector, wanted):
    """The following.Following of a film."""
    names = None if wanted is None else [detector.class_names[label] for label in sorted(wanted)]
    return following.Following(
        detector.class_names,
        flags.threshold,
        crops=flags.track_crops,
        truth=flags.truth,
        wanted=names,
        blurred=[detector.class_names[label] for label in _blurred(flags, detector)],
        places=_places(flags, reader),
    )


def _blurred(flags, detector):
    """The labels of --blur."""
    return class_lists.find_labels(flags.blur, detector.class_names, "--blur") if flags.blur else set()


def _connect(threads, flags, reader, detector, wanted, meters, tracks):
    """Start the stages before encoding, each in its own thread -> iterator of finished Frames, in order."""
    batch = detector.batch_size
    frames = threads.run(film_frames.decode(reader, detector, flags, meters["decode"]), ahead=max(AHEAD, batch))
    frames = threads.run(
        film_frames.detect(frames, detector, batch, wanted, _blurred(flags, detector), meters["network"]), ahead=AHEAD
    )
    if tracks:
        hold = 0 if reader.live else min(max(following.HOLD, flags.every), following.MOST_HELD)
        frames = threads.run(film_frames.track(frames, tracks, hold, reader.live, meters["tracking"]), ahead=AHEAD)
    legend = Legend(detector.class_names) if flags.legend else None
    return threads.run(film_frames.draw(frames, detector.class_names, legend, meters["drawing"]), ahead=AHEAD)


def _progress(frames, reader, flags):
    """The same frames, with a progress bar that shows rate and remaining time."""
    totals = [number for number in (reader.frame_count, flags.max_frames) if number]
    return tqdm.tqdm(frames, total=min(totals, default=None), unit="frame", dynamic_ncols=True)


if __name__ == "__main__":
    cli.run(main)
