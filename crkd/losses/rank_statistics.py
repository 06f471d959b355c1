"""Pairs of similar images by the ranks of their features, and a pairwise loss on them.

Han et al., "Automatically Discovering and Learning New Visual Categories with Ranking
Statistics", ICLR 2020, section 2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crkd.losses.precision import full, similarities


def same_ranks(features: Tensor, top: int) -> Tensor:
    """Return which pairs have the same ``top`` largest features, in any order.

    Args:
        features: ``(N, D)``.
        top: number of features compared, at most D.

    Returns:
        ``(N, N)`` bool, symmetric, true on the diagonal.

    >>> same_ranks(torch.tensor([[3.0, 2.0, 1.0], [5.0, 9.0, 0.0], [1.0, 2.0, 3.0]]), 2).int()
    tensor([[1, 1, 0],
            [1, 1, 0],
            [0, 0, 1]], dtype=torch.int32)
    """
    largest = features.detach().topk(top, dim=-1).indices.sort(dim=-1).values
    return (largest[:, None] == largest[None]).all(dim=-1)


def pairwise_agreement(first: Tensor, second: Tensor, alike: Tensor) -> Tensor:
    """Return the binary cross-entropy of "same class" for all pairs of two views.

    The probability that i and j belong to one class is the inner product of their class
    probabilities::

        loss = -1/N^2 sum_ij  s_ij log(p_i . q_j) + (1 - s_ij) log(1 - p_i . q_j)

    Args:
        first: ``(N, M)`` logits of one view.
        second: ``(N, M)`` logits of the other.
        alike: ``(N, N)`` bool, s.

    Returns:
        Scalar in nats; 0, and differentiable, without samples.
    """
    p, q = (full(logits).softmax(dim=-1) for logits in (first, second))
    tiny = torch.finfo(p.dtype).eps
    same = similarities(p, q).clamp(tiny, 1 - tiny)
    likelihood = torch.where(alike, same.log(), (1 - same).log())
    return -likelihood.sum() / max(likelihood.numel(), 1)
