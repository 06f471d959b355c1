"""Parts of a split class in the embedding of a head."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
ROUNDS: Final = 50


def divide(rows: Floats, first: int, second: int) -> tuple[NDArray[np.bool_], Floats]:
    """Divide rows into two halves by direction, starting at two of them.

    Args:
        rows: ``(n, P)`` of length one.
        first: position of the row that starts the first half.
        second: position of the row that starts the second half; the two rows differ.

    Returns:
        ``(n,)`` True for the half of ``second``, and the ``(2, P)`` directions of the halves. A
        row belongs to the direction with the larger cosine, a tie to the first.
    """
    directions = rows[[first, second]]
    later = _nearer_second(rows, directions)
    for _ in range(ROUNDS):
        if later.all() or not later.any():
            break
        sums = np.stack([rows[~later].sum(axis=0), rows[later].sum(axis=0)])
        directions = sums / np.linalg.norm(sums, axis=1, keepdims=True).clip(min=1e-12)
        before, later = later, _nearer_second(rows, directions)
        if np.array_equal(before, later):
            break
    return later, directions


def _nearer_second(rows: Floats, directions: Floats) -> NDArray[np.bool_]:
    nearer: NDArray[np.bool_] = rows @ (directions[0] - directions[1]) < 0
    return nearer


def part_directions(rows: Floats, parts: NDArray[np.int64], count: int) -> Floats:
    """Return the unit-length mean of each part, ``(count, P)``.

    Args:
        rows: ``(n, P)`` of length one.
        parts: ``(n,)`` part of each row; every part has a row.
        count: number of parts.
    """
    sums = np.stack([rows[parts == part].sum(axis=0) for part in range(count)])
    directions: Floats = sums / np.linalg.norm(sums, axis=1, keepdims=True).clip(min=1e-12)
    return directions
