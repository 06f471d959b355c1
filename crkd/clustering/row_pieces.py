"""Many rows: sums over pieces and over classes, and even shares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

WHOLE_ROWS: Final = 65_536
"""Rows up to which there is one piece, so that results are those of a single computation."""
PIECE_ROWS: Final = 16_384

Array = NDArray[np.floating[Any]]


def pieces(count: int) -> list[slice]:
    """Return the slices of ``count`` rows that are read at once.

    >>> pieces(3), len(pieces(100_000))
    ([slice(0, 3, None)], 7)
    """
    each = max(count, 1) if count <= WHOLE_ROWS else PIECE_ROWS
    return [slice(start, min(start + each, count)) for start in range(0, count, each)]


def even_places(count: int, most: int) -> NDArray[np.int64]:
    """Return positions of an even share of ``count`` rows, ascending: all, or ``most`` of more.

    >>> even_places(5, 3), even_places(2, 3)
    (array([0, 1, 3]), array([0, 1]))
    """
    number = min(count, most)
    # In integers: a step that is rounded up would lead past the last row.
    places: NDArray[np.int64] = np.arange(number) * count // max(number, 1)
    return places


def class_sums(
    rows: NDArray[np.floating[Any]],
    classes: NDArray[np.int64],
    num_classes: int,
    dtype: type[np.floating[Any]] = np.float64,
) -> NDArray[Any]:
    """Return the sum of the rows of every class, ``(num_classes, D)``.

    The rows of a class are added in their order, so the bits are those of ``np.add.at``, which is
    slower.

    Args:
        rows: ``(N, D)``.
        classes: ``(N,)`` in ``[0, num_classes)``.
        num_classes: number of sums.
        dtype: in which is added; float32 needs rows of float32.
    """
    from scipy.sparse import csr_array

    columns = np.arange(len(rows))
    members = csr_array((np.ones(len(rows), dtype), (classes, columns)), (num_classes, len(rows)))
    return np.asarray(members @ rows, dtype=dtype)


def added(parts: Iterable[Array]) -> Array:
    """Return the sum of one or more arrays of one shape."""
    remaining = iter(parts)
    total = next(remaining)
    for part in remaining:
        total = total + part
    return total


def mean_of(parts: Iterable[Array]) -> Array:
    """Return the mean row of one or more pieces ``(n, D)``, in the type of the rows."""
    remaining = iter(parts)
    first = next(remaining)
    second = next(remaining, None)
    if second is None:
        return np.asarray(first.mean(axis=0))
    total, count = first.sum(axis=0, dtype=np.float64), len(first)
    while second is not None:
        total, count = total + second.sum(axis=0, dtype=np.float64), count + len(second)
        second = next(remaining, None)
    return np.asarray(total / count, first.dtype)
