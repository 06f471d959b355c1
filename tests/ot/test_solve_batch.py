"""``crkd.ot.solve_batch`` against POT's batched and single solvers."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from crkd.core.errors import InputError
from crkd.ot import solve, solve_batch


@pytest.fixture
def problem() -> tuple[Tensor, Tensor, Tensor]:
    """Costs, row marginals and column marginals in float64."""
    torch.manual_seed(0)
    a, b = torch.rand(3, 14, dtype=torch.float64) + 0.1, torch.rand(3, 9, dtype=torch.float64) + 0.1
    costs = torch.rand(3, 14, 9, dtype=torch.float64)
    return costs, a / a.sum(-1, keepdim=True), b / b.sum(-1, keepdim=True)


@pytest.mark.parametrize("num_iters", [1, 2, 7])
@pytest.mark.parametrize("given", [False, True])
def test_every_iterate_is_that_of_ot_batch(
    given: bool, num_iters: int, problem: tuple[Tensor, Tensor, Tensor]
) -> None:
    costs, a, b = problem
    marginals = (a, b) if given else (None, None)
    ours = solve_batch(costs, 0.05, *marginals, max_iter=num_iters, tol=0)
    theirs = ot.batch.solve_batch(costs, 0.05, *marginals, max_iter=num_iters, tol=0)
    torch.testing.assert_close(ours.plan, theirs.plan, atol=1e-13, rtol=0)
    for mine, pots in zip(
        (ours.sample_potentials, ours.class_potentials), theirs.potentials, strict=True
    ):
        # Potentials are unique up to a constant.
        shift = mine / 0.05 - pots
        torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), atol=1e-11, rtol=0)


def test_converged_plans_are_those_of_pot(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    costs, a, b = problem
    reg = torch.tensor([0.05, 0.1, 0.4])
    solution = solve_batch(costs, reg, a, b, tol=1e-12, max_iter=5000)
    assert solution.converged.all()
    for i, plan in enumerate(solution.plan):
        options = {"reg": float(reg[i]), "stopThr": 1e-14, "numItermax": 10000}
        theirs = ot.sinkhorn(a[i], b[i], costs[i], **options)
        torch.testing.assert_close(plan, theirs, atol=1e-11, rtol=0)
    torch.testing.assert_close(solution.plan.sum(-2), b, atol=1e-13, rtol=0)
    error = (solution.plan.sum(-1) - a).abs().sum(-1)
    torch.testing.assert_close(error, solution.marginal_error, atol=1e-13, rtol=0)


def test_it_is_solve_with_rows_and_columns_exchanged(
    problem: tuple[Tensor, Tensor, Tensor],
) -> None:
    costs, a, b = problem
    ours = solve_batch(costs[0], 0.1, a[0], b[0])
    other = solve(-costs[0].T, epsilon=0.1, class_marginal=a[0], sample_marginal=b[0])
    torch.testing.assert_close(ours.plan, other.plan.T, atol=1e-15, rtol=0)
    assert torch.equal(ours.sample_potentials, other.class_potentials)
    assert ours.iterations == other.iterations


def test_the_gradient_reaches_the_costs(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    costs, a, b = problem
    costs.requires_grad_()
    options = {"tol": 1e-13, "max_iter": 5000, "gradient": True}
    weights = torch.rand_like(costs)
    plan = solve_batch(costs, 0.2, a, b, **options).plan
    (ours,) = torch.autograd.grad((plan * weights).sum(), costs)
    plan = ot.batch.solve_batch(costs, 0.2, a, b, tol=1e-13, max_iter=5000, grad="autodiff").plan
    (theirs,) = torch.autograd.grad((plan * weights).sum(), costs)
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"M": torch.zeros(3)}, "M must be a floating point tensor"),
        ({"M": np.zeros((14, 9))}, "M must be a tensor, got ndarray"),
        ({"reg": -0.1}, "reg must be finite and above 0"),
        ({"reg": 1e-39}, "reg is 1e-39, but must be at least 1.18e-38"),
        ({"a": torch.ones(9)}, r"a must have shape \(14,\)"),
        ({"b": torch.zeros(9)}, "b must be finite, non-negative and not all zero"),
        ({"max_iter": 0}, "max_iter must be at least 1"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], words: str) -> None:
    arguments: dict[str, object] = {"M": torch.zeros(14, 9), "reg": 0.1} | change
    with pytest.raises(InputError, match=words):
        solve_batch(**arguments)  # type: ignore[arg-type]
