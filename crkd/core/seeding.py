"""Seeded initialization of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw initial weights from ``seed`` and restore the caller's random state afterwards.

    Weights are drawn on the CPU, so a seed gives the same weights on every device.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would also seed the CUDA generators, which the fork does not restore.
        torch.default_generator.manual_seed(seed)
        yield
