"""Groups of outliers that are similar to each other, as the images of a new class are."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.novelty.mahalanobis import nearest_square
from crkd.core.errors import InputError

MOST_ROWS: Final = 5_000
"""Maximum number of rows: the distances of all pairs then take 100 MB."""
FARTHEST: Final = 1.0
"""Average relative distance above which two groups are not merged."""


def outlier_groups(
    rows: NDArray[np.floating[Any]], centers: NDArray[np.floating[Any]], *, least: int
) -> list[NDArray[np.int64]]:
    """Return the groups of rows that are nearer to each other than to any class.

    The relative distance of two rows is their distance, divided by the smaller one of their
    distances to the nearest class. Agglomerative clustering with average linkage (Sokal and
    Michener, 1958) merges groups up to an average relative distance of 1. Images that are unusual
    in different ways are farther from each other than from the classes, so they stay apart. No
    scale has to be chosen.

    Args:
        rows: ``(N, k)`` outliers in a space where the covariance within the classes is the
            identity. Of more than ``MOST_ROWS`` rows, only the last ones are used.
        centers: ``(C, k)`` means of the classes in that space.
        least: smallest size of a group, at least 2.

    Returns:
        Positions in ``rows`` of each group, the largest group first. In a group, the row nearest to
        its mean is first.

    Raises:
        InputError: ``least`` is below 2.

    >>> rows = np.array([[9.0, 0.0], [9.0, 1.0], [0.0, 9.0], [-9.0, 0.0]])
    >>> [group.tolist() for group in outlier_groups(rows, np.zeros((1, 2)), least=2)]
    [[0, 1]]
    """
    if least < 2:
        raise InputError(f"least is {least}; a group has at least 2 rows")
    start = max(0, len(rows) - MOST_ROWS)
    values = np.asarray(rows[start:], np.float64)
    if len(values) < least:
        return []
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist

    tree = linkage(_relative(pdist(values), values, centers), "average")
    labels = fcluster(tree, FARTHEST, "distance")
    found = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    groups = [_typical_first(values, group) + start for group in found if len(group) >= least]
    return sorted(groups, key=lambda group: (-len(group), int(group.min())))


def _relative(
    pairs: NDArray[np.float64], rows: NDArray[np.float64], centers: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Divide the distances of all pairs by the smaller distance to the nearest class."""
    squares = nearest_square(rows, np.asarray(centers, np.float64))
    nearest = np.sqrt(np.maximum(squares, np.finfo(np.float64).tiny))
    first, second = np.triu_indices(len(rows), 1)
    relative: NDArray[np.float64] = pairs / np.minimum(nearest[first], nearest[second])
    return relative


def _typical_first(rows: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.int64]:
    members = rows[group]
    distances = np.square(members - members.mean(axis=0)).sum(axis=1)
    ordered: NDArray[np.int64] = group[np.argsort(distances, kind="stable")]
    return ordered
