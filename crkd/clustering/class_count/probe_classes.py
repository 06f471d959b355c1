"""Probe classes: known classes, spread as widely as novel ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.row_pieces import class_sums

NEIGHBOR = 20
BISECTIONS = 12
SPREADS = (0.1, 12.0)
"""Bounds of the factor by which rows are moved away from their class mean."""


def crowding(rows: Floats) -> float:
    """Return the median squared distance to the 20th neighbor, divided by the total variance.

    Near 0 for tight clusters far from each other, near 1 for a cloud without clusters.
    """
    from sklearn.neighbors import NearestNeighbors

    # The first neighbor of a row is the row itself.
    search = NearestNeighbors(n_neighbors=min(NEIGHBOR + 1, len(rows)), algorithm="brute")
    distances = search.fit(rows).kneighbors(rows)[0][:, -1]
    return float(np.median(distances) ** 2 / max(total_variance(rows), np.finfo(np.float32).tiny))


def total_variance(rows: NDArray[np.floating[Any]]) -> float:
    """Return the mean squared distance of ``(N, D)`` rows to their mean."""
    return float(np.square(rows - rows.mean(axis=0)).sum(axis=1).mean())


def probe_classes(
    rows: Floats, labels: NDArray[np.int64], *, crowding_wanted: float, variance_wanted: float
) -> Floats:
    """Return the rows of known classes, spread as widely as a set of novel images.

    A network maps images of its training classes close to their class means and scatters images
    of other classes (neural collapse: Papyan, Han and Donoho, 2020). This function moves every
    row away from its class mean by one factor, which bisection finds, until the set has the
    wanted crowding. It then scales the whole set to the wanted variance.

    Args:
        rows: ``(N, D)``.
        labels: ``(N,)`` in [0, P), every class present.
        crowding_wanted: see :func:`crowding`.
        variance_wanted: total variance of the result, see :func:`total_variance`.

    Returns:
        ``(N, D)`` float32 with mean 0.
    """
    counts = np.bincount(labels)
    means = (class_sums(rows, labels, len(counts)) / counts[:, None])[labels]
    apart = rows - means
    low, high = SPREADS
    for _ in range(BISECTIONS):
        middle = float(np.sqrt(low * high))
        if crowding((means + middle * apart).astype(np.float32)) > crowding_wanted:
            high = middle
        else:
            low = middle
    made = means + float(np.sqrt(low * high)) * apart
    made -= made.mean(axis=0)
    scaled: Floats = made * np.sqrt(variance_wanted / max(total_variance(made), 1e-30))
    return scaled.astype(np.float32)
