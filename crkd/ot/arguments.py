"""Checks of arguments that several functions take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.ot.problem import has_values


def check_tensors(**arguments: object) -> None:
    """Raise InputError if an argument is neither a tensor nor None."""
    for name, value in arguments.items():
        if value is not None and not isinstance(value, Tensor):
            raise InputError(
                f"{name} must be a tensor, got {type(value).__name__}; convert it with "
                "torch.as_tensor"
            )


def checked_count(name: str, count: float) -> int:
    """Return a number of iterations.

    Raises:
        InputError: it is below 1, or no whole number.
    """
    if count < 1:
        raise InputError(f"{name} must be at least 1, got {count}")
    if count % 1:
        raise InputError(f"{name} must be a whole number, got {count}")
    return int(count)


def check_inverse(name: str, smallest: float, scores: Tensor) -> None:
    """Raise InputError if the inverse of an epsilon is beyond the compute dtype of the scores."""
    least = torch.finfo(torch.float64 if scores.dtype == torch.float64 else torch.float32).tiny
    if smallest < least:
        raise InputError(
            f"{name} is {smallest:.3g}, but must be at least {least:.3g} for scores of "
            f"{scores.dtype}; multiply it and the scores by a common factor"
        )


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
