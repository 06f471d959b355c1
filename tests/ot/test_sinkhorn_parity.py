"""Every backend against a float64 loop and against POT."""

from __future__ import annotations

from collections.abc import Callable

import ot
import pytest
import torch
from torch import Tensor

from crkd.ot import reference, sinkhorn
from crkd.ot.problem import Problem

SHAPES = [
    (1, 1, 1),
    (2, 1, 7),
    (2, 9, 1),
    (3, 5, 33),
    (2, 33, 5),
    (8, 64, 50),
    (2, 130, 33),
    (1, 257, 60),
    (1, 20, 1025),
]


def marginals(p: int, n: int, m: int) -> tuple[Tensor, Tensor]:
    """Uneven class and sample marginals, zeros among them where there is room."""
    random = torch.Generator().manual_seed(n * m)
    b = torch.rand(p, m, generator=random) + 0.05
    a = torch.rand(p, n, generator=random) + 0.05
    b[:, 3::4] = 0
    a[:, 2::5] = 0
    return b / b.sum(-1, keepdim=True), a / a.sum(-1, keepdim=True)


@pytest.mark.parametrize("backend", ["torch", "pot"])
@pytest.mark.parametrize("num_iters", [1, 3, 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_uniform_marginals_match_the_loop(
    shape: tuple[int, int, int],
    num_iters: int,
    backend: str,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    torch.manual_seed(1)
    scores = torch.randn(shape)
    result = sinkhorn(scores, epsilon=0.05, num_iters=num_iters, backend=backend)
    assert row_error(result, float64_loop(scores, 0.05, num_iters)) <= 5e-5
    cosines = torch.rand(shape) * 2 - 1
    result = sinkhorn(cosines, epsilon=0.05, num_iters=num_iters, backend=backend)
    assert row_error(result, float64_loop(cosines, 0.05, num_iters)) <= 1e-5


@pytest.mark.parametrize("backend", ["torch", "pot"])
@pytest.mark.parametrize("num_iters", [1, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_given_marginals_match_the_loop(
    shape: tuple[int, int, int],
    num_iters: int,
    backend: str,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    torch.manual_seed(2)
    scores = torch.randn(shape)
    b, a = marginals(*shape)
    result = sinkhorn(
        scores,
        epsilon=0.05,
        num_iters=num_iters,
        class_marginal=b,
        sample_marginal=a,
        backend=backend,
    )
    assert row_error(result, float64_loop(scores, 0.05, num_iters, b, a)) <= 1e-5


def test_one_marginal_for_all_problems(float64_loop: Callable[..., Tensor]) -> None:
    scores = torch.randn(2, 3, 12, 4)
    b = torch.tensor([0.1, 0.2, 0.3, 0.4])
    result = sinkhorn(scores, epsilon=0.1, num_iters=3, class_marginal=b)
    expected = float64_loop(scores.flatten(0, 1), 0.1, 3, b).reshape(scores.shape)
    torch.testing.assert_close(result, expected.float(), atol=1e-6, rtol=0)
    per_head = b.expand(3, 4)
    expanded = sinkhorn(scores, epsilon=0.1, num_iters=3, class_marginal=per_head)
    torch.testing.assert_close(result, expanded)


@pytest.mark.parametrize("num_iters", [1, 2, 7])
def test_matches_pot_one_problem_at_a_time(num_iters: int) -> None:
    """``ot.bregman.sinkhorn_log`` has our order; its plan holds the sample weights 1 / N."""
    torch.manual_seed(3)
    scores = torch.randn(24, 7)
    plan = ot.bregman.sinkhorn_log(
        torch.full((24,), 1 / 24, dtype=torch.float64),
        torch.full((7,), 1 / 7, dtype=torch.float64),
        -scores.double(),
        reg=0.1,
        numItermax=num_iters,
        stopThr=0,
        warn=False,
    )
    result = sinkhorn(scores, epsilon=0.1, num_iters=num_iters)
    torch.testing.assert_close(result.double(), plan * 24, atol=2e-6, rtol=0)


def test_at_convergence_it_solves_the_transport_problem() -> None:
    torch.manual_seed(4)
    scores = torch.rand(20, 6)
    b = torch.tensor([0.3, 0.3, 0.2, 0.1, 0.05, 0.05])
    plan = ot.sinkhorn(
        torch.full((20,), 0.05, dtype=torch.float64),
        b.double() / b.double().sum(),
        -scores.double(),
        reg=0.1,
        stopThr=1e-14,
        numItermax=20000,
    )
    result = sinkhorn(scores, epsilon=0.1, num_iters=500, class_marginal=b)
    torch.testing.assert_close(result.double(), plan * 20, atol=1e-5, rtol=0)
    torch.testing.assert_close(result.mean(0), b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("relaxation", [None, 1e5])
def test_many_iterations_lose_no_digits(relaxation: float | None) -> None:
    """Potentials that drift by a constant each time would."""
    torch.manual_seed(4)
    scores = torch.randn(20, 6)
    a = torch.rand(20)
    for scale in (1.0, 40.0):
        few, many = (
            sinkhorn(
                scores * scale,
                epsilon=0.5 * scale,
                num_iters=num_iters,
                sample_marginal=a,
                relaxation=relaxation,
            )
            for num_iters in (150, 600)
        )
        torch.testing.assert_close(few, many, atol=1e-5, rtol=0)


@pytest.mark.parametrize("relaxation", [0.0, 0.02, 0.3, 1e4])
def test_relaxed_step_matches_the_loop(
    relaxation: float, float64_loop: Callable[..., Tensor]
) -> None:
    torch.manual_seed(5)
    scores = torch.randn(3, 30, 8)
    b, a = marginals(3, 30, 8)
    result = sinkhorn(
        scores,
        epsilon=0.1,
        num_iters=6,
        class_marginal=b,
        sample_marginal=a,
        relaxation=relaxation,
    )
    expected = float64_loop(scores, 0.1, 6, b, a, relaxation)
    torch.testing.assert_close(result, expected.float(), atol=1e-5, rtol=0)


def test_relaxation_spans_softmax_and_the_exact_marginal() -> None:
    torch.manual_seed(6)
    scores = torch.randn(40, 5)
    free = sinkhorn(scores, epsilon=0.2, num_iters=50, relaxation=0.0)
    torch.testing.assert_close(free, (scores / 0.2).softmax(-1), atol=1e-5, rtol=0)
    errors = [
        float(
            (sinkhorn(scores, epsilon=0.2, num_iters=300, relaxation=r).mean(0) - 0.2).abs().sum()
        )
        for r in (0.01, 0.1, 1.0, 100.0)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 2e-3 < errors[0]


def test_relaxed_fixed_point_is_the_unbalanced_optimum() -> None:
    """At the fixed point q_j is proportional to b_j exp(-g_j / rho) (Chizat et al. 2018)."""
    torch.manual_seed(7)
    scores, rho, epsilon = torch.randn(60, 4, dtype=torch.float64), 0.4, 0.3
    b = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    result = sinkhorn(scores, epsilon=epsilon, num_iters=2000, class_marginal=b, relaxation=rho)
    # log P_ij = x_ij / epsilon + g_j / epsilon + (row) gives differences of g between classes.
    log_ratio = (result.log() - scores / epsilon).sub((result.log() - scores / epsilon)[:, :1])[0]
    mass = result.mean(0)
    expected = (b / b[0]).log() - log_ratio * epsilon / rho
    torch.testing.assert_close((mass / mass[0]).log(), expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(8)
    scores = torch.randn(2, 40, 9).to(dtype)
    result = sinkhorn(scores, epsilon=0.05, num_iters=3)
    assert result.dtype == dtype
    wide = sinkhorn(scores.float(), epsilon=0.05, num_iters=3)
    torch.testing.assert_close(result, wide.to(dtype))


def test_float64_stays_float64(float64_loop: Callable[..., Tensor]) -> None:
    scores = torch.randn(2, 40, 9, dtype=torch.float64)
    result = sinkhorn(scores, epsilon=0.05, num_iters=3)
    torch.testing.assert_close(result, float64_loop(scores, 0.05, 3), atol=1e-12, rtol=0)


def test_scaling_and_logarithms_agree() -> None:
    """The fast way on a processor against the specification, and that it is the one taken."""
    scores = torch.randn(5, 64, 30)
    spec = reference.solve(Problem(scores, 0.05, 3, None, None, None, None))
    fast = sinkhorn(scores, epsilon=0.05, num_iters=3)
    torch.testing.assert_close(fast, spec, atol=1e-5, rtol=0)
    assert not torch.equal(fast, spec)


@pytest.mark.parametrize("backend", ["torch", "pot"])
@pytest.mark.parametrize("num_iters", [1, 3])
def test_classes_and_problems_without_scores_are_the_same_in_all_backends(
    num_iters: int, backend: str
) -> None:
    torch.manual_seed(0)
    scores = torch.rand(3, 6, 4)
    scores[0, :, 2] = -torch.inf
    scores[1] = -torch.inf
    # Of the last problem, only a sample of weight 0 reaches class 1.
    scores[2, 1:, 1] = -torch.inf
    weights = torch.ones(3, 6)
    weights[2, 0] = 0
    found = sinkhorn(
        scores, epsilon=0.1, num_iters=num_iters, sample_marginal=weights, backend=backend
    )
    problem = Problem(scores, 0.1, num_iters, None, weights, None, None)
    torch.testing.assert_close(found, reference.solve(problem), atol=1e-5, rtol=0.0)
    assert not found[0, :, 2].any()
    assert torch.equal(found[1], torch.full((6, 4), 0.25))
    assert not found[2, :, 1].any()
