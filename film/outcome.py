"""How a film ended: the part of the JSON after its frames, and what process_video.py prints of it."""

import argparse
import collections
import time
from typing import Any

from media.video import VideoWriter
from system import stages
from system.cli import StopRequest
from system.wording import plural


def summary(
    writer: VideoWriter, reader: Any, stop: StopRequest, meters: dict[str, stages.Meter], start: float
) -> dict[str, Any]:
    """The part of the JSON after the frames, as a dict.

    Stages overlap, so their seconds add up to more than end_to_end's. "network" counts the frames that it ran on.

    start: when it began, as of time.monotonic.
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


def report(flags: argparse.Namespace, summary: dict[str, Any], precision: str) -> None:
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
