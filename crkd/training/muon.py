"""Muon for convolutions: orthogonalized updates, which need far fewer epochs than SGD.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the form for
convolutions is that of Jordan, "94% on CIFAR-10 in 3.29 seconds", arXiv 2404.00498, in its release.
torch.optim.Muon accepts matrices alone, and it cannot skip a step without asking the device.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from crkd.core.device import computes_in_bfloat16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration."""

STEPS = 3
"""Newton-Schulz iterations: singular values of a usual gradient end between 0.3 and 1.3."""

MOMENTUM = 0.6


def orthogonalized(matrix: Tensor, steps: int = STEPS) -> Tensor:
    """Return a matrix with the same singular vectors and singular values near one.

    With X of Frobenius norm one and A = X X^T, an iteration is X <- a X + (b A + c A^2) X.

    Args:
        matrix: ``(n, m)`` floating point; zeros give zeros.
        steps: number of iterations.

    Returns:
        ``(n, m)`` in the dtype of ``matrix``. It is computed in bfloat16 where the device has
        instructions for it, and in float32 elsewhere; float64 stays.
    """
    a, b, c = COEFFICIENTS
    x = matrix
    if x.dtype != torch.float64:
        x = x.to(torch.bfloat16 if computes_in_bfloat16(x.device) else torch.float32)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.mT
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrix.dtype)


def is_matrix(parameter: nn.Parameter) -> bool:
    """Return whether a parameter is the weight of a convolution of feature maps, not of images."""
    return parameter.ndim == 4 and parameter.shape[1] > 3


class Muon(torch.optim.SGD):
    """SGD that orthogonalizes the updates of the groups with ``matrix: True``.

    The weights ``(C_out, ...)`` of these groups are brought to the norm sqrt(C_out) before each
    update, which batch norm behind them makes up for. An update of learning rate r then changes a
    weight by about the fraction r. Groups of matrices have no other momentum and no weight decay.

    Args:
        groups: parameter groups as of SGD.
        lr: default learning rate.
        momentum: of the other groups.
        weight_decay: of the other groups.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
    ) -> None:
        without = {"momentum": 0.0, "weight_decay": 0.0}
        super().__init__(
            [{**group, **(without if group.get("matrix") else {})} for group in groups],
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            fused=True,
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters, or none of them if ``found_inf`` is 1.

        Args:
            closure: not supported.
        """
        assert closure is None
        skip: Tensor | None = getattr(self, "found_inf", None)
        for group in self.param_groups:
            if group.get("matrix"):
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad = self._update(parameter, parameter.grad, skip)
        super().step()

    def _update(self, weight: Tensor, gradient: Tensor, skip: Tensor | None) -> Tensor:
        """Normalize a weight and return its orthogonalized Nesterov update."""
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer = state["momentum_buffer"]
        moved = MOMENTUM * buffer + gradient
        factor = len(weight) ** 0.5 / weight.norm().clamp(min=1e-7)
        if skip is None:
            buffer.copy_(moved)
            weight.mul_(factor)
        else:
            buffer.copy_(torch.where(skip > 0, buffer, moved))
            weight.mul_(torch.where(skip > 0, torch.ones_like(factor), factor))
        update = orthogonalized((gradient + MOMENTUM * moved).flatten(1))
        return torch.empty_like(weight).copy_(update.view(weight.shape))
