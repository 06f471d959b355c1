"""Diagnostics of an assignment for the training log: balance, entropy, collapse."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

STUCK_BELOW = 0.02
"""Minimum difference between ln M and the mean row entropy, as a fraction of ln M."""


class Diagnostics(NamedTuple):
    """Diagnostics of assignments ``(..., N, M)``, each a tensor ``(...)`` on their device.

    Attributes:
        marginal_error: sum over classes of ``|mass - wanted mass|``, in [0, 2].
        clusters_used: number of classes that are the largest entry of at least one sample.
        largest_cluster: fraction of the samples whose largest entry is the most frequent class.
        smallest_cluster: the same for the least frequent class.
        entropy: mean entropy of a row in nats; 0 if every row is one-hot.
        gap_to_ln_m: ln M - entropy; 0 if no sample prefers any class.
        stuck: True if the gap is below 2 % of ln M. The targets are then uniform, and a network
            does not learn from them.
        collapsed: True if one class is the largest entry of so many samples that their fraction is
            nearer to 1 than to its wanted mass. Never for fewer samples than classes.
    """

    marginal_error: Tensor
    clusters_used: Tensor
    largest_cluster: Tensor
    smallest_cluster: Tensor
    entropy: Tensor
    gap_to_ln_m: Tensor
    stuck: Tensor
    collapsed: Tensor


@torch.no_grad()
def diagnose(assignment: Tensor, class_marginal: Tensor | None = None) -> Diagnostics:
    """Return the diagnostics of ``assignment`` without waiting for its device.

    Args:
        assignment: ``(..., N, M)``, rows sum to one, N at least 1.
        class_marginal: ``(M,)`` or ``(..., M)`` that sums to one; uniform if None.
    """
    rows = assignment.float()
    n, m = rows.shape[-2:]
    wanted = rows.new_full((m,), 1 / m) if class_marginal is None else class_marginal
    winners = rows.argmax(-1)
    counts = rows.new_zeros(*rows.shape[:-2], m)
    counts.scatter_add_(-1, winners, torch.ones_like(winners, dtype=counts.dtype))
    entropy = torch.special.entr(rows).sum(-1).mean(-1)
    gap = math.log(m) - entropy
    largest = counts.amax(-1) / n
    return Diagnostics(
        marginal_error=(rows.mean(-2) - wanted).abs().sum(-1),
        clusters_used=(counts > 0).sum(-1),
        largest_cluster=largest,
        smallest_cluster=counts.amin(-1) / n,
        entropy=entropy,
        gap_to_ln_m=gap,
        stuck=(gap < STUCK_BELOW * math.log(m)) & (m > 1),
        collapsed=(largest > (1 + wanted.amax(-1)) / 2) & (1 < m <= n),
    )
