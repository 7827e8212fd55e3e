"""One shard from its first picture to its last, by a process that may be killed at any moment.

Beside the rows of a shard lies a note of the pictures that are being looked at. A process that finds one which was not
finished knows that they killed another, or happened to be under its hands: it looks at them one by one, and one that
is alone and kills its process twice is quarantined. So a picture that crashes a decoder costs three processes and no
other picture, and a kill from outside costs nothing.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from many.inputs import Entry
from system import files

CHUNK = 32  # pictures between two notes
MOST_DEATHS = 2  # of processes that looked at a picture alone
DONE, UNREADABLE, QUARANTINED = STATUSES = ("done", "unreadable", "quarantined")
WORK = "work"  # the folder, in that of the output, of what is not finished

Row = dict[str, Any]  # id, width, height, status, reason, boxes, scores, classes


class _Note(NamedTuple):
    """What is being looked at: `count` pictures from number `first` on, alone up to `until`, after so many deaths."""

    first: int
    count: int
    until: int
    deaths: int


def path(folder: str, number: int, kind: str) -> str:
    """A file of a shard under work."""
    return os.path.join(folder, WORK, f"{number:05d}.{kind}")


def entries(folder: str, number: int) -> list[Entry]:
    """The pictures of a shard."""
    with open(path(folder, number, "entries"), encoding="utf-8") as file:
        return [Entry(*json.loads(line)) for line in file]


def run(
    folder: str,
    number: int,
    detect: Callable[[Sequence[Entry]], Sequence[Row]],
    publish: Callable[[str, int, str], None],
) -> dict[str, int]:
    """Go on with a shard to its end; returns how many of its pictures have which status.

    detect: makes the rows of pictures, in their order. publish: (folder, number, path of the rows as JSON Lines) puts
    them in their place in one move. Waits for another process that has the shard. Raises files.UnwritableFile.
    """
    with _locked(folder, number):
        pictures, rows = entries(folder, number), path(folder, number, "rows")
        done, until, deaths = _recovered(folder, number)
        while done < len(pictures):
            alone = done < until
            count = 1 if alone else min(CHUNK, len(pictures) - done)
            if alone and deaths >= MOST_DEATHS:
                made = [row(pictures[done], QUARANTINED, f"{MOST_DEATHS + 1} processes have died of it")]
            else:
                note = _Note(done, count, until if alone else done + count, deaths)
                # Not flushed to the disk: it is for processes that die, and a machine that dies harms no picture
                files.write(path(folder, number, "note"), json.dumps(note), durable=False)
                made = list(detect(pictures[done : done + count]))
            assert [one["id"] for one in made] == [one.id for one in pictures[done : done + count]]
            with _writing(rows), open(rows, "a", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(one, allow_nan=False)}\n" for one in made)
            done, deaths = done + count, 0
        counts = count_statuses(read_rows(rows))
        with _writing(folder):
            publish(folder, number, rows)
        for kind in ("rows", "note"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(path(folder, number, kind))
        return counts


def row(entry: Entry, status: str, reason: str | None = None, **found: Any) -> Row:
    """The row of a picture. found: width, height, boxes, scores and classes, where it was read."""
    nothing = {"width": None, "height": None, "boxes": [], "scores": [], "classes": []}
    return {"id": entry.id, "status": status, "reason": reason, **nothing, **found}


def read_rows(rows: str) -> Iterator[Row]:
    """The rows of a file of JSON Lines."""
    with open(rows, encoding="utf-8") as file:
        yield from map(json.loads, file)


def count_statuses(rows: Iterator[Row]) -> dict[str, int]:
    """{status: number of rows}."""
    counts = dict.fromkeys(STATUSES, 0)
    for one in rows:
        counts[one["status"]] += 1
    return counts


@contextlib.contextmanager
def _writing(place):
    """A failure to write is the user's, and no death: another process would fail again, and so on without end."""
    try:
        yield
    except OSError as error:
        raise files.unwritable(place, error) from None


@contextlib.contextmanager
def _locked(folder, number):
    with open(path(folder, number, "lock"), "w", encoding="ascii") as file:
        with contextlib.suppress(OSError):  # a network disk without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _recovered(folder, number):
    """(rows that are done, up to which picture to go on one by one, processes that died of the next one)."""
    done = _whole_rows(path(folder, number, "rows"))
    try:
        with open(path(folder, number, "note"), encoding="ascii") as file:
            note = _Note(*json.load(file))
    except (FileNotFoundError, ValueError, TypeError):
        return done, 0, 0
    if note.first != done:  # it was finished
        return done, note.until if note.count == 1 else 0, 0
    if note.count > 1:
        return done, note.until, 0
    return done, note.until, note.deaths + 1


def _whole_rows(rows):
    """How many rows are whole; what a killed process left of another is cut off."""
    count = end = 0
    try:
        with open(rows, "r+b") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                count, end = count + 1, end + len(line)
            file.truncate(end)
    except FileNotFoundError:
        pass
    return count
