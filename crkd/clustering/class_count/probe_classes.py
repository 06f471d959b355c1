"""Known classes made as blurred as novel ones, so that what is learnt on them carries over."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.clustering.semi_kmeans import class_sums

NEIGHBOR = 20
BISECTIONS = 12
SPREADS = (0.1, 12.0)
"""Bounds of the factor by which images are moved away from their class mean."""


def crowding(rows: Floats) -> float:
    """Return the squared distance to the 20th neighbor (median), over the total variance.

    Near 0 for tight clusters far from each other, near 1 for a cloud without clusters.
    """
    from sklearn.neighbors import NearestNeighbors

    # A row finds itself first.
    search = NearestNeighbors(n_neighbors=min(NEIGHBOR + 1, len(rows)), algorithm="brute")
    distances = search.fit(rows).kneighbors(rows)[0][:, -1]
    return float(np.median(distances) ** 2 / max(total_variance(rows), np.finfo(np.float32).tiny))


def total_variance(rows: NDArray[np.floating[Any]]) -> float:
    """Return the mean squared distance of ``(N, D)`` rows to their mean."""
    return float(np.square(rows - rows.mean(axis=0)).sum(axis=1).mean())


def probe_classes(
    rows: Floats, labels: NDArray[np.int64], *, crowding_wanted: float, variance_wanted: float
) -> Floats:
    """Return the rows of known classes, as blurred and as wide as a set of novel images.

    A network gathers the images of classes that it was trained on closely around their means and
    scatters those of others (neural collapse: Papyan, Han and Donoho, 2020). Every row moves away
    from its class mean by one factor, found by bisection, until the set is as crowded as wanted;
    then the whole is scaled. What a class looks like stays.

    Args:
        rows: ``(N, D)``.
        labels: ``(N,)`` in [0, P), every class present.
        crowding_wanted: see :func:`crowding`.
        variance_wanted: of the result, see :func:`total_variance`.

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
