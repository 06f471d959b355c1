"""Steps of a training that a test watches or spoils."""

from __future__ import annotations

import pytest
import torch

from crkd.core.types import Batch
from crkd.stages.pretrain.task import SupervisedTask
from crkd.training.loop import Loop
from crkd.training.step import TrainingStep


def first_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that the numbers of trained steps go into."""
    honest, seen = Loop.step, []

    def noted(self: Loop, batch: Batch, step: int) -> None:
        seen.append(step)
        honest(self, batch, step)

    monkeypatch.setattr(Loop, "step", noted)
    return seen


def spoil_losses(
    monkeypatch: pytest.MonkeyPatch, *, at: int, above_rate: float = 0.0
) -> list[torch.Tensor]:
    """Make the loss of a step NaN where the learning rate is too high; return prototypes seen."""
    honest, prepare_step = SupervisedTask.losses, TrainingStep.prepare
    now: list[tuple[int, float]] = []
    seen: list[torch.Tensor] = []

    def prepared(self: TrainingStep, step: int) -> None:
        prepare_step(self, step)
        now.append((step, self.schedule.lr))

    def spoiled(self, batch):  # type: ignore[no-untyped-def]
        seen.append(self.modules.network.known_head.prototypes.detach().clone())
        loss, terms = honest(self, batch)
        step, rate = now[-1]
        return (loss * float("nan") if step == at and rate > above_rate else loss), terms

    monkeypatch.setattr(TrainingStep, "prepare", prepared)
    monkeypatch.setattr(SupervisedTask, "losses", spoiled)
    return seen
