"""Incremental head: a classifier of all classes found in earlier steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crkd.models.heads.clustering import ClusteringHeads
from crkd.models.heads.reviewed import ReviewedHead


class IncrementalHead(nn.Module):
    """Concatenated classifiers, in the order in which their classes were learned.

    The first gives the logits of the labeled classes. Every further one is the novel head that an
    earlier discovery chose. The logits are concatenated without scaling, and a discovered class
    keeps its id. Prototype heads use cosines with one temperature. A linear first head has a scale
    of its own. The cross-entropy over all classes, with images or replayed features of the known
    ones, trains it together with the others.

    Args:
        first: features ``(B, D)`` to ``(B, K)`` logits.
        found: one novel head per earlier discovery.
    """

    def __init__(self, first: nn.Module, found: Sequence[ClusteringHeads]) -> None:
        super().__init__()
        self.first = first
        self.found = nn.ModuleList(found)

    def forward(self, features: Tensor) -> Tensor:
        """Return the ``(B, K + M_1 + M_2 + ...)`` logits of ``(B, D)`` features."""
        logits: Tensor = self.first(features)
        for head in self.found:
            if isinstance(head, ReviewedHead):
                logits = head.raised(logits, head.projections(features))
            logits = torch.cat([logits, head(features)[0]], -1)
        return logits

    def train(self, mode: bool = True) -> IncrementalHead:
        """Switch to training mode, except for the batch norm of the found heads.

        A later step has images of other classes, whose statistics do not fit the older heads.
        """
        super().train(mode)
        self.found.eval()
        return self
