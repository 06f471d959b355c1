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


def log_softmax(logits: Tensor) -> Tensor:
    """Return the log-softmax over the last axis, in at least float32."""
    return full(logits).log_softmax(dim=-1)
