"""Softmax in float32 or better, for use under mixed precision."""

from __future__ import annotations

import torch
from torch import Tensor


def full(tensor: Tensor) -> Tensor:
    """Return ``tensor`` in at least float32; float64 is unchanged.

    >>> full(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def similarities(first: Tensor, second: Tensor) -> Tensor:
    """Return the products ``(N, M)`` of rows ``(N, D)`` and ``(M, D)``, in at least float32.

    Autocast would compute them in half precision.
    """
    with torch.autocast(first.device.type, enabled=False):
        return full(first) @ full(second).mT


def log_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the log-softmax of ``logits / temperature`` over the last axis, in at least float32.

    The division comes after the conversion: in half precision it would round or overflow.
    """
    whole = full(logits)
    return (whole if temperature == 1.0 else whole / temperature).log_softmax(dim=-1)


def expectation(p: Tensor, values: Tensor) -> Tensor:
    """Return ``sum_k p_k values_k`` over the last axis.

    A class of probability 0 adds 0, also if its value is infinite or NaN. Its logit may be -inf,
    by which a network leaves a class out.

    Args:
        p: ``(..., K)`` probabilities, constants.
        values: ``(..., K)``.

    >>> expectation(torch.tensor([0.0, 1.0]), torch.tensor([-torch.inf, 2.0]))
    tensor(2.)
    """
    return torch.where(p == 0, 0.0, p * values).sum(dim=-1)
