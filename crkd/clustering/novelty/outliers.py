"""Outliers: images far from their nearest neighbors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import CHUNK_ROWS, Floats, has_faiss, unit_rows

NEIGHBORS = 5
"""The neighbor whose distance is the score."""
MOST_ROWS = 20_000
"""The maximum number of reference rows; larger sets are sampled evenly."""
INNER, OUTER = 1.5, 3.0
"""Reach of Tukey's fences in interquartile ranges."""


@dataclass(frozen=True, eq=False)
class Outliers:
    """Outliers of a set of images.

    Attributes:
        scores: ``(N,)`` distance to the fifth neighbor, in [0, 2].
        rejected: ``(N,)`` bool.
        threshold: the largest score that is not rejected.
    """

    scores: NDArray[np.float32]
    rejected: NDArray[np.bool_]
    threshold: float


def reject_bucket(features: Floats) -> Outliers:
    """Reject images that are far from all others of the set; there may be none.

    The score is the distance to the fifth neighbor among features of unit length (Sun et al.,
    Out-of-Distribution Detection with Deep Nearest Neighbors, 2022). At most 20,000 rows of the set
    are compared with. A row does not count as its own neighbor. The threshold is the inner fence of
    :func:`tukey_fence`: clusters of several densities spread the scores of a set, so that hardly a
    row is beyond the outer one.

    Args:
        features: ``(N, D)``; the rows are read in pieces. A set of at most five rows has no
            outlier.
    """
    count = len(features)
    if count <= NEIGHBORS:
        return Outliers(np.zeros(count, np.float32), np.zeros(count, bool), 0.0)
    shown = np.linspace(0, count - 1, min(count, MOST_ROWS)).astype(np.int64)
    base = unit_rows(np.asarray(features[shown], np.float32))
    parts = (features[start : start + CHUNK_ROWS] for start in range(0, count, CHUNK_ROWS))
    scores = np.concatenate(
        [_scores(unit_rows(np.asarray(part, np.float32)), base) for part in parts]
    )
    threshold = tukey_fence(scores, INNER)
    return Outliers(scores, scores > threshold, threshold)


def tukey_fence(scores: NDArray[Any], reach: float) -> float:
    """Return an upper fence of scores (Tukey, Exploratory Data Analysis, 1977).

    Args:
        scores: ``(N,)``.
        reach: interquartile ranges above the upper quartile, :data:`INNER` or :data:`OUTER`.
    """
    low, high = np.quantile(scores, [0.25, 0.75])
    return float(high + reach * (high - low))


def _scores(rows: Floats, base: Floats) -> Floats:
    """Return the distance of every row to its fifth neighbor in ``base`` other than itself."""
    found = _neighbor_distances(rows, base, NEIGHBORS + 1)
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
