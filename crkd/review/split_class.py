"""Split of a class into two halves by k-means with two directions, started at two images."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import kmeans

Floats = NDArray[np.float32]
ROUNDS: Final = 50
SEARCHED: Final = 2000
"""Maximum number of rows in the search for two seeds; the halves contain all rows."""


def find_seeds(rows: Floats) -> tuple[int, int] | None:
    """Return the two rows that start the halves of :func:`divide`.

    They are the rows nearest to the centroids of the best of several runs of k-means.

    Args:
        rows: ``(n, P)`` of length one.

    Returns:
        Two positions, or None if the rows do not form two parts.
    """
    step = -(-len(rows) // SEARCHED) if len(rows) else 1
    sample = rows[::step]
    if len(sample) < 2:
        return None
    centroids = kmeans(sample, 2, seed=0, num_restarts=4, spherical=True).centroids
    first, second = (int((sample @ centroid).argmax()) * step for centroid in centroids)
    if first == second:
        return None
    # A seed that is a copy of the other half's seed cannot be distinguished from it.
    return None if np.array_equal(rows[first], rows[second]) else (first, second)


def divide(rows: Floats, first: int, second: int) -> tuple[NDArray[np.bool_], Floats]:
    """Divide rows into two halves by direction, starting at two of them.

    Args:
        rows: ``(n, P)`` of length one.
        first: position of the row that starts the first half.
        second: position of the row that starts the second half; the two rows differ.

    Returns:
        ``(n,)`` True for the half of ``second``, and the ``(2, P)`` directions of the halves. A
        row belongs to the direction with the larger cosine, a tie to the first.
    """
    directions = rows[[first, second]]
    later = _nearer_second(rows, directions)
    for _ in range(ROUNDS):
        if later.all() or not later.any():
            break
        sums = np.stack([rows[~later].sum(axis=0), rows[later].sum(axis=0)])
        directions = sums / np.linalg.norm(sums, axis=1, keepdims=True).clip(min=1e-12)
        before, later = later, _nearer_second(rows, directions)
        if np.array_equal(before, later):
            break
    return later, directions


def _nearer_second(rows: Floats, directions: Floats) -> NDArray[np.bool_]:
    nearer: NDArray[np.bool_] = rows @ (directions[0] - directions[1]) < 0
    return nearer
