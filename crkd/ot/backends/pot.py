"""Backend "pot": the Python Optimal Transport library."""

from __future__ import annotations

from torch import Tensor

from crkd.ot import pot
from crkd.ot.problem import BACKENDS, Backend, Problem


def _solve(problem: Problem) -> Tensor:
    return pot.solve(problem).to(problem.scores.dtype)


BACKENDS.register("pot")(Backend(pot.obstacles, _solve))
