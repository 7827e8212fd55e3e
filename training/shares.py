"""What each of several processes does of a training's batches and of its validation, and how it comes together.

The batches are those of one process: of each, a process makes every so-manieth picture.
"""

import io
from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np

import training_data
from distribution.group import Group
from ssd_utils import SSDPreset
from structures import Detections
from system.data_queue import Batch
from training_data import Job

FIELDS = ("boxes_px", "scores", "labels")  # of Detections


def rows(batch_size: int, rank: int, size: int) -> int:
    """How many images of a whole batch are those of one of `size` ranks."""
    return len(range(rank, batch_size, size))


def of_jobs(jobs: Iterable[Job], batch_size: int, rank: int, size: int) -> list[Job]:
    """What a rank makes of the jobs of whole batches, the last of which may be smaller."""
    return [job for number, job in enumerate(jobs) if number % batch_size % size == rank]


def filled_up(batches: Iterable[Batch], count: int, preset: SSDPreset) -> Iterator[Batch]:
    """`count` batches: the last ones are empty where a rank has no picture of an epoch's last batch."""
    made = 0
    for made, batch in enumerate(batches, start=1):  # noqa: B007, it counts
        yield batch
    for _ in range(made, count):
        yield training_data.empty_batch(preset)


def of_validation(count: int, kept: Collection[int], rank: int, size: int) -> list[int]:
    """The indices, of `count` pictures, that a rank detects on, about as many as others. Rank 0 has those to keep."""
    others = [index for index in range(count) if index not in kept]
    for_first = max(0, len(range(0, count, size)) - len(kept))
    if rank == 0:
        return sorted([*kept, *others[:for_first]])
    return others[for_first:][rank - 1 :: size - 1]


def gather_detections(group: Group, found: Mapping[int, Detections]) -> dict[int, Detections]:
    """{index of a picture: Detections} of all ranks at rank 0, {} at the others."""
    gathered: dict[int, Detections] = {}
    for _, payload in group.gather(None, _packed(found)):
        gathered |= _unpacked(payload)
    return gathered


def _packed(found):
    file = io.BytesIO()
    arrays = {name: [getattr(one, name) for one in found.values()] for name in FIELDS}
    np.savez(
        file,
        indices=np.array(list(found), np.int64),
        counts=np.array([len(one) for one in found.values()], np.int64),
        **{name: np.concatenate([getattr(Detections.empty(), name), *parts]) for name, parts in arrays.items()},
    )
    return file.getvalue()


def _unpacked(payload):
    with np.load(io.BytesIO(payload), allow_pickle=False) as file:
        ends = np.cumsum(file["counts"])[:-1]
        columns = [np.split(file[name], ends) for name in FIELDS]
        return {index: Detections(*one) for index, *one in zip(file["indices"].tolist(), *columns, strict=False)}
