"""One shard from its first picture to its last, by a process that may be killed at any moment.

Beside the rows of a shard lies a note of the pictures that are being looked at. A process that finds one which was not
finished knows that they killed another, or happened to be under its hands: it looks at them one by one, and one that
is alone and kills its process twice is quarantined. So a picture that crashes a decoder costs three processes and no
other picture, and a kill from outside costs nothing. The note also counts processes that died after the last picture,
while they put the rows in their place: what kills three of them, such as full memory, would kill each.

Pictures at which the detector raises an error are looked at one by one, too. One that fails alone is quarantined with
the error, unless the detector fails on a plain picture as well, or several do together what none does alone: then it
is the detector that cannot work, and the job ends.
"""

import contextlib
import fcntl
import itertools
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from many.inputs import Entry
from media import images
from structures import UserError
from system import files, wording, write_errors

SECONDS = 1.0  # that pictures take between two notes, about
FEWEST, MOST = 32, 256  # of them; one in a tar or far away is an open file, of which a process may have 1,024
MOST_BYTES = 256_000_000  # of pictures in tars: they are in memory together
MOST_DEATHS = 2  # of processes that looked at a picture alone
MOST_FAILED_ENDS = 3  # of processes that died while they published the rows of a shard
DONE, UNREADABLE, QUARANTINED = STATUSES = ("done", "unreadable", "quarantined")
WORK = "work"  # the folder, in that of the output, of what is not finished


class Pace:
    """How many pictures a process looks at between two notes: as many as take about SECONDS.

    More are faster, because pictures are read while others are in the network, and fewer are lost when it is killed.
    """

    def __init__(self) -> None:
        self.count = FEWEST

    def learn(self, count: int, seconds: float) -> None:
        """Take into account how long so many pictures took."""
        if seconds > SECONDS:
            self.count = max(self.count // 2, FEWEST)
        elif seconds < SECONDS / 2 and count == self.count:  # not the rest of a shard
            self.count = min(self.count * 2, MOST)


Row = dict[str, Any]  # id, width, height, status, reason, boxes, scores, labels, classes


class Detect(Protocol):
    """What makes the rows of pictures, in their order. following: those that probably come next, to be fetched."""

    def __call__(self, entries: Sequence[Entry], following: Sequence[Entry] = ()) -> Sequence[Row]: ...


class _Note(NamedTuple):
    """What is being looked at: `count` pictures from number `first` on, one by one up to `until`, after so many deaths.

    alone: whether it is one of those. A group may have one picture, too.
    While the rows are published, `first` is the number of all pictures, and `count` is 0.
    """

    first: int
    count: int
    until: int
    deaths: int
    alone: bool = True  # earlier versions did not note it, and took one picture for alone


def path(folder: str, number: int, kind: str) -> str:
    """A file of a shard under work."""
    return os.path.join(folder, WORK, f"{number:05d}.{kind}")


def entries(folder: str, number: int) -> list[Entry]:
    """The pictures of a shard, one at least. Raises UserError if their list is damaged, as by a power failure."""
    listed, found = path(folder, number, "entries"), []
    with contextlib.suppress(ValueError, TypeError), open(listed, encoding="utf-8") as file:
        found = [Entry(*json.loads(line)) for line in file]
    if not found:
        raise UserError(f"{listed}: is damaged; choose another output folder")
    return found


def run(
    folder: str,
    number: int,
    detect: Detect,
    publish: Callable[[str, int, str], None],
    pace: Pace | None = None,
) -> dict[str, int]:
    """Go on with a shard to its end; returns how many of its pictures have which status.

    publish: (folder, number, path of the rows as JSON Lines) puts them in their place in one move. pace: that of the
    process, which learns. Waits for another process that has the shard. Raises UnwritableFile, and UserError if
    the detector cannot work, or several processes have died after the last picture.
    """
    careful, pace = _Careful(detect, folder, number), pace or Pace()
    with _locked(folder, number):
        pictures, rows = entries(folder, number), path(folder, number, "rows")
        done, until, deaths = _recovered(folder, number, pictures)
        while done < len(pictures):
            alone = done < until
            group = pictures[done : done + 1] if alone else _together(pictures, done, pace.count)
            if alone and deaths >= MOST_DEATHS:
                made = [row(group[0], QUARANTINED, f"{MOST_DEATHS + 1} processes died while they worked on it")]
            else:
                note = _Note(done, len(group), until if alone else done + len(group), deaths, alone)
                start = time.monotonic()
                following = () if alone else _together(pictures, done + len(group), pace.count)
                made = careful.detect(group, note, following)
                if not alone:
                    pace.learn(len(group), time.monotonic() - start)
            if not made:
                until = done + len(group)
                continue
            assert [one["id"] for one in made] == [one.id for one in group]
            with _writing(rows), open(rows, "a", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(one, allow_nan=False)}\n" for one in made)
            done, deaths = done + len(group), 0
            if done == until:
                careful.check_group()
        return _finish(folder, number, publish, _Note(done, 0, done, deaths))


def _finish(folder, number, publish, note):
    """Publish the rows of all pictures and remove what is under work; returns the counts of their statuses."""
    rows, noted = path(folder, number, "rows"), path(folder, number, "note")
    if note.deaths >= MOST_FAILED_ENDS:
        os.remove(noted)  # the same command tries again, perhaps in more memory
        raise UserError(
            f"{rows}: {note.deaths} processes have died while they wrote these rows to the output; is memory short? "
            "End other programs and repeat the command, or choose another output folder and a smaller --shard-size"
        )
    _write_note(noted, note)
    try:
        counts = count_statuses(read_rows(rows))
        with _writing(folder):
            publish(folder, number, rows)
    except BaseException:  # also a stop by the user
        os.remove(noted)  # nobody has died
        raise
    for left in (rows, noted):
        with contextlib.suppress(FileNotFoundError):
            os.remove(left)
    return counts


def _write_note(noted, note):
    # Not flushed to the disk: it is for processes that die, and a machine that dies harms no picture
    files.write(noted, json.dumps(note), durable=False)


def _together(pictures, first, count):
    """The pictures from number `first` on that are looked at together: `count`, or fewer if they are large."""
    sizes = itertools.accumulate(max(entry.size, 0) for entry in pictures[first : first + count])
    fitting = sum(1 for size in sizes if size <= MOST_BYTES)
    return pictures[first : first + max(fitting, 1)]


class _Careful:
    """Tells what kills a process, errors of single pictures and errors of the detector from each other."""

    def __init__(self, detect: Detect, folder: str, number: int):
        self._detect, self._note, self._plain = detect, path(folder, number, "note"), path(folder, number, "png")
        self._unexplained: str | None = None  # the error of a group, while none of its pictures failed alone

    def detect(self, group: Sequence[Entry], note: _Note, following: Sequence[Entry]) -> list[Row]:
        """The rows of pictures; [] after an error, if they are to be looked at one by one. Raises UserError."""
        _write_note(self._note, note)
        try:
            return [self._detect_alone(group[0])] if note.alone else self._detect_together(group, following)
        except UserError:
            os.remove(self._note)  # nobody has died
            raise

    def _detect_together(self, group, following):
        for _ in range(2):  # the first error may be an accident of the disk or the network
            try:
                return list(self._detect(group, following))
            except UserError:
                raise
            except Exception as error:
                self._unexplained = _words(error)
        return []

    def _detect_alone(self, entry):
        try:
            (made,) = self._detect([entry])
            return made
        except UserError:
            raise
        except Exception as error:
            self._unexplained = None
            self._check_detector()
            return row(entry, QUARANTINED, _words(error))

    def check_group(self) -> None:
        """Raise UserError if all pictures of a group that failed were done alone."""
        if self._unexplained:
            raise UserError(
                f"the detector fails on a batch of pictures but on none of them alone ({self._unexplained}); give a "
                "smaller --batch-size"
            )

    def _check_detector(self):
        """Raise UserError if the detector fails on a plain picture."""
        images.write(self._plain, np.zeros((64, 64, 3), np.uint8))
        try:
            (_,) = self._detect([Entry("plain.png", self._plain)])
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"the detector fails on every picture: {_words(error)}") from None
        finally:
            os.remove(self._plain)


def _words(error):
    """'MemoryError: Unable to allocate 4 GiB'."""
    name, reason = type(error).__name__.lstrip("_"), wording.reason(error)
    return reason if reason.startswith(name) or name == reason else f"{name}: {reason}"


def end_of_job(error: Exception) -> tuple[str, str]:
    """What ends a job that raised an error in a process: each new process would meet it too, and so on without end.

    Returns a line for the user, and of a bug the traceback, which goes on stderr before it.
    """
    if isinstance(error, UserError):
        return str(error), ""
    trace = "".join(traceback.format_exception(error))
    return f"the detection failed with {_words(error)}; its traceback is above", trace


def row(entry: Entry, status: str, reason: str | None = None, **found: Any) -> Row:
    """The row of a picture. found: width, height, boxes, scores, labels and classes, where it was read."""
    nothing = {"width": None, "height": None, "boxes": [], "scores": [], "labels": [], "classes": []}
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
        raise write_errors.unwritable(place, error) from None


@contextlib.contextmanager
def _locked(folder, number):
    lock = path(folder, number, "lock")
    with _writing(lock):
        file = open(lock, "w", encoding="ascii")  # noqa: SIM115
    with file:
        with contextlib.suppress(OSError):  # a network disk without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _recovered(folder, number, pictures):
    """(rows that are done, up to which picture to go on one by one, processes that died of the next one).

    Where all rows are done, the deaths are those of publishing them.
    """
    done = _whole_rows(path(folder, number, "rows"), pictures)
    try:
        with open(path(folder, number, "note"), encoding="ascii") as file:
            note = _Note(*json.load(file))
    except (FileNotFoundError, ValueError, TypeError):
        return done, 0, 0
    if note.first != done:  # it was finished
        return done, note.until if note.count == 1 else 0, 0
    if note.count > 1 or not note.alone:
        return done, note.until, 0
    return done, note.until, note.deaths + 1


def _whole_rows(rows, pictures):
    """How many rows are whole, each that of its picture; what follows them in the file is cut off.

    That is what a killed process left of another row, or, after a power failure, blocks that did not reach the disk.
    """
    count = end = 0
    try:
        with open(rows, "r+b") as file:
            for picture, line in zip(pictures, file, strict=False):
                if not _is_row(line, picture):
                    break
                count, end = count + 1, end + len(line)
            file.truncate(end)
    except FileNotFoundError:
        pass
    return count


def _is_row(line, picture):
    try:
        made = json.loads(line)
    except ValueError:  # no JSON, or no UTF-8
        return False
    return line.endswith(b"\n") and isinstance(made, dict) and made.get("id") == picture.id
