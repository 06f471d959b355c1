"""Losses with labels: cross-entropy, and the contrast of classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from crkd.losses.precision import full, log_softmax, similarities

UNLABELED = -1


def cross_entropy(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy over views and labeled rows.

    Args:
        logits: ``(V, B, K)``.
        labels: ``(B,)`` int64 in ``[0, K)``; rows labeled -1 are left out.
        label_smoothing: fraction in ``[0, 1]`` of the target spread evenly over the K classes.

    Returns:
        Scalar; 0, and differentiable, if no row is labeled.
    """
    rows = labels.expand(len(logits), -1).flatten()
    total = F.cross_entropy(
        full(logits).flatten(0, 1),
        rows,
        ignore_index=UNLABELED,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    # The count stays on the device, because reading it on the host would synchronize.
    return total / (rows != UNLABELED).sum().clamp(min=1)


def supervised_contrast(directions: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy of identifying the other views of the same class.

    Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, eq. 2.

    With z of unit length, i and j running over all views of all samples, and P(i) the other views
    of the class of i::

        loss = -1 / (V N) sum_i 1 / |P(i)| sum_{j in P(i)} log
               exp(<z_i, z_j> / T) / sum_{k != i} exp(<z_i, z_k> / T)

    Args:
        directions: ``(V, N, P)`` of labeled samples, of any length above 0; two views or more, so
            that P(i) is never empty.
        labels: ``(N,)`` int64.
        temperature: T, above 0.

    Returns:
        Scalar in nats, at least 0; 0, and differentiable, without samples.
    """
    views, samples, _ = directions.shape
    unit = F.normalize(full(directions), dim=-1).flatten(0, 1)
    row = torch.arange(views * samples, device=unit.device)
    itself = row.unsqueeze(1) == row
    classes = labels.repeat(views)
    positive = (classes.unsqueeze(1) == classes) & ~itself
    log_p = log_softmax((similarities(unit, unit) / temperature).masked_fill(itself, -math.inf))
    found = torch.where(positive, log_p, 0.0).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
    return -found.sum() / max(views * samples, 1)
