"""The --json file of process_video.py: the detections of every frame."""

import argparse
import json
from typing import Any

from exports import file_metadata
from film.frames import Frame
from media import video
from system import atomic


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
        self._path = flags.json
        self._file = atomic.PendingFile(flags.json)
        head = {
            "model": flags.model,
            "input": flags.input_name,
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

    def finish(self, summary: dict[str, Any], whole: bool = True) -> None:
        """Add the summary, a dict as from `outcome.summary`, and publish the file.

        whole: whether the whole video is in it; else the file becomes NAME.unfinished.json, and an older one stays.
        """
        self._file.write("\n], " + json.dumps(summary)[1:] + "\n")
        self._file.commit(None if whole else video.unfinished_name(self._path))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.discard()  # which does not touch a published file
