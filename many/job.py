"""The folder of a job: what there is to do, what is done, and the count at the end.

job.json                 what the job is; it is written when all shards are listed
work/00000.entries       the pictures of a shard, a line each
part-00000.jsonl         its rows, once it is done; part-00000.parquet likewise
summary.json             the count of all
"""

import contextlib
import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import tqdm

from many import parquet, shard
from many.inputs import Entry
from structures import UserError
from system import atomic, files, schema, stages, wording
from system.wording import plural

JOB, SUMMARY = "job.json", "summary.json"
STARTS = "starts"  # under work: a byte for each process that opens the detector, or has died of it
AGAIN = "remove this file, and the same command writes it again"
MOST_FAILED_STARTS = 3  # in a row, of processes that die before they have a detector


@dataclasses.dataclass
class _Job:
    """What job.json holds."""

    facts: dict[str, Any]
    shards: int
    pictures: int


def _read(folder):
    """The _Job of a folder. Raises UserError if its file is damaged."""
    path = os.path.join(folder, JOB)
    values = files.read_json(path)
    limits = dict.fromkeys(("shards", "pictures"), schema.Limits(0))
    schema.check(path, values, _Job, limits, "choose another folder")
    return _Job(**values)


def begin(folder: str, facts: Mapping[str, Any], pictures: Callable[[], Iterable[Entry]], size: int) -> int:
    """List the shards of a new job, or check that a job that exists is the same; returns the number of shards.

    facts: what decides the results, of plain JSON types; "pictures" among them is a fingerprint of INPUT.
    pictures: called for a new job; size: pictures of a shard.
    Raises UserError if the folder is that of another job, or holds something else.
    """
    path = os.path.join(folder, JOB)
    if os.path.exists(path):
        stored = _read(folder)
        if "pictures" not in stored.facts:  # begun before that was noted
            facts = {name: value for name, value in facts.items() if name != "pictures"}
        for name, value in facts.items():
            if (before := stored.facts.get(name)) != value:
                found = f"{name} {before}, not {value}" if name != "pictures" else "other pictures than INPUT has now"
                raise UserError(f"{folder}: was begun with {found}; choose another folder")
        return stored.shards
    work = os.path.join(folder, shard.WORK)
    names = os.listdir(folder) if os.path.isdir(folder) else ()
    # pending: killed as it wrote job.json
    if any(name != shard.WORK and not atomic.is_pending(name) for name in names):
        raise UserError(f"{folder}: holds something else; choose a new folder")
    os.makedirs(work, exist_ok=True)
    number = total = 0
    for number, group in enumerate(stages.batched(pictures(), size), start=1):
        lines = "".join(f"{json.dumps(entry)}\n" for entry in group)
        files.write(shard.path(folder, number - 1, "entries"), lines, durable=False)
        total += len(group)
    files.write_json(path, {"facts": dict(facts), "shards": number, "pictures": total})
    return number


def total(folder: str) -> int:
    """The number of pictures of a job that has begun."""
    return _read(folder).pictures


def part(folder: str, number: int, format: str) -> str:
    """The file of a shard that is done."""
    return os.path.join(folder, f"part-{number:05d}.{format}")


def left(folder: str, shards: int, format: str) -> list[int]:
    """The shards that are not done."""
    return [number for number in range(shards) if not os.path.exists(part(folder, number, format))]


def publish_jsonl(folder: str, number: int, rows: str) -> None:
    """Put the rows of a shard into their place."""
    atomic.flush(rows)
    os.replace(rows, part(folder, number, "jsonl"))


def publish_parquet(folder: str, number: int, rows: str) -> None:
    """Write the rows of a shard as Parquet, with the hash of the model in each."""
    model = _read(folder).facts["model"]
    temporary = shard.path(folder, number, "parquet")
    parquet.write_rows(temporary, ({**row, "model": model} for row in shard.read_rows(rows)))
    atomic.publish(temporary, part(folder, number, "parquet"))


PUBLISH = {"jsonl": publish_jsonl, "parquet": publish_parquet}


def read_part(folder: str, number: int, format: str, columns: Sequence[str]) -> Iterator[shard.Row]:
    """The rows of a shard that is done, with these of their columns, or more. Raises UserError if it is damaged."""
    path = part(folder, number, format)
    try:
        yield from shard.read_rows(path) if format == "jsonl" else parquet.read_rows(path, columns, AGAIN)
    except ValueError as error:  # no JSON, or no UTF-8
        raise UserError(f"{path}: is damaged ({wording.reason(error)}); {AGAIN}") from None


def _name(entry, format):
    return parquet.as_text(entry.id) if format == "parquet" else entry.id


def close(folder: str, shards: int, format: str) -> dict[str, int]:
    """Compare all rows with what there was to do, and write the count; returns {status: number of pictures}.

    Raises UserError that names a shard which lacks a picture, or has one that it should not.
    """
    counts = dict.fromkeys(shard.STATUSES, 0)
    for number in range(shards):
        path = part(folder, number, format)
        rows = read_part(folder, number, format, ("id", "status")) if os.path.exists(path) else iter(())
        for entry, row in itertools.zip_longest(shard.entries(folder, number), rows):
            if entry is None or row is None or _name(entry, format) != row["id"]:
                what = f"lacks {entry.id}" if entry else f"has {row['id']}, which does not belong to it"
                raise UserError(f"{path}: {what}; {AGAIN}")
            counts[row["status"]] += 1
    if sum(counts.values()) != total(folder):
        rows, pictures = plural(sum(counts.values()), "row"), plural(total(folder), "picture")
        raise UserError(f"{folder}: has {rows}, but its job lists {pictures}; start again in a new folder")
    files.write_json(os.path.join(folder, SUMMARY), {"pictures": total(folder), **counts})
    return counts


def work(
    folder: str,
    shards: int,
    format: str,
    run: Callable[[list[int]], Iterable[tuple[int, Mapping[str, int]]]],
) -> dict[str, int]:
    """Have the shards that are left worked on, with a progress bar of pictures, and `close` the job.

    run: numbers of shards -> (number, {status: pictures}) of each once it is done.
    """
    numbers, every = left(folder, shards, format), total(folder)
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, shard.WORK, STARTS))  # of an earlier call
    size = len(shard.entries(folder, 0))  # the last one may have fewer
    done = every - sum(size if number < shards - 1 else every - size * (shards - 1) for number in numbers)
    with tqdm.tqdm(total=every, initial=done, unit="img", dynamic_ncols=True) as bar:
        for _, counts in run(numbers) if numbers else ():
            bar.update(sum(counts.values()))
    return close(folder, shards, format)


@contextlib.contextmanager
def opening(folder: str, workers: int) -> Iterator[None]:
    """Context manager: one of so many processes opens its detector, of which it may die, and nobody else counts.

    Raises UserError after MOST_FAILED_STARTS deaths of each in a row.
    """
    path = os.path.join(folder, shard.WORK, STARTS)
    with open(path, "ab") as file:
        starts = file.tell()
        if starts >= workers * MOST_FAILED_STARTS:
            raise UserError(
                f"{plural(starts, 'process')} in a row have died while they opened the detector; is memory short? Try "
                "fewer (--workers)"
            )
        file.write(b".")
    yield
    os.truncate(path, 0)


def told(counts: Mapping[str, int]) -> str:
    """'12 pictures: 10 done, 1 unreadable, 1 quarantined'."""
    return f"{plural(sum(counts.values()), 'picture')}: " + ", ".join(f"{n} {status}" for status, n in counts.items())
