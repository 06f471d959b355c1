"""Balanced class assignment by entropic optimal transport."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports
from crkd.ot.sinkhorn import sinkhorn

if TYPE_CHECKING:
    from crkd.ot.diagnostics import Diagnostics, diagnose
    from crkd.ot.marginals import ClassPrior, EstimatedPrior, FixedPrior, class_prior
    from crkd.ot.problem import BACKENDS, Backend, Problem
    from crkd.ot.queue import FeatureQueue
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "diagnostics": "Diagnostics diagnose",
            "marginals": "ClassPrior EstimatedPrior FixedPrior class_prior",
            "problem": "BACKENDS Backend Problem",
            "queue": "FeatureQueue",
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
    "class_prior",
    "diagnose",
    "sinkhorn",
]
