"""The training loop that both stages share.

Nothing between two log lines looks at a value on the device: losses are summed there, and a
non-finite loss skips its update there and leaves a mark that the next log line reads.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from crkd.config.blocks import OptimizerConfig
from crkd.config.schema import Config
from crkd.core.types import Batch
from crkd.data.loader import BatchLoader
from crkd.runs.console import TrainingProgress, console
from crkd.runs.folder import RunFolder
from crkd.training.checkpoint import load_state, save_state
from crkd.training.cuda_graph import runner
from crkd.training.distributed import any_rank, synchronize_backbones
from crkd.training.loggers.base import Logs, open_logs
from crkd.training.nonfinite import FILE as FAILED
from crkd.training.nonfinite import write_failed_step
from crkd.training.step import TrainingStep
from crkd.training.task import Task


class Interrupted(Exception):
    """A signal asked the run to end; its state is saved."""


class NonFiniteLossError(RuntimeError):
    """A loss was NaN or infinite; the message names the step and the term."""


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
    """Runs a task over a loader, with log lines, progress, saved states and a graceful end.

    Args:
        task: the stage.
        loader: its batches.
        config: the run's configuration.
        optimizer: the stage's optimizer settings.
        epochs: passes over the data.
        run: where log and state go.
        device: where the task computes.
    """

    def __init__(
        self,
        task: Task,
        loader: BatchLoader,
        *,
        config: Config,
        optimizer: OptimizerConfig,
        epochs: int,
        run: RunFolder,
        device: torch.device,
    ) -> None:
        self.task, self.loader, self.config, self.run, self.device = (
            task,
            loader,
            config,
            run,
            device,
        )
        self.total = epochs * loader.steps_per_epoch
        synchronize_backbones(task.modules, device)
        self.training_step = TrainingStep(
            task,
            optimizer,
            total=self.total,
            steps_per_epoch=loader.steps_per_epoch,
            device=device,
            # Looked up in each step: the loader may be given other views.
            render=lambda batch: loader.render(batch),
        )
        self.optimizer = self.training_step.optimizer
        self._compute = runner(self.training_step, config.loop.step, device)
        self._remarks: set[str] = set()

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
                optimizer=self.optimizer,
                config=self.config,
            )
        began = saved = time.monotonic()
        per_epoch = self.loader.steps_per_epoch
        self.task.modules.train()
        self.task.resume_epoch(start // per_epoch)
        with (
            graceful_stop() as signals,
            open_logs(self.run, self.config, start) as logs,
            TrainingProgress(self.task.stage, self.total, start, sum(self.loader.counts)) as bar,
        ):
            batches = self.loader.batches(start, self.total, rendered=False)
            for step, batch in enumerate(batches, start):
                if step % per_epoch == 0:
                    self.task.start_epoch(step // per_epoch)
                self.step(batch, step)
                done = step + 1
                if done % self.config.loop.log_every == 0 or done == self.total:
                    bar.show(done, self.log(step, logs))
                seconds = before + time.monotonic() - began
                if any_rank(bool(signals)) and done < self.total:
                    self.log(step, logs)
                    self._save(done, seconds)
                    raise Interrupted(f"stopped after step {done} of {self.total}")
                # The last state too: what comes after training may be interrupted as well.
                due = time.monotonic() - saved > 60 * self.config.loop.checkpoint_every
                if due or done == self.total:
                    self.log(step, logs)
                    self._save(done, seconds)
                    saved = time.monotonic()
        return before + time.monotonic() - began

    def step(self, batch: Batch, step: int) -> None:
        """Train on one batch; nothing here looks at a value on the device."""
        self.training_step.prepare(step)
        self._compute(batch)

    def log(self, step: int, logs: Logs | None) -> dict[str, float]:
        """Read the device once, write a row of the logs and return its figures.

        Without a step since the last row there is nothing to write.
        """
        means = self.training_step.totals.take()
        first_bad = self.training_step.first_bad()
        if first_bad >= 0:
            wrong = [name for name, value in means.items() if not math.isfinite(value)]
            write_failed_step(
                self.run,
                self.loader,
                stage=self.task.stage,
                step=first_bad,
                terms=wrong,
                rate=self.training_step.rate,
            )
            raise NonFiniteLossError(
                f"the loss became NaN or infinite at step {first_bad} (terms: {', '.join(wrong)}; "
                f"its images are in {self.run.path / FAILED}); lower the learning rate or use "
                f"--set loop.precision=float32, and go on from the last good state with --out "
                f"{self.run.path} --resume"
            )
        if not means:
            return means
        remark = self.task.remark(means)
        if remark is not None and remark not in self._remarks:
            self._remarks.add(remark)
            console.print(f"warning: {remark}", style="yellow", highlight=False, soft_wrap=True)
        if logs is not None:
            row = {
                "time": round(time.time(), 3),
                "stage": self.task.stage,
                "step": step + 1,
                "epoch": round((step + 1) / self.loader.steps_per_epoch, 3),
                "lr": self.training_step.rate,
            }
            logs.write(row | means)
        return means

    def _save(self, step: int, seconds: float) -> None:
        """Save a state; ``log`` has just seen that all losses before it were finite."""
        save_state(
            self.run.path,
            stage=self.task.stage,
            step=step,
            seconds=seconds,
            modules=self.task.modules,
            optimizer=self.optimizer,
            config=self.config,
        )
