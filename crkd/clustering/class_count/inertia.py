"""K-means inertia as a curve over the number of clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats, kmeans

EVERY_UP_TO = 16
STEP = 1.08
"""Ratio of neighboring grid points above ``EVERY_UP_TO`` clusters."""


@dataclass(frozen=True, eq=False)
class InertiaCurve:
    """K-means clusterings of the same rows for an ascending number of clusters.

    Attributes:
        counts: ``(G,)`` ascending numbers of clusters, from 1.
        assignments: ``(G, N)`` int64.
        gains: ``(counts[-1] - 1,)``; entry k - 1 is the decrease of the inertia from k to k + 1
            clusters, on the lower convex envelope of the curve, so that it never grows.
    """

    counts: NDArray[np.int64]
    assignments: NDArray[np.int64]
    gains: NDArray[np.float64]

    def clusters_worth(self, price: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the number of clusters if each must lower the inertia by at least ``price``."""
        return 1 + np.searchsorted(-self.gains, -np.asarray(price), side="right")

    def range_of_price(self, first: int, last: int) -> tuple[float, float]:
        """Return the highest and the lowest price that give ``first`` to ``last`` clusters."""
        end = len(self.gains) - 1
        return float(self.gains[max(first - 2, 0)]), float(self.gains[min(last - 1, end)])


def inertia_curve(
    rows: Floats, counts: NDArray[np.int64], *, seed: int, num_restarts: int = 2
) -> InertiaCurve:
    """Cluster ``(N, D)`` rows by k-means, once for each number in ``counts``."""
    results = [kmeans(rows, int(k), seed=seed, num_restarts=num_restarts) for k in counts]
    inertias = np.array([max(result.inertia, np.finfo(np.float32).tiny) for result in results])
    whole = np.arange(1, counts[-1] + 1)
    between = np.exp(np.interp(np.log(whole), np.log(counts), np.log(inertias)))
    assignments = np.stack([result.assignment for result in results])
    return InertiaCurve(counts, assignments, -np.diff(_convex_envelope(between)))


def cluster_counts(largest: int) -> NDArray[np.int64]:
    """Return the numbers of clusters on the grid of a curve.

    >>> cluster_counts(20).tolist()[-4:]
    [15, 16, 18, 20]
    """
    counts = list(range(1, min(largest, EVERY_UP_TO) + 1))
    while counts[-1] < largest:
        counts.append(min(largest, int(np.ceil(counts[-1] * STEP))))
    return np.array(counts)


def _convex_envelope(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest convex function below ``values`` at 0, 1, 2, ..."""
    hull = [0]
    for here in range(1, len(values)):
        while len(hull) > 1:
            left, middle = hull[-2], hull[-1]
            chord = (values[here] - values[left]) / (here - left)
            if values[middle] < values[left] + chord * (middle - left):
                break
            hull.pop()
        hull.append(here)
    return np.interp(np.arange(len(values)), hull, values[hull])
