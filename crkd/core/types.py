"""Data types that the components of a training step exchange.

Shape letters in all docstrings: V views, H heads, B batch, N samples of one OT problem,
D features, K known classes, M novel classes, C = K + M.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crkd.core.batch_shard import BatchShard


class Batch(NamedTuple):
    """One training batch; labeled samples come first, so that labeled and unlabeled are slices.

    Attributes:
        views: V image tensors, each ``(B, 3, h, w)``, large crops before small ones; empty until
            they are rendered from ``images`` and ``drawn``.
        labels: ``(B,)`` int64, class ids in ``[0, K)`` for labeled samples, -1 for the others.
        sample_id: ``(B,)`` int64, number of each sample: labeled ones first, then the others.
        view_epoch: ``(B,)`` int64, the epoch with which each sample's views are drawn; equal
            epochs give equal pixels.
        num_labeled: rows ``[0, num_labeled)`` are labeled, the rest are not. A Python integer,
            so that slicing needs no device synchronization.
        num_large: number of views that are large crops.
        shard: with several processes, the rows that the views of this process hold. Labels,
            numbers and counts are always those of the whole batch. None: the views hold all rows.
        images: ``(B, 3, S, S)`` uint8 of the rows of the views; None once they are rendered.
        drawn: ``(B, F)`` float32, the random parameters of these rows' views; None if they are
            drawn while rendering.
    """

    views: tuple[Tensor, ...]
    labels: Tensor
    sample_id: Tensor
    view_epoch: Tensor
    num_labeled: int
    num_large: int
    shard: BatchShard | None = None
    images: Tensor | None = None
    drawn: Tensor | None = None

    def shown(self, values: Tensor) -> Tensor:
        """Return the rows of ``(B, ...)`` values whose images the views hold."""
        return values if self.shard is None else self.shard.own(values)


class HeadOutputs(NamedTuple):
    """Outputs of a network for V views of B images.

    Logits are ready for a softmax: cosine scores are already divided by the temperature.

    Attributes:
        features: ``(V, B, D)`` backbone features before any normalization.
        known_logits: ``(V, B, K)``.
        novel_logits: ``(V, H, B, M)``; None before discovery.
        over_logits: ``(V, H, B, M')`` of the over-clustering heads, or None.
        maps: per view a tuple of feature maps ``(B, channels, h, w)``, only on request.
        projections: ``(V, H, B, P)`` unit-length inputs of the novel prototypes, only on request.
        replayed: ``(H, R, C)`` joint logits of features that were passed in with the views.
    """

    features: Tensor
    known_logits: Tensor
    novel_logits: Tensor | None = None
    over_logits: Tensor | None = None
    maps: tuple[tuple[Tensor, ...], ...] = ()
    projections: Tensor | None = None
    replayed: Tensor | None = None

    def joint_logits(self) -> Tensor:
        """Return ``(V, H, B, C)``: known logits, the same for every head, then novel logits.

        Before discovery H is 1 and C is K.
        """
        known = self.known_logits.unsqueeze(1)
        if self.novel_logits is None:
            return known
        known = known.expand(-1, self.novel_logits.shape[1], -1, -1)
        return torch.cat([known, self.novel_logits], dim=-1)

    def first_views(self, count: int) -> HeadOutputs:
        """Return the same outputs for the views ``[0, count)``."""
        return HeadOutputs(
            self.features[:count],
            self.known_logits[:count],
            None if self.novel_logits is None else self.novel_logits[:count],
            None if self.over_logits is None else self.over_logits[:count],
            self.maps[:count],
            None if self.projections is None else self.projections[:count],
        )

    def rows(self, start: int, stop: int | None = None) -> HeadOutputs:
        """Return the same outputs for the samples ``[start, stop)`` of the batch."""
        part = slice(start, stop)
        return HeadOutputs(
            self.features[:, part],
            self.known_logits[:, part],
            None if self.novel_logits is None else self.novel_logits[:, :, part],
            None if self.over_logits is None else self.over_logits[:, :, part],
            tuple(tuple(m[part] for m in maps) for maps in self.maps),
            None if self.projections is None else self.projections[:, :, part],
        )


def stacked_views(parts: Sequence[HeadOutputs]) -> HeadOutputs:
    """Return the outputs of several groups of views as those of all views, in order.

    Args:
        parts: at least one; all hold the same fields, and none holds replayed features.
    """

    def joined(values: Sequence[Tensor | None]) -> Tensor | None:
        given = [value for value in values if value is not None]
        return torch.cat(given) if given else None

    return HeadOutputs(
        torch.cat([part.features for part in parts]),
        torch.cat([part.known_logits for part in parts]),
        joined([part.novel_logits for part in parts]),
        joined([part.over_logits for part in parts]),
        tuple(maps for part in parts for maps in part.maps),
        joined([part.projections for part in parts]),
    )
