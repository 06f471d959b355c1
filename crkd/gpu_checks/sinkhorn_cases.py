"""Problems, expected results and single kernels for the GPU checks of Sinkhorn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from crkd.ot import reference, sinkhorn
from crkd.ot.cuda import solver
from crkd.ot.problem import Problem

EPSILON = 0.05

Run = Callable[[Tensor, int], Tensor]


class CheckFailed(AssertionError):
    """A kernel's result is wrong."""


def expected(
    scores: Tensor,
    num_iters: int,
    b: Tensor | None = None,
    a: Tensor | None = None,
    relaxation: float | None = None,
) -> Tensor:
    """Return the result of the float64 reference."""
    return reference.solve(
        Problem(
            scores.double(),
            EPSILON,
            num_iters,
            None if b is None else b.double(),
            None if a is None else a.double(),
            relaxation,
            None,
        )
    )


def row_error(result: Tensor, wanted: Tensor) -> float:
    """Return the largest L1 distance of two rows; NaN if any value is NaN."""
    return float((result.double() - wanted).abs().sum(-1).max())


def stress_cases(n: int, m: int) -> dict[str, Tensor]:
    """Return scores ``(2, N, M)`` on the GPU on which naive solvers fail, by name."""
    dead, far, wins, twins, empty, faint = (randn(2, n, m) for _ in range(6))
    dead[:, :, m // 2] = -60
    far[:, n // 3] -= 80
    wins = wins * 0.1
    wins[:, 3] += 50
    twins[:, 1::2] = twins[:, : 2 * (n // 2) : 2]
    twins[..., 1] = twins[..., 0]
    empty[:, 5] = -torch.inf
    # Row sums down to subnormal numbers and below.
    faint = 0.05 * faint
    faint[:, n // 8 :] -= torch.linspace(2, 8, n - n // 8, device="cuda")[:, None]
    return {
        "times 6": randn(2, n, m) * 6,
        "dead prototype": dead,
        "row far below": far,
        "one row wins": wins,
        "duplicates": twins,
        "empty row": empty,
        "ever fainter rows": faint,
    }


def randn(*shape: int) -> Tensor:
    """Return standard-normal numbers on the GPU."""
    return torch.randn(shape, device="cuda")


def rand(*shape: int) -> Tensor:
    """Return uniform numbers on the GPU."""
    return torch.rand(shape, device="cuda")


def solve(
    scores: Tensor,
    num_iters: int,
    *,
    class_marginal: Tensor | None = None,
    sample_marginal: Tensor | None = None,
    relaxation: float | None = None,
    storage: torch.dtype = torch.float32,
) -> Tensor:
    """Solve by the kernels that ``sinkhorn`` chooses."""
    return sinkhorn(
        scores,
        epsilon=EPSILON,
        num_iters=num_iters,
        class_marginal=class_marginal,
        sample_marginal=sample_marginal,
        relaxation=relaxation,
        storage=storage,
        backend="cuda",
    )


def stream(
    scores: Tensor,
    num_iters: int,
    b: Tensor | None = None,
    a: Tensor | None = None,
    storage: torch.dtype = torch.float32,
) -> Tensor:
    """Solve by the streaming kernels, whatever the shape."""
    problem = Problem(scores, EPSILON, num_iters, b, a, None, None, storage)
    run = solver.streaming_run(solver.kind_of(problem))
    return solver.solve_with(run, scores, solver.call_of(EPSILON, num_iters, b, a))


def persist(scores: Tensor, num_iters: int) -> Tensor:
    """Solve by the persistent kernel if there are enough iterations, whatever the shape."""
    return stream(scores, num_iters, storage=torch.bfloat16)


def by_triton(
    scores: Tensor,
    num_iters: int,
    *,
    class_marginal: Tensor | None = None,
    sample_marginal: Tensor | None = None,
    relaxation: float | None = None,
) -> Tensor:
    """Solve by the Triton kernels."""
    return sinkhorn(
        scores,
        epsilon=EPSILON,
        num_iters=num_iters,
        class_marginal=class_marginal,
        sample_marginal=sample_marginal,
        relaxation=relaxation,
        backend="triton",
    )


def bounded(error: float, tolerance: float, label: str, worst: float) -> float:
    """Return the larger of two errors.

    Raises:
        CheckFailed: the new one exceeds the tolerance or is NaN.
    """
    if not error <= tolerance:
        raise CheckFailed(f"{label}: error {error:.2e}, allowed {tolerance:.0e}")
    return max(error, worst)
