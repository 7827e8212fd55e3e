"""How a video ended: the part of the JSON after its frames, and what process_video.py prints of it."""

import argparse
import collections
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

from film import count_table
from film.output import NONE, NoVideo, VideoFile
from media import track_chart
from media.live import LiveReader
from system import stages
from system.stopping import StopRequest
from system.wording import plural


def summary(
    video: VideoFile | NoVideo, reader: Any, stop: StopRequest, meters: dict[str, stages.Meter], start: float
) -> dict[str, Any]:
    """The part of the JSON after the frames, as a dict.

    Stages overlap, so their seconds add up to more than end_to_end's. "network" counts the frames that it ran on.

    start: when it began, as of time.monotonic.
    """
    whole = stages.Meter()
    whole.frames, whole.seconds = video.frames, time.monotonic() - start
    return {
        "frame_count": video.frames,
        "padding": {"right": video.padding[0], "bottom": video.padding[1]},
        "audio": video.audio,
        "error": reader.error,
        "interrupted": stop.requested,
        **({"live": reader.facts()} if isinstance(reader, LiveReader) else {}),
        "timing": {name: meter.to_json() for name, meter in {**meters, "end_to_end": whole}.items()},
    }


def write_tracks(
    flags: argparse.Namespace, summary: dict[str, Any], class_names: Sequence[str], seconds: float
) -> None:
    """Write --csv and --timeline. seconds: of the video. Raises UserError."""
    if flags.csv:
        count_table.write(flags.csv, summary)
    if flags.timeline:
        spans: dict[str, list] = {}
        for track in summary["tracks"]:
            spans.setdefault(track["class"], []).append((track["first_time"], track["last_time"]))
        title = os.path.basename(flags.input_name)
        track_chart.plot_tracks(flags.timeline, title, spans, class_names, seconds)


def report(flags: argparse.Namespace, summary: dict[str, Any], precision: str) -> None:
    """Print what was written."""
    name, timing = flags.output, dict(summary["timing"])
    if name == NONE:
        name = flags.input_name
        if not (flags.events or flags.serve):  # frames were counted, which has no rate worth knowing
            del timing["encoding"]
    rates = ", ".join(f"{stage} {values['frames_per_second'] or 0:.1f}" for stage, values in timing.items())
    print(f"{name}: {plural(summary['frame_count'], 'frame')}; frames/s in {precision}: {rates.replace('_', ' ')}")
    if "tracks" in summary:
        _report_tracks(summary)
    elif flags.every > 1:
        print(f"--every {flags.every}: the frames in between have the boxes of the frame before")
    if any(summary["padding"].values()):
        sides = [side for side, pixels in summary["padding"].items() if pixels]
        print(f"H.264 needs even sides: a line of pixels was added at the {' and the '.join(sides)}")
    if summary.get("live"):
        _report_live(summary["live"])
    if summary["audio"]:
        print(f"sound: {summary['audio']}")


def _report_live(facts):
    if facts.get("mean_delay") is not None:
        print(
            f"live: {plural(facts['dropped'], 'frame')} dropped, the others shown {facts['mean_delay']:.2f} s after "
            f"they came, {facts['longest_delay']:.2f} s at most"
        )
    if facts["interruptions"]:
        print(f"{plural(facts['interruptions'], 'interruption')}, {facts['seconds_lost']:.0f} s in all")


def _report_tracks(summary):
    counts = collections.Counter(track["class"] for track in summary["tracks"])
    print(f"{plural(len(summary['tracks']), 'track')}{_in_brackets(counts)}")
    for place in summary.get("counts", {}).get("lines", []):
        print(f"{place['name']}: {_directions(place)}")
    for place in summary.get("counts", {}).get("zones", []):
        seconds = [visit["last_time"] - visit["first_time"] for visit in place["visits"]]
        stay = f", {statistics.mean(seconds):.1f} s each" if seconds else ""
        print(f"{place['name']}: {plural(len(seconds), 'visit')}{stay}, {_directions(place)}")
    if scores := summary.get("track_scores"):
        parts = ", ".join(f"{name.upper()} {scores[name]:.3f}" for name in ("hota", "mota", "idf1"))
        changes = plural(scores["id_switches"], "change") + " of identity"
        print(f"{scores['truth']}: {parts}; {changes} for {plural(scores['objects'], 'object')}")


def _directions(place):
    return ", ".join(f"{sum(place[way].values())} {way}{_in_brackets(place[way])}" for way in ("in", "out"))


def _in_brackets(counts):
    """' (car 3, bus 1)' of {class: count}, the most first; '' if there is none."""
    kinds = ", ".join(f"{name} {count}" for name, count in collections.Counter(counts).most_common())
    return f" ({kinds})" if kinds else ""
