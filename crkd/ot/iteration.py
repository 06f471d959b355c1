"""Sinkhorn's iterations in logarithms, each problem until it has converged."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CHECK_EVERY = 10
"""Iterations between two checks of convergence on a GPU, because each waits for the device."""


class State(NamedTuple):
    """State of P problems after their last iteration.

    Attributes:
        f: ``(P, N, 1)``, logarithms of the factors of samples.
        g: ``(P, 1, M)``, logarithms of the factors of classes.
        error: ``(P,)``, sum of ``|mass - marginal|`` over classes.
        iterations: ``(P,)`` int64.
    """

    f: Tensor
    g: Tensor
    error: Tensor
    iterations: Tensor


def in_logarithms(
    x: Tensor, log_a: Tensor, log_b: Tensor, g: Tensor | None, tol: float, max_iters: int
) -> State:
    """Iterate to a tolerance; one iteration is a class step and a sample step.

    A problem that has converged, or is NaN, changes no more. Its result does not depend on the
    other problems.

    Args:
        x: ``(P, N, M)``, scores over epsilon.
        log_a: ``(P, N, 1)``, logarithms of the sample marginal.
        log_b: ``(P, 1, M)``, logarithms of the class marginal.
        g: ``(P, 1, M)``, logarithms of the factors of classes to start from; None starts from
            equal factors of samples.
        tol: marginal error at which a problem has converged.
        max_iters: number of iterations at most.
    """
    every = 1 if x.device.type == "cpu" else CHECK_EVERY
    started = g is not None
    f = torch.zeros_like(log_a).where(log_a > -torch.inf, log_a)
    if g is None:
        g = torch.zeros_like(log_b)
    else:
        f = _sample_step(x, log_a, g)
    b = log_b.exp()
    error = x.new_full((len(x),), torch.inf)
    active = torch.ones_like(error, dtype=torch.bool)
    iterations = torch.zeros_like(error, dtype=torch.int64)
    for done in range(max_iters + 1):
        log_mass = (x + f).logsumexp(-2, keepdim=True)
        if (done % every == 0 and (done or started)) or done == max_iters:
            now = ((g + log_mass).exp() - b).abs().sum((-2, -1))
            error = torch.where(active, now, error)
            active = active & (now > tol)
            if done == max_iters or not active.any():
                break
        changed = active[:, None, None]
        g = torch.where(changed, _class_step(log_b, log_mass), g)
        f = torch.where(changed, _sample_step(x, log_a, g), f)
        iterations += active
    return State(f, g, error, iterations)


def _class_step(log_b: Tensor, log_mass: Tensor) -> Tensor:
    """Return g that gives every class its marginal; a class without mass gets none."""
    g = log_b - log_mass
    g = g.masked_fill((log_mass == -torch.inf) | (log_b == -torch.inf), -torch.inf)
    # A constant does not matter. It would grow if a class cannot get its mass.
    return g - g.amax(-1, keepdim=True).nan_to_num(neginf=0.0)


def _sample_step(x: Tensor, log_a: Tensor, g: Tensor) -> Tensor:
    """Return f that gives every sample its weight; a sample without mass gets none."""
    log_row = (x + g).logsumexp(-1, keepdim=True)
    return (log_a - log_row).masked_fill(log_row == -torch.inf, -torch.inf)
