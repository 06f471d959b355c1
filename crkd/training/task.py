"""Interface of a stage for the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from crkd.core.types import Batch


class Task(Protocol):
    """One stage's mathematics: what is trained, and the loss of a batch."""

    stage: str

    @property
    def modules(self) -> nn.Module:
        """Everything that is trained or saved, the network among it."""

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimize and the named terms to log, all scalars.

        The operations may depend on the batch's shape and otherwise only on what some
        module of ``modules`` states as its ``host_state``: a captured step repeats them blindly.
        """

    def after_step(self) -> None:
        """Restore what the optimizer step may have broken, such as unit-length prototypes."""

    def start_epoch(self, epoch: int) -> None:
        """Take note that an epoch begins."""

    def resume_epoch(self, epoch: int) -> None:
        """Resume inside an epoch, whose sums were restored."""

    def remark(self, means: Mapping[str, float]) -> str | None:
        """Return a warning about the metrics of a log line, or None."""
