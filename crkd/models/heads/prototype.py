"""Classifier heads: prototypes on the unit sphere, or a plain linear layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crkd.core.errors import InputError
from crkd.core.seeding import seeded
from crkd.models.heads.clustering import ClusteringHeads


class PrototypeModule(nn.Module):
    """A head whose ``prototypes`` ``(..., classes, D)`` are kept at length one.

    They are renormalized in place around each step (:meth:`normalize_prototypes`), as in the
    released UNO and Cr-KD-NCD code, not in the forward pass. With normalization in the forward
    pass, weight decay would shrink the unused length and so raise the effective learning rate of
    the published recipes. Saved prototypes are unit vectors.
    """

    prototypes: nn.Parameter

    def __init__(self, temperature: float) -> None:
        super().__init__()
        if not temperature > 0:
            raise InputError(f"temperature is {temperature}; it must be above 0")
        self.temperature = temperature

    @torch.no_grad()
    def normalize_prototypes(self) -> None:
        """Normalize every prototype to length one, in place."""
        self.prototypes.copy_(F.normalize(self.prototypes, dim=-1))

    def cosine_logits(self, directions: Tensor) -> Tensor:
        """Return cosines divided by the temperature, in at least float32.

        In bfloat16, a cosine near one is a multiple of 2^-8. Divided by a temperature of 0.1, that
        is a step of 0.04 in the logit, which affects Sinkhorn at epsilon 0.05. The product is
        small, so it is computed in full precision even under autocast.

        Args:
            directions: ``(..., B, D)`` of any length, with the prototypes' leading shape.

        Returns:
            ``(..., B, classes)``.
        """
        dtype = torch.promote_types(directions.dtype, torch.float32)
        with torch.autocast(directions.device.type, enabled=False):
            unit = F.normalize(directions.to(dtype), dim=-1)
            return unit @ self.prototypes.to(dtype).mT / self.temperature


class PrototypeHead(PrototypeModule):
    """One prototype per class; logits are cosines divided by ``temperature``.

    Args:
        num_features: length D of the features.
        num_classes: K.
        temperature: divides the cosines, above 0.
    """

    def __init__(self, num_features: int, num_classes: int, temperature: float = 0.1) -> None:
        super().__init__(temperature)
        _check_counts(num_features=num_features, num_classes=num_classes)
        drawn = nn.Linear(num_features, num_classes, bias=False).weight
        self.prototypes = nn.Parameter(drawn.detach())
        self.normalize_prototypes()

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, K)`` logits of ``(B, D)`` features."""
        return self.cosine_logits(features)


class LinearHead(nn.Linear):
    """A plain linear layer; its outputs are the logits.

    Args:
        num_features: length D of the features.
        num_classes: K.
    """

    def __init__(self, num_features: int, num_classes: int) -> None:
        _check_counts(num_features=num_features, num_classes=num_classes)
        super().__init__(num_features, num_classes)


class NovelHeads(PrototypeModule, ClusteringHeads):
    """H novel heads, computed together: MLP with batch norm, normalization, prototypes.

    The stacked weights are drawn as those of H separate ``nn.Linear`` stacks, and the outputs are
    the same. The H hidden layers form one wide layer, whose batch norm is per channel and
    therefore per head. It is a plain ``nn.BatchNorm1d``, so that synchronized batch norm finds it.
    Logits times ``temperature`` are the cosines on which the release runs Sinkhorn. Source: Fini et
    al., "A Unified Objective for Novel Class Discovery", ICCV 2021.

    Args:
        num_features: length D of the backbone features.
        num_classes: M clusters in each head.
        num_heads: H.
        hidden: width of the hidden layer of each head.
        projection: length P of the projected features.
        temperature: divides the cosines, above 0.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        num_heads: int,
        *,
        hidden: int = 2048,
        projection: int = 256,
        temperature: float = 0.1,
    ) -> None:
        super().__init__(temperature)
        _check_counts(
            num_features=num_features,
            num_classes=num_classes,
            num_heads=num_heads,
            hidden=hidden,
            projection=projection,
        )
        self.num_heads = num_heads
        first, second, last = [], [], []
        for _ in range(num_heads):
            first.append(nn.Linear(num_features, hidden))
            second.append(nn.Linear(hidden, projection))
            last.append(nn.Linear(projection, num_classes, bias=False))
        self.hidden = nn.Linear(num_features, num_heads * hidden)
        with torch.no_grad():
            self.hidden.weight.copy_(torch.cat([layer.weight for layer in first]))
            self.hidden.bias.copy_(torch.cat([layer.bias for layer in first]))
        self.norm = nn.BatchNorm1d(num_heads * hidden)
        self.projection_weight = _stacked([layer.weight for layer in second])
        self.projection_bias = _stacked([layer.bias for layer in second])
        self.prototypes = _stacked([layer.weight for layer in last])
        self.normalize_prototypes()

    @torch.no_grad()
    def single(self, head: int) -> NovelHeads:
        """Return a copy of one head, on the same device.

        Args:
            head: index in ``[0, H)``.
        """
        hidden = self.hidden.out_features // self.num_heads
        projection, num_classes = self.prototypes.shape[-1], self.prototypes.shape[-2]
        # The weights that are drawn here are overwritten; the caller's random state stays.
        with seeded(0):
            alone = NovelHeads(
                self.hidden.in_features,
                num_classes,
                1,
                hidden=hidden,
                projection=projection,
                temperature=self.temperature,
            ).to(self.prototypes.device)
        wide = slice(head * hidden, (head + 1) * hidden)
        kept = {}
        for name, tensor in self.state_dict().items():
            per_channel = name.startswith(("hidden.", "norm.")) and tensor.ndim > 0
            kept[name] = tensor if tensor.ndim == 0 else tensor[wide if per_channel else [head]]
        alone.load_state_dict(kept)
        return alone.train(self.training)

    def projections(self, features: Tensor) -> Tensor:
        """Return ``(H, B, P)`` projected features, not normalized, of ``(B, D)`` features."""
        return self._projected(self.norm(self.hidden(features)))

    def _projected(self, hidden: Tensor) -> Tensor:
        per_head = F.relu(hidden).view(hidden.shape[0], self.num_heads, -1).transpose(0, 1)
        return torch.baddbmm(self.projection_bias.unsqueeze(1), per_head, self.projection_weight.mT)

    @torch.no_grad()
    def point_at(self, features: Tensor, clusters: Tensor) -> None:
        """Set every prototype to the mean projection of one cluster of samples.

        Projections share a large common component that does not separate clusters, so it is
        subtracted. The prototype of a cluster without samples is not changed.

        Args:
            features: ``(N, D)``; batch norm uses their common statistics, as in training.
            clusters: ``(H, N)`` int64 in ``[0, M)``, one clustering per head.
        """
        norm = self.norm
        hidden = F.batch_norm(
            self.hidden(features), None, None, norm.weight, norm.bias, training=True, eps=norm.eps
        )
        unit = F.normalize(self._projected(hidden), dim=-1)
        members = F.one_hot(clusters, self.prototypes.shape[1]).to(unit.dtype)
        centers = members.mT @ (unit - unit.mean(dim=1, keepdim=True))
        filled = members.sum(dim=1).unsqueeze(-1) > 0
        self.prototypes.copy_(torch.where(filled, centers, self.prototypes))
        self.normalize_prototypes()


def _stacked(parameters: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.stack([parameter.detach() for parameter in parameters]))


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} is {count}; it must be at least 1")
