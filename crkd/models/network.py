"""Network of a backbone, a head for known classes and heads for novel classes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crkd.core.batch_shard import BatchShard
from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs, stacked_views
from crkd.models.backbones.base import Backbone
from crkd.models.heads.clustering import ClusteringHeads
from crkd.models.heads.incremental import IncrementalHead
from crkd.models.heads.prototype import NovelHeads, PrototypeModule
from crkd.models.heads.reviewed import ReviewedHead


class Network(nn.Module):
    """Maps images to features and to the logits of known and novel classes.

    Args:
        backbone: makes ``(B, D)`` features.
        known_head: features to ``(B, K)`` logits; any module. With ``num_known`` and without
            novel heads it may give more columns, which are then those of one novel head.
        novel_heads: features to ``(H, B, M)`` logits; None before discovery.
        over_heads: over-clustering heads ``(H, B, M')``, or None.
        num_known: K; None if every column of the known head is a known class.
        batch_norm_per_view: in training, batch norm uses the statistics of each view alone.
    """

    def __init__(
        self,
        backbone: Backbone,
        known_head: nn.Module,
        novel_heads: ClusteringHeads | None = None,
        over_heads: NovelHeads | None = None,
        *,
        num_known: int | None = None,
        batch_norm_per_view: bool = False,
    ) -> None:
        super().__init__()
        self.num_known = num_known
        self.batch_norm_per_view = batch_norm_per_view
        self.backbone = backbone
        self.known_head = known_head
        self.novel_heads = novel_heads
        self.over_heads = over_heads

    def forward(
        self,
        views: Sequence[Tensor],
        *,
        maps: bool = False,
        projections: bool = False,
        replayed: Tensor | None = None,
        shard: BatchShard | None = None,
    ) -> HeadOutputs:
        """Return the outputs for every view.

        Views of one size form one batch of the backbone, so in training its batch norm uses their
        common statistics. The heads process all views and replayed features as one batch, as in
        SwAV. With ``batch_norm_per_view`` each view passes backbone and heads alone in training, in
        the order of the views, as in UNO's release. That costs up to V times the launches.

        Args:
            views: V tensors ``(B, 3, h, w)`` of the same B, sizes may differ.
            maps: also return the feature maps of every view.
            projections: also return the vectors that are compared with the novel prototypes.
            replayed: ``(R, D)`` features of other images, only for the heads.
            shard: with several processes, the views hold this process's rows. The features of all
                processes are gathered, so that heads and outputs are those of the whole batch.

        Raises:
            InputError: there are no views, or replayed features with ``batch_norm_per_view``.
        """
        if not views:
            raise InputError("the network was given 0 views; give at least one")
        if self.batch_norm_per_view and self.training:
            if replayed is not None:
                raise InputError("replayed features have no view; set batch_norm_per_view to false")
            if len(views) > 1:
                one = partial(self.forward, maps=maps, projections=projections, shard=shard)
                return stacked_views([one([view]) for view in views])
        features, feature_maps = self._features(views, maps=maps)
        if shard is not None:
            features = shard.gather(features, 1)
            feature_maps = tuple(tuple(map(shard.gather, stages)) for stages in feature_maps)
        rows = features.flatten(0, 1)
        seen = rows.shape[0]
        if replayed is not None:
            rows = torch.cat([rows, replayed.to(rows.dtype)])
        known = self.known_head(rows)
        novel = over = projected = None
        if self.novel_heads is not None:
            raw = self.novel_heads.projections(rows)
            novel = self.novel_heads.cosine_logits(raw)
            if isinstance(self.novel_heads, ReviewedHead):
                known = self.novel_heads.raised(known, raw)
            if projections:
                unit = F.normalize(raw[:, :seen].detach().float(), dim=-1)
                projected = _by_view(unit, len(views))
            if self.over_heads is not None:
                over = _by_view(self.over_heads(rows)[:, :seen], len(views))
        elif self.num_known is not None and self.num_known < known.shape[-1]:
            novel = known[None, :, self.num_known :]
            known = known[:, : self.num_known]
        return HeadOutputs(
            features,
            known[:seen].unflatten(0, (len(views), -1)),
            None if novel is None else _by_view(novel[:, :seen], len(views)),
            over,
            feature_maps,
            projected,
            None if replayed is None else _joint_rows(known[seen:], novel, seen),
        )

    def normalize_prototypes(self) -> None:
        """Normalize every prototype to length one, in place; call it after each optimizer step.

        New networks are already normalized. No value is read on the host.
        """
        for module in self.modules():
            if isinstance(module, PrototypeModule):
                module.normalize_prototypes()

    def _features(
        self, views: Sequence[Tensor], *, maps: bool
    ) -> tuple[Tensor, tuple[tuple[Tensor, ...], ...]]:
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for position, view in enumerate(views):
            by_shape.setdefault(tuple(view.shape[1:]), []).append(position)
        features: dict[int, Tensor] = {}
        feature_maps: dict[int, tuple[Tensor, ...]] = {}
        for positions in by_shape.values():
            images = torch.cat([views[position] for position in positions])
            stages: tuple[Tensor, ...] = ()
            if maps:
                pooled, stages = self.backbone.forward_with_maps(images)
            else:
                pooled = self.backbone(images)
            for part, position in enumerate(positions):
                size = views[position].shape[0]
                rows = slice(part * size, (part + 1) * size)
                features[position] = pooled[rows]
                feature_maps[position] = tuple(stage[rows] for stage in stages)
        order = range(len(views))
        return (
            torch.stack([features[position] for position in order]),
            tuple(feature_maps[position] for position in order) if maps else (),
        )


def with_one_head(network: Network, head: int | None) -> Network:
    """Return a copy that keeps one novel head and no over-clustering heads.

    Args:
        network: with or without novel heads.
        head: the head to keep; None if there are no novel heads.
    """
    copied = copy.deepcopy(network)
    copied.over_heads = None
    if copied.novel_heads is not None:
        copied.novel_heads = copied.novel_heads.single(head or 0)
    return copied


def absorbed(network: Network, head: int | None) -> Network:
    """Return a copy in which the classes of one novel head have become known ones.

    It gives the same joint logits as ``known_logits`` and has no novel heads.

    Args:
        network: with or without novel classes.
        head: the chosen novel head; None if there are no novel heads.
    """
    alone = with_one_head(network, head)
    alone.num_known = None
    novel = alone.novel_heads
    if novel is not None:
        known = alone.known_head
        if isinstance(known, IncrementalHead):
            known.found.append(novel)
        else:
            alone.known_head = IncrementalHead(known, [novel])
        alone.novel_heads = None
    return alone


def freeze(network: Network) -> Network:
    """Return a copy as a teacher: in evaluation mode and without gradients."""
    teacher = copy.deepcopy(network)
    teacher.requires_grad_(False)
    return teacher.eval()


def _by_view(values: Tensor, num_views: int) -> Tensor:
    """Return ``(V, H, B, ...)`` of values ``(H, V * B, ...)``."""
    num_heads, num_rows, width = values.shape
    by_view = values.view(num_heads, num_views, num_rows // num_views, width)
    return by_view.transpose(0, 1)


def _joint_rows(known: Tensor, novel: Tensor | None, start: int) -> Tensor:
    """Return ``(H, R, C)`` from known logits ``(R, K)`` and novel ones ``(H, start + R, M)``."""
    if novel is None:
        return known.unsqueeze(0)
    return torch.cat([known.expand(len(novel), -1, -1), novel[:, start:]], dim=-1)
