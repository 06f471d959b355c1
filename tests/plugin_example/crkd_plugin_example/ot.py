"""An OT backend from outside of crkd: the balanced problem, in float64 and in logarithms."""

from __future__ import annotations

import torch
from torch import Tensor

from crkd.ot.problem import Backend, Problem


def _obstacles(problem: Problem) -> list[str]:
    reasons = []
    if problem.relaxation is not None or problem.group is not None:
        reasons.append("plain_sinkhorn has exact marginals and works within one process")
    if problem.class_marginal is not None or problem.sample_marginal is not None:
        reasons.append("plain_sinkhorn has uniform marginals only")
    return reasons


def _solve(problem: Problem) -> Tensor:
    plan = problem.scores.double() / problem.epsilon
    for _ in range(problem.num_iters):
        # Columns first and rows last: the order is part of what the front door promises.
        plan = plan - plan.logsumexp(dim=1, keepdim=True)
        plan = plan - plan.logsumexp(dim=2, keepdim=True)
    return torch.exp(plan).to(problem.scores.dtype)


PLAIN = Backend(_obstacles, _solve)
