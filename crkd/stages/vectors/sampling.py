"""Samples of very many vectors: the rows from which a discovery learns."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from crkd.core.shuffle import stable_shuffle

MOST_ROWS: Final = 50_000
"""Labeled vectors from which a discovery learns, and unlabeled ones, at most; more for many
classes."""
ROWS_OF_A_CLASS: Final = 200
"""Vectors for each novel class, on average, that are drawn at least."""


def most_rows(num_novel: int) -> int:
    """Return the largest number of vectors of a kind from which a discovery learns.

    Args:
        num_novel: M; 0 if it is not known.

    >>> most_rows(10), most_rows(1000)
    (50000, 200000)
    """
    return max(MOST_ROWS, ROWS_OF_A_CLASS * num_novel)


def known_sample(labels: NDArray[np.int64], num_novel: int, *, seed: int) -> NDArray[np.int64]:
    """Return which labeled vectors a discovery learns from: all, or an even share of every class.

    Args:
        labels: ``(n,)`` in ``[0, K)``.
        num_novel: M; 0 if it is not known.
        seed: of the draw, 0 or above.

    Returns:
        Positions, ascending. Of a class with two vectors or more, two remain at least.
    """
    most, rows = most_rows(num_novel), [np.zeros(0, np.int64)]
    if len(labels) <= most:
        return np.arange(len(labels))
    share = most / len(labels)
    for label in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == label)
        count = max(round(share * len(members)), min(2, len(members)))
        order = stable_shuffle(len(members), seed, stream=label)
        rows.append(members[order[:count]])
    return np.sort(np.concatenate(rows))


def unlabeled_sample(count: int, num_novel: int, *, seed: int) -> NDArray[np.int64]:
    """Return which of ``count`` vectors a discovery learns from: all, or some at random.

    Args:
        count: number of vectors.
        num_novel: M; 0 if it is not known.
        seed: of the draw, 0 or above.

    Returns:
        Positions, ascending.
    """
    most = most_rows(num_novel)
    if count <= most:
        return np.arange(count)
    return np.sort(stable_shuffle(count, seed)[:most])


def reviewed_sample(
    labels: NDArray[np.int64], by_person: NDArray[np.bool_], num_novel: int, *, seed: int
) -> NDArray[np.int64]:
    """Return which images of a review a discovery learns from.

    They are the images of a class: all of them, or an even share of every class, and all whose
    class a person chose.

    Args:
        labels: ``(N,)`` class of each image from 0; -1 for none.
        by_person: ``(N,)`` whether a person chose it.
        num_novel: M.
        seed: of the draw, 0 or above.

    Returns:
        Positions, ascending.
    """
    rows = np.flatnonzero(labels >= 0)
    drawn = rows[known_sample(labels[rows], num_novel, seed=seed)]
    return np.union1d(drawn, rows[by_person[rows]])
