"""Interruption of a run by a signal."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

_HANGUP: Final = getattr(signal, "SIGHUP", None)  # Windows has none
_STOPPING: Final = tuple(n for n in (signal.SIGINT, signal.SIGTERM, _HANGUP) if n is not None)


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
    """Collect SIGINT, SIGTERM and SIGHUP in a list instead of ending the process.

    A second signal of the same kind has its usual effect. SIGHUP comes when the terminal closes;
    under ``nohup``, which ignores it, it is still ignored.
    """
    received: list[int] = []
    previous: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[number])
        if number == _HANGUP:
            leave_closed_terminal()

    try:
        for number in _STOPPING:
            if number == _HANGUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            previous[number] = signal.signal(number, note)
    except ValueError:
        # Handlers can only be set in the main thread; elsewhere the caller owns the signals.
        previous = {}
    try:
        yield received
    finally:
        for caught, handler in previous.items():
            signal.signal(caught, handler)


def leave_closed_terminal() -> None:
    """Redirect the standard output and error of a closed terminal to the null device.

    Every write to a closed terminal fails, and a message would otherwise prevent the saving of the
    state. A terminal that is still open, and files and pipes, are kept.
    """
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream)
                os.close(null)
