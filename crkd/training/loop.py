"""The training loop of all stages.

Between two log lines no value is read from the device: losses are summed there, and a non-finite
loss skips its update there and sets a mark that the next log line reads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from crkd.config.blocks import OptimizerConfig
from crkd.config.schema import Config
from crkd.core.types import Batch
from crkd.data.loader import BatchLoader
from crkd.runs.console import TrainingProgress, console
from crkd.runs.folder import RunFolder
from crkd.training.checkpoint import load_state, save_state
from crkd.training.cuda_graph import runner
from crkd.training.device_settings import fast_training
from crkd.training.distributed import any_rank, synchronize_backbones
from crkd.training.interruption import Interrupted, graceful_stop
from crkd.training.loggers.base import Logs, open_logs
from crkd.training.nonfinite import FILE as FAILED
from crkd.training.nonfinite import first_not_finite, write_failed_step
from crkd.training.step import TrainingStep
from crkd.training.task import Task

Show = Callable[[int, dict[str, float]], None]
Tick = Callable[[int], None]


class NonFiniteLossError(RuntimeError):
    """A loss or a weight was NaN or infinite; the message names the step and the term."""


class Loop:
    """Runs a task over a loader, with log lines, progress and saved states.

    Args:
        task: the stage.
        loader: its batches.
        config: the run's configuration.
        optimizer: the stage's optimizer settings.
        epochs: passes over the data.
        run: the folder of log and state; None trains without files and cannot be resumed.
        device: where the task computes.
        say: receives about ten lines of progress where there is no folder.
    """

    def __init__(
        self,
        task: Task,
        loader: BatchLoader,
        *,
        config: Config,
        optimizer: OptimizerConfig,
        epochs: int,
        run: RunFolder | None,
        device: torch.device,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.task, self.loader, self.config = task, loader, config
        self.run, self.device = run, device
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
        self._say = say
        self._log_every = -(-self.total // 10) if run is None else config.loop.log_every

    @property
    def folder(self) -> Path:
        """The folder of a loop that has one."""
        assert self.run is not None
        return self.run.path

    def train(self, *, resume: bool = False) -> float:
        """Train to the end; return the seconds spent, over all resumed parts.

        Raises:
            Interrupted: a signal came; the state is saved.
            NonFiniteLossError: a loss or a weight was not finite; the last saved state is intact.
        """
        start, before = 0, 0.0
        if resume and self.run is not None:
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
        with fast_training(self.device), self._watched(start) as (signals, logs, show, tick):
            batches = self.loader.batches(start, self.total, rendered=False)
            for step, batch in enumerate(batches, start):
                if step % per_epoch == 0:
                    self.task.start_epoch(step // per_epoch)
                self.step(batch, step)
                done = step + 1
                if done % self._log_every == 0 or done == self.total:
                    show(done, self.log(step, logs))
                if self.run is None:
                    continue
                if self.device.type != "cuda":
                    # A GPU works behind the host, whose clock says nothing between two log lines.
                    tick(done)
                seconds = before + time.monotonic() - began
                stops = any_rank(bool(signals))
                # The last state too: the evaluation after training may be interrupted as well.
                due = time.monotonic() - saved > 60 * self.config.loop.checkpoint_every
                if stops or due or done == self.total:
                    self.log(step, logs)
                    self._save(done, seconds)
                    saved = time.monotonic()
                if stops or (done == self.total and any_rank(bool(signals))):
                    raise Interrupted(f"stopped after step {done} of {self.total}")
        return before + time.monotonic() - began

    @contextmanager
    def _watched(self, start: int) -> Iterator[tuple[list[int], Logs | None, Show, Tick]]:
        """Yield signals received, logs and display of the training."""
        if self.run is None:
            yield [], None, self._tell, lambda step: None
            return
        images = sum(self.loader.counts)
        with (
            graceful_stop() as signals,
            open_logs(self.run, self.config, start) as logs,
            TrainingProgress(self.task.stage, self.total, start, images) as bar,
        ):
            yield signals, logs, bar.show, bar.tick

    def _tell(self, step: int, means: dict[str, float]) -> None:
        self._say(f"{self.task.stage}: step {step} of {self.total}, loss {means['loss']:.3f}")

    def step(self, batch: Batch, step: int) -> None:
        """Train on one batch without reading a value from the device."""
        self.training_step.prepare(step)
        self._compute(batch)

    def log(self, step: int, logs: Logs | None) -> dict[str, float]:
        """Read the device once, write a row of the logs and return its metrics.

        Without a step since the last row, nothing is written.
        """
        means = self.training_step.totals.take()
        first_bad = self.training_step.first_bad()
        if first_bad >= 0:
            raise self._non_finite(first_bad, means)
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

    def _non_finite(self, step: int, means: dict[str, float]) -> NonFiniteLossError:
        """Return the error of a loss that was not finite, and write the step to the folder."""
        wrong = [name for name, value in means.items() if not math.isfinite(value)]
        what = f"the loss became NaN or infinite at step {step} of stage {self.task.stage}"
        if self.run is None:
            return NonFiniteLossError(f"{what}; lower the learning rate, or scale the data")
        self._write_failed_step(step, wrong)
        return NonFiniteLossError(
            f"{what} (terms: {', '.join(wrong)}; its images are in {self.run.path / FAILED}); "
            f"{self._remedy()}"
        )

    def _write_failed_step(self, step: int, terms: list[str]) -> None:
        """Write ``failed-step.json``, which allows to resume with other settings."""
        assert self.run is not None
        write_failed_step(
            self.run,
            self.loader,
            stage=self.task.stage,
            step=step,
            terms=terms,
            rate=self.training_step.rate,
        )

    def _remedy(self) -> str:
        return (
            "lower the learning rate or use --set loop.precision=float32, and continue from the "
            f"last good state with --out {self.folder} --resume"
        )

    def _save(self, step: int, seconds: float) -> None:
        """Save a state; ``log`` has just checked that all losses before it were finite.

        Raises:
            NonFiniteLossError: a weight is not finite, as after a gradient that was not.
        """
        if (name := first_not_finite(self.task.modules)) is not None:
            self._write_failed_step(step - 1, [f"weights of {name}"])
            raise NonFiniteLossError(
                f"the weights of {name} are NaN or infinite after step {step} of stage "
                f"{self.task.stage}, although every loss was finite; {self._remedy()}"
            )
        save_state(
            self.folder,
            stage=self.task.stage,
            step=step,
            seconds=seconds,
            modules=self.task.modules,
            optimizer=self.optimizer,
            config=self.config,
        )
