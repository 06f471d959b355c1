"""Kills a watch again and again with SIGKILL inside its writes, and starts it again.

The processes are forked from one that has imported everything. Arguments: folder of images, folder
to work in. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from crkd.inference.example import RUN
from crkd.inference.watching import watcher, watching
from crkd.runs import appended_lines

CPU = torch.device("cpu")


def main() -> None:
    images, place = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    watcher.BATCH_SIZE = 2
    draw = np.random.default_rng(0)
    # Everything is imported before the processes are forked.
    one_pass(images, place / "straight")
    signals = []
    while status := in_fork(images, place / "killed", int(draw.integers(1, 6))):
        signals.append(os.WTERMSIG(status))
    sys.stdout.write(json.dumps({"kills": len(signals), "signals": signals}) + "\n")


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


if __name__ == "__main__":
    main()
