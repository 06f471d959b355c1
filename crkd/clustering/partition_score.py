"""Score of a clustering by the separation between its clusters and within them."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats, kmeans

FEWEST_ROWS = 3
"""Rows of a cluster; with fewer, its variance is unknown and the separation counts as 0."""
RESTARTS = 9


def fisher_separation(first: Floats, second: Floats) -> float:
    """Return how far two sets are apart on the line through their means.

    It is the distance of the means in units of the pooled standard deviation along that line: the
    root of Fisher's criterion for two classes (1936), with equal weight for both sets.

    Args:
        first: ``(n, D)`` float32.
        second: ``(m, D)`` float32.

    >>> spread = np.array([[-1.0, 0], [1, 0], [0, 0]], np.float32)
    >>> round(fisher_separation(spread, spread + np.array([4, 0], np.float32)), 3)
    4.899
    """
    if min(len(first), len(second)) < FEWEST_ROWS:
        return 0.0
    line = first.mean(axis=0) - second.mean(axis=0)
    a, b = first @ line, second @ line
    spread = np.sqrt((a.var() + b.var()) / 2)
    return float((a.mean() - b.mean()) / max(spread, np.finfo(np.float32).tiny))


def partition_score(
    rows: Floats, clusters: NDArray[np.int64], num_clusters: int, *, seed: int
) -> float:
    """Return the least separation of two clusters, less the largest of the halves of one cluster.

    A clustering that divides a class has two clusters that are hardly separated. A clustering that
    merges two classes has a cluster whose halves are. Both lower the score, so that it compares
    clusterings whose sizes differ. K-means with two clusters finds the halves.

    Args:
        rows: ``(N, D)`` float32, in a space where classes are round.
        clusters: ``(N,)`` int64 in ``[0, num_clusters)``.
        num_clusters: M, two or more.
        seed: of the k-means.
    """
    parts = [rows[clusters == cluster] for cluster in range(num_clusters)]
    pairs = itertools.combinations(parts, 2)
    between = min(fisher_separation(first, second) for first, second in pairs)
    return between - max(_halves(part, seed) for part in parts)


def _halves(rows: Floats, seed: int) -> float:
    if len(rows) < 2 * FEWEST_ROWS:
        return 0.0
    half = kmeans(rows, 2, seed=seed, num_restarts=RESTARTS).assignment
    return fisher_separation(rows[half == 0], rows[half == 1])
