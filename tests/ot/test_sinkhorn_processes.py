"""Two gloo processes that hold parts of a batch give what one process gives for all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from crkd.ot import sinkhorn

SCRIPT = Path(__file__).with_name("half_of_a_batch.py")


def on_two_processes(folder: Path, case: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the case and return what both processes stored."""
    torch.save(case, folder / "case")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    running = [
        subprocess.Popen(
            [
                sys.executable,
                str(SCRIPT),
                str(rank),
                str(folder / "meeting"),
                str(folder / "case"),
                str(folder / f"result{rank}"),
            ],
            env=environment,
        )
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    return [torch.load(folder / f"result{rank}", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("kind", ["uniform", "marginals", "relaxed", "far apart", "one empty"])
def test_two_processes_give_the_assignment_of_one(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second = (0, 24) if kind == "one empty" else (19, 11)
    scores = torch.randn(3, first + second, 7)
    if kind == "far apart":
        # Each class is at home in one process and hopeless in the other.
        scores[:, :first, :3] -= 50
        scores[:, first:, 3:] -= 50
    given = kind == "marginals"
    b = torch.tensor([0.3, 0.2, 0.1, 0.1, 0.1, 0.2, 0.0]) if given else None
    a = torch.rand(first + second) if given else None
    relaxation = 0.2 if kind == "relaxed" else None
    case = {
        "scores": list(scores.split([first, second], 1)),
        "epsilon": 0.05,
        "num_iters": 4,
        "class_marginal": b,
        "sample_marginal": None if a is None else list(a.split([first, second])),
        "relaxation": relaxation,
    }
    parts = on_two_processes(tmp_path, case)
    whole = sinkhorn(
        scores,
        epsilon=0.05,
        num_iters=4,
        class_marginal=b,
        sample_marginal=a,
        relaxation=relaxation,
    )
    together = torch.cat([part["result"] for part in parts], 1)
    assert float((together - whole).abs().sum(-1).max()) <= 2e-5
    # One all-reduce of class masses an iteration, and one beforehand to agree on their size.
    assert [part["sums"] for part in parts] == [4, 4]
    assert [part["calls"] for part in parts] == [5, 5]
