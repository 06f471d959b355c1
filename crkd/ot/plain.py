"""Sinkhorn's iterations on the plan itself, for small problems on the CPU.

With few entries, calls of PyTorch take most of the time. This form has the fewest, and all its
operations share the entries among the threads in the same way.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crkd.ot.problem import Problem

ENTRIES = 1 << 14
"""Number of entries of a problem up to which this form is faster."""

ITERATIONS = 5
"""Number of iterations up to which it is."""


def suits(problem: Problem) -> bool:
    """Return whether these problems are small and have uniform marginals.

    A plan holds a tiny marginal of a class times a tiny exponential, which the factors of
    :mod:`crkd.ot.scaling` do not.
    """
    _, n, m = problem.scores.shape
    uniform = problem.sample_marginal is None and problem.class_marginal is None
    return uniform and n * m <= ENTRIES and problem.num_iters <= ITERATIONS


def solve_into(out: Tensor, problem: Problem) -> None:
    """Write the assignments into ``out``, for scores whose exponentials are in range.

    The order of every sum depends only on N and M.
    """
    x = problem.scores
    plan = out if out.dtype == problem.compute_dtype else out.to(problem.compute_dtype)
    torch.mul(x.to(plan.dtype), 1 / problem.epsilon, out=plan)
    whole = plan.flatten(1)
    # Exponentials, times a constant that the first class step absorbs.
    torch.softmax(whole, 1, out=whole)
    for _ in range(problem.num_iters):
        # Products take less time than quotients.
        plan.mul_(plan.sum(1, keepdim=True).reciprocal_())
        plan.mul_(plan.sum(2, keepdim=True).reciprocal_())
    if plan is not out:
        out.copy_(plan)
