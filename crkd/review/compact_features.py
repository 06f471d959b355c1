"""Compact features of images for the review page: few dimensions of eight bits."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

WIDTH: Final = 32
"""Maximum number of dimensions."""


def compact(rows: NDArray[np.float32], width: int = WIDTH) -> NDArray[np.int8]:
    """Return the principal components of rows, rounded to eight bits on a common scale.

    The components are centered, so Euclidean distances between the results approximate those
    between the rows, and for rows of length one also the order of their cosines.

    Args:
        rows: ``(N, P)``.
        width: maximum number of components.

    Returns:
        ``(N, min(P, width))``; the largest absolute value is 127.
    """
    if len(rows) == 0:
        return np.zeros((0, min(rows.shape[1], width)), np.int8)
    centered = rows - rows.mean(axis=0)
    _, axes = np.linalg.eigh(centered.T.astype(np.float64) @ centered)
    axes = axes[:, ::-1][:, :width]
    # The sign of an axis is arbitrary; fix it, so that equal features give equal pages.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])
    components = centered @ axes.astype(np.float32)
    largest = max(float(np.abs(components).max()), 1e-12)
    compacted: NDArray[np.int8] = np.rint(components * (127 / largest)).astype(np.int8)
    return compacted
