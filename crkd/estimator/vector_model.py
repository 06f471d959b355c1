"""Model of an estimator that was fitted on feature vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats
from crkd.models.network import Network
from crkd.stages.forward import Outputs, forward_batch
from crkd.stages.vectors.candidates import UNDECIDED
from crkd.stages.vectors.discovery import (
    VectorDiscovery,
    fit_discovery,
    fit_known,
    further_discovery,
)
from crkd.stages.vectors.sampling import known_sample, unlabeled_sample
from crkd.stages.vectors.start import looks_known
from crkd.stages.vectors.state import network_of

BATCH_ROWS: Final = 4096
"""Vectors in a forward pass."""


@dataclass(frozen=True, eq=False)
class VectorModel:
    """A model of feature vectors.

    Attributes:
        network: computes the predictions, in float64.
        discovery: what was found.
    """

    network: Network
    discovery: VectorDiscovery

    @classmethod
    def of(cls, discovery: VectorDiscovery) -> VectorModel:
        """Return the model of a discovery."""
        return cls(network_of(discovery), discovery)

    @classmethod
    def fit(
        cls, vectors: Floats, labels: NDArray[np.int64], num_novel: int, *, method: str, seed: int
    ) -> VectorModel:
        """Learn from labeled and unlabeled vectors: all of them, or a sample of very many.

        The rows are those from which a run learns with the same seed
        (:mod:`crkd.stages.vectors.sampling`).

        Args:
            vectors: ``(n, D)``.
            labels: ``(n,)`` in ``[0, K)``, -1 for unlabeled vectors.
            num_novel: M; 0 if all vectors are labeled.
            method: see :func:`~crkd.stages.vectors.discovery.fit_discovery`.
            seed: of everything drawn.
        """
        known, novel = np.flatnonzero(labels >= 0), np.flatnonzero(labels < 0)
        known = known[known_sample(labels[known], num_novel, seed=seed)]
        novel = novel[unlabeled_sample(len(novel), num_novel, seed=seed)]
        rows, given = torch.from_numpy(vectors[known]), torch.from_numpy(labels[known])
        if not num_novel:
            return cls.of(fit_known(rows, given, rows[:0]))
        fresh = torch.from_numpy(vectors[novel])
        return cls.of(fit_discovery(rows, given, fresh, num_novel, method=method, seed=seed))

    def extended(self, vectors: Floats, num_novel: int, *, method: str, seed: int) -> VectorModel:
        """Return the model with further classes, found in ``(m, D)`` unlabeled vectors.

        The method "auto" is that of the first discovery. Where there was none, no labeled vector
        is left for a contest, and the consensus is used. Of very many vectors a sample takes part.
        Vectors that look like an earlier class do not take part in the discovery.
        """
        if method == "auto" and len(self.discovery.heads) == 1:
            method = UNDECIDED
        vectors = vectors[unlabeled_sample(len(vectors), num_novel, seed=seed)]
        gate = self.discovery.gate
        fresh = ~looks_known(gate, vectors, seed=seed)
        mixed = num_novel <= fresh.sum() < len(fresh)
        rows = torch.from_numpy(vectors[fresh] if mixed else vectors)
        found = further_discovery(
            self.discovery, rows, num_novel, method=method, seed=seed, mixed=bool(mixed)
        )
        return self.of(found)

    def batches(self, vectors: Floats) -> Iterator[Outputs]:
        """Yield the outputs of the network for ``(n, D)`` vectors, batch after batch."""
        for start in range(0, len(vectors), BATCH_ROWS):
            batch = torch.from_numpy(vectors[start : start + BATCH_ROWS])
            yield forward_batch(self.network, batch, lambda rows: rows)

    @property
    def width(self) -> int:
        """P, the length of the embedding."""
        return int(self.discovery.gate.space.projection.shape[1])

    def embedding(self, outputs: Outputs) -> NDArray[np.float64]:
        """Return the rows in the space whitened by the known classes, ``(n, P)`` of length one."""
        # The space of the classes comes first; the others belong to single heads.
        return np.asarray(outputs.features[:, : self.width], np.float64)
