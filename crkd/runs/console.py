"""Progress and messages on the terminal."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

console = Console(stderr=True)


def say(text: str) -> None:
    """Print one line as it is, without markup or line breaks."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def memory_in_use() -> str:
    """Return the largest memory so far in words: of the GPU, or of the process on a CPU.

    It is what the allocator counted; nothing waits for the device.
    """
    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB on the GPU"
    if sys.platform == "win32":
        return ""
    import resource

    # macOS counts bytes, the others kibibytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return f"{peak / 2**30:.1f} GiB"


def format_duration(seconds: float) -> str:
    """Return a duration in words.

    >>> [format_duration(s) for s in (42.4, 605, 3 * 3600 + 60)]
    ['42 s', '10 min 5 s', '3 h 1 min']
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class TrainingProgress:
    """A progress bar on a terminal, and a line every half minute elsewhere.

    Args:
        title: name of the work.
        total: number of steps.
        start: first step.
        images_per_step: for the rate in images/s.
    """

    FIRST_LINE_SECONDS = 10.0
    LINE_SECONDS = 30.0
    LONG_SECONDS = 60.0
    """Expected time above which it is announced before the work."""
    TIMED_STEPS = 3
    MEMORY_SECONDS = 60.0
    """Time constant of the average of the rate, so that the time left does not jump."""
    SLOWEST = 3.0
    """Times the average that a step enters it at most: a suspended process takes no steps."""

    def __init__(self, title: str, total: int, start: int, images_per_step: int) -> None:
        self.title, self.total, self.images_per_step = title, total, images_per_step
        self._start = self._last_step = start
        self._last_time = self._last_line = self._began = time.monotonic()
        self._seconds: float | None = None
        self._lines = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=console,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task(title, total=total, completed=start, metrics="")

    def __enter__(self) -> TrainingProgress:
        # Before rich 14.3 a disabled bar prints an empty line.
        if not self._progress.disable:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._progress.disable:
            self._progress.stop()

    def tick(self, step: int) -> None:
        """Announce the expected time after a few steps, and show progress when a line is due.

        For work that ends with its step, as on a CPU. The first step is not timed: it is slower.
        """
        now = time.monotonic()
        done = step - self._start
        if done == 1:
            self._began = now
        elif done == 1 + self.TIMED_STEPS:
            seconds = (now - self._began) / self.TIMED_STEPS
            left = seconds * (self.total - step)
            if left > self.LONG_SECONDS:
                line = (
                    f"{self.title}: about {format_duration(left)} for {self.total - step:,} steps"
                )
                console.print(line, highlight=False, markup=False, soft_wrap=True)
        wait = self.LINE_SECONDS if self._lines else self.FIRST_LINE_SECONDS
        if now - self._last_line > wait:
            self.show(step, {})

    def _averaged(self, step: int, now: float) -> float:
        """Return the average seconds of a step, recent steps first."""
        steps, elapsed = step - self._last_step, max(now - self._last_time, 1e-9)
        if steps <= 0:
            return self._seconds or 0.0
        latest = elapsed / steps
        if self._seconds is None:
            self._seconds = latest
        latest = min(latest, self.SLOWEST * self._seconds)
        share = 1.0 - math.exp(-steps * latest / self.MEMORY_SECONDS)
        self._seconds += share * (latest - self._seconds)
        return self._seconds

    def show(self, step: int, metrics: dict[str, float]) -> None:
        """Show the state after ``step`` steps."""
        now = time.monotonic()
        seconds = self._averaged(step, now)
        rate = (step - self._last_step) * self.images_per_step / max(now - self._last_time, 1e-9)
        self._last_step, self._last_time = step, now
        parts = [
            f"{name} {value:.3f}"
            for name, value in metrics.items()
            if "/" not in name and not name.endswith("_weighted")
        ]
        parts += [f"{rate:,.0f} images/s", memory_in_use()]
        text = ", ".join(part for part in parts if part)
        self._progress.update(self._task, completed=step, metrics=text)
        wait = self.LINE_SECONDS if self._lines else self.FIRST_LINE_SECONDS
        if not sys.stderr.isatty() and (now - self._last_line > wait or step == self.total):
            self._last_line = now
            self._lines += 1
            left = format_duration((self.total - step) * seconds)
            line = f"{self.title}: step {step}/{self.total}, {text}, {left} left"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
