"""A time of Sinkhorn counts only if its result was right in the same process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import ott_process, sinkhorn_processor
from benchmarks import sinkhorn as benchmark
from crkd.core.errors import InputError

NO_OTT = sinkhorn_processor.RIVALS[:-2]

STAND_IN = """\
import json, sys
import numpy as np
print(json.dumps({"versions": {"jax": "1.0", "threads": sys.argv[2]}}), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    if "load" in order:
        q = np.exp(np.load(order["load"]).astype(float) / order["epsilon"])
        for _ in range(order["iterations"]):
            q /= q.sum(1, keepdims=True)
            q /= q.sum(2, keepdims=True)
    elif "save" in order:
        np.save(order["save"], q * (1.0 if FACTOR else 1.001))
    print(json.dumps({"seconds": 0.25}), flush=True)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinkhorn_processor, "SECONDS", 0.0)
    monkeypatch.delenv(ott_process.VARIABLE, raising=False)


def rows(kind: str = "cosines") -> dict[str, dict[str, Any]]:
    made = sinkhorn_processor.rows(2, 40, 7, 3, kind, 1)
    return {row["name"].split(" against ")[1]: row for row in made}


def stand_in_for_ott(folder: Path, monkeypatch: pytest.MonkeyPatch, *, right: bool) -> None:
    """Name an interpreter with the protocol of the one with OTT-JAX."""
    script = folder / "stand_in.py"
    script.write_text(STAND_IN.replace("FACTOR", str(right)))
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv(ott_process.VARIABLE, str(python))


def test_a_right_result_has_a_time_and_a_ratio() -> None:
    made = rows()
    assert tuple(made) == sinkhorn_processor.RIVALS
    for name in NO_OTT:
        row = made[name]
        assert row["value"] > 0
        assert row["ratio"] == pytest.approx(row["baseline"] / row["value"], rel=0.05)
        assert row["unit"] == "ms"
        assert row["device"].endswith("1 threads")
        assert "cosines, 1 thread against" in row["name"]


@pytest.mark.parametrize("wrong", [1e-3, float("nan")])
def test_a_wrong_result_has_neither(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right = sinkhorn_processor.sinkhorn

    def spoilt(scores: Tensor, **options: float) -> Tensor:
        assignment = right(scores, **options)
        return assignment + wrong * torch.eye(*assignment.shape[-2:])

    monkeypatch.setattr(sinkhorn_processor, "sinkhorn", spoilt)
    row = rows()["batched exponentials"]
    assert row["value"] is None
    assert row["ratio"] is None
    assert row["baseline"] > 0


def test_a_rival_that_overflows_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(2, 40, 7) + 8
    monkeypatch.setattr(sinkhorn_processor, "scores_of", lambda *given: scores)
    made = rows("normal scores")
    assert {name for name in NO_OTT if made[name]["baseline"] is None} == {
        "released loop",
        "POT bregman_projection_batch",
    }
    assert made["released loop"]["value"] > 0


def test_the_scores_are_cosines_or_normal() -> None:
    cosines = sinkhorn_processor.scores_of("cosines", 2, 300, 40)
    assert cosines.abs().max() < 1
    assert float(cosines.std()) == pytest.approx(1 / 8, rel=0.1)
    assert float(sinkhorn_processor.scores_of("normal scores", 2, 300, 40).std()) == pytest.approx(
        1, rel=0.1
    )


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    sinkhorn_processor.rows(1, 9, 4, 1, "cosines", before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("right", [True, False])
def test_ott_has_a_process_of_its_own(
    right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_for_ott(tmp_path, monkeypatch, right=right)
    made = rows()
    for name in sinkhorn_processor.OTT:
        assert made[name]["baseline"] == (250 if right else None)
        assert made[name]["versions"]["jax"] == "1.0"
        assert made[name]["versions"]["torch"] == torch.__version__
        assert made[name]["versions"]["threads"] == "1"
    assert "versions" not in made["released loop"]


@pytest.mark.parametrize("python", ["/nowhere/python", sys.executable])
def test_an_interpreter_without_ott_is_named_at_once(
    python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ott_process.VARIABLE, python)
    with pytest.raises(InputError, match=f"CRKD_OTT_PYTHON is {python}, which does not run OTT"):
        benchmark.measurements("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the rows hold times there")
def test_without_a_gpu_its_rows_are_there_without_a_value() -> None:
    first, *others = benchmark.measurements("cuda", repeats=1)[: len(benchmark.BASELINES)]
    made = [row for job in (first, *others) for row in job.work()]
    assert [row["name"].split(" against ")[1] for row in made] == list(benchmark.BASELINES)
    assert all(row["value"] is None and row["ratio"] is None for row in made)
    assert [job.name for job in (first, *others)] == [row["name"] for row in made]
    assert {job.needs for job in others} == {first.name}, "a kernel that hangs is waited for once"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the rows take minutes there")
def test_names_are_unique_and_all_measurements_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SHAPES", [(2, 40, 7, 3)] * 3)
    monkeypatch.setattr(sinkhorn_processor, "SHAPES", [(2, 40, 7, 3), (1, 9, 4, 2)])
    jobs = benchmark.measurements("cpu", repeats=1)
    counts = [len(list(job.work())) for job in jobs]
    rivals = len(sinkhorn_processor.RIVALS)
    on_gpu = 3 * len(benchmark.BASELINES) + 3 + 1
    assert counts == [1] * on_gpu + [rivals] * 2 * 2 * 2 + [1] * 2
    assert sum("Triton" in job.name for job in jobs) == 3
    processor = [job.name for job in jobs if job.name.startswith("processor")]
    assert len(set(processor)) == len(processor) == 8


def test_without_pot_its_column_stays_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot.batch", None)
    row = rows()["POT ot.batch"]
    assert row["value"] > 0
    assert row["baseline"] is row["ratio"] is None
