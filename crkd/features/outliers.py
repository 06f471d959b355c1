"""Images that fit nowhere: a reject bucket by distance to the nearest others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.core.errors import InputError
from crkd.features.clusters import CHUNK_ROWS, Floats, has_faiss, unit_rows


@dataclass(frozen=True, eq=False)
class Outliers:
    """The reject bucket.

    Attributes:
        scores: ``(N,)`` distance to the k-th neighbour, in [0, 2].
        rejected: ``(N,)`` bool.
        threshold: the largest score that is kept.
    """

    scores: NDArray[np.float32]
    rejected: NDArray[np.bool_]
    threshold: float


def outliers(
    features: Floats, reference: Floats, *, quantile: float = 0.99, neighbours: int = 5
) -> Outliers:
    """Reject images that lie farther from ``reference`` than the reference lies from itself.

    The score is the distance to the k-th neighbour among features of unit length (Sun et al.,
    Out-of-Distribution Detection with Deep Nearest Neighbors, 2022). A row that is part of the
    reference does not count as its own neighbour.

    Args:
        features: ``(N, D)``.
        reference: ``(n, D)`` rows that belong: known images, or the unlabelled ones themselves.
        quantile: of the reference's own scores that is the threshold, in (0, 1).
        neighbours: k, below n.

    Raises:
        InputError: a number is out of range.
    """
    if not 0 < quantile < 1:
        raise InputError(f"quantile is {quantile}; it lies between 0 and 1")
    if not 1 <= neighbours < len(reference):
        raise InputError(
            f"neighbours is {neighbours} for {len(reference)} reference rows; it must be at least "
            "1 and below that number"
        )
    rows, base = (unit_rows(np.asarray(x, np.float32)) for x in (features, reference))
    own = _neighbour_distances(base, base, neighbours + 1)[:, -1]
    threshold = float(np.quantile(own, quantile))
    found = _neighbour_distances(rows, base, neighbours + 1)
    # A row at no distance stands in the reference itself.
    itself = found[:, 0] < 1e-3
    scores = np.where(itself, found[:, -1], found[:, -2]).astype(np.float32)
    return Outliers(scores, scores > threshold, threshold)


def _neighbour_distances(rows: Floats, base: Floats, count: int) -> Floats:
    """Return the distances of the ``count`` nearest rows of ``base``, ascending."""
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
