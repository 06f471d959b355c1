"""What the candidates of a discovery work on: rows in spaces, and the neighbors in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd.clustering.kmeans import Floats
from crkd.clustering.neighbors import nearest_neighbors
from crkd.clustering.whitening import WhitenedSpace, principal_space

NEIGHBOR_SHARE = 0.2
"""Of the vectors of a class of average size: so many count as neighbors."""
NEIGHBORS = (4, 100)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of the novel classes in a space, all of unit length.

    Attributes:
        space: of the vectors.
        values: ``(N, k)`` float32.
        neighbors: ``(N, n)`` int64.
    """

    space: WhitenedSpace
    values: Floats
    neighbors: NDArray[np.int64]

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return values and neighbors."""
        return torch.from_numpy(self.values), torch.from_numpy(self.neighbors)


@dataclass(frozen=True, eq=False)
class Material:
    """Vectors of M novel classes, whose labels nobody knows, and the spaces to look at them in.

    Attributes:
        novel: ``(m, D)`` float32.
        num_novel: M.
        known_space: the space whitened by the known classes.
        seed: of the pools of neighbors.
    """

    novel: Floats
    num_novel: int
    known_space: WhitenedSpace
    seed: int

    @cached_property
    def plain(self) -> Rows:
        """Return the novel rows on the principal components of the novel vectors."""
        return self._rows(principal_space(self.novel))

    @cached_property
    def whitened(self) -> Rows:
        """Return the novel rows in the space whitened by the known classes."""
        return self._rows(self.known_space)

    def _rows(self, space: WhitenedSpace) -> Rows:
        values = space.rows(self.novel)
        count = num_neighbors(len(values), self.num_novel)
        return Rows(space, values, nearest_neighbors(values, count, seed=self.seed))


def num_neighbors(num_rows: int, num_classes: int) -> int:
    """Return how many neighbors of a row count as being of its class.

    >>> num_neighbors(5000, 10), num_neighbors(1000, 10), num_neighbors(30, 10)
    (100, 20, 4)
    """
    low, high = NEIGHBORS
    return min(max(round(NEIGHBOR_SHARE * num_rows / num_classes), low), high)
