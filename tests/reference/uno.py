"""Naive references of UNO's release: its learning rate and its pass of one view after the other."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from crkd.models.heads.prototype import NovelHeads
from crkd.models.network import Network


def rates_of_the_release(lr: float, min_lr: float, warmup: int, epochs: int) -> list[float]:
    """Return the learning rate of each epoch.

    The recursion by which lightning-bolts 0.3.0 computes a linear warm-up and a cosine: each rate
    follows from the rate of the epoch before. UNO starts and ends it at ``min_lr``.
    """
    rates = [min_lr]
    for epoch in range(1, epochs):
        before = rates[-1]
        if epoch < warmup:
            rates.append(before + (lr - min_lr) / (warmup - 1))
        elif epoch == warmup:
            rates.append(lr)
        else:
            angle = math.pi / (epochs - warmup)
            now, earlier = (1 + math.cos(angle * (epoch - warmup - back)) for back in (0, 1))
            rates.append(now / earlier * (before - min_lr) + min_lr)
    return rates


class SeparateHead(nn.Module):
    """One head of several as the release has it: two linear layers, batch norm, prototypes."""

    def __init__(self, heads: NovelHeads, head: int) -> None:
        super().__init__()
        width = heads.hidden.out_features // heads.num_heads
        own = slice(head * width, (head + 1) * width)
        self.own, self.temperature = own, heads.temperature
        self.norm = nn.BatchNorm1d(width)
        norm = heads.norm.state_dict()
        self.norm.load_state_dict({k: v[own] if v.ndim else v for k, v in norm.items()})
        self.first = (heads.hidden.weight[own].detach(), heads.hidden.bias[own].detach())
        second = (heads.projection_weight[head], heads.projection_bias[head])
        self.second = tuple(value.detach() for value in second)
        self.prototypes = heads.prototypes[head].detach()

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, M)`` logits of ``(B, D)`` features."""
        hidden = functional.relu(self.norm(functional.linear(features, *self.first)))
        unit = functional.normalize(functional.linear(hidden, *self.second), dim=1)
        return functional.linear(unit, self.prototypes) / self.temperature


class OneViewAfterTheOther:
    """A copy of a network that passes each view alone, through torch's own batch norm."""

    def __init__(self, network: Network) -> None:
        self.backbone = copy.deepcopy(network.backbone)
        self.known_head = copy.deepcopy(network.known_head)
        self.heads = [self._separate(heads) for heads in (network.novel_heads, network.over_heads)]

    @staticmethod
    def _separate(heads: object) -> list[SeparateHead]:
        assert isinstance(heads, NovelHeads)
        return [SeparateHead(heads, head).train() for head in range(heads.num_heads)]

    def __call__(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return features, known logits, novel logits and over-clustering logits."""
        features = [self.backbone(view) for view in views]
        known = [self.known_head(rows) for rows in features]
        novel, over = (
            torch.stack([torch.stack([head(rows) for head in heads]) for rows in features])
            for heads in self.heads
        )
        return torch.stack(features), torch.stack(known), novel, over

    def statistics(self, number: int, name: str) -> Tensor:
        """Return a statistic of the novel (0) or over-clustering (1) heads, head after head."""
        return torch.cat([getattr(head.norm, name) for head in self.heads[number]])
