"""Stability of discovered classes: agreement of two discoveries with different seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crkd.evaluation.matching import contingency, match


def class_stability(
    clusters: NDArray[np.int64], others: NDArray[np.int64], num_classes: int
) -> list[float]:
    """Return for each class how well another clustering repeats it, in [0, 1].

    The classes of both clusterings are matched one to one. The value is the intersection over the
    union of a class and its match (Hennig, "Cluster-wise assessment of cluster stability", 2007).

    Args:
        clusters: ``(N,)`` in ``[0, M)``.
        others: ``(N,)`` in ``[0, M)``, of the same samples with another seed.
        num_classes: M.

    >>> class_stability(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 1]), 2)
    [0.6666666666666666, 0.5]
    """
    table = contingency(clusters, others, num_classes, num_classes)
    matched = match(table)
    both = table[np.arange(num_classes), matched]
    union = table.sum(axis=1) + table.sum(axis=0)[matched] - both
    values: list[float] = (both / np.maximum(union, 1)).tolist()
    return values
