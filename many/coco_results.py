"""The rows of a job as COCO's list of results, the file of infer.py --coco-results: pictures and classes have its ids.

It is made of the shards as they are done, row by row. Pictures without results have no entry, as in COCO's format.
"""

import collections
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import tqdm

import config
from many import job, shard
from many.inputs import Entry
from results import coco_list
from structures import UserError

T = TypeVar("T")
FLAG = coco_list.FLAG
HELP = f"also write {coco_list.HELP}"
FEW = 10  # shards that are written without a progress bar
_CATEGORIES = range(coco_list.category_id(0), coco_list.category_id(config.MOST_CLASSES))


def check_ids(folder: str, shards: int) -> None:
    """Raise UserError if two pictures of a job would have one image id. Takes 8 bytes of memory for each picture."""
    digests = np.fromiter((_digest(_image_id(one)) for one in _entries(folder, shards)), np.uint64)
    digests.sort()
    repeated = set(digests[1:][digests[1:] == digests[:-1]].tolist())
    first: dict[int | str, Entry] = {}
    for one in _entries(folder, shards) if repeated else ():
        image_id = _image_id(one)
        if image_id in first:
            pair = (first[image_id], one)
            this, that = (entry.id for entry in pair)
            if this == that:  # a list may give different files one id
                this, that = (entry.address for entry in pair)
            raise UserError(
                f"{FLAG}: {this} and {that} would both be {image_id}; leave it out, or detect in them with two calls"
            )
        if _digest(image_id) in repeated:
            first[image_id] = one


def _entries(folder, shards) -> Iterator[Entry]:
    for number in range(shards):
        yield from shard.entries(folder, number)


def _image_id(entry):
    return coco_list.picture_key(entry.id, None)


def _digest(image_id):
    text = repr(image_id).encode("utf-8", "surrogatepass")  # 7 is not "7"
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


class Stream:
    """Writes FOLDER/coco_results.json from the shards of a job, in their order, also while others are worked on.

    Context manager: the file appears whole at `finish`, or not at all.
    """

    def __init__(self, folder: str, shards: int, format: str):
        """format: of the shards. Raises UnwritableFile, as all that writes."""
        self._folder, self._format = folder, format
        self._left = collections.deque(range(shards))
        self._writer = coco_list.Writer(os.path.join(folder, coco_list.NAME), _CATEGORIES)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.discard()  # nothing, after `finish`

    def follow(self, done: Iterable[T]) -> Iterator[T]:
        """Yield what `done` does; after each, write what is done of the next two shards."""
        for one in done:
            yield one
            for _ in range(2):  # those of an earlier call are caught up with, and nobody waits for long
                if self._left and os.path.exists(job.part(self._folder, self._left[0], self._format)):
                    self._write_next()

    def finish(self, check_stop: Callable[[], None]) -> None:
        """Write the rest of a job that is done, with a progress bar. check_stop: may raise to end it."""
        total = len(self._left)
        for _ in tqdm.tqdm(range(total), desc=coco_list.NAME, unit="shard", dynamic_ncols=True, disable=total < FEW):
            check_stop()
            self._write_next()
        self._writer.close()

    def _write_next(self):
        columns = ("id", "status", "labels", "scores", "boxes")
        for row in job.read_part(self._folder, self._left.popleft(), self._format, columns):
            if row["status"] == shard.DONE:
                self._writer.add_lists(row["id"], row["labels"], row["scores"], row["boxes"])
