"""Child processes that end when their parent does, also after ``kill -9``."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable


@functools.cache
def lifeline() -> int:
    """Return the read end of a pipe that closes when this process ends.

    It is the standard input of children that call :func:`when_parent_ends`. Nothing is written
    into the pipe, and children do not inherit its other end.
    """
    read, _ = os.pipe()
    return read


def when_parent_ends(action: Callable[[], None]) -> None:
    """Call a function once the standard input of this process closes; a thread waits for that."""

    def wait() -> None:
        os.read(0, 1)
        action()

    threading.Thread(target=wait, daemon=True).start()


def stop_with_parent() -> None:
    """Send SIGINT to this process once its parent ends."""
    when_parent_ends(lambda: os.kill(os.getpid(), signal.SIGINT))
