"""Progress and messages on the terminal."""

from __future__ import annotations

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


def in_words(seconds: float) -> str:
    """Return a duration in words.

    >>> [in_words(s) for s in (42.4, 605, 3 * 3600 + 60)]
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

    LINE_SECONDS = 30.0

    def __init__(self, title: str, total: int, start: int, images_per_step: int) -> None:
        self.title, self.total, self.images_per_step = title, total, images_per_step
        self._last_step, self._last_time = start, time.monotonic()
        self._last_line = time.monotonic()
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
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, step: int, metrics: dict[str, float]) -> None:
        """Show the state after ``step`` steps."""
        now = time.monotonic()
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
        if not sys.stderr.isatty() and (
            now - self._last_line > self.LINE_SECONDS or step == self.total
        ):
            self._last_line = now
            left = in_words((self.total - step) * self.images_per_step / max(rate, 1e-9))
            line = f"{self.title}: step {step}/{self.total}, {text}, {left} left"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
