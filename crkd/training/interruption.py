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


class Interrupted(KeyboardInterrupt):
    """A signal ended the run early. No ``except Exception`` takes it for a failure.

    Attributes:
        progress: how far it came, such as "stopped after step 5 of 10".
        out: the folder to resume; None before it is known.
        saved: whether a state is saved; without one, a resumed run begins again.
    """

    def __init__(self, progress: str, out: Path | None = None, *, saved: bool = True) -> None:
        super().__init__(progress, out)
        self.progress, self.out, self.saved = progress, out, saved

    def __str__(self) -> str:
        """Return :meth:`describe`."""
        return self.describe()

    def within(self, work: str, out: Path) -> Interrupted:
        """Return the same interruption as seen from the larger work that it was part of."""
        return Interrupted(f"{work} {self.progress}", out, saved=self.saved)

    def describe(self) -> str:
        """Return how far the run came and how to resume it."""
        if self.out is None:
            return self.progress
        state = "the state is saved, resume it" if self.saved else "no state is saved, begin again"
        return f"{self.progress}; {state} with the same command and --out {self.out} --resume"


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


@contextmanager
def raising_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt as SIGINT does, and not end the process.

    Unfinished files are then deleted, and the status of a run is written. Signals that are ignored,
    as SIGHUP under ``nohup``, and signals with a handler of the caller stay as they are.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        if number == _HANGUP:
            leave_closed_terminal()
        raise KeyboardInterrupt

    changed: list[int] = []
    # Handlers can only be set in the main thread; elsewhere the caller owns the signals.
    with contextlib.suppress(ValueError):
        for number in _STOPPING:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, interrupt)
                changed.append(number)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


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
