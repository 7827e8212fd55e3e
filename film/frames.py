"""The stages that each frame of a video goes through: decoding, the network, tracking, drawing, encoding.

A stage is a generator of Frames; process_video.py runs each in a thread of its own.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from film.legend import Legend
from media import visualization
from media.live import LiveReader
from structures import Detections, no_boxes
from system.stages import Meter
from tracking.counting import Count
from tracking.following import Following, Shown
from tracking.tracker import LOW, Sighting, held_back

GROUP_FRAMES = 32  # most frames held to fill one batch of the network, which bounds memory with --every


@dataclasses.dataclass
class Frame:
    """One frame on its way through the stages.

    index: 0 for the first; where a reader skips frames, they are counted.
    time: seconds from the start.
    image: uint8 RGB [H,W,3].
    prepared: uint8 [height,width,3], the network's input; None if the network skips this frame, which then has the
        detections of the frame before.
    detections: None before the network; with --track, those of its tracks.
    hidden: float32 [N,4], boxes of what --blur hides, in pixels.
    tracks: with --track, what is known of them, in the order of the detections.
    """

    index: int
    time: float
    image: np.ndarray
    prepared: np.ndarray | None
    detections: Detections | None = None
    hidden: np.ndarray = dataclasses.field(default_factory=no_boxes)
    tracks: Shown | None = None


def decode(reader: Any, detector: Any, flags: Any, meter: Meter) -> Iterator[Frame]:
    """Yield Frames, every Nth prepared for the network.

    reader: as a video.VideoReader; flags: `max_frames` and `every` of them are used.
    """
    frames = itertools.islice(enumerate(reader), flags.max_frames)
    while True:
        with meter.measure(0):
            read = next(frames, None)
            if read is None:
                return
            count, (image, seconds) = read
            index = count + reader.skipped
            # By the count: the network looks at every so many of those that are there
            prepared = detector.prepare(image) if count % flags.every == 0 else None
        meter.frames += 1
        yield Frame(index, seconds, image, prepared)


def detect(
    frames: Iterable[Frame],
    detector: Any,
    batch_size: int,
    wanted: set[int] | None,
    blurred: set[int],
    meter: Meter,
) -> Iterator[Frame]:
    """Run the network on the prepared frames, a batch at a time; yield all Frames with detections.

    wanted: the labels that are kept, None for all. blurred: labels that are hidden, which are kept too.
    """
    latest, hidden = Detections.empty(), no_boxes()
    for group in group_frames(frames, batch_size):
        seen = [frame for frame in group if frame.prepared is not None]
        with meter.measure(len(seen)):
            sizes = [frame.image.shape[1::-1] for frame in seen]
            inputs = [frame.prepared for frame in seen if frame.prepared is not None]
            found = detector.detect_prepared(np.stack(inputs), sizes) if seen else []
        for frame, detections in zip(seen, found, strict=True):
            if blurred:  # what is hidden without need does less harm than what is not hidden
                sure = np.isin(detections.labels, list(blurred)) & (detections.scores > LOW)
                frame.hidden = detections.boxes_px[sure]
            if wanted is not None:
                detections = detections.where(np.isin(detections.labels, list(wanted | blurred)))
            frame.detections = detections
        for frame in group:
            if frame.detections is not None:
                latest, hidden = frame.detections, frame.hidden
            frame.detections, frame.hidden = latest, hidden
            yield frame


def group_frames(frames: Iterable[Frame], batch_size: int) -> Iterator[list[Frame]]:
    """Yield lists of consecutive frames: batch_size prepared ones each, at most GROUP_FRAMES or batch_size long.

    A frame that is not prepared, and has none before it in its list, waits for none: it is a list of its own.
    """
    group: list[Frame] = []
    inputs = 0
    for frame in frames:
        group.append(frame)
        inputs += frame.prepared is not None
        if not inputs or inputs == batch_size or len(group) == max(GROUP_FRAMES, batch_size):
            yield group
            group, inputs = [], 0
    if group:
        yield group


def track(frames: Iterable[Frame], tracks: Following, hold: int, expect: bool, meter: Meter) -> Iterator[Frame]:
    """Replace the detections by tracks; yields Frames, up to `hold` later than they come.

    expect: show objects where they are expected to be, though they may not be seen again.
    """

    def associated() -> Iterator[tuple[Frame, list[Sighting]]]:
        for frame in frames:
            with meter.measure():
                detections = None if frame.prepared is None else frame.detections
                found = tracks.update(frame.time, detections, frame.image)
            yield frame, found

    for frame, sightings in held_back(associated(), hold, expect, early=not tracks.blurs):
        with meter.measure(0):
            frame.tracks = tracks.show(frame.index, frame.time, frame.image, sightings, frame.hidden)
            frame.image, frame.detections = frame.tracks.image, frame.tracks.detections
        yield frame


def draw(
    frames: Iterable[Frame],
    class_names: Sequence[str],
    legend: Legend | None,
    hidden: Callable[[], Iterable[int]],
    meter: Meter,
) -> Iterator[Frame]:
    """Draw the detections, or the tracks, into the pictures.

    legend: None for none. hidden: called for each frame, gives the labels that are not drawn.
    """
    for frame in frames:
        with meter.measure():
            lines = legend.lines(frame.time, frame.detections, frame.tracks and frame.tracks.ids) if legend else ()
            drawn = ~np.isin(frame.detections.labels, list(hidden()))
            found = frame.detections.where(drawn)
            if frame.tracks is None:
                frame.image = visualization.draw_detections(frame.image, found, class_names, legend=lines)
            else:
                one = frame.tracks
                trails = [trail for trail, shown in zip(one.trails, drawn, strict=True) if shown]
                places = [(count.place.points, words(count)) for count in one.counts]
                frame.image = visualization.draw_tracks(
                    frame.image, found, one.ids[drawn], trails, class_names, one.carried[drawn], places, lines
                )
        yield frame


def words(count: Count) -> str:
    """What is counted at a place, in words."""
    inside = "" if count.inside is None else f"{count.inside} now, "
    return f"{count.place.name}: {inside}{count.entered} in, {count.left} out"


def encode(frames: Iterable[Frame], reader: Any, outputs: Sequence[Any], meter: Meter) -> None:
    """Give the frames to each of the outputs, by `add(frame)`, and tell a live reader. Raises UserError."""
    for frame in frames:
        with meter.measure():
            for output in outputs:
                output.add(frame)
        if isinstance(reader, LiveReader):
            reader.shown(frame.time)
