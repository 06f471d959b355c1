"""A time of Sinkhorn counts only if its result was right in the same process."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from benchmarks import sinkhorn as benchmark


def test_a_right_result_has_a_time_and_a_ratio() -> None:
    row = benchmark._on_cpu(2, 40, 7, 3)
    assert row["value"] > 0
    assert row["ratio"] == pytest.approx(row["baseline"] / row["value"], rel=0.05)
    assert row["unit"] == "ms"


@pytest.mark.parametrize("wrong", [1e-3, float("nan")])
def test_a_wrong_result_has_neither(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right = benchmark.sinkhorn

    def spoilt(scores: Tensor, **options: float) -> Tensor:
        assignment = right(scores, **options)
        return assignment + wrong * torch.eye(*assignment.shape[-2:])

    monkeypatch.setattr(benchmark, "sinkhorn", spoilt)
    row = benchmark._on_cpu(2, 40, 7, 3)
    assert row["value"] is None
    assert row["ratio"] is None
    assert row["baseline"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="the rows hold times there")
def test_without_a_gpu_its_rows_are_there_without_a_value() -> None:
    first, *others = benchmark.measurements("cuda", repeats=1)[: len(benchmark.BASELINES)]
    rows = [row for job in (first, *others) for row in job.work()]
    assert [row["name"].split(" against ")[1] for row in rows] == list(benchmark.BASELINES)
    assert all(row["value"] is None and row["ratio"] is None for row in rows)
    assert [job.name for job in (first, *others)] == [row["name"] for row in rows]
    assert {job.needs for job in others} == {first.name}, "a kernel that hangs is waited for once"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the rows take minutes there")
def test_each_measurement_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SHAPES", [(2, 40, 7, 3)] * 3)
    jobs = benchmark.measurements("cpu", repeats=1)
    assert all(len(list(job.work())) == 1 for job in jobs)
    assert len(jobs) == 3 * (len(benchmark.BASELINES) + 1) + 1 + 3 + 2
    assert sum("Triton" in job.name for job in jobs) == 3


def test_without_pot_its_column_stays_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot.batch", None)
    row = benchmark._on_cpu(2, 16, 5, 3)
    assert row["value"] > 0
    assert row["baseline"] is row["ratio"] is None
