"""Settings of the process that speed up training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from crkd.training.cpu_allocator import keep_freed_memory


@contextmanager
def fast_training(device: torch.device) -> Iterator[None]:
    """Speed up training on ``device`` in this block.

    On a GPU, cuDNN times its algorithms and takes the fastest, unless deterministic algorithms are
    enabled; its setting is restored afterwards. On the CPU, the process keeps freed memory; glibc
    cannot restore the setting, so it stays.
    """
    if device.type == "cpu":
        keep_freed_memory()
    before = torch.backends.cudnn.benchmark
    if device.type != "cpu" and not torch.are_deterministic_algorithms_enabled():
        # Shapes never change from step to step, so timing the algorithms once pays. The choice
        # may differ from run to run, and with it the last bits.
        torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
