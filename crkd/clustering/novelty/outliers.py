"""Outliers: images far from their nearest neighbors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import CHUNK_ROWS, Floats, has_faiss, unit_rows
from crkd.core.errors import InputError

MOST_ROWS = 20_000
"""The maximum number of reference rows; larger sets are sampled evenly."""


@dataclass(frozen=True, eq=False)
class Outliers:
    """Outliers of a set of images.

    Attributes:
        scores: ``(N,)`` distance to the k-th neighbor, in [0, 2].
        rejected: ``(N,)`` bool.
        threshold: the largest score that is not rejected.
    """

    scores: NDArray[np.float32]
    rejected: NDArray[np.bool_]
    threshold: float


def outliers(
    features: Floats, reference: Floats, *, quantile: float = 0.99, neighbors: int = 5
) -> Outliers:
    """Reject images that are farther from ``reference`` than the reference rows are.

    The score is the distance to the k-th neighbor among features of unit length (Sun et al.,
    Out-of-Distribution Detection with Deep Nearest Neighbors, 2022). A row that is part of the
    reference does not count as its own neighbor.

    Args:
        features: ``(N, D)``.
        reference: ``(n, D)`` rows to compare with: known images, or the unlabeled ones themselves.
        quantile: quantile of the reference's own scores that is the threshold, in (0, 1).
        neighbors: k, below n.

    Raises:
        InputError: a number is out of range.
    """
    if not 0 < quantile < 1:
        raise InputError(f"quantile is {quantile}; it must be between 0 and 1")
    if not 1 <= neighbors < len(reference):
        raise InputError(
            f"neighbors is {neighbors} for {len(reference)} reference rows; it must be at least "
            "1 and below that number"
        )
    rows, base = (unit_rows(np.asarray(x, np.float32)) for x in (features, reference))
    own = _neighbor_distances(base, base, neighbors + 1)[:, -1]
    threshold = float(np.quantile(own, quantile))
    scores = _scores(rows, base, neighbors)
    return Outliers(scores, scores > threshold, threshold)


def reject_bucket(features: Floats, *, fence: float = 3.0, neighbors: int = 5) -> Outliers:
    """Reject images that are far from all others of the set; there may be none.

    The score is that of :func:`outliers`, with at most 20,000 rows of the set itself as the
    reference. The threshold is that of :func:`outer_fence`.

    Args:
        features: ``(N, D)``; the rows are read in pieces.
        fence: above 0; a lower value rejects more.
        neighbors: k; a set of at most k rows has no outlier.

    Raises:
        InputError: the fence is not above 0.
    """
    if not fence > 0:
        raise InputError(f"fence is {fence}; it must be above 0")
    count = len(features)
    if count <= neighbors:
        return Outliers(np.zeros(count, np.float32), np.zeros(count, bool), 0.0)
    shown = np.linspace(0, count - 1, min(count, MOST_ROWS)).astype(np.int64)
    base = unit_rows(np.asarray(features[shown], np.float32))
    parts = (features[start : start + CHUNK_ROWS] for start in range(0, count, CHUNK_ROWS))
    scores = np.concatenate(
        [_scores(unit_rows(np.asarray(part, np.float32)), base, neighbors) for part in parts]
    )
    threshold = outer_fence(scores, fence)
    return Outliers(scores, scores > threshold, threshold)


def outer_fence(scores: NDArray[Any], fence: float = 3.0) -> float:
    """Return Tukey's outer fence of scores (Exploratory Data Analysis, 1977).

    Args:
        scores: ``(N,)``.
        fence: number of interquartile ranges above the upper quartile.
    """
    low, high = np.quantile(scores, [0.25, 0.75])
    return float(high + fence * (high - low))


def _scores(rows: Floats, base: Floats, neighbors: int) -> Floats:
    """Return the distance of every row to its k-th neighbor in ``base`` other than itself."""
    found = _neighbor_distances(rows, base, neighbors + 1)
    # A row with distance 0 is itself in the reference.
    itself = found[:, 0] < 1e-3
    return np.where(itself, found[:, -1], found[:, -2]).astype(np.float32)


def _neighbor_distances(rows: Floats, base: Floats, count: int) -> Floats:
    """Return the distances to the ``count`` nearest rows of ``base``, ascending."""
    parts = [rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS)]
    if has_faiss():
        import faiss

        index: Any = faiss.IndexFlatL2(base.shape[1])
        index.add(base)
        squares = np.concatenate([index.search(part, count)[0] for part in parts])
        return np.asarray(np.sqrt(np.maximum(squares, 0.0)), np.float32)
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(base)
    return np.concatenate([model.kneighbors(part)[0] for part in parts]).astype(np.float32)
