"""Times of all layouts of the resident Sinkhorn kernel on a GPU, against the planned layout.

Every layout that fits the device is timed as in ``sinkhorn.py``, the fastest first. A layout has a
time only if its result agreed with float64. The rule in ``crkd/ot/cuda/plans`` is made by hand from
such tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from benchmarks.sinkhorn import SHAPES, SOLVES, _graph_time, _row
from benchmarks.sinkhorn_processor import EPSILON, agrees, float64, title
from crkd.core.watched import Job
from crkd.ot.cuda import launches, plans, solver
from crkd.ot.cuda.runs import ResidentRun


def measurements(device: str = "cuda", repeats: int = 9) -> list[Job]:
    """Return a job for each shape of the benchmark that a multiprocessor or a cluster can hold.

    Without a GPU the value of its only row is None.

    Args:
        device: "cuda" or "cpu".
        repeats: timings of which the median counts.
    """
    shapes = SHAPES[:-1]
    return [Job(title(*shape), partial(_rows, *shape, device, repeats)) for shape in shapes]


def candidates(n: int, m: int, device: plans.Device) -> list[plans.Resident]:
    """Return all layouts that fit: cluster sizes, warps, ways of summing, problems at once."""
    found: dict[plans.Resident, None] = {}
    lanes = sorted({32, plans.lanes_per_row(m)})
    for cluster, warps, lane in product((1, 2, 4, 8, 16), (4, 8, 16), lanes):
        if cluster > device.largest_cluster:
            continue
        plan = plans.resident_layout(n, m, cluster=cluster, warps=warps, lanes=lane)
        if plan is None:
            continue
        for split in (False, True) if cluster > 1 else (False,):
            whole = plan._replace(split=split)
            for layout in (whole, plans.two_per_multiprocessor(whole, device)):
                if layout is not None and layout.shared_bytes <= device.shared_bytes:
                    found[layout] = None
    return list(found)


def describe(plan: plans.Resident) -> str:
    """Return a layout in words.

    >>> describe(plans.Resident(8, 16, 7, 2, 2, 4, 2, True))
    'clusters of 4, 8 warps, 16 lanes a row, split sums, two problems on a multiprocessor'
    """
    parts = [f"clusters of {plan.cluster}", f"{plan.warps} warps", f"{plan.lanes} lanes a row"]
    if plan.split:
        parts.append("split sums")
    if plan.blocks_per_sm == 2:
        parts.append("two problems on a multiprocessor")
    return ", ".join(parts)


def _rows(p: int, n: int, m: int, t: int, device: str, repeats: int) -> Iterator[dict[str, Any]]:
    if device == "cpu" or not torch.cuda.is_available():
        yield _named(title(p, n, m, t), None, None)
        return
    count = max(2, min(SOLVES, int(2e9 / (4 * p * n * m))))
    inputs = [torch.randn(p, n, m, device="cuda") for _ in range(count)]
    wanted = float64(inputs[0], t)
    kind = launches.Kind(torch.cuda.current_device(), n, m, torch.float32, False, False, False)
    layouts = candidates(n, m, launches.device(kind.device))
    times = {plan: _time(kind, plan, inputs, wanted, t, repeats) for plan in layouts}
    planned = plans.resident(n, m, launches.device(kind.device))
    baseline = None if planned is None else times.get(planned)
    for plan, value in sorted(times.items(), key=lambda item: item[1] or float("inf")):
        mark = " (planned)" if plan == planned else ""
        yield _named(f"{title(p, n, m, t)}: {describe(plan)}{mark}", value, baseline)


def _time(
    kind: launches.Kind,
    plan: plans.Resident,
    inputs: list[Tensor],
    wanted: Tensor,
    t: int,
    repeats: int,
) -> float | None:
    """Return the microseconds of a solve, or None if the layout is refused or wrong here."""
    try:
        run = ResidentRun(kind, plan)
    except Exception:  # noqa: BLE001
        # A layout that cannot be loaded is not a candidate; the type of the error varies.
        return None
    run.dense = None
    if not run.at_once:
        return None
    call = solver.call_of(EPSILON, t)

    def solve(scores: Tensor) -> Tensor:
        return solver.solve_with(run, scores, call)

    return _graph_time(solve, inputs, repeats) if agrees(solve(inputs[0]), wanted) else None


def _named(name: str, value: float | None, baseline: float | None) -> dict[str, Any]:
    return {**_row(name, value, baseline, "us"), "benchmark": "sinkhorn-layouts"}
