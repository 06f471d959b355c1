"""Interface of the heads that predict novel classes."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ClusteringHeads(nn.Module, ABC):
    """H heads with M classes each, computed together.

    Attributes:
        num_heads: H.
    """

    num_heads: int

    @abstractmethod
    def projections(self, features: Tensor) -> Tensor:
        """Return ``(H, B, P)`` inputs of the classifiers, of ``(B, D)`` features."""

    @abstractmethod
    def cosine_logits(self, directions: Tensor) -> Tensor:
        """Return ``(H, B, M)`` logits of :meth:`projections`."""

    @abstractmethod
    def single(self, head: int) -> ClusteringHeads:
        """Return a copy of one head alone."""

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(H, B, M)`` logits of ``(B, D)`` features."""
        return self.cosine_logits(self.projections(features))
