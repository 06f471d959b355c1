"""Contrast of views: those of one image, or of one class, against all others."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from crkd.losses.precision import full, log_softmax, similarities


def contrast(directions: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy of identifying the other views of the same image.

    Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR),
    ICML 2020, eq. 1.

    With z of unit length and (v, n) running over views and samples::

        loss = -1 / (V (V - 1) N) sum_{v,n} sum_{u != v} log
               exp(<z_vn, z_un> / T) / sum_{(w,m) != (v,n)} exp(<z_vn, z_wm> / T)

    Args:
        directions: ``(V, N, P)``, of any length above 0.
        temperature: T.

    Returns:
        Scalar in nats, at least 0; 0, and differentiable, without samples.
    """
    views, samples, _ = directions.shape
    log_p, itself = _log_probabilities(directions, temperature)
    row = torch.arange(views * samples, device=log_p.device)
    same_image = row.unsqueeze(1) % max(samples, 1) == row % max(samples, 1)
    found = torch.where(same_image & ~itself, log_p, 0.0).sum()
    return -found / max(views * (views - 1) * samples, 1)


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
    log_p, itself = _log_probabilities(directions, temperature)
    classes = labels.repeat(views)
    positive = (classes.unsqueeze(1) == classes) & ~itself
    found = torch.where(positive, log_p, 0.0).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
    return -found.sum() / max(views * samples, 1)


def _log_probabilities(directions: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the log-softmax of the cosines of each view with all others, and its diagonal.

    Args:
        directions: ``(V, N, P)``.
        temperature: T.

    Returns:
        ``(V N, V N)``, -inf for a view with itself; and bool, true there.
    """
    unit = F.normalize(full(directions), dim=-1).flatten(0, 1)
    row = torch.arange(len(unit), device=unit.device)
    itself = row.unsqueeze(1) == row
    cosines = similarities(unit, unit)
    return log_softmax((cosines / temperature).masked_fill(itself, -math.inf)), itself
