"""One training step in two halves: decisions of the host, computation of the device.

:meth:`TrainingStep.prepare` puts learning rate and step number into device memory;
:meth:`TrainingStep.compute` reads them there and looks at nothing on the host, so that it can be
captured once and replayed (``cuda_graph.py``). Both run on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from crkd.config.blocks import OptimizerConfig
from crkd.core.types import Batch
from crkd.training.distributed import average_gradients
from crkd.training.optim import build_optimizer, learning_rate
from crkd.training.task import Task


class Totals:
    """Sums of named scalars, kept on their device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}

    @torch.no_grad()
    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add scalars of one step; names may differ from step to step."""
        names = tuple(values)
        row = torch.stack([value.detach().float() for value in values.values()])
        if names not in self._sums:
            self._sums[names] = row.new_zeros(len(names) + 1)
        # The last place counts the steps; in place, so that a captured step adds to it too.
        self._sums[names][:-1].add_(row)
        self._sums[names][-1].add_(1)

    def take(self) -> dict[str, float]:
        """Return each name's mean since the last call and reset; waits for the device."""
        totals: dict[str, float] = {}
        steps: dict[str, float] = {}
        for names, sums in self._sums.items():
            *row, count = sums.tolist()
            for name, total in zip(names, row, strict=True):
                totals[name] = totals.get(name, 0.0) + total
                steps[name] = steps.get(name, 0.0) + count
            sums.zero_()
        return {name: total / steps[name] for name, total in totals.items() if steps[name]}


class TrainingStep:
    """Loss, gradient, update and bookkeeping of a batch.

    Args:
        task: the stage.
        schedule: the stage's optimizer settings.
        total: steps of the whole stage, for the learning rate.
        steps_per_epoch: of the loader.
        device: where it computes.
        render: makes the views of a batch that has none; without it, batches come with views.

    Attributes:
        optimizer: over every trainable parameter of the task.
        totals: the loss and the task's named terms since the last log line.
        rate: learning rate of the prepared step.
    """

    def __init__(
        self,
        task: Task,
        schedule: OptimizerConfig,
        *,
        total: int,
        steps_per_epoch: int,
        device: torch.device,
        render: Callable[[Batch], Batch] | None = None,
    ) -> None:
        self.task, self.schedule, self._render = task, schedule, render
        # Before the optimizer is made: its state takes the layout of the weights.
        task.modules.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.total, self.steps_per_epoch = total, steps_per_epoch
        self.optimizer = build_optimizer(task.modules, schedule)
        self.totals = Totals()
        self.rate = 0.0
        # On the host the kernels read it as a double, on a GPU as a float.
        dtype = torch.float32 if device.type == "cuda" else torch.float64
        for group in self.optimizer.param_groups:
            group["lr"] = torch.zeros((), dtype=dtype, device=device)
        # Fused optimizers skip the update where this is 1; the flag never leaves the device.
        self._skip = torch.zeros((), device=device)
        self.optimizer.found_inf = self._skip  # type: ignore[attr-defined]
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        self._number = torch.zeros((), dtype=torch.int64, device=device)
        self._first_bad = torch.full_like(self._number, -1)

    @property
    def modules(self) -> nn.Module:
        """Everything that is trained or saved."""
        return self.task.modules

    def prepare(self, step: int) -> None:
        """Put what depends on the step's number where :meth:`compute` finds it."""
        self.rate = learning_rate(self.schedule, step, self.total, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"].fill_(self.rate * group["factor"])
        self._number.fill_(step)

    def compute(self, batch: Batch) -> None:
        """Train on one batch; nothing here looks at a value on the device."""
        loss, terms = self.task.losses(batch if self._render is None else self._render(batch))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.task.modules)
        bad = ~torch.isfinite(loss.detach())
        self._skip.copy_(bad)
        self.optimizer.step()
        self.task.after_step()
        first = bad & (self._first_bad < 0)
        self._first_bad.copy_(torch.where(first, self._number, self._first_bad))
        self.totals.add({"loss": loss, **terms})

    def first_bad(self) -> int:
        """Return the first step whose loss was not finite, or -1; waits for the device."""
        return int(self._first_bad)
