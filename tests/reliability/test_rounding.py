"""Several processes sum in another order than one, and nothing else differs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from crkd.config.load import load_config
from crkd.stages.pretrain.run import pretrain
from tests.support import ROOT
from tests.support.discovery_steps import STEPS
from tests.support.reliability import LONG, Record

PROGRAM = "tests.support.discovery_steps"
Steps = dict[str, Tensor]


def steps(folder: Path, stage1: Path, dtype: str, *, threads: int = 1, processes: int = 1) -> Steps:
    results = folder / f"{dtype}-{threads}-{processes}"
    together = [[str(rank), f"{results}-meeting"] for rank in range(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", PROGRAM, results, stage1, dtype, str(threads), *process],
            env=environment,
        )
        for process in (together if processes > 1 else [[]])
    ]
    assert [process.wait() for process in running] == [0] * processes
    found: Steps = torch.load(results, weights_only=True)
    return found


def differences(one: Steps, other: Steps) -> tuple[list[float], list[int]]:
    """Return the relative difference of the weights and the number of other predictions."""
    weights, predictions = [], []
    for step in STEPS:
        first, second = one[f"weights {step}"], other[f"weights {step}"]
        weights.append(float((first - second).norm() / first.norm()))
        predictions.append(int((one[f"predictions {step}"] != other[f"predictions {step}"]).sum()))
    return weights, predictions


@pytest.mark.skipif(not LONG, reason="two minutes; test_two_processes.py has the short form")
def test_two_processes_differ_from_one_by_rounding_alone(tmp_path: Path, record: Record) -> None:
    stage1 = tmp_path / "stage1"
    pretrain(load_config("digits", ["pretrain.epochs=2"]), stage1)
    exact = [steps(tmp_path, stage1, "float64", processes=count) for count in (1, 2)]
    alone = steps(tmp_path, stage1, "float32")
    both = steps(tmp_path, stage1, "float32", processes=2)
    threads = steps(tmp_path, stage1, "float32", threads=2)

    weights, predictions = differences(*exact)
    assert max(weights) < 1e-12
    assert max(predictions) == 0
    by_processes, by_threads = differences(alone, both), differences(alone, threads)
    # The first step differs by rounding; later ones amplify it, however it came about.
    assert by_processes[0][0] < 1e-4
    assert by_processes[0][-1] < 10 * by_threads[0][-1]
    record(
        "rounding of two processes",
        images=len(alone[f"predictions {STEPS[-1]}"]),
        steps=STEPS,
        **{
            f"{name}, {kind}": values
            for name, found in (
                ("float64, two processes", (weights, predictions)),
                ("float32, two processes", by_processes),
                ("float32, one process of two threads", by_threads),
            )
            for kind, values in zip(("weights", "predictions"), found, strict=True)
        },
    )
