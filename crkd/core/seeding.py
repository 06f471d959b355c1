"""Random initial weights that follow from a seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw initial weights from ``seed`` and leave the caller's random state as it was.

    Weights are drawn on the CPU, so that a seed means the same weights on every device.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # torch.manual_seed would reach into the CUDA generators, which the fork does not restore.
        torch.default_generator.manual_seed(seed)
        yield
