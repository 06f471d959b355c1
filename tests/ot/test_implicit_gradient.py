"""The gradient of a converged plan against unrolled iterations and finite differences."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from crkd.ot import solve, solve_batch
from crkd.ot.solution import gradient_of_scores

SHAPES = [(1, 1), (6, 4), (4, 7), (5, 5), (30, 8)]


def unrolled(scores: Tensor, epsilon: Tensor, b: Tensor, a: Tensor) -> Tensor:
    """Return the plan after many iterations, all of which autograd records."""
    x = scores / epsilon[..., None, None]
    f = torch.zeros_like(x[..., :1])
    for _ in range(2000):
        g = b.log()[..., None, :] - (x + f).logsumexp(-2, keepdim=True)
        f = a.log()[..., None] - (x + g).logsumexp(-1, keepdim=True)
    return (x + f + g).exp()


def problem(n: int, m: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores, epsilon, class and sample marginals of two problems in float64."""
    torch.manual_seed(n * m)
    b, a = (torch.rand(2, size, dtype=torch.float64) + 0.2 for size in (m, n))
    scores = torch.randn(2, n, m, dtype=torch.float64).requires_grad_()
    return (
        scores,
        torch.tensor([0.5, 1.5], dtype=torch.float64),
        b / b.sum(-1, keepdim=True),
        a / a.sum(-1, keepdim=True),
    )


def converged(scores: Tensor, epsilon: Tensor, b: Tensor, a: Tensor, tol: float = 1e-14) -> Tensor:
    return solve(
        scores,
        epsilon=epsilon,
        class_marginal=b,
        sample_marginal=a,
        tol=tol,
        max_iters=20000,
        gradient=True,
    ).plan


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_gradient_through_many_iterations(shape: tuple[int, int]) -> None:
    scores, *rest = problem(*shape)
    weights = torch.randn_like(scores)
    plan, wanted = converged(scores, *rest), unrolled(scores, *rest)
    torch.testing.assert_close(plan, wanted, atol=1e-12, rtol=0)
    (ours,) = torch.autograd.grad((plan.square() * weights).sum(), scores)
    (theirs,) = torch.autograd.grad((wanted.square() * weights).sum(), scores)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("shape", [(6, 4), (4, 7)])
def test_finite_differences(shape: tuple[int, int]) -> None:
    scores, *rest = problem(*shape)
    assert torch.autograd.gradcheck(lambda scores: converged(scores, *rest), (scores,), atol=1e-6)


def test_zero_marginals_and_empty_rows_get_no_gradient() -> None:
    scores, epsilon, b, a = problem(6, 4)
    b, a = b.index_fill(-1, torch.tensor(1), 0.0), a.index_fill(-1, torch.tensor(2), 0.0)
    with torch.no_grad():
        scores[:, 4] = -torch.inf
    weights = torch.randn_like(scores)
    (ours,) = torch.autograd.grad((converged(scores, epsilon, b, a) * weights).sum(), scores)
    rows, columns = torch.tensor([0, 1, 3, 5]), torch.tensor([0, 2, 3])
    inner = scores.detach()[:, rows][:, :, columns].requires_grad_()
    b, a = (part / part.sum(-1, keepdim=True) for part in (b[:, columns], a[:, rows]))
    plan = unrolled(inner, epsilon, b, a)
    (theirs,) = torch.autograd.grad((plan * weights[:, rows][:, :, columns]).sum(), inner)
    torch.testing.assert_close(ours[:, rows][:, :, columns], theirs, atol=1e-10, rtol=1e-9)
    assert not ours[:, [2, 4]].any()
    assert not ours[:, :, 1].any()


def test_blocks_without_connection() -> None:
    """Each block has a constant of its own, so the linear system is singular."""
    torch.manual_seed(0)
    blocks = [torch.rand(5, 3, dtype=torch.float64) for _ in range(2)]
    plan = torch.block_diag(*blocks)
    weights = torch.randn_like(plan)
    ours = gradient_of_scores(plan, weights)
    for i, block in enumerate(blocks):
        part = slice(5 * i, 5 * i + 5), slice(3 * i, 3 * i + 3)
        expected = gradient_of_scores(block, weights[part])
        torch.testing.assert_close(ours[part], expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(ours.sum(0), torch.zeros(6, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(ours.sum(1), torch.zeros(10, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_short_types_get_a_gradient_of_their_type(dtype: torch.dtype) -> None:
    scores, *rest = problem(30, 8)
    short = scores.detach().to(dtype).requires_grad_()
    exact = short.detach().double().requires_grad_()
    weights = torch.randn_like(exact)
    b, a = (part.float() for part in rest[1:])
    with torch.autocast("cpu", torch.bfloat16):
        plan = converged(short, rest[0], b, a, tol=1e-5)
        (ours,) = torch.autograd.grad((plan * weights.float()).sum(), short)
    (theirs,) = torch.autograd.grad((converged(exact, *rest) * weights).sum(), exact)
    assert ours.dtype == dtype
    error = (ours.double() - theirs).norm() / theirs.norm()
    assert error < (1e-4 if dtype == torch.float32 else 1e-2)


def test_without_the_option_a_gradient_that_is_zero_is_announced() -> None:
    scores, epsilon, b, a = problem(6, 4)
    with pytest.warns(UserWarning, match="no gradient flows to scores; pass gradient=True"):
        solution = solve(scores, epsilon=epsilon)
    assert not solution.plan.requires_grad
    assert not solution.scores.requires_grad
    with pytest.warns(UserWarning, match="no gradient flows to class_marginal and sample_marginal"):
        converged(scores, epsilon, b.requires_grad_(), a.requires_grad_())
    b, a = b.detach(), a.detach()
    with pytest.warns(UserWarning, match="no gradient flows to epsilon;"):
        converged(scores, epsilon.clone().requires_grad_(), b, a)
    with pytest.warns(UserWarning, match="no gradient flows to reg;"):
        solve_batch(-scores, epsilon.clone().requires_grad_(), a, b, tol=1e-14, gradient=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converged(scores, epsilon, b, a)


def test_a_second_derivative_is_refused() -> None:
    scores, *rest = problem(6, 4)
    loss = converged(scores, *rest).square().sum()
    (first,) = torch.autograd.grad(loss, scores, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("power", [1, 2])
def test_a_second_derivative_never_misses_a_term_in_silence(power: int) -> None:
    scores, *rest = problem(6, 4)
    weights = torch.rand(6, 4)
    loss = (weights * converged(scores, *rest).pow(power)).sum()
    (first,) = torch.autograd.grad(loss, scores, create_graph=True)
    with pytest.raises(RuntimeError, match="has a first derivative only"):
        torch.autograd.grad(first.square().sum() + scores.square().sum(), scores)
    (alone,) = torch.autograd.grad(scores.square().sum(), scores)
    assert torch.equal(alone, 2 * scores)
