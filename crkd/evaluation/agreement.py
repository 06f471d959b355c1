"""Agreement of two clusterings of the same images: NMI and ARI from one contingency table.

scikit-learn checks its arguments again and counts the table again for each of the two, and one
evaluation asks for about a hundred values. The tests compare both with scikit-learn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crkd.evaluation.matching import Ids


class Agreement(NamedTuple):
    """Normalized mutual information and adjusted Rand index.

    Attributes:
        nmi: in [0, 1], normalized by the arithmetic mean of both entropies.
        ari: at most 1, about 0 for chance and slightly negative below it.
    """

    nmi: float
    ari: float


def agreement(first: Ids, second: Ids) -> Agreement:
    """Return NMI and ARI of two clusterings.

    ARI follows Hubert and Arabie, Comparing partitions (1985). NMI follows Strehl and Ghosh,
    Cluster ensembles (JMLR 2002), with the arithmetic mean as normalization.

    Args:
        first: ``(N,)`` any ids, N at least 1.
        second: ``(N,)`` any ids.

    Returns:
        Both measures; they do not change when ids are renamed or the arguments change places.

    >>> agreement(np.array([0, 0, 1, 1]), np.array([7, 7, 3, 3]))
    Agreement(nmi=1.0, ari=1.0)
    """
    names, rows = np.unique(first, return_inverse=True)
    others, columns = np.unique(second, return_inverse=True)
    # Only the pairs that occur are counted, because both may have as many ids as images.
    pairs, counts = np.unique(rows * len(others) + columns, return_counts=True)
    sizes = np.bincount(rows, minlength=len(names))
    other_sizes = np.bincount(columns, minlength=len(others))
    expected = sizes[pairs // len(others)] * other_sizes[pairs % len(others)]
    return Agreement(
        _nmi(counts, expected, sizes, other_sizes),
        _ari(_pairs(counts), _pairs(sizes), _pairs(other_sizes), len(rows)),
    )


def _nmi(
    counts: NDArray[np.int64],
    expected: NDArray[np.int64],
    sizes: NDArray[np.int64],
    other_sizes: NDArray[np.int64],
) -> float:
    """Return NMI of the pairs that occur.

    Args:
        counts: ``(P,)`` images of each pair.
        expected: ``(P,)`` product of the sizes of each pair; divided by N, the count of chance.
        sizes: ``(R,)`` images of each id of one clustering.
        other_sizes: ``(S,)`` images of each id of the other one.
    """
    if len(sizes) == len(other_sizes) == 1:
        return 1.0
    images = counts.sum()
    shared = float((counts / images * np.log(counts * (images / expected))).sum())
    mean = (_entropy(sizes) + _entropy(other_sizes)) / 2
    return min(max(shared / mean, 0.0), 1.0)


def _entropy(sizes: NDArray[np.int64]) -> float:
    shares = sizes / sizes.sum()
    return float(-(shares * np.log(shares)).sum())


def _pairs(sizes: NDArray[np.int64]) -> int:
    """Return the number of pairs of images within the groups of these sizes."""
    return int((sizes * (sizes - 1) // 2).sum())


def _ari(both: int, first: int, second: int, images: int) -> float:
    """Return ARI from the pairs that are together in both, in the first, and in the second.

    The integers of Python cannot overflow.
    """
    every = images * (images - 1) // 2
    if first == second == both:
        return 1.0
    # Index, its expectation and its maximum, all multiplied by two times the number of pairs.
    expectation = 2 * first * second
    return (2 * both * every - expectation) / ((first + second) * every - expectation)
