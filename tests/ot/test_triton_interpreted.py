"""The Triton kernels in Triton's interpreter, on the processor, against a float64 loop.

The interpreter knows neither a GPU's exponentials nor its memory.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton is not installed")

from crkd.ot.triton.plans import Plan, plan
from tests.support import ROOT

EPSILON = 0.05
CHUNKS = Plan(8, 16, 4, False, 3, 16)
"""Three chunks of 33 samples, the last with one of them; 11 classes in tiles of 16."""
WIDE = Plan(4, 16, 4, True, 2, 8)
"""Rows in tiles of 16 columns, and two chunks."""
QUICK = {"narrow": Plan(32, 16, 4, False, 1, 32), "wide": Plan(16, 16, 4, True, 1, 16)}
"""One program a problem."""

VARIANTS = ("plain", "marginals", "relaxed", "relaxed, marginals")
BOTH = (VARIANTS[0], VARIANTS[3])
SHAPES: tuple[tuple[str, tuple[int, int, int], Plan | None, int, tuple[str, ...]], ...] = (
    ("one of each", (1, 1, 1), None, 3, BOTH),
    ("one class", (1, 9, 1), None, 3, BOTH),
    ("one sample", (2, 1, 7), None, 3, BOTH),
    ("one tile", (1, 33, 5), None, 3, BOTH),
    ("as planned", (1, 70, 33), None, 1, VARIANTS),
    ("several chunks", (2, 33, 11), CHUNKS, 1, VARIANTS),
    ("several chunks", (1, 33, 11), CHUNKS, 4, VARIANTS),
    ("wide", (2, 13, 43), WIDE, 1, VARIANTS),
    ("wide", (1, 9, 23), WIDE, 4, BOTH),
)
"""Name, shape, tiles, iterations and variants; the interpreter takes a millisecond an operation."""


def variant(name: str, scores: Tensor) -> dict[str, Any]:
    """Options of a problem; marginals contain zeros where there is more than one entry."""
    p, n, m = scores.shape
    options: dict[str, Any] = {}
    if "marginals" in name:
        b, a = torch.rand(m) + 0.05, torch.rand(p, n) + 0.05
        b[3::4], a[:, 2::5] = 0, 0
        options |= {"b": b / b.sum(), "a": a / a.sum(-1, keepdim=True)}
    if "relaxed" in name:
        options["relaxation"] = 0.1
    return options


def problem(scores: Tensor, num_iters: int = 2, **options: Any) -> dict[str, Any]:
    return {"scores": scores, "epsilon": EPSILON, "num_iters": num_iters, **options}


def problems() -> dict[str, dict[str, Any]]:
    """All problems that the interpreter solves, by name; the same in every call."""
    torch.manual_seed(0)
    made = {}
    for shape_name, shape, tiles, num_iters, names in SHAPES:
        for name in names:
            scores = torch.randn(shape)
            options = variant(name, scores) | {"plan": tiles}
            made[f"{shape_name}, {name}, {num_iters}"] = problem(scores, num_iters, **options)
    for name in ("plain", "relaxed"):
        scores = torch.rand(1, 33, 11) * 100 - 50
        options = variant(name, scores) | {"plan": CHUNKS}
        made |= {f"extreme, {name}, {t}": problem(scores, t, **options) for t in (1, 4)}
        scores = torch.rand(1, 13, 43) * 100 - 50
        options = variant(name, scores) | {"plan": WIDE}
        made[f"extreme, wide, {name}"] = problem(scores, 2, **options)
        made[f"largest, {name}"] = problem(scores * 6e36, 2, **options)
    made["3000 classes"] = problem(torch.randn(1, 3, 3000), 1)
    made["4097 classes"] = problem(torch.randn(1, 1, 4097), 1)
    made["rho of 0"] = problem(torch.randn(1, 20, 11), relaxation=0.0, plan=QUICK["narrow"])
    made |= special() | views() | companies()
    return made


def special() -> dict[str, dict[str, Any]]:
    """Empty rows, empty classes, NaN and infinity."""
    made = {}
    for shape, kind in (((2, 20, 11), "narrow"), ((2, 13, 20), "wide")):
        for rho in (None, 0.1):
            options = {"relaxation": rho, "plan": QUICK[kind]}
            empty, dead = torch.randn(shape), torch.randn(shape)
            empty[:, 4], dead[..., 2] = -torch.inf, -torch.inf
            made[f"empty row, {kind}, {rho}"] = problem(empty, **options)
            made[f"empty class, {kind}, {rho}"] = problem(dead, **options)
            for value in (torch.nan, torch.inf):
                poisoned = torch.randn(shape)
                poisoned[1, 6, 3] = value
                # Infinity must spread in the first step already.
                num_iters = 1 if value == torch.inf else 2
                made[f"{value}, {kind}, {rho}"] = problem(poisoned, num_iters, **options)
    poisoned, b = torch.randn(2, 20, 11), torch.ones(11)
    poisoned[1, 6, 3], b[3] = torch.nan, 0
    options = {"relaxation": None, "plan": QUICK["narrow"], "b": b / 10}
    made["nan, class of marginal 0"] = problem(poisoned, 1, **options)
    return made


def views() -> dict[str, dict[str, Any]]:
    """Scores of short types, and scores whose rows or problems are apart."""
    base = torch.randn(2, 40, 20)
    given = {
        "part of a table": base[:, 3:23, 5:16],
        "expanded": base[:1, :20, :11].expand(2, -1, -1),
        "swapped": base[:, :20, :11].transpose(0, 1).contiguous().transpose(0, 1),
        "bfloat16": base[:, :20, :11].bfloat16(),
        "float16": base[:, :20, :11].half(),
    }
    return {name: problem(scores, plan=QUICK["narrow"]) for name, scores in given.items()}


def companies() -> dict[str, dict[str, Any]]:
    """The second of two problems, alone and in company."""
    scores = torch.randn(2, 33, 11)
    return {
        "alone": problem(scores[1:], plan=CHUNKS),
        "in company": problem(scores, plan=CHUNKS),
    }


PROBLEMS = problems()


@pytest.fixture(scope="session")
def solved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Assignment and launches of every problem."""
    folder: Path = tmp_path_factory.mktemp("triton")
    plain = {
        name: given | {"plan": given.get("plan") and tuple(given["plan"])}
        for name, given in PROBLEMS.items()
    }
    torch.save(plain, folder / "problems")
    command = [sys.executable, "-m", "tests.support.triton_interpreted"]
    command += [str(folder / "problems"), str(folder / "results")]
    subprocess.run(command, check=True, cwd=ROOT)
    results: dict[str, dict[str, Any]] = torch.load(folder / "results", weights_only=True)
    return results


def allowed(name: str) -> float:
    """The bounds of the CUDA kernels; ``plain`` float32 iterations err as much."""
    if name in ("bfloat16", "float16"):
        return 5e-5 + torch.finfo(PROBLEMS[name]["scores"].dtype).eps
    return 2e-4 if "extreme" in name else 5e-5 if "relaxed" in name else 2e-5


EXACT = [
    name for name in PROBLEMS if not name.startswith(("nan", "inf", "largest", "alone", "empty cl"))
]


@pytest.mark.parametrize("name", EXACT)
def test_assignments_are_those_of_float64(
    name: str,
    solved: dict[str, dict[str, Any]],
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    given = PROBLEMS[name]
    result = solved[name]["assignment"]
    assert result.dtype == given["scores"].dtype
    expected = float64_loop(
        given["scores"],
        EPSILON,
        given["num_iters"],
        given.get("b"),
        given.get("a"),
        given.get("relaxation"),
    )
    assert row_error(result, expected) <= allowed(name)


@pytest.mark.parametrize("name", PROBLEMS)
def test_launches_are_few(name: str, solved: dict[str, dict[str, Any]]) -> None:
    given = PROBLEMS[name]
    tiles = given.get("plan") or plan(*given["scores"].shape[1:])
    middle = given["num_iters"] - 1
    between = ["sample_step", "class_sums"] if tiles.wide else ["iteration"]
    wanted = ["class_sums", "class_potentials"] + [*between, "class_potentials"] * middle
    assert solved[name]["launches"] == [*wanted, "sample_step"]


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name.startswith("largest")])
def test_the_largest_scores_give_an_assignment(
    name: str, solved: dict[str, dict[str, Any]]
) -> None:
    result = solved[name]["assignment"]
    assert PROBLEMS[name]["scores"].abs().max() > 2.9e38
    torch.testing.assert_close(result.sum(-1), torch.ones(1, 13), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name.startswith(("nan", "inf"))])
def test_what_is_no_number_stays_in_its_problem(
    name: str,
    solved: dict[str, dict[str, Any]],
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    given, result = PROBLEMS[name], solved[name]["assignment"]
    assert result[1].isnan().all()
    others = given["scores"][:1]
    rho, num_iters = given["relaxation"], given["num_iters"]
    expected = float64_loop(others, EPSILON, num_iters, given.get("b"), relaxation=rho)
    assert row_error(result[:1], expected) <= 5e-5


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name.startswith("empty class")])
def test_a_class_without_scores_gets_nothing(name: str, solved: dict[str, dict[str, Any]]) -> None:
    result = solved[name]["assignment"]
    assert (result[..., 2] == 0).all()
    torch.testing.assert_close(result.sum(-1), torch.ones(result.shape[:2]))


def test_company_does_not_change_the_bits(solved: dict[str, dict[str, Any]]) -> None:
    alone, together = (solved[name]["assignment"] for name in ("alone", "in company"))
    assert torch.equal(alone[0], together[1])
