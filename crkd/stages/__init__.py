"""The stages: pretraining, discovery, distillation, baselines; each assembles a training run."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.stages.incremental import run_plan
    from crkd.stages.results import finish_run
    from crkd.stages.run_data import RunData, prepare
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "incremental": "run_plan",
            "results": "finish_run",
            "run_data": "RunData prepare",
        },
    )

__all__ = ["RunData", "finish_run", "prepare", "run_plan"]
