"""Projection of features to a plane that separates classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import unit_rows
from crkd.clustering.row_pieces import added, mean_of, pieces

WITHIN: Final = 0.05
"""Weight of the scatter within classes; it matters only if class means span less than a plane,
as with one or two classes."""


def project_2d(features: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return positions in a plane, by principal components of the class means.

    The components are those of the scatter between classes plus a twentieth of the scatter within
    them, for features at length one.

    Args:
        features: ``(N, D)``; many are read in pieces.
        classes: ``(N,)`` class of each row.

    Returns:
        ``(N, 2)``, scaled equally on both axes so that the largest coordinate is 1 or -1.
    """
    from scipy.linalg import eigh

    if len(features) == 0:
        return np.zeros((0, 2), np.float32)
    parts = pieces(len(features))
    mean = mean_of(unit_rows(features[part]) for part in parts)

    def centered() -> Iterator[NDArray[np.float64]]:
        for part in parts:
            yield (unit_rows(features[part]) - mean).astype(np.float64)

    _, place = np.unique(classes, return_inverse=True)
    counts = np.bincount(place)[:, None]
    sums = np.zeros((len(counts), features.shape[1]))
    for part, rows in zip(parts, centered(), strict=True):
        np.add.at(sums, place[part], rows)
    between = (sums / np.sqrt(counts)).T @ (sums / np.sqrt(counts))
    scatter = between + WITHIN * (added(rows.T @ rows for rows in centered()) - between)
    width = len(scatter)
    _, axes = eigh(scatter, subset_by_index=[max(0, width - 2), width - 1])
    axes = axes[:, ::-1]
    # The sign of an axis is arbitrary; fix it, so that equal features give equal pictures.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])
    places = np.zeros((len(features), 2))
    for part, rows in zip(parts, centered(), strict=True):
        places[part, : axes.shape[1]] = rows @ axes
    scaled: NDArray[np.float32] = (places / max(np.abs(places).max(), 1e-12)).astype(np.float32)
    return scaled
