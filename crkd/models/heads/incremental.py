"""A classifier of all classes that a chain of discoveries knows by now."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crkd.models.heads.clustering import ClusteringHeads


class IncrementalHead(nn.Module):
    """Classifiers side by side, in the order in which their classes were learnt.

    The first answers the classes that had labels; every further one is the novel head that an
    earlier discovery chose. All give cosines over one temperature, so their logits stand beside
    each other as they are, and a discovered class keeps its id and its answers for ever.

    Args:
        first: features ``(B, D)`` to ``(B, K)`` logits.
        found: one novel head each.
    """

    def __init__(self, first: nn.Module, found: Sequence[ClusteringHeads]) -> None:
        super().__init__()
        self.first = first
        self.found = nn.ModuleList(found)

    def forward(self, features: Tensor) -> Tensor:
        """Return the ``(B, K + M_1 + M_2 + ...)`` logits of ``(B, D)`` features."""
        return torch.cat([self.first(features), *(head(features)[0] for head in self.found)], -1)

    def train(self, mode: bool = True) -> IncrementalHead:
        """Switch to training mode, except for the batch norm of the found heads.

        A later step sees images of other classes; their statistics are not those on which the
        older classes were told apart.
        """
        super().train(mode)
        self.found.eval()
        return self
