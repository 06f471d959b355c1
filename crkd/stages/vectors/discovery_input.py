"""Input of the discovery methods: rows in their spaces, and nearest neighbors."""

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

WIDTHS = (128, 256)
"""Dimensions of the space in which classes are found, and of that in which they are separated."""
NEIGHBOR_SHARE = 0.2
"""Of the vectors of a class of average size: so many count as neighbors."""
REFINING_SHARE = 0.08
"""The same once the classes are found: near neighbors suffice then, and are more often right."""
NEIGHBORS = (4, 100)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of the novel classes in a space, all of unit length.

    Attributes:
        space: of the vectors.
        values: ``(N, k)`` float32.
        num_neighbors: n, how many neighbors of a row count as being of its class.
        seed: of the pool of neighbors.
    """

    space: WhitenedSpace
    values: Floats
    num_neighbors: int
    seed: int

    @cached_property
    def neighbors(self) -> NDArray[np.int64]:
        """Return the nearest other rows of each, ``(N, n)`` int64.

        They are searched when they are needed, because k-means needs none.
        """
        return nearest_neighbors(self.values, self.num_neighbors, seed=self.seed)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return values and neighbors."""
        return torch.from_numpy(self.values), torch.from_numpy(self.neighbors)


@dataclass(frozen=True, eq=False)
class DiscoveryInput:
    """Unlabeled vectors of M novel classes, and the spaces of the candidates.

    Attributes:
        novel: ``(m, D)`` float32.
        num_novel: M.
        known_space: whitened by the known classes, as wide as helps to find classes.
        wide_space: likewise, as wide as helps to separate classes once they are found.
        seed: of the pools of neighbors.
    """

    novel: Floats
    num_novel: int
    known_space: WhitenedSpace
    wide_space: WhitenedSpace
    seed: int

    @cached_property
    def plain(self) -> Rows:
        """Return the novel rows on the principal components of the novel vectors."""
        return self._rows(principal_space(self.novel))

    @cached_property
    def whitened(self) -> Rows:
        """Return the novel rows in the space whitened by the known classes."""
        return self._rows(self.known_space)

    @cached_property
    def wide(self) -> Rows:
        """Return the novel rows in the wide space."""
        return self._rows(self.wide_space, REFINING_SHARE)

    def _rows(self, space: WhitenedSpace, share: float = NEIGHBOR_SHARE) -> Rows:
        values = space.rows(self.novel)
        count = num_neighbors(len(values), self.num_novel, share)
        return Rows(space, values, count, self.seed)


def num_neighbors(num_rows: int, num_classes: int, share: float = NEIGHBOR_SHARE) -> int:
    """Return how many neighbors of a row count as being of its class.

    >>> num_neighbors(5000, 10), num_neighbors(1000, 10), num_neighbors(30, 10)
    (100, 20, 4)
    """
    low, high = NEIGHBORS
    return min(max(round(share * num_rows / num_classes), low), high)
