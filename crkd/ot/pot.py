"""Assignment by the Python Optimal Transport library (POT), for comparison.

``ot.batch`` steps rows first and columns last, the reverse of the order here, so it gets the
transposed problem. Its tolerance is zero, so that it runs every iteration.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from crkd.ot import reference
from crkd.ot.problem import Problem


def obstacles(problem: Problem) -> list[str]:
    """Return the reasons why POT cannot solve ``problem``; an empty list means that it can."""
    reasons = []
    if importlib.util.find_spec("ot") is None:
        reasons.append("POT is not installed (pip install pot)")
    if problem.relaxation is not None:
        reasons.append("POT's batched solver has no relaxed class marginal")
    if problem.group is not None:
        reasons.append("POT works within one process")
    return reasons


def solve(problem: Problem) -> Tensor:
    """Return the assignment ``(P, N, M)`` in the compute dtype."""
    from ot.batch import bregman_log_projection_batch

    x = reference.scaled(problem)
    log_a, log_b = reference.log_marginals(problem)
    empty = (x.amax(-1, keepdim=True) == -torch.inf) | (log_a == -torch.inf)
    a = log_a.exp().masked_fill(empty, 0.0)
    total = a.sum(-2, keepdim=True)
    # A class that no sample can reach would get an infinite potential.
    unreached = x.masked_fill(empty, -torch.inf).amax(-2, keepdim=True) == -torch.inf
    b = log_b.exp()
    # POT counts samples of weight 0 in its first step; at a large distance they have no effect.
    affinity = torch.where(empty, -reference.LARGEST, x).masked_fill(unreached, 0.0)
    solution = bregman_log_projection_batch(
        affinity.mT,
        a=b.masked_fill(unreached, 0.0).expand(len(x), 1, -1).squeeze(1),
        b=(a / torch.where(total > 0, total, 1.0)).expand(len(x), -1, 1).squeeze(2),
        max_iter=problem.num_iters,
        tol=0.0,
    )
    class_potential = solution["potentials"][0].unsqueeze(1).masked_fill(unreached, -torch.inf)
    log_plan = x + class_potential
    unreachable = log_plan.amax(-1, keepdim=True) == -torch.inf
    return torch.where(unreachable, b, log_plan.softmax(-1))
