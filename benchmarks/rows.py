"""Rates, and the rows of every result file."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch


def row(
    benchmark: str,
    unit: str,
    name: str,
    value: float | None,
    baseline: float | None = None,
    *,
    complete: bool = True,
    device: str | None = None,
) -> dict[str, Any]:
    """Return one row; the command adds device, versions and commit.

    Args:
        benchmark: part of the result files that the row belongs to.
        unit: of value and baseline; one with "/s" is a rate, any other a cost.
        name: what was measured.
        value: the result, None where it was not measured.
        baseline: the result of what it is compared with.
        complete: whether the row is a complete pipeline, which alone carries a ratio.
        device: where it was measured, unless that is the device at hand.

    Raises:
        ValueError: a result is not finite, which no result file could hold.
    """
    if not all(math.isfinite(number) for number in (value, baseline) if number is not None):
        raise ValueError(f"{name}: the result is {value}, the baseline {baseline}")
    ratio = None
    if value is not None and baseline is not None and complete:
        ratio = value / baseline if "/s" in unit else baseline / value
    made = {
        "benchmark": benchmark,
        "name": name,
        "value": None if value is None else _rounded(value),
        "unit": unit,
        "baseline": None if baseline is None else _rounded(baseline),
        "ratio": None if ratio is None else round(ratio, 2),
    }
    return made if device is None else {**made, "device": device}


def rate(batches: Iterator[int], seconds: float, warm_up: int = 3) -> float:
    """Return the images a second that an endless iterator over batch sizes gets done.

    Args:
        batches: yields the number of images of each batch once it is under way.
        seconds: time to spend, about.
        warm_up: batches before the clock starts.
    """
    for _ in islice(batches, warm_up):
        pass
    synchronize()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += next(batches)
    # The host may have run ahead: the work counts when it is done.
    synchronize()
    return done / (time.perf_counter() - start)


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _rounded(value: float) -> float:
    return round(value, 1) if abs(value) >= 100 else float(f"{value:.3g}")
