"""Separation of clusters: pairs that are no further apart than the halves of one cloud."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.row_pieces import even_places

HALVES: Final = 2.65
"""Separation of the halves of a normal distribution that is cut at its mean: their means are
2 sqrt(2 / pi) apart, and their standard deviation is sqrt(1 - 2 / pi)."""
CLOSE: Final = 3.0
"""Separation up to which two clusters may be one class; the margin is for few rows."""
FEWEST: Final = 10
"""Rows of a cluster, at least; the separation of smaller ones is not estimated."""
MOST: Final = 200
"""Rows of a cluster, at most; of more, an even share takes part."""
NEIGHBORS: Final = 5
"""Nearest clusters with which a cluster is compared."""


class ClosePair(NamedTuple):
    """Two clusters that may be one class.

    Attributes:
        first: the lower cluster id.
        second: the higher cluster id.
        separation: see :func:`separation`.
    """

    first: int
    second: int
    separation: float


def separation(first: Floats, second: Floats) -> float:
    """Return Cohen's d of two clusters on the line through their means.

    It is the difference of the means over the root of the mean variance. The line is that of one
    half of the rows, and the other half is projected onto it; then both halves change places. With
    the same rows for both, chance alone would separate the clusters in many dimensions.

    Args:
        first: ``(n, D)`` rows of a cluster, four or more.
        second: ``(m, D)`` rows of another one, four or more.

    Returns:
        The mean of both directions; about :data:`HALVES` for a cut through one normal distribution.
    """
    found = []
    for half in (0, 1):
        line = first[half::2].mean(axis=0) - second[half::2].mean(axis=0)
        places = first[1 - half :: 2] @ line, second[1 - half :: 2] @ line
        variance = (places[0].var(ddof=1) + places[1].var(ddof=1)) / 2
        gap = float(places[0].mean() - places[1].mean())
        found.append(gap / max(float(np.sqrt(variance)), 1e-12))
    return sum(found) / 2


def close_pairs(
    rows: Floats, assignment: NDArray[np.integer[Any]], num_clusters: int
) -> list[ClosePair]:
    """Return the neighboring clusters with a separation up to :data:`CLOSE`, the closest first.

    Args:
        rows: ``(N, D)`` of a space that was not trained on the assignment; an array, or rows in a
            file.
        assignment: ``(N,)`` in ``[0, num_clusters)``.
        num_clusters: M.
    """
    parts: dict[int, Floats] = {}
    for cluster in range(num_clusters):
        members = np.flatnonzero(assignment == cluster)
        if len(members) >= FEWEST:
            parts[cluster] = np.asarray(rows[members[even_places(len(members), MOST)]])
    found = [
        ClosePair(first, second, separation(parts[first], parts[second]))
        for first, second in _neighboring(parts)
    ]
    return sorted((p for p in found if p.separation <= CLOSE), key=lambda pair: pair.separation)


def _neighboring(parts: dict[int, Floats]) -> list[tuple[int, int]]:
    """Return the pairs of clusters of which one is among the nearest of the other, ascending."""
    names = list(parts)
    if len(names) < 2:
        return []
    means = np.stack([part.mean(axis=0) for part in parts.values()]).astype(np.float64)
    squares = np.square(means).sum(axis=1)
    distances = squares[:, None] + squares - 2 * means @ means.T
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, : min(NEIGHBORS, len(names) - 1)]
    pairs = {
        (min(place, int(other)), max(place, int(other)))
        for place, others in enumerate(nearest)
        for other in others
    }
    return [(names[first], names[second]) for first, second in sorted(pairs)]
