"""Scores that break the exponential form that everyone copies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from crkd.ot import sinkhorn

N, M = 48, 12


def _dead_prototype() -> Tensor:
    scores = torch.randn(N, M)
    scores[:, 4] = -60
    return scores


def _row_far_below() -> Tensor:
    scores = torch.randn(N, M)
    scores[7] -= 80
    return scores


def _one_row_wins() -> Tensor:
    scores = torch.randn(N, M) * 0.1
    scores[3] += 50
    return scores


def _duplicates() -> Tensor:
    scores = torch.randn(N, M)
    scores[1::2] = scores[::2]
    scores[:, 1] = scores[:, 0]
    return scores


STRESS: dict[str, Callable[[], Tensor]] = {
    "times 6": lambda: torch.randn(N, M) * 6,
    "times 40": lambda: torch.randn(N, M) * 40,
    "dead prototype": _dead_prototype,
    "row far below": _row_far_below,
    "one row wins": _one_row_wins,
    "duplicates": _duplicates,
    "constant": lambda: torch.full((N, M), 3.0),
    "fewer samples than classes": lambda: torch.randn(5, M) * 3,
}


@pytest.mark.parametrize("backend", ["torch", "pot"])
@pytest.mark.parametrize("num_iters", [1, 3, 100])
@pytest.mark.parametrize("name", STRESS)
def test_stays_finite_and_right(
    name: str,
    num_iters: int,
    backend: str,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    torch.manual_seed(0)
    scores = STRESS[name]()
    result = sinkhorn(scores, epsilon=0.05, num_iters=num_iters, backend=backend)
    tolerance = 2e-4 if scores.abs().max() < 50 else 2e-3
    assert row_error(result, float64_loop(scores[None], 0.05, num_iters)[0]) <= tolerance


@pytest.mark.parametrize("size", [1e10, 1e30, 3e38])
def test_any_finite_score_is_safe(size: float) -> None:
    torch.manual_seed(0)
    scores = (torch.rand(3, N, M) * 2 - 1) * size
    result = sinkhorn(scores, epsilon=0.05, num_iters=3)
    assert result.isfinite().all()
    torch.testing.assert_close(result.sum(-1), torch.ones(3, N))


@pytest.mark.parametrize("backend", ["torch", "pot"])
def test_a_row_of_minus_infinity_weighs_nothing(backend: str) -> None:
    torch.manual_seed(0)
    scores = torch.randn(N, M)
    b = torch.rand(M)
    with_rows = torch.cat([scores[:9], torch.full((3, M), -torch.inf), scores[9:]])
    result = sinkhorn(with_rows, epsilon=0.1, num_iters=3, class_marginal=b, backend=backend)
    torch.testing.assert_close(result[9:12], (b / b.sum()).expand(3, M))
    rest = torch.cat([result[:9], result[12:]])
    alone = sinkhorn(scores, epsilon=0.1, num_iters=3, class_marginal=b, backend=backend)
    torch.testing.assert_close(rest, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", ["torch", "pot"])
def test_zero_marginals(backend: str) -> None:
    torch.manual_seed(0)
    scores = torch.randn(N, M)
    b, a = torch.rand(M), torch.rand(N)
    b[2], a[5] = 0, 0
    scores[5] += 30
    result = sinkhorn(
        scores,
        epsilon=0.1,
        num_iters=200,
        class_marginal=b,
        sample_marginal=a,
        backend=backend,
    )
    assert (result[:, 2] == 0).all()
    torch.testing.assert_close(result.sum(-1), torch.ones(N))
    mass = (a / a.sum()) @ result
    torch.testing.assert_close(mass, b / b.sum(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_stays_within_its_problem(value: float) -> None:
    torch.manual_seed(0)
    scores = torch.randn(4, N, M)
    clean = sinkhorn(scores, epsilon=0.1, num_iters=3)
    scores[2, 11, 3] = value
    result = sinkhorn(scores, epsilon=0.1, num_iters=3)
    assert result[2].isnan().all()
    others = [0, 1, 3]
    torch.testing.assert_close(result[others], clean[others], atol=1e-6, rtol=0)


def test_the_form_that_everyone_copies_fails_where_this_does_not() -> None:
    torch.manual_seed(0)
    scores = torch.randn(N, M) * 6
    q = (scores / 0.05).exp()
    for _ in range(3):
        q /= q.sum(0)
        q /= q.sum(1, keepdim=True)
    assert q.isnan().any()
    assert sinkhorn(scores, epsilon=0.05, num_iters=3).isfinite().all()
