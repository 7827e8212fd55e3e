"""The --csv file of process_video.py: a row for each line or zone and class."""

import csv
import io
from typing import Any

from system import files

COLUMNS = ("kind", "name", "class", "in", "out", "seen", "mean_seconds", "median_seconds", "longest_seconds")


def write(path: str, summary: dict[str, Any]) -> None:
    """Write the counts of a video's summary, as `Following.summary` has them. Raises UserError.

    Each place has a row for each class that the video has a track of. The last four cells are of zones.
    """
    classes = sorted({track["class"] for track in summary["tracks"]})
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    for kind, places in (("line", summary["counts"]["lines"]), ("zone", summary["counts"]["zones"])):
        for place in places:
            for name in classes:
                row = {"kind": kind, "name": place["name"], "class": name}
                row |= {direction: place[direction].get(name, 0) for direction in ("in", "out")}
                if kind == "zone":
                    stay = place["dwell"].get(name, {})
                    row |= {f"{what}_seconds": stay.get(what, "") for what in ("mean", "median", "longest")}
                    row["seen"] = place["seen"].get(name, 0)
                table.writerow(row)
    files.write(path, text.getvalue())
