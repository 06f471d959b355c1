"""Compact features of images for the review page: few dimensions of eight bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.row_pieces import Array, added, mean_of, pieces

WIDTH: Final = 32
"""Maximum number of dimensions."""


def compact(
    rows: NDArray[np.float32],
    width: int = WIDTH,
    *,
    order: NDArray[np.int64] | None = None,
) -> NDArray[np.int8]:
    """Return the principal components of rows, rounded to eight bits on a common scale.

    The components are centered, so Euclidean distances between the results approximate those
    between the rows, and for rows of length one also the order of their cosines.

    Args:
        rows: ``(N, P)``; many are read in pieces.
        width: maximum number of components.
        order: ``(n,)`` positions of the rows that are taken; None takes all.

    Returns:
        ``(n, min(P, width))``; the largest absolute value is 127.
    """
    order = np.arange(len(rows)) if order is None else order
    if len(order) == 0:
        return np.zeros((0, min(rows.shape[1], width)), np.int8)
    places = pieces(len(order))
    parts = [order[place] for place in places]
    mean = mean_of(rows[part] for part in parts)

    def centered() -> Iterator[Array]:
        for part in parts:
            yield rows[part] - mean

    _, axes = np.linalg.eigh(added(part.T.astype(np.float64) @ part for part in centered()))
    axes = axes[:, ::-1][:, :width]
    # The sign of an axis is arbitrary; fix it, so that equal features give equal pages.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])
    components = np.empty((len(order), axes.shape[1]), np.float32)
    compacted = np.empty(components.shape, np.int8)
    largest = 1e-12
    for place, part in zip(places, centered(), strict=True):
        components[place] = part @ axes.astype(np.float32)
        largest = max(largest, float(np.abs(components[place]).max()))
    for place in places:
        compacted[place] = np.rint(components[place] * (127 / largest))
    return compacted
