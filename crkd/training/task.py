"""Interface of a stage for the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from torch import Tensor, nn

from crkd.core.types import Batch


class Task(Protocol):
    """One stage's mathematics: what is trained, and the loss of a batch.

    Attributes:
        stage: name of the stage, for logs and saved states.
        modules: everything that is trained or saved, the network among it.
    """

    stage: ClassVar[str]
    modules: nn.Module

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimize and the named terms to log, all scalars.

        The operations may depend on the batch's shape and otherwise only on what some
        module of ``modules`` states as its ``host_state``: a captured step repeats them blindly.
        """

    def after_step(self) -> None:
        """Restore what the optimizer step may have broken, such as unit-length prototypes."""

    def start_epoch(self, epoch: int) -> None:
        """Set what depends on the epoch, counted from 0, as it begins."""

    def resume_epoch(self, epoch: int) -> None:
        """Set the same inside an epoch, whose sums were restored with the modules."""
        self.start_epoch(epoch)

    def remark(self, means: Mapping[str, float]) -> str | None:
        """Return a warning about the metrics of a log line, or None."""
        return None
