"""Lookahead: the weights jump to their moving average every few steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEPS = 5
"""Steps between two replacements."""


class Lookahead:
    """Slow weights of modules and their replacement of the fast ones.

    Zhang et al., "Lookahead Optimizer", NeurIPS 2019, with the rising decay of Jordan, arXiv
    2404.00498: after step t of T the average keeps ``0.95^5 (t/T)^3`` of itself, and the last step
    takes the average.

    Args:
        modules: whose trained weights and running statistics are averaged.
        total: T.
    """

    def __init__(self, modules: nn.Module, total: int) -> None:
        self._total = total
        self._fast = [
            tensor
            for name, tensor in modules.state_dict().items()
            if tensor.is_floating_point() and name.startswith("network.")
        ]
        self._slow: list[Tensor] | None = None

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Replace the weights after every fifth of the steps done, and after the last one."""
        if self._slow is None:
            self._slow = [tensor.clone() for tensor in self._fast]
        if done % STEPS and done != self._total:
            return
        decay = 0.95**STEPS * (done / self._total) ** 3
        if done != self._total:
            torch._foreach_lerp_(self._slow, self._fast, 1 - decay)
        torch._foreach_copy_(self._fast, self._slow)
