"""Softmax arithmetic that mixed precision cannot spoil."""

from __future__ import annotations

import torch
from torch import Tensor


def full(tensor: Tensor) -> Tensor:
    """Return ``tensor`` in float32 at least; float64 stays.

    >>> full(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def log_softmax(logits: Tensor) -> Tensor:
    """Return the log-softmax over the last axis, in float32 at least."""
    return full(logits).log_softmax(dim=-1)
