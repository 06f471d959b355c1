"""Training time of the configurations of the sweep accuracy-per-minute, on one thread.

A round trains a few batches of each stage of each configuration in turn, and a time is the median
over the rounds: what else the machine does meets all of them. The time of a whole training is that
of a step times its number of steps. It counts the seconds of the processor, without data sets,
evaluation and files. The ratio is to the configuration ``plain``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import torch

from benchmarks.rows import row
from benchmarks.train import trained
from crkd.config.schema import Config
from crkd.core.device import device_name
from crkd.core.threads import one_thread
from crkd.core.watched import Job
from crkd.gpu_checks.fresh_loops import discovery_loop, pretraining_loop
from crkd.stages.run_data import prepare
from crkd.stages.sweep.file import find_sweep, load_sweep

SWEEP = "accuracy-per-minute"
PLAIN = "plain"
"""Beginning of the name of the configuration that the others are compared with."""
ROUNDS = 7
STEPS = 4
"""Batches of each stage in a round."""
CPU = torch.device("cpu")


def measurements(rounds: int = ROUNDS, steps: int = STEPS) -> list[Job]:
    """Return the measurements of the benchmark."""
    return [Job("minutes of both stages", partial(_rows, rounds, steps))]


def _rows(rounds: int, steps: int) -> Iterator[dict[str, Any]]:
    sweep = load_sweep(find_sweep(SWEEP), {"discover": ()})
    with one_thread():
        device = device_name(CPU)
        minutes = minutes_of(
            {entry.name: entry.config for entry in sweep.configurations}, rounds, steps
        )
    plain = next(sum(both) for name, both in minutes.items() if name.startswith(PLAIN))
    for name, (stage1, stage2) in minutes.items():
        made = row("minutes", "min", f"both stages, {name}", stage1 + stage2, plain, device=device)
        yield {**made, "stage1": round(stage1, 2), "stage2": round(stage2, 2)}


def minutes_of(
    configs: dict[str, Config], rounds: int, steps: int
) -> dict[str, tuple[float, float]]:
    """Return the minutes of stage 1 and of stage 2 of each configuration.

    Args:
        configs: configurations of one data set.
        rounds: the median is over so many.
        steps: batches of each stage in a round.
    """
    data = prepare(next(iter(configs.values())), CPU)
    loops = {
        (name, stage): make(config, data, CPU)
        for name, config in configs.items()
        for stage, make in enumerate((pretraining_loop, discovery_loop))
    }
    endless = {key: trained(loop) for key, loop in loops.items()}
    for batches in endless.values():
        # The first steps allocate memory.
        next(batches)
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in loops}
    for _ in range(rounds):
        for key, batches in endless.items():
            begun = time.process_time()
            for _ in islice(batches, steps):
                pass
            seconds[key].append((time.process_time() - begun) / steps)
    whole = {key: median(spent) * loops[key].total / 60 for key, spent in seconds.items()}
    return {name: (whole[name, 0], whole[name, 1]) for name in configs}
