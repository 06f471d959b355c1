"""``crkd.ot.solve`` against POT, the assignment of fixed iterations and its own properties."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crkd.core.errors import InputError
from crkd.ot import Solution, sinkhorn, solve
from crkd.ot.iteration import CHECK_EVERY, in_logarithms

fast = settings(max_examples=25, deadline=None)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, float]:
    """Scores (P, N, M) in float64, class and sample marginals with zeros, epsilon."""
    p, n, m = (draw(st.integers(1, size)) for size in (3, 20, 12))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random, dtype=torch.float64)

    b, a = rand(p, m) + 0.1, rand(p, n) + 0.1
    b[:, 3::4] = 0
    a[:, 2::5] = 0
    return rand(p, n, m) * 2 - 1, b, a, draw(st.sampled_from([0.1, 0.3, 2.0]))


def unit(marginal: Tensor) -> Tensor:
    return marginal / marginal.sum(-1, keepdim=True)


def close(left: Tensor, right: Tensor, atol: float) -> None:
    torch.testing.assert_close(left, right, atol=atol, rtol=0)


@fast
@given(problems())
def test_marginals_hold_to_the_tolerance(problem: tuple[Tensor, Tensor, Tensor, float]) -> None:
    scores, b, a, epsilon = problem
    solution = solve(
        scores, epsilon=epsilon, tol=1e-8, max_iters=20000, class_marginal=b, sample_marginal=a
    )
    plan = solution.plan
    assert solution.converged.all()
    close(plan.sum(-1), unit(a), 1e-12)
    error = (plan.sum(-2) - unit(b)).abs().sum(-1)
    assert (error <= 1e-8 + 1e-12).all()
    close(solution.marginal_error, error, 1e-12)
    # Gibbs form: the plan is that of the potentials.
    f, g = solution.sample_potentials, solution.class_potentials
    close(plan, ((scores + f[..., None] + g[..., None, :]) / epsilon).exp(), 1e-12)


@fast
@given(problems(), st.floats(-30, 30))
def test_constants_per_sample_and_class_change_nothing(
    problem: tuple[Tensor, Tensor, Tensor, float], constant: float
) -> None:
    """At the optimum, unlike after a few iterations, also those per sample."""
    scores, b, a, epsilon = problem
    options = {"class_marginal": b, "sample_marginal": a, "tol": 1e-11, "max_iters": 50000}
    _, n, m = scores.shape
    per_sample = constant * torch.linspace(-1, 1, n, dtype=scores.dtype)[:, None]
    per_class = constant * torch.linspace(1, 3, m, dtype=scores.dtype)
    plan = solve(scores, epsilon=epsilon, **options).plan
    close(plan, solve(scores + per_sample + per_class, epsilon=epsilon, **options).plan, 1e-8)


@fast
@given(problems(), st.sampled_from([torch.float32, torch.float64]))
def test_the_solution_is_a_start_that_has_converged(
    problem: tuple[Tensor, Tensor, Tensor, float], dtype: torch.dtype
) -> None:
    scores, b, a, epsilon = problem
    scores = scores.to(dtype)
    options = {"class_marginal": b, "sample_marginal": a, "epsilon": epsilon}
    solution = solve(scores, tol=2e-6, max_iters=20000, **options)
    # The documented rounding of the error: that of the scores over epsilon.
    rounding = 2 * torch.finfo(dtype).eps * float(scores.abs().max()) / epsilon
    tol = 2e-6 + rounding
    again = solve(scores, tol=tol, class_potentials=solution.class_potentials, **options)
    assert not again.iterations.any()
    assert again.converged.all()
    close(again.plan, solution.plan, 1e-6)


@fast
@given(problems())
def test_every_problem_has_its_own_epsilon_and_iterations(
    problem: tuple[Tensor, Tensor, Tensor, float],
) -> None:
    scores, b, a, epsilon = problem
    epsilons = epsilon * torch.arange(1, len(scores) + 1)
    options = {"tol": 1e-6, "max_iters": 20000}
    together = solve(scores, epsilon=epsilons, class_marginal=b, sample_marginal=a, **options)
    for i, one in enumerate(scores):
        alone = solve(
            one, epsilon=float(epsilons[i]), class_marginal=b[i], sample_marginal=a[i], **options
        )
        assert alone.iterations == together.iterations[i]
        close(alone.plan, together.plan[i], 1e-12)


@pytest.mark.parametrize("num_iters", [1, 3, 10])
def test_the_order_of_steps_is_that_of_sinkhorn(num_iters: int) -> None:
    torch.manual_seed(0)
    scores, a = torch.randn(3, 20, 7, dtype=torch.float64), torch.rand(20, dtype=torch.float64)
    options = {"sample_marginal": a, "epsilon": 0.1}
    solution = solve(scores, tol=0, max_iters=num_iters, **options)
    assignment = sinkhorn(scores, num_iters=num_iters, **options)
    close(solution.plan / unit(a)[:, None], assignment, 1e-12)
    assert solution.iterations.tolist() == [num_iters] * 3


def test_pot_finds_the_same_plan() -> None:
    torch.manual_seed(1)
    scores = torch.rand(3, 15, 6, dtype=torch.float64)
    b, a = unit(torch.rand(6, dtype=torch.float64)), unit(torch.rand(15, dtype=torch.float64))
    plan = solve(scores, epsilon=0.1, tol=1e-12, class_marginal=b, sample_marginal=a).plan
    for one, ours in zip(scores, plan, strict=True):
        theirs = ot.sinkhorn(a, b, -one, reg=0.1, stopThr=1e-14, numItermax=20000)
        close(ours, theirs, 1e-11)
        theirs = ot.bregman.sinkhorn_log(a, b, -one, reg=0.1, stopThr=1e-14, numItermax=20000)
        close(ours, theirs, 1e-11)


def test_a_start_from_other_samples_and_another_epsilon_saves_iterations() -> None:
    torch.manual_seed(2)
    prototypes = torch.randn(8, 16)
    first, second = (torch.randn(300, 16) @ prototypes.T / 16 for _ in range(2))
    b = torch.rand(8) + 0.1
    options = {"tol": 1e-4, "class_marginal": b}
    start = solve(first, epsilon=0.12, **options).class_potentials
    cold = solve(second, epsilon=0.1, **options)
    warm = solve(second, epsilon=0.1, class_potentials=start, **options)
    assert warm.converged
    assert warm.iterations < cold.iterations
    close(warm.plan.sum(0), cold.plan.sum(0), 2e-4)


def test_float32_holds_its_tolerance_at_large_scores() -> None:
    torch.manual_seed(3)
    scores = torch.rand(2, 60, 9) * 2 + 500
    solution = solve(scores, epsilon=0.05)
    assert solution.plan.dtype == torch.float32
    assert solution.converged.all()
    close(solution.plan.sum(-1), torch.full((2, 60), 1 / 60), 1e-6)
    assert ((solution.plan.sum(-2) - 1 / 9).abs().sum(-1) <= 2e-5).all()


@pytest.mark.parametrize("size", [1e8, 1e12, 1e18, 1e25])
def test_a_plan_that_rounding_destroys_has_not_converged(size: float) -> None:
    """At 1e12 the rounded potentials agree exactly, though the plan has other masses."""
    torch.manual_seed(0)
    scores = torch.rand(6, 3) * size
    with pytest.warns(UserWarning, match="1 of 1 transport problems have not converged"):
        solution = solve(scores, epsilon=1.0)
    assert not solution.converged
    masses = solution.plan.sum(0)
    assert solution.marginal_error >= (masses - 1 / 3).abs().sum() - 1e-6


def test_large_scores_that_leave_one_plan_converge() -> None:
    scores = 1e9 * torch.eye(3).repeat(4, 1)
    solution = solve(scores, epsilon=1.0)
    assert solution.converged
    close(solution.plan, torch.eye(3).repeat(4, 1) / 12, 1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    scores = torch.rand(20, 5).to(dtype)
    plan = solve(scores, epsilon=0.1).plan
    assert plan.dtype == torch.float32
    assert torch.equal(plan, solve(scores.float(), epsilon=0.1).plan)


def test_special_cases() -> None:
    torch.manual_seed(4)
    scores = torch.rand(4, 12, 5, dtype=torch.float64)
    scores[1, 3] = -torch.inf
    scores[2, 0, 0] = torch.nan
    scores[3, :, 2] = -torch.inf
    expected = "2 of 4 transport problems have not converged after 100 .*; 1 of them hold NaN"
    with pytest.warns(UserWarning, match=expected):
        solution = solve(scores, epsilon=0.2, max_iters=100)
    assert solution.converged.tolist() == [True, True, False, False]
    plan = solution.plan
    assert not plan[1, 3].any()
    close(plan[1].sum(-1)[4:], torch.full((8,), 1 / 11, dtype=torch.float64), 1e-12)
    assert plan[2].isnan().any()
    assert solution.marginal_error[2].isnan()
    assert not plan[3, :, 2].any()
    assert solution.marginal_error[3] >= 0.2
    close(plan[0], solve(scores[0], epsilon=0.2).plan, 1e-12)


def test_without_convergence_it_says_so() -> None:
    scores = torch.rand(30, 5)
    with pytest.warns(UserWarning, match="1 of 1 .* after 2 iterations") as caught:
        solution = solve(scores, epsilon=0.01, max_iters=2)
    assert caught[0].filename == __file__
    assert not solution.converged
    assert solution.iterations == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(scores, epsilon=0.01, max_iters=2, tol=0)


def test_the_result_is_frozen_and_shaped_as_the_scores() -> None:
    solution = solve(torch.rand(2, 3, 10, 4), epsilon=torch.tensor([0.2, 0.3, 0.4]))
    assert solution.plan.shape == (2, 3, 10, 4)
    assert solution.sample_potentials.shape == (2, 3, 10)
    assert solution.class_potentials.shape == (2, 3, 4)
    for name in ("epsilon", "marginal_error", "iterations", "converged"):
        assert getattr(solution, name).shape == (2, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        solution.iterations = torch.zeros(2, 3)  # type: ignore[misc]
    assert isinstance(solution, Solution)
    assert solve(torch.zeros(0, 3, 2), epsilon=1).plan.shape == (0, 3, 2)


def test_checks_that_wait_for_a_device_are_fewer() -> None:
    """Iterations on a GPU, whose tensors report another device."""

    class Elsewhere(Tensor):
        device = torch.device("cuda")  # type: ignore[assignment]
        __torch_function__ = torch._C._disabled_torch_function_impl

    torch.manual_seed(5)
    x = torch.randn(3, 30, 5) / 0.3
    log_a, log_b = torch.full((3, 30, 1), 1 / 30).log(), torch.full((3, 1, 5), 1 / 5).log()
    here = in_logarithms(x, log_a, log_b, None, 1e-5, 1000)
    there = in_logarithms(x.as_subclass(Elsewhere), log_a, log_b, None, 1e-5, 1000)
    assert (here.iterations % CHECK_EVERY != 0).any()
    assert torch.equal(there.iterations, -(-here.iterations // CHECK_EVERY) * CHECK_EVERY)
    assert (there.error <= 1e-5).all()


def test_autocast_changes_no_bit() -> None:
    scores = torch.rand(2, 30, 5)
    expected = solve(scores, epsilon=0.1).plan
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(solve(scores, epsilon=0.1).plan, expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epsilon": 0.0}, "epsilon must be finite and above 0, got 0.0"),
        ({"epsilon": torch.tensor([0.1, -2.0])}, "epsilon must be finite and above 0, got -2.0"),
        (
            {"epsilon": 1e-39},
            "epsilon is 1e-39, but must be at least 1.18e-38 for .* torch.float32",
        ),
        ({"epsilon": torch.ones(3)}, r"epsilon must be a number or .* expands to \(2,\)"),
        ({"max_iters": 0}, "max_iters must be at least 1, got 0"),
        ({"max_iters": 2.5}, "max_iters must be a whole number, got 2.5"),
        ({"tol": -1.0}, "tol must be a finite number of at least 0, got -1.0"),
        ({"tol": float("nan")}, "tol must be"),
        ({"scores": np.zeros((4, 3))}, "scores must be a tensor, got ndarray; convert it with"),
        ({"class_potentials": [0.0] * 3}, "class_potentials must be a tensor, got list"),
        ({"scores": torch.zeros(4)}, "scores must be a floating point tensor"),
        ({"scores": torch.zeros(2, 0, 3)}, "scores must have N and M of at least 1"),
        ({"class_marginal": torch.ones(4)}, r"class_marginal must have shape \(3,\)"),
        ({"sample_marginal": -torch.ones(6)}, "sample_marginal must be finite, non-negative"),
        ({"class_potentials": torch.ones(4)}, r"class_potentials must have shape \(3,\)"),
        ({"class_potentials": torch.full((3,), -torch.inf)}, "class_potentials must be finite"),
        ({"class_potentials": torch.tensor([0, torch.nan, 0])}, "class_potentials must be finite"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], words: str) -> None:
    arguments: dict[str, object] = {"scores": torch.zeros(2, 6, 3), "epsilon": 0.1} | change
    scores = arguments.pop("scores")
    with pytest.raises(InputError, match=words):
        solve(scores, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.grad])
def test_transforms_are_refused(transform: Callable[..., Callable[..., Tensor]]) -> None:
    with pytest.raises(InputError, match=r"do not work inside torch\.func transforms"):
        transform(lambda scores: solve(scores, epsilon=0.1).plan.sum())(torch.rand(2, 4, 3))
