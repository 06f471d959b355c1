"""Clusters of unequal sizes: more clusters than asked for, of which the nearest are merged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats, kmeans, unit_rows
from crkd.clustering.row_pieces import class_sums

FACTOR = 2


def merged_kmeans(rows: Floats, num_clusters: int, *, seed: int) -> NDArray[np.int64]:
    """Return clusters that may differ much in size.

    K-means divides a large class rather than separating two small ones. With twice as many clusters
    the small classes have clusters of their own. Average linkage of the directions of the centroids
    (Sokal and Michener, 1958) then merges the parts of the large ones: a distance between
    directions does not depend on the number of rows.

    Args:
        rows: ``(N, D)`` of unit length, in a space where classes are round.
        num_clusters: M, at most N.
        seed: of the k-means.

    Returns:
        ``(N,)`` in [0, M).

    >>> rows = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)
    >>> len(set(merged_kmeans(unit_rows(rows), 2, seed=0)[:2].tolist()))
    1
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    parts = kmeans(rows, min(FACTOR * num_clusters, len(rows)), seed=seed).assignment
    names, parts = np.unique(parts, return_inverse=True)
    if len(names) <= num_clusters:
        return parts.astype(np.int64)
    sums = class_sums(rows, parts, len(names), np.float32)
    tree = linkage(unit_rows(sums), "average")
    merged: NDArray[np.int64] = fcluster(tree, num_clusters, "maxclust").astype(np.int64) - 1
    return merged[parts]
