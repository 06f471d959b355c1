"""Groups of outliers that are similar to each other, as the images of a new class are."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.novelty.mahalanobis import nearest_square
from crkd.core.errors import InputError

Numbers = NDArray[np.floating[Any]]

MOST_ROWS: Final = 5_000
"""Maximum number of rows: the distances of all pairs then take 100 MB."""
QUANTILE: Final = 0.7
"""The larger it is, the more images join a group, and the more often different images form one."""


def outlier_groups(
    rows: Numbers, centers: Numbers, *, farthest: float, least: int
) -> list[NDArray[np.int64]]:
    """Return the groups of rows that are as similar to each other as samples of one class.

    The relative distance of two rows is their distance, divided by the smaller one of their
    distances to the nearest class. Agglomerative clustering with average linkage (Sokal and
    Michener, 1958) merges groups up to an average relative distance of ``farthest``. Images that
    are unusual in different ways are farther from each other, so they stay apart.

    Args:
        rows: ``(N, k)`` outliers in a space where the covariance within the classes is the
            identity. Of more than ``MOST_ROWS`` rows, only the last ones are used.
        centers: ``(C, k)`` means of the classes in that space.
        farthest: see :func:`distance_within`.
        least: smallest size of a group, at least 2.

    Returns:
        Positions in ``rows`` of each group, the largest group first. In a group, the row nearest to
        its mean is first.

    Raises:
        InputError: ``least`` is below 2.

    >>> rows = np.array([[9.0, 0.0], [9.0, 1.0], [0.0, 9.0], [-9.0, 0.0]])
    >>> [g.tolist() for g in outlier_groups(rows, np.zeros((1, 2)), farthest=1.0, least=2)]
    [[0, 1]]
    """
    if least < 2:
        raise InputError(f"least is {least}; a group has at least 2 rows")
    start = max(0, len(rows) - MOST_ROWS)
    values = np.asarray(rows[start:], np.float64)
    if len(values) < least:
        return []
    from scipy.cluster.hierarchy import fcluster, linkage

    tree = linkage(_relative(values, _nearest(values, centers)), "average")
    labels = fcluster(tree, farthest, "distance")
    found = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    groups = [_typical_first(values, group) + start for group in found if len(group) >= least]
    return sorted(groups, key=lambda group: (-len(group), int(group.min())))


def distance_within(rows: Numbers, labels: NDArray[np.int64], centers: Numbers) -> float:
    """Return the relative distance of two samples of one class, if the class were unknown.

    Each class in turn is taken out of the centers. The result is the ``QUANTILE`` of all pairs, but
    at least 1: two images that are nearer to each other than to any class are always similar. The
    statistics of few samples are too narrow for unseen images, so smaller values cannot be trusted.

    Args:
        rows: ``(N, k)`` samples of the classes.
        labels: ``(N,)`` in ``[0, C)``.
        centers: ``(C, k)`` means of the classes. With a single class nothing is left to compare
            with; the result is then 1.
    """
    if len(centers) < 2:
        return 1.0
    found = []
    for label in np.unique(labels):
        members = np.asarray(rows[labels == label], np.float64)
        others = np.delete(np.asarray(centers, np.float64), label, axis=0)
        found.append(_relative(members, _nearest(members, others)))
    return max(1.0, float(np.quantile(np.concatenate(found), QUANTILE)))


def _nearest(rows: NDArray[np.float64], centers: Numbers) -> NDArray[np.float64]:
    """Return the distance of each row to the nearest center, above 0."""
    squares = nearest_square(rows, np.asarray(centers, np.float64))
    distances: NDArray[np.float64] = np.sqrt(np.maximum(squares, np.finfo(np.float64).tiny))
    return distances


def _relative(rows: NDArray[np.float64], nearest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the relative distances of all pairs of rows, in the order of scipy's ``pdist``."""
    from scipy.spatial.distance import pdist

    first, second = np.triu_indices(len(rows), 1)
    relative: NDArray[np.float64] = pdist(rows) / np.minimum(nearest[first], nearest[second])
    return relative


def _typical_first(rows: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.int64]:
    members = rows[group]
    distances = np.square(members - members.mean(axis=0)).sum(axis=1)
    ordered: NDArray[np.int64] = group[np.argsort(distances, kind="stable")]
    return ordered
