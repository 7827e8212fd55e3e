"""The rows of a job as COCO's list of results, the file of infer.py --coco-results: pictures and classes have its ids.

It is made of the shards when all are done, row by row. Pictures without results have no entry, as in COCO's format.
"""

import hashlib
import os
from collections.abc import Callable, Iterator

import numpy as np
import tqdm

import config
from many import job, shard
from many.inputs import Entry
from results import coco_list
from structures import UserError

FLAG = coco_list.FLAG
HELP = f"also write {coco_list.HELP}"
_CATEGORIES = range(coco_list.category_id(0), coco_list.category_id(config.MOST_CLASSES))


def check_ids(folder: str, shards: int) -> None:
    """Raise UserError if two pictures of a job would have one image id. Takes 8 bytes of memory for each picture."""
    digests = np.fromiter((_digest(_image_id(one)) for one in _entries(folder, shards)), np.uint64)
    digests.sort()
    repeated = set(digests[1:][digests[1:] == digests[:-1]].tolist())
    first: dict[int | str, str] = {}
    for one in _entries(folder, shards) if repeated else ():
        image_id = _image_id(one)
        if _digest(image_id) in repeated and first.setdefault(image_id, one.id) != one.id:
            raise UserError(
                f"{FLAG}: {first[image_id]} and {one.id} would both be {image_id}; leave it out, or detect in them "
                "with two calls"
            )


def _entries(folder, shards) -> Iterator[Entry]:
    for number in range(shards):
        yield from shard.entries(folder, number)


def _image_id(entry):
    return coco_list.picture_key(entry.id, None)


def _digest(image_id):
    text = repr(image_id).encode("utf-8", "surrogatepass")  # 7 is not "7"
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def write(folder: str, shards: int, format: str, check_stop: Callable[[], None]) -> None:
    """Write FOLDER/coco_results.json from the shards of a job that is done; it appears whole.

    format: of the shards; check_stop: may raise to end it. Raises files.UnwritableFile.
    """
    writer = coco_list.Writer(os.path.join(folder, coco_list.NAME), _CATEGORIES)
    try:
        for number in tqdm.tqdm(range(shards), desc=coco_list.NAME, unit="shard", dynamic_ncols=True):
            check_stop()
            for row in job.read_part(folder, number, format, ("id", "status", "labels", "scores", "boxes")):
                if row["status"] == shard.DONE:
                    writer.add_lists(row["id"], row["labels"], row["scores"], row["boxes"])
    except BaseException:
        writer.discard()
        raise
    writer.close()
