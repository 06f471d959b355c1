"""Reference implementation of Sinkhorn's iterations in the logarithmic domain.

All backends must give its results. The plan of one problem is
``P_ij = exp(f_i + x_ij / epsilon + g_j)``. One iteration sets g so that the columns of P sum to the
class marginal b, then f so that its rows sum to the sample marginal a (Cuturi 2013; in logarithms
Peyre and Cuturi 2019, section 4.4; the relaxed class step Chizat et al. 2018, table 1). The
assignment is P with every row scaled to sum to one, so it does not depend on a common factor of a
or b.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from crkd.ot.problem import Problem

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

LARGEST = 1e37
"""Bound of a scaled score: outside of every sensible range, but sums of a few stay finite."""


def solve(problem: Problem) -> Tensor:
    """Return the assignment ``(P, N, M)`` in the compute dtype; never waits for a device."""
    x = scaled(problem)
    log_a, log_b = log_marginals(problem)
    f = log_a.new_zeros(()).where(log_a > -torch.inf, log_a)
    shift = None
    for _ in range(problem.num_iters):
        log_mass = (x + f).logsumexp(-2, keepdim=True)
        if problem.group is not None:
            log_mass = shift = _sum_over_group(log_mass, shift, problem.group)
        g = problem.exponent * (log_b - log_mass)
        # A class without mass, or with marginal 0, gets no mass.
        g = g.masked_fill((log_mass == -torch.inf) | (log_b == -torch.inf), -torch.inf)
        # Subtract a constant, which does not affect the result. It would grow with every iteration
        # and lose precision unless a and b have the same sum. All processes of a group have it.
        g = g - g.amax(-1, keepdim=True).nan_to_num(neginf=0.0)
        log_row = (x + g).logsumexp(-1, keepdim=True)
        empty = log_row == -torch.inf
        f = (log_a - log_row).masked_fill(empty, -torch.inf)
    return torch.where(empty, log_b.exp(), (x + g).softmax(-1))


def scaled(problem: Problem) -> Tensor:
    """Return scores / epsilon in the compute dtype; finite scores are bounded and stay finite.

    An exact class step absorbs a constant per class, so the best score of each class is subtracted
    first. This keeps precision for the differences between samples. A relaxed step does not absorb
    it, and the processes of a group do not know each other's best scores.
    """
    scores = problem.scores.to(problem.compute_dtype)
    x = scores
    if problem.relaxation is None and problem.group is None:
        best = scores.amax(-2, keepdim=True)
        x = scores - torch.where(best.isfinite(), best, 0.0)
    x = (x / problem.epsilon).clamp_(-LARGEST, LARGEST)
    return torch.where(scores.isinf(), scores, x)


def log_marginals(problem: Problem) -> tuple[Tensor, Tensor]:
    """Return the logarithms of a as ``(P or 1, N, 1)`` and of b as ``(P or 1, 1, M)``."""
    _, n, m = problem.scores.shape
    like = problem.scores.new_ones((), dtype=problem.compute_dtype)
    a, b = problem.sample_marginal, problem.class_marginal
    a = like.expand(1, n) if a is None else a.to(like.dtype).expand(_problems(a), n)
    b = (like / m).expand(1, m) if b is None else b.to(like.dtype).expand(_problems(b), m)
    return a.log().unsqueeze(2), b.log().unsqueeze(1)


def _problems(marginal: Tensor) -> int:
    return 1 if marginal.ndim == 1 else len(marginal)


def _sum_over_group(log_mass: Tensor, shift: Tensor | None, group: ProcessGroup) -> Tensor:
    """Sum the class masses ``exp(log_mass)`` of all processes with one all-reduce.

    In the first iteration, the processes agree on the largest mass before. Later masses are close
    to the previous sum, which all processes know, and float64 covers the difference.
    """
    if shift is None:
        shift = log_mass.clone()
        dist.all_reduce(shift, dist.ReduceOp.MAX, group)
    shift = shift.masked_fill(shift == -torch.inf, 0.0)
    mass = (log_mass.double() - shift).exp()
    dist.all_reduce(mass, dist.ReduceOp.SUM, group)
    return (mass.log() + shift).to(log_mass.dtype)
