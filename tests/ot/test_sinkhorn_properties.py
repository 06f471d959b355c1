"""Properties for any scores."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crkd.ot import sinkhorn

fast = settings(max_examples=40, deadline=None)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, float, int]:
    """Scores (P, N, M) of odd sizes and any reasonable spread, epsilon, iterations."""
    shape = [draw(st.integers(1, size)) for size in (3, 40, 30)]
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    spread = draw(st.sampled_from([0.0, 0.1, 1.0, 8.0]))
    scores = torch.randn(shape, generator=random) * spread
    return scores, draw(st.sampled_from([0.02, 0.05, 0.5])), draw(st.integers(1, 8))


def close(left: Tensor, right: Tensor) -> None:
    assert float((left - right).abs().sum(-1).max()) <= 2e-4


@fast
@given(problems())
def test_rows_sum_to_one_and_are_not_negative(problem: tuple[Tensor, float, int]) -> None:
    scores, epsilon, num_iters = problem
    result = sinkhorn(scores, epsilon=epsilon, num_iters=num_iters)
    assert result.min() >= 0
    torch.testing.assert_close(result.sum(-1), torch.ones(scores.shape[:-1]), atol=1e-5, rtol=0)


@fast
@given(problems(), st.floats(-30, 30))
def test_a_constant_per_class_or_problem_changes_nothing(
    problem: tuple[Tensor, float, int], constant: float
) -> None:
    scores, epsilon, num_iters = problem
    # Multiples of 1/1024: the additions below are exact, so that nothing but the solver differs.
    scores, constant = (scores * 1024).round() / 1024, round(constant)
    per_class = (torch.arange(scores.shape[-1]) % 5 - 2) * constant
    per_problem = (torch.arange(len(scores)) - 1)[:, None, None] * constant
    close(
        sinkhorn(scores, epsilon=epsilon, num_iters=num_iters),
        sinkhorn(scores + per_class + per_problem, epsilon=epsilon, num_iters=num_iters),
    )


@fast
@given(problems(), st.sampled_from([0.25, 4.0, 1024.0]))
def test_scores_and_epsilon_scale_together(
    problem: tuple[Tensor, float, int], factor: float
) -> None:
    scores, epsilon, num_iters = problem
    close(
        sinkhorn(scores, epsilon=epsilon, num_iters=num_iters),
        sinkhorn(scores * factor, epsilon=epsilon * factor, num_iters=num_iters),
    )


@fast
@given(problems(), st.integers(0, 2**31))
def test_permuting_samples_or_classes_permutes_the_result(
    problem: tuple[Tensor, float, int], seed: int
) -> None:
    scores, epsilon, num_iters = problem
    random = torch.Generator().manual_seed(seed)
    rows = torch.randperm(scores.shape[1], generator=random)
    columns = torch.randperm(scores.shape[2], generator=random)
    result = sinkhorn(scores, epsilon=epsilon, num_iters=num_iters)
    permuted = sinkhorn(scores[:, rows][:, :, columns], epsilon=epsilon, num_iters=num_iters)
    close(result[:, rows][:, :, columns], permuted)


@fast
@given(problems())
def test_batching_changes_nothing(problem: tuple[Tensor, float, int]) -> None:
    scores, epsilon, num_iters = problem
    result = sinkhorn(scores, epsilon=epsilon, num_iters=num_iters)
    for one, expected in zip(scores, result, strict=True):
        close(sinkhorn(one, epsilon=epsilon, num_iters=num_iters), expected)


@fast
@given(problems())
def test_uniform_marginals_given_or_not(problem: tuple[Tensor, float, int]) -> None:
    scores, epsilon, num_iters = problem
    _, n, m = scores.shape
    result = sinkhorn(
        scores,
        epsilon=epsilon,
        num_iters=num_iters,
        class_marginal=torch.ones(m),
        sample_marginal=torch.full((n,), 3.0),
    )
    close(result, sinkhorn(scores, epsilon=epsilon, num_iters=num_iters))


def test_float16_and_a_bound_that_it_cannot_hold() -> None:
    scores = torch.tensor([[1.0, 2.0], [-torch.inf, -torch.inf], [3.0, 0.0]])
    found = sinkhorn(scores.half(), epsilon=3000.0, num_iters=2)
    wanted = sinkhorn(scores, epsilon=3000.0, num_iters=2)
    torch.testing.assert_close(found.float(), wanted, atol=1e-3, rtol=0.0)
