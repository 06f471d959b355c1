"""Nearest neighbors within one set of features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import CHUNK_ROWS, Floats, has_faiss
from crkd.core.errors import InputError

POOL_ROWS = 16_384
"""Maximum number of rows in which neighbors are searched; a larger set is sampled."""


def nearest_neighbors(
    features: Floats, count: int, *, seed: int, pool_rows: int = POOL_ROWS
) -> NDArray[np.int64]:
    """Return the nearest other rows of each row (Euclidean).

    The search is exact within a pool of at most ``pool_rows`` rows, drawn with ``seed``. Its cost
    is therefore linear in N.

    Args:
        features: ``(N, D)`` finite values.
        count: number of neighbors of each row, at least 1.
        seed: seed of the pool, 0 or above.
        pool_rows: size of the pool, at least 1.

    Returns:
        ``(N, count)`` int64, the nearest first. If the pool holds fewer rows, its rows are
        repeated. A row alone in its set is its own neighbor.

    Raises:
        InputError: ``count`` is below 1.

    >>> nearest_neighbors(np.array([[0.0], [1.0], [5.0]], np.float32), 1, seed=0).tolist()
    [[1], [0], [1]]
    """
    if count < 1:
        raise InputError(f"count is {count}; ask for at least one neighbor")
    rows = np.ascontiguousarray(features, dtype=np.float32)
    pool = np.arange(len(rows))
    if len(rows) > pool_rows:
        pool = np.sort(np.random.default_rng(seed).choice(len(rows), pool_rows, replace=False))
    found = pool[_search(rows, rows[pool], min(count + 1, len(pool)))]
    # A row that is its own neighbor moves to the end, which is cut off.
    itself = found == np.arange(len(rows))[:, None]
    order = np.argsort(itself, axis=1, kind="stable")
    others = np.take_along_axis(found, order, axis=1)[:, : max(1, found.shape[1] - 1)]
    neighbors: NDArray[np.int64] = np.take(others, np.arange(count) % others.shape[1], axis=1)
    return neighbors


def _search(rows: Floats, pool: Floats, count: int) -> NDArray[np.int64]:
    """Return the positions in ``pool`` of the ``count`` rows nearest to each of ``rows``."""
    starts = range(0, len(rows), CHUNK_ROWS)
    if has_faiss():
        import faiss

        index: Any = faiss.IndexFlatL2(rows.shape[1])
        index.add(pool)
        found = [index.search(rows[s : s + CHUNK_ROWS], count)[1] for s in starts]
    else:
        from sklearn.neighbors import NearestNeighbors

        model: Any = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(pool)
        found = [model.kneighbors(rows[s : s + CHUNK_ROWS], return_distance=False) for s in starts]
    return np.concatenate(found).astype(np.int64)
