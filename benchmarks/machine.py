"""The ceilings of a machine, against which every other rate can be read.

Matrix products of bfloat16 (of float32 on a processor) at a size that keeps every unit busy, a copy
of memory, and the time that the host needs to launch one operation.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.rows import row, synchronize
from crkd.core.watched import Job

_row = partial(row, "machine")


def measurements(device: str = "cuda", repeats: int = 10) -> list[Job]:
    """Return the measurements.

    Args:
        device: "cuda" or "cpu".
        repeats: timings of which the median counts.
    """
    work: dict[str, Callable[[str, str, int], dict[str, Any]]] = {
        "matrix products": _products,
        "copy of memory": _copy,
        "launch of an operation": _launch,
    }
    return [
        Job(name, partial(_only, measure, name, device, repeats)) for name, measure in work.items()
    ]


def _only(
    measure: Callable[[str, str, int], dict[str, Any]], name: str, device: str, repeats: int
) -> Iterator[dict[str, Any]]:
    yield measure(name, device, repeats)


def _products(name: str, device: str, repeats: int) -> dict[str, Any]:
    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (1024, torch.float32)
    matrix = torch.randn(size, size, device=device).to(dtype)
    seconds = _seconds(lambda: matrix @ matrix, repeats)
    kind = str(dtype).removeprefix("torch.")
    return _row("TFLOP/s", f"{name}, {size} x {size}, {kind}", 2e-12 * size**3 / seconds)


def _copy(name: str, device: str, repeats: int) -> dict[str, Any]:
    source = torch.zeros(2**30 if device == "cuda" else 2**27, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = _seconds(lambda: target.copy_(source), repeats)
    return _row("GB/s", f"{name}, read and written", 2e-9 * len(source) / seconds)


def _launch(name: str, device: str, repeats: int, launches: int = 2000) -> dict[str, Any]:
    number = torch.zeros(16, device=device)

    def many() -> None:
        for _ in range(launches):
            number.add_(1)

    return _row("us", name, 1e6 * _seconds(many, repeats) / launches)


def _seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median wall time of ``work``, which is waited for."""
    work()
    times = []
    for _ in range(repeats):
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
