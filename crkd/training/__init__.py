"""The training loop that every stage uses: steps, states, teachers, loggers."""

from typing import TYPE_CHECKING

from crkd.core.lazy import lazy_exports

if TYPE_CHECKING:
    from crkd.training.cached_teacher import StoredTeacher, store_teacher
    from crkd.training.cuda_graph import CudaGraphStep
    from crkd.training.ema import AveragedNetwork
    from crkd.training.interruption import Interrupted
    from crkd.training.loop import Loop, NonFiniteLossError
    from crkd.training.loss_terms import Terms
    from crkd.training.optim import build_optimizer, learning_rate
    from crkd.training.precision import autocast
    from crkd.training.soft_label_files import LabelStore
    from crkd.training.step import TrainingStep
    from crkd.training.task import Task
    from crkd.training.teacher import LiveTeacher, Teacher
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "cached_teacher": "StoredTeacher store_teacher",
            "cuda_graph": "CudaGraphStep",
            "ema": "AveragedNetwork",
            "interruption": "Interrupted",
            "loop": "Loop NonFiniteLossError",
            "loss_terms": "Terms",
            "optim": "build_optimizer learning_rate",
            "precision": "autocast",
            "soft_label_files": "LabelStore",
            "step": "TrainingStep",
            "task": "Task",
            "teacher": "LiveTeacher Teacher",
        },
    )

__all__ = [
    "AveragedNetwork",
    "CudaGraphStep",
    "Interrupted",
    "LabelStore",
    "LiveTeacher",
    "Loop",
    "NonFiniteLossError",
    "StoredTeacher",
    "Task",
    "Teacher",
    "Terms",
    "TrainingStep",
    "autocast",
    "build_optimizer",
    "learning_rate",
    "store_teacher",
]
