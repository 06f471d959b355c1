"""Balanced class assignment by entropic optimal transport."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports
from crkd.ot.sinkhorn import sinkhorn

if TYPE_CHECKING:
    from crkd.ot.diagnostics import Diagnostics, diagnose
    from crkd.ot.marginals import ClassPrior, EstimatedPrior, FixedPrior, class_prior
    from crkd.ot.problem import BACKENDS, Backend, Problem
    from crkd.ot.queue import FeatureQueue
    from crkd.ot.solution import Solution
    from crkd.ot.solver import solve, solve_batch
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "diagnostics": "Diagnostics diagnose",
            "marginals": "ClassPrior EstimatedPrior FixedPrior class_prior",
            "problem": "BACKENDS Backend Problem",
            "queue": "FeatureQueue",
            "solution": "Solution",
            "solver": "solve solve_batch",
        },
    )

__all__ = [
    "BACKENDS",
    "Backend",
    "ClassPrior",
    "Diagnostics",
    "EstimatedPrior",
    "FeatureQueue",
    "FixedPrior",
    "Problem",
    "Solution",
    "class_prior",
    "diagnose",
    "sinkhorn",
    "solve",
    "solve_batch",
]
