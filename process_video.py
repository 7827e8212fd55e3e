"""Draw detections into a video. The output is H.264 with the size, times and sound of the source.

INPUT is a video file, a folder of numbered pictures (frame_1.jpg, frame_2.jpg, …), a camera's number or a stream's
address; cameras and streams run until Ctrl-C, which leaves a video that plays. Until the video is
complete, and after an error or a kill, it is OUTPUT.unfinished.mp4; an older OUTPUT.mp4 stays until then.

    python process_video.py runs/mine drive.mp4 drive_annotated.mp4
    python process_video.py runs/mine monday.mp4 tuesday.mp4 frames/ annotated/
    python process_video.py runs/mine drive.mp4 drive_tracks.mp4 --track --json drive.json
    python process_video.py runs/mine rtsp://camera/front - --live --serve 8080 --events seen
"""

import system.environment  # noqa: F401

import concurrent.futures
import contextlib
import itertools
import os
import sys
import time
from collections.abc import Sequence

import numpy as np
import tqdm

import config
import pretrained
from film import flags as film_flags
from film import frames as film_frames
from film import outcome, output
from film.events import Events
from film.legend import Legend
from film.output import NoVideo, VideoFile
from film.page import Page
from film.sharing import SharedDetector
from film.timeline import Timeline
from formats import class_lists
from media import frame_folder, live, video, visualization
from scoring import score_threshold
from structures import UserError
from system import cli, stages, stopping, tensorflow_loading
from system.wording import plural
from tiling import tiles
from tracking import following

AHEAD = 4  # frames that a stage computes in advance


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. argv: its arguments, by default the command line's. Raises UserError, KeyboardInterrupt."""
    flags = film_flags.parse(argv, __doc__)
    config.refuse_later_model("process_video.py", argv, flags.model, [*flags.inputs, flags.output])
    films = film_flags.videos(flags)
    model = config.find_model(flags.model)
    class_lists.check_classes(flags.classes, model.class_names)
    class_lists.check_classes(flags.blur, model.class_names, "--blur")
    threshold = score_threshold.resolve(flags.threshold, model, visualization.SHOW_THRESHOLD)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(stopping.StopRequest())
        first = stack.enter_context(_open(films[0], stop))
        _places(films[0], first)
        film_flags.check_outputs(films)
        pretrained.fetched(model, stop.raise_if_requested)
        tensorflow_loading.import_tensorflow()
        stop.raise_if_requested()
        import detector  # TensorFlow loads only after all flags and paths are checked

        batch_size = _live_batch(flags, len(films), first) if first.live else flags.batch_size
        lowest = following.lowered(threshold) if flags.track else threshold
        settings = {"precision": flags.precision, "threshold": lowest, "batch_size": batch_size, "tiles": flags.tiles}
        settings |= {"tile_size": flags.tile_size, "overlap": flags.overlap}
        loaded = stack.enter_context(detector.load(flags.model, **settings))
        wanted = class_lists.find_labels(flags.classes, loaded.class_names)
        if flags.track:
            for film in films:
                film.threshold = threshold(loaded.class_names) if callable(threshold) else threshold
        if first.live:  # the first run takes seconds, for which no picture is to wait
            black = np.zeros((first.height, first.width, 3), np.uint8)
            loaded.detect_prepared(loaded.prepare(black)[None], [black.shape[1::-1]])
        stop.raise_if_requested()
        if len(films) == 1:
            _process(films[0], first, loaded, wanted, stop)
        elif first.live:
            readers = [first, *(stack.enter_context(_open(film, stop)) for film in films[1:])]
            _process_together(films, readers, SharedDetector(loaded, len(films)), wanted, stop)
        else:
            _process_all(films, first, loaded, wanted, stop)


def _live_batch(flags, cameras, first):
    """How many pictures and tiles of cameras go through the network at once: no picture waits for others of its own."""
    cut = tiles.choose(flags.tiles, flags.tile_size, flags.overlap)
    if not cut:
        return cameras
    from kernels import devices  # which needs TensorFlow

    at_once = cameras * len(cut.edges_px((first.width, first.height)))
    return min(at_once, flags.batch_size or devices.detection_batch())


def _process_together(films, readers, detector, wanted, stop):
    """Process several cameras at the same time. What is wrong with one is said, and raised when all have ended.

    Any other exception ends all: it is a fault of the program.
    """
    failed = []

    def process(film, reader):
        if isinstance(reader, live.LiveReader):
            reader.away = detector.away
        try:
            _process(film, reader, detector, wanted, stop)
        except KeyboardInterrupt:  # as all others, which is raised below
            pass
        except UserError as error:
            cli.warn(error)
            failed.append(film.input_name)
        except BaseException:
            stop.requested = True  # or it would wait for cameras that never end
            raise
        finally:
            detector.left()

    with concurrent.futures.ThreadPoolExecutor(len(films)) as pool:
        done = [pool.submit(process, film, reader) for film, reader in zip(films, readers, strict=True)]
        for one in done:
            one.result()
    _raise_failed(failed)
    if stop.requested:
        raise KeyboardInterrupt


def _process_all(films, first, detector, wanted, stop):
    """Process several videos, one after another. What is wrong with one is said, and raised at the end.

    first: the open reader of the first.
    """
    failed = []
    for film in films:
        try:
            with first if film is films[0] else _open(film, stop) as reader:
                _process(film, reader, detector, wanted, stop)
        except UserError as error:
            cli.warn(error)
            failed.append(film.input_name)
    _raise_failed(failed)


def _raise_failed(failed):
    if failed:
        raise UserError(f"{', '.join(failed)}: not processed, or not to the end; the warnings above say why")


def _open(film, stop):
    """The reader of a video's input, open. Raises UserError also for frames that need too many tiles."""
    if os.path.isdir(film.input):
        pictures = frame_folder.FrameFolder(film.input, film.rate)
        film_flags.check_tiles(film, (pictures.width, pictures.height))
        return pictures
    reader = video.VideoReader(film.input, film.stream, film.within_data)
    with contextlib.ExitStack() as stack:
        stack.callback(reader.close)
        film_flags.check_tiles(film, (reader.width, reader.height))
        stack.pop_all()
    if reader.streams > 1:
        print(f"{film.input_name}: video stream {film.stream} of {reader.streams}; --stream N takes another")
    if reader.live and video.is_camera(film.input):
        return live.LiveReader(reader, film.live, film.patience, lambda: stop.requested)
    if film.live:
        reader.close()
        raise UserError(
            f"--live: {film.input_name} is a video file, whose frames are never dropped; give a camera or stream"
        )
    return reader


def _process(flags, reader, detector, wanted, stop):
    """Decode, detect, draw and encode the whole video. Raises UserError if it was damaged."""
    names = ("decode", "network", *(["tracking"] if flags.track else []), "drawing", "encoding")
    meters = {name: stages.Meter() for name in names}
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        timeline = stack.enter_context(Timeline(flags, reader, detector)) if flags.json else None
        outputs = [timeline] if timeline else []
        if flags.events:
            size = (reader.width, reader.height)
            outputs.append(
                stack.enter_context(_closing(Events(flags.events, *size, reader.rate, detector.class_names)))
            )
        page = None
        if flags.serve:
            page = stack.enter_context(contextlib.closing(Page(flags.serve, flags.input_name, detector.class_names)))
            outputs.append(page)
            print(f"{page.address} shows the picture", flush=True)
        threads = stack.enter_context(stages.Threads(lambda: stop.requested))
        tracks = _following(flags, reader, detector, wanted) if flags.track else None
        frames = _connect(threads, flags, reader, detector, wanted, meters, tracks, page)
        first = next(frames, None)
        if first is None:  # stopped; the output of an earlier call is kept
            raise KeyboardInterrupt
        film = NoVideo() if flags.output == output.NONE else VideoFile(flags, reader)
        try:
            with film:
                frames = _progress(itertools.chain([first], frames), reader, flags)
                film_frames.encode(frames, reader, [film, *outputs], meters["encoding"])
                threads.end()
                with meters["encoding"].measure(0):
                    film.close()
        finally:  # also after Ctrl-C and errors, for the frames that are done
            threads.end()
            summary = {**outcome.summary(film, reader, stop, meters, start), **(tracks.summary() if tracks else {})}
            if reader.error:  # after a frame that is missing, lines of the truth are compared with other frames
                summary.pop("track_scores", None)
            with _second_to(sys.exc_info()[1]):
                if timeline:
                    timeline.finish(summary, film.is_whole)
                outcome.write_tracks(flags, summary, detector.class_names, film.seconds)
    outcome.report(flags, summary, detector.precision)
    if stop.requested:
        raise KeyboardInterrupt
    if reader.error:
        done = plural(film.frames, "frame")
        kept = f"{done} before it" if flags.output == output.NONE else f"{flags.output} holds what was decoded, {done}"
        unscored = "; tracks are scored only where no frame is missing" if flags.truth else ""
        raise UserError(f"{reader.error}; {kept}{unscored}")


@contextlib.contextmanager
def _second_to(first):
    """Context manager: a UserError of the block is a warning if `first`, an exception, is on its way to the user.

    On a full disk all files fail, and the first error says what is left of the video.
    """
    try:
        yield
    except UserError as error:
        if first is None:
            raise
        cli.warn(error)


@contextlib.contextmanager
def _closing(output):
    """Context manager that closes an output, `_second_to` what ended the block."""
    try:
        yield output
    finally:
        with _second_to(sys.exc_info()[1]):
            output.close()


def _places(flags, reader):
    """The lines and zones of a video, in pixels. Raises UserError if one reaches out of the picture."""
    return [place.in_pixels(reader.width, reader.height) for place in flags.places]


def _following(flags, reader, detector, wanted):
    """The following.Following of a video."""
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


def _connect(threads, flags, reader, detector, wanted, meters, tracks, page):
    """Start the stages before encoding in threads -> iterator of finished Frames, in order."""
    batch, ahead = 1 if reader.live else detector.batch_size, 1 if flags.live else AHEAD
    frames = film_frames.decode(reader, detector, flags, meters["decode"])
    if not flags.live:  # else the network takes the newest frame itself: none is to wait for it
        frames = threads.run(frames, ahead=max(AHEAD, batch))
    blurred = _blurred(flags, detector)
    frames = threads.run(film_frames.detect(frames, detector, batch, wanted, blurred, meters["network"]), ahead=ahead)
    if tracks:  # in the thread that draws: two that each have a millisecond to do would only wait for each other
        hold = 0 if reader.live else following.hold(reader.rate, flags.every)
        # What --blur hides is not to be seen in a gap because its end comes too late to wait for
        expect = reader.live or (tracks.blurs and not following.waits_for_gaps(reader.rate))
        frames = film_frames.track(frames, tracks, hold, expect, meters["tracking"])
    legend = Legend(detector.class_names) if flags.legend else None
    drawn = film_frames.draw(
        frames, detector.class_names, legend, lambda: page.hidden if page else (), meters["drawing"]
    )
    return threads.run(drawn, ahead=ahead)


def _progress(frames, reader, flags):
    """The same frames, with a progress bar that shows rate and remaining time."""
    totals = [number for number in (reader.frame_count, flags.max_frames) if number]
    total = min(totals, default=None)
    together = reader.live and len(flags.inputs) > 1  # bars of several would overwrite each other
    return tqdm.tqdm(frames, total=total, unit="frame", dynamic_ncols=True, disable=together)


if __name__ == "__main__":
    cli.run(main)
