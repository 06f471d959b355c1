"""Interruption of a run by a signal."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any


class Interrupted(Exception):
    """A signal ended the run early; its state is saved.

    Attributes:
        progress: how far it came, such as "stopped after step 5 of 10".
        out: the folder to resume; None before it is known.
    """

    def __init__(self, progress: str, out: Path | None = None) -> None:
        super().__init__(progress, out)
        self.progress, self.out = progress, out

    def __str__(self) -> str:
        """Return :meth:`describe`."""
        return self.describe()

    def within(self, work: str, out: Path) -> Interrupted:
        """Return the same interruption as seen from the larger work that it was part of."""
        return Interrupted(f"{work} {self.progress}", out)

    def describe(self) -> str:
        """Return how far the run came and how to resume it."""
        if self.out is None:
            return self.progress
        return (
            f"{self.progress}; the state is saved, resume it with the same command and "
            f"--out {self.out} --resume"
        )


@contextmanager
def graceful_stop() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of ending the process.

    A second signal of the same kind has its usual effect.
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
        # Handlers can only be set in the main thread; elsewhere the caller owns the signals.
        previous = {}
    try:
        yield received
    finally:
        for caught, handler in previous.items():
            signal.signal(caught, handler)
