"""Problems and answers that the GPU checks of Sinkhorn compare with."""

from __future__ import annotations

import torch
from torch import Tensor

from crkd.ot import reference
from crkd.ot.problem import Problem

EPSILON = 0.05


def expected(
    scores: Tensor,
    num_iters: int,
    b: Tensor | None = None,
    a: Tensor | None = None,
    relaxation: float | None = None,
) -> Tensor:
    """Return the specification's answer in float64."""
    return reference.solve(
        Problem(
            scores.double(),
            EPSILON,
            num_iters,
            None if b is None else b.double(),
            None if a is None else a.double(),
            relaxation,
            None,
            torch.float64,
        )
    )


def row_error(result: Tensor, wanted: Tensor) -> float:
    """Return the largest L1 distance of two rows; NaN if anything is not a number."""
    return float((result.double() - wanted).abs().sum(-1).max())


def stress_cases(n: int, m: int) -> dict[str, Tensor]:
    """Return scores ``(2, N, M)`` on the GPU that break careless solvers, by what is odd."""
    dead, far, wins, twins, empty = (randn(2, n, m) for _ in range(5))
    dead[:, :, m // 2] = -60
    far[:, n // 3] -= 80
    wins = wins * 0.1
    wins[:, 3] += 50
    twins[:, 1::2] = twins[:, : 2 * (n // 2) : 2]
    twins[..., 1] = twins[..., 0]
    empty[:, 5] = -torch.inf
    return {
        "times 6": randn(2, n, m) * 6,
        "dead prototype": dead,
        "row far below": far,
        "one row wins": wins,
        "duplicates": twins,
        "empty row": empty,
    }


def randn(*shape: int) -> Tensor:
    """Return standard-normal numbers on the GPU."""
    return torch.randn(shape, device="cuda")


def rand(*shape: int) -> Tensor:
    """Return uniform numbers on the GPU."""
    return torch.rand(shape, device="cuda")
