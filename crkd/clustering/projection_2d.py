"""Projection of features to a plane that separates classes."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

WITHIN: Final = 0.05
"""Weight of the scatter within classes; it matters only if class means span less than a plane,
as with one or two classes."""


def on_a_plane(features: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return positions in a plane, by principal components of the class means.

    The components are those of the scatter between classes plus a twentieth of the scatter within
    them, for features at length one.

    Args:
        features: ``(N, D)``.
        classes: ``(N,)`` class of each row.

    Returns:
        ``(N, 2)``, scaled equally on both axes so that the largest coordinate is 1 or -1.
    """
    from scipy.linalg import eigh

    if len(features) == 0:
        return np.zeros((0, 2), np.float32)
    rows = features / np.linalg.norm(features, axis=1, keepdims=True).clip(min=1e-12)
    rows = (rows - rows.mean(axis=0)).astype(np.float64)
    _, place = np.unique(classes, return_inverse=True)
    counts = np.bincount(place)[:, None]
    sums = np.zeros((len(counts), rows.shape[1]))
    np.add.at(sums, place, rows)
    between = (sums / np.sqrt(counts)).T @ (sums / np.sqrt(counts))
    scatter = between + WITHIN * (rows.T @ rows - between)
    width = len(scatter)
    _, axes = eigh(scatter, subset_by_index=[max(0, width - 2), width - 1])
    axes = axes[:, ::-1]
    # The sign of an axis is arbitrary; fix it, so that equal features give equal pictures.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])
    places = np.zeros((len(rows), 2))
    places[:, : axes.shape[1]] = rows @ axes
    scaled: NDArray[np.float32] = (places / max(np.abs(places).max(), 1e-12)).astype(np.float32)
    return scaled
