"""The assignment, compared with trying all."""

import itertools

import numpy as np
import pytest

from tracking.assignment import assign


def best_sum(gains):
    """The largest sum of gains of pairs, by trying all."""
    if gains.shape[0] > gains.shape[1]:
        gains = gains.T
    rows = range(gains.shape[0])
    return max(
        sum(max(gains[row, column], 0) for row, column in zip(rows, columns, strict=True))
        for columns in itertools.permutations(range(gains.shape[1]), len(rows))
    )


def check(gains):
    rows, columns = assign(gains)
    assert len(set(rows)) == len(rows) == len(columns) == len(set(columns))
    assert (np.diff(rows) > 0).all() and (gains[rows, columns] > 0).all()
    return gains[rows, columns].sum()


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 6), (6, 2), (5, 6), (6, 6)])
@pytest.mark.parametrize("kind", ["any", "ties", "sparse", "negative"])
def test_the_sum_is_the_largest(shape, kind):
    rng = np.random.default_rng([*shape, len(kind)])
    for _ in range(12):
        gains = rng.normal(size=shape)
        if kind == "ties":
            gains = rng.integers(0, 3, shape).astype(float)
        elif kind == "sparse":
            gains *= rng.random(shape) < 0.3
        elif kind == "negative":
            gains -= 3
        assert check(gains) == pytest.approx(best_sum(gains))


def test_large_ones_have_prices_that_prove_it():
    """Of a matrix row + column + nonnegative remainder that is 0 on a permutation, the permutation is the best."""
    rng = np.random.default_rng(4)
    order = rng.permutation(80)
    remainder = rng.random((80, 120))
    remainder[np.arange(80), order] = 0
    gains = 100 + rng.random(80)[:, None] - remainder
    rows, columns = assign(gains)
    assert np.array_equal(rows, np.arange(80)) and np.array_equal(columns, order)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_assign(shape):
    rows, columns = assign(np.zeros(shape))
    assert len(rows) == len(columns) == 0


def test_scipy_agrees():
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(5)
    for _ in range(200):
        gains = np.maximum(rng.normal(size=rng.integers(1, 40, 2)), 0)
        assert check(gains) == pytest.approx(gains[optimize.linear_sum_assignment(gains, maximize=True)].sum())
