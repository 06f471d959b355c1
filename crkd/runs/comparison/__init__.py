"""Comparison of runs: reading of run folders, and files of the tables."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.runs.comparison.reading import ReadPlan, ReadRun, read_plan, read_run
else:
    __getattr__, __dir__ = lazy_exports(
        __name__, {"reading": "ReadPlan ReadRun read_plan read_run"}
    )

__all__ = ["ReadPlan", "ReadRun", "read_plan", "read_run"]
