"""Random orders that do not depend on the NumPy version or the machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def stable_shuffle(length: int, seed: int, *, stream: int = 0) -> npt.NDArray[np.int64]:
    """Return a random order of ``range(length)`` that depends only on the arguments.

    ``Generator.permutation`` may change between NumPy versions. The raw output of a bit generator
    may not (NumPy Enhancement Proposal 19), so the order is that of raw random numbers.

    Args:
        length: number of positions.
        seed: any non-negative integer below 2**64.
        stream: separates several draws with one seed, non-negative, below 2**64.

    >>> stable_shuffle(6, 0).tolist() == stable_shuffle(6, 0).tolist()
    True
    >>> sorted(stable_shuffle(6, 1, stream=3).tolist())
    [0, 1, 2, 3, 4, 5]
    """
    numbers = np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))
    return np.argsort(numbers.random_raw(length), kind="stable").astype(np.int64)
