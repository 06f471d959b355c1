"""``torch.func`` transforms and gradients of an assignment, which is a constant."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from crkd.core.errors import InputError

Solve = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
"""Solver of scores, class marginal and sample marginal."""

# autograd.Function uses this call too, and torch.func has no public one. The fallback is False in
# eager mode.
active: Callable[[], bool] = getattr(
    torch._C, "_are_functorch_transforms_active", torch.compiler.is_compiling
)
"""Return whether the caller runs under a transform of ``torch.func``."""


def warn_of_zero_gradient(tensors: Mapping[str, Tensor | None], remedy: str) -> None:
    """Warn if autograd tracks some of the tensors, to which no gradient flows.

    Args:
        tensors: arguments of the caller's caller by name.
        remedy: the last part of the warning.
    """
    if not torch.is_grad_enabled():
        return
    tracked = [name for name, t in tensors.items() if t is not None and t.requires_grad]
    if tracked:
        warnings.warn(
            f"the result is a constant: no gradient flows to {' and '.join(tracked)}; {remedy}",
            stacklevel=3,
        )


def solve_transformed(
    scores: Tensor, class_marginal: Tensor | None, sample_marginal: Tensor | None, solve: Solve
) -> Tensor:
    """Return ``solve(scores, class_marginal, sample_marginal)`` under ``torch.func`` transforms.

    Each ``vmap`` becomes a leading dimension. Gradients are zero.

    Raises:
        InputError: the transform is forward-mode differentiation.
    """
    function: Any = _Constant
    result: Tensor = function.apply(scores, class_marginal, sample_marginal, solve)
    return result


class _Constant(torch.autograd.Function):
    """A solve without derivative."""

    @staticmethod
    def forward(scores: Tensor, b: Tensor | None, a: Tensor | None, solve: Solve) -> Tensor:
        return solve(scores, b, a)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None, None]:
        return None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        raise InputError(
            "sinkhorn has no forward-mode derivative: pass scores.detach(), or use "
            "crkd.ot.solve(..., gradient=True).plan and reverse mode"
        )

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        scores: Tensor,
        b: Tensor | None,
        a: Tensor | None,
        solve: Solve,
    ) -> tuple[Tensor, int]:
        if in_dims[0] is None:
            scores = scores.expand(info.batch_size, *scores.shape)
        else:
            scores = scores.movedim(in_dims[0], 0)
        lead = scores.ndim - 2
        b, a = (
            marginal
            if marginal is None or dim is None
            else _with_leading(marginal.movedim(dim, 0), lead)
            for marginal, dim in zip((b, a), in_dims[1:3], strict=True)
        )
        return solve(scores, b, a), 0


def _with_leading(marginal: Tensor, lead: int) -> Tensor:
    """Return a marginal ``(B, ..., size)`` with ``lead`` leading dimensions, B first."""
    missing = lead + 1 - marginal.ndim
    return marginal.reshape(len(marginal), *[1] * missing, *marginal.shape[1:])
