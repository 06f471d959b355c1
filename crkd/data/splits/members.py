"""Members of each class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crkd.data.sources.base import Labels


def members_of(labels: Labels, classes: Labels) -> list[npt.NDArray[np.int64]]:
    """Return the positions of each of some classes, found by one sort for all of them.

    Args:
        labels: ``(N,)`` class of each image.
        classes: ``(C,)`` the classes, ascending; they need not occur.

    Returns:
        C arrays of ascending positions.

    >>> [rows.tolist() for rows in members_of(np.array([2, -1, 0, 2]), np.arange(3))]
    [[2], [], [0, 3]]
    """
    # A stable sort keeps the positions of a class ascending.
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    starts = np.searchsorted(ordered, classes, side="left")
    ends = np.searchsorted(ordered, classes, side="right")
    return [order[start:end] for start, end in zip(starts, ends, strict=True)]
