"""What several processes do of a training, beside what one does."""

import itertools

import numpy as np
import pytest

import training_data
from structures import Detections
from training import shares


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize(("count", "batch_size"), [(18, 5), (17, 8), (5, 5), (11, 6), (3, 7)])
def test_the_ranks_make_each_batch_together(count, batch_size, size):
    jobs = training_data.epoch_jobs(count, seed=3, epoch=1)
    own = [iter(shares.of_jobs(jobs, batch_size, rank, size)) for rank in range(size)]
    for first in range(0, count, batch_size):
        whole = jobs[first : first + batch_size]
        counts = [shares.rows(min(batch_size, len(whole)), rank, size) for rank in range(size)]
        made = [next(own[rank]) for rank in range(size) for _ in range(counts[rank])]
        assert sorted(made) == sorted(whole)
        assert max(counts) - min(counts) <= 1
    assert all(next(one, None) is None for one in own)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 5, 7, 40])
def test_the_ranks_validate_each_picture_once(count, size):
    kept = set(np.linspace(0, count - 1, min(6, count)).astype(int).tolist())
    parts = [shares.of_validation(count, kept, rank, size) for rank in range(size)]
    assert sorted(itertools.chain(*parts)) == list(range(count))
    assert kept <= set(parts[0])
    if count >= 6 * size:
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


class Alone:
    """A group of which all ranks send this one's part."""

    def gather(self, value, payload):
        return [(value, payload)] * 2


@pytest.mark.parametrize("counts", [[], [0], [3, 0, 2], [0, 0]])
def test_detections_arrive_as_they_are(counts):
    rng = np.random.default_rng(0)
    found = {
        7 * place: Detections(
            rng.random((n, 4), np.float32), rng.random(n, np.float32), rng.integers(0, 9, n).astype(np.int32)
        )
        for place, n in enumerate(counts)
    }
    gathered = shares.gather_detections(Alone(), found)
    assert list(gathered) == list(found)
    for index, one in found.items():
        for name in shares.FIELDS:
            before, after = getattr(one, name), getattr(gathered[index], name)
            assert before.dtype == after.dtype and before.shape == after.shape and (before == after).all()
