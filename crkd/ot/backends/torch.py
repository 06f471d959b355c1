"""Backend "torch": PyTorch operations, on any device."""

from __future__ import annotations

from torch import Tensor

from crkd.ot import reference, scaling
from crkd.ot.problem import BACKENDS, Backend, Problem


def _obstacles(problem: Problem) -> list[str]:
    return []


def _solve(problem: Problem) -> Tensor:
    if scaling.applies(problem):
        return scaling.solve(problem)
    return reference.solve(problem).to(problem.scores.dtype).contiguous()


BACKENDS.register("torch")(Backend(_obstacles, _solve))
