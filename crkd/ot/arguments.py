"""Checks of arguments that several functions take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.ot.problem import has_values


def check_scores(scores: Tensor, name: str = "scores") -> None:
    """Raise InputError unless ``scores`` is a floating point tensor ``(..., N, M)``."""
    if scores.ndim < 2 or not scores.dtype.is_floating_point:
        raise InputError(
            f"{name} must be a floating point tensor (..., N, M), got {scores.dtype} of shape "
            f"{tuple(scores.shape)}"
        )


def marginal(
    name: str, values: Tensor, scores: Tensor, size: int, *, normalize: bool = True
) -> Tensor:
    """Return a marginal as ``(size,)`` or ``(P, size)`` in the compute dtype, sum one.

    Args:
        name: name of the argument.
        values: the argument.
        scores: ``(..., N, M)``.
        size: N or M.
        normalize: whether to scale it to sum to one; otherwise it may be all zero.

    Raises:
        InputError: it does not fit the scores, or is negative, not finite or all zero.
    """
    lead = scores.shape[:-2]
    if values.shape[-1:] != (size,) or not expands(values.shape, (*lead, size)):
        raise InputError(
            f"{name} must have shape ({size},) or {(*lead, size)} to fit the scores "
            f"{tuple(scores.shape)}, got {tuple(values.shape)}"
        )
    if values.device != scores.device:
        raise InputError(
            f"{name} must be on the device of the scores ({scores.device}), got {values.device}"
        )
    dtype = torch.float64 if scores.dtype == torch.float64 else torch.float32
    values = values.detach().to(dtype)
    total = values.sum(-1, keepdim=True)
    if values.device.type == "cpu" and has_values(values):
        usable = bool((values >= 0).all() & total.isfinite().all())
        # Other processes may hold the samples with weight.
        some = not normalize or bool((total > 0).all())
        if not (usable and some) and size:
            needed = " and not all zero" if normalize else ""
            raise InputError(
                f"{name} must be finite, non-negative{needed}, got values from "
                f"{float(values.min())} to {float(values.max())}"
            )
    if normalize:
        values = values / total
    return values if values.ndim == 1 else values.expand(*lead, size).reshape(-1, size)


def expands(shape: torch.Size, wanted: Sequence[int]) -> bool:
    """Return whether a tensor of ``shape`` expands to ``wanted``."""
    if len(shape) > len(wanted):
        return False
    return all(a in (1, b) for a, b in zip(reversed(shape), reversed(wanted), strict=False))
