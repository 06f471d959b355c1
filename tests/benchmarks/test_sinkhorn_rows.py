"""A time of Sinkhorn counts only if its result was right in the same process."""

from __future__ import annotations

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
    names = ["released loop", "batched torch in a graph", "POT ot.batch"]
    rows = benchmark._on_gpu(8, 256, 50, 3, 1)
    assert [row["name"].split(" against ")[1] for row in rows] == names
    assert all(row["value"] is None and row["ratio"] is None for row in rows)
