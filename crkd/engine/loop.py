"""The training loop that both stages share.

Nothing between two log lines looks at a value on the device: losses are summed there, and a
non-finite loss skips its update there and leaves a mark that the next log line reads.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from crkd.config.schema import Config, OptimiserConfig
from crkd.core.types import Batch
from crkd.data.feed import Feed
from crkd.engine.checkpoint import load_state, save_state
from crkd.engine.optim import build_optimiser, learning_rate
from crkd.engine.progress import TrainingProgress, console
from crkd.engine.run import RunFolder


class Interrupted(Exception):
    """A signal asked the run to end; its state is saved."""


class NonFiniteLossError(RuntimeError):
    """A loss was NaN or infinite; the message names the step and the term."""


class Task(Protocol):
    """One stage's mathematics: what is trained, and the loss of a batch."""

    stage: str

    @property
    def modules(self) -> nn.Module:
        """Everything that is trained or saved, the network among it."""

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to minimise and the named terms to log, all scalars."""

    def after_step(self) -> None:
        """Restore what the optimiser step may have broken, such as unit-length prototypes."""

    def start_epoch(self, epoch: int) -> None:
        """Take note that an epoch begins."""

    def resume_epoch(self, epoch: int) -> None:
        """Take note that training goes on inside an epoch, whose sums were restored."""

    def remark(self, means: Mapping[str, float]) -> str | None:
        """Return what a person should know of the figures of a log line, if anything."""


@contextmanager
def graceful_stop() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of dying from them.

    A second signal of the same kind acts as usual, for those who cannot wait for the step.
    """
    received: list[int] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, note)
    except ValueError:
        # Handlers can be set in the main thread alone; elsewhere the caller owns the signals.
        previous = {}
    try:
        yield received
    finally:
        for caught, handler in previous.items():
            signal.signal(caught, handler)


class Loop:
    """Runs a task over a feed, with log lines, progress, saved states and a graceful end.

    Args:
        task: the stage.
        feed: its batches.
        config: the run's configuration.
        optimiser: the stage's optimiser settings.
        epochs: passes over the data.
        run: where log and state go.
        device: where the task computes.
    """

    def __init__(
        self,
        task: Task,
        feed: Feed,
        *,
        config: Config,
        optimiser: OptimiserConfig,
        epochs: int,
        run: RunFolder,
        device: torch.device,
    ) -> None:
        self.task, self.feed, self.config, self.run, self.device = task, feed, config, run, device
        self.schedule = optimiser
        self.total = epochs * feed.steps_per_epoch
        self.optimiser = build_optimiser(task.modules, optimiser)
        # Fused optimisers skip the update where this is 1; the flag never leaves the device.
        self._skip = torch.zeros((), device=device)
        self.optimiser.found_inf = self._skip  # type: ignore[attr-defined]
        self.optimiser.grad_scale = None  # type: ignore[attr-defined]
        self._sums: dict[str, Tensor] = {}
        self._remarks: set[str] = set()
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)

    def train(self, *, resume: bool = False) -> float:
        """Train to the end; return the seconds spent, over all resumed parts.

        Raises:
            Interrupted: a signal came; the state is saved.
            NonFiniteLossError: a loss was not finite; the last saved state is intact.
        """
        start, before = 0, 0.0
        if resume:
            start, before = load_state(
                self.run.path,
                stage=self.task.stage,
                modules=self.task.modules,
                optimiser=self.optimiser,
                config=self.config,
            )
        began = saved = time.monotonic()
        per_epoch = self.feed.steps_per_epoch
        self.task.modules.train()
        self.task.resume_epoch(start // per_epoch)
        with (
            graceful_stop() as signals,
            TrainingProgress(self.task.stage, self.total, start, sum(self.feed.counts)) as bar,
        ):
            for step, batch in enumerate(self.feed.batches(start, self.total), start):
                if step % per_epoch == 0:
                    self.task.start_epoch(step // per_epoch)
                self.step(batch, step)
                done = step + 1
                if done % self.config.loop.log_every == 0 or done == self.total:
                    bar.show(done, self._log(step))
                seconds = before + time.monotonic() - began
                if signals and done < self.total:
                    self._save(done, seconds)
                    raise Interrupted(f"stopped after step {done} of {self.total}")
                if time.monotonic() - saved > 60 * self.config.loop.checkpoint_every:
                    self._log_if_pending(step)
                    self._save(done, seconds)
                    saved = time.monotonic()
        return before + time.monotonic() - began

    def step(self, batch: Batch, step: int) -> None:
        """Train on one batch; nothing here looks at a value on the device."""
        rate = learning_rate(self.schedule, step, self.total, self.feed.steps_per_epoch)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss, terms = self.task.losses(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        bad = ~torch.isfinite(loss.detach())
        self._skip.copy_(bad)
        self.optimiser.step()
        self.task.after_step()
        self._first_bad.copy_(torch.where(bad & (self._first_bad < 0), step, self._first_bad))
        for name, value in {"loss": loss.detach(), **terms}.items():
            pair = torch.stack([value.detach().float(), torch.ones_like(value).float()])
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def _log_if_pending(self, step: int) -> None:
        if self._sums:
            self._log(step)

    def _log(self, step: int) -> dict[str, float]:
        """Read the device once, write a line of ``log.jsonl`` and return its figures."""
        names = list(self._sums)
        pairs = torch.stack([self._sums[name] for name in names]).cpu()
        first_bad = int(self._first_bad)
        self._sums = {}
        means = {name: float(s / n) for name, (s, n) in zip(names, pairs, strict=True)}
        if first_bad >= 0:
            wrong = [
                name for name, value in means.items() if not torch.isfinite(torch.tensor(value))
            ]
            raise NonFiniteLossError(
                f"the loss became NaN or infinite at step {first_bad} (terms: {', '.join(wrong)}); "
                "lower the learning rate, or use --set loop.precision=float32"
            )
        rate = self.optimiser.param_groups[0]["lr"]
        remark = self.task.remark(means)
        if remark is not None and remark not in self._remarks:
            self._remarks.add(remark)
            console.print(f"warning: {remark}", style="yellow", highlight=False, soft_wrap=True)
        epoch = (step + 1) / self.feed.steps_per_epoch
        self.run.log(stage=self.task.stage, step=step + 1, epoch=round(epoch, 3), lr=rate, **means)
        return means

    def _save(self, step: int, seconds: float) -> None:
        save_state(
            self.run.path,
            stage=self.task.stage,
            step=step,
            seconds=seconds,
            modules=self.task.modules,
            optimiser=self.optimiser,
            config=self.config,
        )
