"""Every candidate is a layout that the device can hold; the fastest right one comes first."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from torch import Tensor

from benchmarks import sinkhorn as benchmark
from benchmarks import sinkhorn_layouts as layouts
from crkd.ot.cuda import plans

HOPPER = plans.Device(90, 232448, 16, 132)
AMPERE = plans.Device(80, 166912, 1, 108)


@pytest.mark.parametrize("shape", benchmark.SHAPES[:-1])
def test_the_planned_layouts_are_among_the_candidates(shape: tuple[int, ...]) -> None:
    _, n, m, _ = shape
    found = layouts.candidates(n, m, HOPPER)
    planned = plans.resident(n, m, HOPPER)
    assert planned in found
    assert len(set(found)) == len(found)
    assert all(plan.shared_bytes <= HOPPER.shared_bytes for plan in found)
    assert {plan.cluster for plan in layouts.candidates(n, m, AMPERE)} <= {1}


def test_layouts_are_ordered_by_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong result has no time and comes last."""
    plan = plans.resident(64, 10, HOPPER)
    times = iter([3.0, 1.0, None, 2.0])
    found = [plan, *(plan._replace(rows=rows) for rows in (50, 60, 70))]
    monkeypatch.setattr(layouts, "candidates", lambda n, m, device: found)
    monkeypatch.setattr(layouts, "_time", lambda *given: next(times))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(layouts.torch, "randn", lambda *shape, device: torch.zeros(shape))
    with (
        benchmark.simulated_gpu(lambda *given: None),
        mock.patch.object(torch.cuda, "current_device", return_value=0),
    ):
        rows = list(layouts._rows(2, 64, 10, 3, "cuda", 1))
    assert [row["value"] for row in rows] == [1.0, 2.0, 3.0, None]
    assert [row["ratio"] for row in rows] == [3.0, 1.5, 1.0, None]
    assert "(planned)" in rows[2]["name"]


def test_only_the_given_layout_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even for more problems than run at once."""
    launched: list[int] = []

    def launch(stream: int, config: object, kernel: SimpleNamespace, *given: float) -> None:
        launched.append(kernel.code[1]["BLOCKS_PER_SM"])

    def time_of(solve: benchmark.Solve, inputs: list[Tensor], repeats: int) -> float:
        solve(inputs[0])
        return 5.0

    plan = plans.resident(1024, 200, HOPPER)
    kind = layouts.launches.Kind(0, 1024, 200, torch.float32, False, False, False)
    monkeypatch.setattr(layouts, "_graph_time", time_of)
    monkeypatch.setattr(layouts, "agrees", lambda result, wanted: True)
    inputs = [torch.zeros(64, 1024, 200)]
    with benchmark.simulated_gpu(launch):
        for layout in (plan, plans.two_per_multiprocessor(plan, HOPPER)):
            assert layouts._time(kind, layout, inputs, inputs[0], 3, 1) == 5.0
    assert launched == [1, 1, 2, 2]


def test_without_a_gpu_nothing_is_measured() -> None:
    rows = [row for job in layouts.measurements("cpu") for row in job.work()]
    assert len(rows) == len(benchmark.SHAPES) - 1
    assert all(row["value"] is None for row in rows)
