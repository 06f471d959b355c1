"""Checks that need a GPU, and a list of GPU measurements."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.gpu_checks.day import Day, Outcome
    from crkd.gpu_checks.day_steps import Place, Step
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "day": "Day Outcome",
            "day_steps": "Place Step",
        },
    )

__all__ = ["Day", "Outcome", "Place", "Step"]
