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
from tests.support import ROOT

SCRIPT = ROOT / "tests" / "support" / "half_of_a_batch.py"
KINDS = ["uniform", "marginals", "relaxed", "far apart", "one empty"]


def case_of(kind: str) -> dict[str, Any]:
    """Scores and weights of two processes, split unevenly."""
    torch.manual_seed(0)
    first, second = (0, 24) if kind == "one empty" else (19, 11)
    scores = torch.randn(3, first + second, 7)
    if kind == "far apart":
        # Each class is at home in one process and hopeless in the other.
        scores[:, :first, :3] -= 50
        scores[:, first:, 3:] -= 50
    given = kind == "marginals"
    weights = torch.rand(first + second).split([first, second])
    return {
        "scores": list(scores.split([first, second], 1)),
        "epsilon": 0.05,
        "num_iters": 4,
        "class_marginal": torch.tensor([0.3, 0.2, 0.1, 0.1, 0.1, 0.2, 0.0]) if given else None,
        "sample_marginal": list(weights) if given else None,
        "relaxation": 0.2 if kind == "relaxed" else None,
    }


@pytest.fixture(scope="module")
def of_both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Stored results of the two processes, by kind of case."""
    folder = tmp_path_factory.mktemp("processes")
    torch.save({kind: case_of(kind) for kind in KINDS}, folder / "cases")
    paths = [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    files = [str(folder / "meeting"), str(folder / "cases")]
    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), *files, str(folder / f"result{rank}")],
            env=environment,
        )
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    return [torch.load(folder / f"result{rank}", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_give_the_assignment_of_one(kind: str, of_both: list[dict[str, Any]]) -> None:
    case, parts = case_of(kind), [stored[kind] for stored in of_both]
    weights = case["sample_marginal"]
    whole = sinkhorn(
        torch.cat(case["scores"], 1),
        epsilon=case["epsilon"],
        num_iters=case["num_iters"],
        class_marginal=case["class_marginal"],
        sample_marginal=None if weights is None else torch.cat(weights),
        relaxation=case["relaxation"],
    )
    together = torch.cat([part["result"] for part in parts], 1)
    assert float((together - whole).abs().sum(-1).max()) <= 2e-5


def test_two_processes_reduce_class_masses_once_an_iteration(
    of_both: list[dict[str, Any]],
) -> None:
    """And once more beforehand, to agree on their size."""
    for stored in of_both:
        assert {kind: part["sums"] for kind, part in stored.items()} == dict.fromkeys(KINDS, 4)
        assert {kind: part["calls"] for kind, part in stored.items()} == dict.fromkeys(KINDS, 5)
