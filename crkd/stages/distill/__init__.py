"""Distillation of a finished run into a small network."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.stages.distill.run import distill
    from crkd.stages.distill.student_search import SearchResult, SearchSettings, search_student
    from crkd.stages.distill.task import DistillModules, DistillTask
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "run": "distill",
            "student_search": "SearchResult SearchSettings search_student",
            "task": "DistillModules DistillTask",
        },
    )

__all__ = [
    "DistillModules",
    "DistillTask",
    "SearchResult",
    "SearchSettings",
    "distill",
    "search_student",
]
