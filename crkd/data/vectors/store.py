"""Storage of feature vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from crkd.data.storage.base import ImageStore, Rows


class VectorStore(ImageStore):
    """Feature vectors in memory, in the interface of stored images.

    Args:
        vectors: ``(n, D)`` on the device; not copied.
    """

    def __init__(self, vectors: Tensor) -> None:
        self.size = vectors.shape[1]
        self.device = vectors.device
        self._vectors = vectors

    def __len__(self) -> int:
        """Return n."""
        return len(self._vectors)

    def get(self, index: Tensor) -> Tensor:
        """Return ``(b, D)`` vectors."""
        return self._vectors.index_select(0, index)

    def batches(self, order: Iterable[Rows]) -> Iterator[Tensor]:
        """Yield ``(b, D)`` vectors for batch after batch."""
        for rows in order:
            yield self.get(torch.from_numpy(rows).to(self.device))
