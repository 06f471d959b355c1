"""Stage 1: supervised training on the known classes."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.stages.pretrain.run import pretrain
    from crkd.stages.pretrain.task import SupervisedModules, SupervisedTask
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "run": "pretrain",
            "task": "SupervisedModules SupervisedTask",
        },
    )

__all__ = ["SupervisedModules", "SupervisedTask", "pretrain"]
