"""Which of N goes with which of M, so that the gains of the pairs add up to the most: exact, in NumPy.

It is the algorithm of scipy.optimize.linear_sum_assignment, shortest augmenting paths (Crouse, "On implementing 2D
rectangular assignment algorithms", IEEE TAES 2016). SciPy would be 100 MB on disk for these lines.
"""

import numpy as np


def assign(gains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (rows int64 [K], columns int64 [K]) with the largest sum of gains, by rising row.

    gains: float [N,M]. Each row and column is in one pair at most; pairs that gain nothing (≤ 0) are left out.
    """
    possible = gains > 0
    of_row, of_column = possible.sum(axis=1), possible.sum(axis=0)
    # Most objects are far from all others. A pair that competes with no other needs no search
    if of_row.max(initial=0) <= 1 and of_column.max(initial=0) <= 1:
        return possible.nonzero()
    gains = np.maximum(gains, 0.0)
    alone = possible & (of_row[:, None] == 1) & (of_column == 1)
    pairs = [np.argwhere(alone)]
    rows = np.flatnonzero((of_row > 0) & ~alone.any(axis=1))
    columns = np.flatnonzero((of_column > 0) & ~alone.any(axis=0))
    if len(rows):
        part = gains[np.ix_(rows, columns)]
        transposed = len(rows) > len(columns)
        column_of = _solve(-part.T if transposed else -part)
        found = np.stack([np.arange(len(column_of)), column_of], axis=1)
        found = found[:, ::-1] if transposed else found
        found = found[part[found[:, 0], found[:, 1]] > 0]
        pairs.append(np.stack([rows[found[:, 0]], columns[found[:, 1]]], axis=1))
    both = np.concatenate(pairs)
    both = both[np.argsort(both[:, 0])]
    return both[:, 0], both[:, 1]


def _solve(costs):
    """int64 [N]: the column of each row, with the smallest sum of costs float [N,M], N ≤ M.

    u and v are the dual prices of rows and columns: costs − u − v is never below 0, and 0 for the pairs. Each turn
    adds one row by a shortest path to a free column over these reduced costs, and then corrects the prices.
    """
    count, width = costs.shape
    u, v = np.zeros(count), np.zeros(width)
    row_of, column_of = np.full(width, -1), np.full(count, -1)
    for start in range(count):
        distance, before, done = np.full(width, np.inf), np.full(width, -1), np.zeros(width, bool)
        row, length, visited = start, 0.0, []
        while True:
            visited.append(row)
            through = length + costs[row] - u[row] - v
            shorter = (through < distance) & ~done
            before[shorter], distance[shorter] = row, through[shorter]
            column = int(np.where(done, np.inf, distance).argmin())
            length, done[column] = distance[column], True
            if row_of[column] < 0:
                break
            row = row_of[column]
        others = np.array(visited[1:], int)
        u[start] += length
        u[others] += length - distance[column_of[others]]
        v[done] -= length - distance[done]
        while True:  # along the path, each row takes the column after it
            row = before[column]
            row_of[column] = row
            column_of[row], column = column, column_of[row]
            if row == start:
                break
    return column_of
