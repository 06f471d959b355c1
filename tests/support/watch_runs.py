"""Kills a watch again and again with SIGKILL inside its writes, and starts it again.

The processes are forked from one that has imported everything.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import torch

from crkd.inference.example import RUN
from crkd.inference.watching import watcher, watching
from crkd.runs import appended_lines

CPU = torch.device("cpu")


def killed_watches(images: Path, place: Path) -> list[int]:
    """Watch a folder in folders of ``place``; return the signals of the kills; done in a fork."""
    torch.set_num_threads(1)
    watcher.BATCH_SIZE = 2
    draw = np.random.default_rng(0)
    # Everything is imported before the processes are forked.
    one_pass(images, place / "straight")
    signals = []
    while status := in_fork(images, place / "killed", int(draw.integers(1, 6))):
        signals.append(os.WTERMSIG(status))
    return signals


def one_pass(images: Path, state: Path) -> None:
    with watching(images, RUN, state, device=CPU) as opened:
        opened.look()


def in_fork(images: Path, state: Path, at: int) -> int:
    """Return the wait status of one pass that kills itself inside a write, counted from 1."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            kill_at(at)
            one_pass(images, state)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def kill_at(number: int) -> None:
    """Let the process kill itself when the lines of a write are on the disk but not complete."""
    honest, count = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal count
        honest(descriptor)
        count += 1
        if count == number:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - 7)
            os.kill(os.getpid(), signal.SIGKILL)

    appended_lines.os.fsync = fsync
