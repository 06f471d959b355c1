"""Kills a short discovery at random moments, resumes it, and compares it with an uninterrupted one.

The processes are forked from one that has imported everything, so that a kill costs a second. A
run in progress tells through a pipe when it begins and ends to write a state; the pipe outlives
it, and its last words say where the kill fell.
"""

from __future__ import annotations

import os
import select
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crkd.core.atomic_write import UNFINISHED
from crkd.runs import atomic_files
from crkd.runs.folder import RunFolder
from crkd.stages.discover.run import discover
from crkd.stages.pretrain.run import pretrain
from tests.support.small_runs import small_config, thin_data_sets

KILLS_A_RUN = 8
MOMENTS = (b"writing\n", b"writing, before the rename\n", b"writing, after the rename\n")
"""Moments inside the writing of a state at which a process can stop itself."""

CONFIG = small_config(
    "pretrain.epochs=1",
    "discover.assignment={queue: 64, queue_start_epoch: 0, prior: estimated}",
    # As many steps as with all images.
    "pretrain.batch_size=16",
    "discover.batch_size=32",
    # Every step is followed by a saved state.
    "loop.checkpoint_every=1.0e-9",
)


def killed_runs(place: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill runs in a folder so many times, and return the counts; done in a fork."""
    torch.set_num_threads(1)
    thin_data_sets(pytest.MonkeyPatch())
    random = np.random.default_rng(seed)
    parent, straight = place / "stage1", place / "straight"
    uninterrupted(lambda: pretrain(CONFIG, parent))
    began = time.monotonic()
    uninterrupted(lambda: discover(CONFIG, straight, parent))
    usual = time.monotonic() - began
    fell: Counter[str] = Counter()
    runs = identical = 0
    while (done := sum(fell.values())) < kills:
        folder = place / f"run{runs}"
        fell += killed_often(folder, parent, usual, min(KILLS_A_RUN, kills - done), random)
        uninterrupted(lambda folder=folder: resume_run(folder, parent))
        runs += 1
        identical += same_run(straight, folder)
    writing = sum(count for where, count in fell.items() if where.startswith("writing"))
    return {
        "kills": sum(fell.values()),
        "inside_a_checkpoint_write": writing,
        "fell": dict(sorted(fell.items())),
        "runs": runs,
        "bit_identical": identical,
    }


def resume_run(folder: Path, parent: Path) -> None:
    """Do what a person does after a crash: the same command with ``--resume``."""
    begun = (folder / "run.json").is_file()
    if not (begun and RunFolder(folder).read_info().status == "complete"):
        discover(CONFIG, folder, parent, resume=begun)


def killed_often(
    folder: Path, parent: Path, usual: float, kills: int, random: np.random.Generator
) -> Counter[str]:
    """Begin and kill a run several times; return where the kills fell."""
    fell: Counter[str] = Counter()
    for number in range(kills):
        # Half of the kills, the first one of a run among them, fall inside a write for certain: the
        # process stops itself there. The others fall at moments drawn over the whole run.
        placed = number % 2 == 0
        moment, times = MOMENTS[int(random.integers(len(MOMENTS)))], int(random.integers(1, 4))
        stop = (moment, times) if placed else None
        pid, words = fork(lambda stop=stop: resume_run(folder, parent), stop)
        if placed:
            heard = listen_for(words, moment, times)
        else:
            heard = b""
            time.sleep(float(random.uniform(0.0, usual)))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        heard += drained(words)
        if os.WIFSIGNALED(status):
            last = heard.split(b"\n")[-2:-1]
            fell[last[0].decode() if last else "before the first state"] += 1
        elif b"failed" in heard:
            raise RuntimeError(heard.decode())
        else:
            # It was quicker than the kill: it has ended and there is nothing left to kill.
            break
    return fell


def fork(work: Callable[[], None], stop: tuple[bytes, int] | None = None) -> tuple[int, int]:
    """Return the process that does ``work``, and where its words can be read.

    Args:
        work: what it does.
        stop: one of ``MOMENTS`` and how often it has come when the process stops itself.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    code = 0
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        tell_of_states(write, stop)
        work()
    except BaseException:  # noqa: BLE001 whatever it is, the parent tells it
        os.write(write, b"failed: " + traceback.format_exc().encode())
        code = 1
    finally:
        os._exit(code)


def tell_of_states(pipe: int, stop: tuple[bytes, int] | None) -> None:
    """Write into ``pipe`` where the writing of each state is, and stop where that is asked for."""
    honest_write, honest_replace = atomic_files.write_bytes, os.replace
    counts: Counter[bytes] = Counter()

    def tell(moment: bytes) -> None:
        os.write(pipe, moment)
        counts[moment] += 1
        if stop == (moment, counts[moment]):
            os.kill(os.getpid(), signal.SIGSTOP)

    def write_bytes(path: Path, content: bytes) -> None:
        if not path.name.startswith("state-"):
            return honest_write(path, content)
        tell(MOMENTS[0])
        honest_write(path, content)
        os.write(pipe, b"between two states\n")
        return None

    def replace(old: str, new: Path) -> None:
        of_a_state = Path(new).name.startswith("state-")
        if of_a_state:
            tell(MOMENTS[1])
        honest_replace(old, new)
        if of_a_state:
            tell(MOMENTS[2])

    atomic_files.write_bytes, os.replace = write_bytes, replace


def listen_for(words: int, wanted: bytes, times: int) -> bytes:
    """Wait until ``wanted`` came so often, or nobody speaks any more."""
    heard = b""
    while heard.count(wanted) < times:
        select.select([words], [], [])
        more = os.read(words, 1 << 16)
        if not more:
            break
        heard += more
    return heard


def drained(words: int) -> bytes:
    heard = b""
    while more := os.read(words, 1 << 16):
        heard += more
    os.close(words)
    return heard


def uninterrupted(work: Callable[[], object]) -> None:
    pid, words = fork(lambda: work() and None)
    said = drained(words)
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(said.decode())


def same_run(one: Path, other: Path) -> bool:
    """Return whether two runs have the same weights, bit by bit, and the same metrics."""
    a, b = (load_file(path / "model.safetensors") for path in (one, other))
    runs = RunFolder(one), RunFolder(other)
    return (
        a.keys() == b.keys()
        and all(torch.equal(a[name], b[name]) for name in a)
        and runs[0].read_metrics() == runs[1].read_metrics()
        and runs[0].read_info().chosen_head == runs[1].read_info().chosen_head
        and runs[1].read_info().status == "complete"
        and not list(other.glob(f".*{UNFINISHED}"))
    )
