"""Child processes that stop when their parent ends, also after ``kill -9``."""

from __future__ import annotations

import functools
import os
import signal
import threading


@functools.cache
def lifeline() -> int:
    """Return the read end of a pipe that closes when this process ends.

    It is the standard input of children that call :func:`stop_with_parent`. Nothing is written
    into the pipe, and children do not inherit its other end.
    """
    read, _ = os.pipe()
    return read


def stop_with_parent() -> None:
    """Send SIGINT to this process once its standard input closes; a thread waits for that."""
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGINT)
