"""Plain scaling on the CPU: bits, range of numbers, memory that is kept between calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from crkd.ot import reference, scaling, scratch, sinkhorn
from crkd.ot.problem import Problem

SHAPES = [(8, 256, 50), (5, 257, 66), (16, 100, 10), (11, 33, 7), (3, 512, 130)]
FORMS = [3, 7]
"""Numbers of iterations below and above :data:`crkd.ot.plain.ITERATIONS`."""


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def in_logarithms(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Scores that the specification solves."""
    seen: list[Tensor] = []
    solve = reference.solve

    def count(problem: Problem) -> Tensor:
        seen.append(problem.scores)
        return solve(problem)

    monkeypatch.setattr(reference, "solve", count)
    return seen


def cosines(p: int, n: int, m: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    left, right = (
        torch.nn.functional.normalize(torch.randn(p, size, 64, generator=random), dim=-1)
        for size in (n, m)
    )
    return left @ right.mT


def solved(
    scores: Tensor, b: Tensor | None = None, a: Tensor | None = None, *, num_iters: int = 3
) -> Tensor:
    return sinkhorn(scores, epsilon=0.05, num_iters=num_iters, class_marginal=b, sample_marginal=a)


@pytest.mark.parametrize("num_iters", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_bits_do_not_depend_on_the_other_problems(
    shape: tuple[int, int, int], num_iters: int, threads: int
) -> None:
    p, n, m = shape
    scores = cosines(p, n, m)
    near = solved(scores, num_iters=num_iters)
    # One problem needs checks, another one the specification.
    scores[1] *= 4
    scores[2, 5] -= 60
    b, a = torch.rand(p, m) + 0.1, torch.rand(p, n)
    for marginals in ((None, None), (b, None), (b, a)):
        together = solved(scores, *marginals, num_iters=num_iters)
        for size in (1, 3):
            for start in range(0, p, size):
                part = slice(start, start + size)
                some = (x if x is None else x[part] for x in marginals)
                alone = solved(scores[part], *some, num_iters=num_iters)
                assert torch.equal(alone, together[part])
    assert torch.equal(solved(scores[:1], num_iters=num_iters), near[:1])
    assert torch.equal(solved(scores, num_iters=num_iters)[3:], near[3:])


@pytest.mark.parametrize("num_iters", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_bits_do_not_depend_on_the_number_of_threads(
    shape: tuple[int, int, int], num_iters: int, threads: int
) -> None:
    scores = cosines(*shape)
    result = solved(scores, num_iters=num_iters)
    torch.set_num_threads(1)
    assert torch.equal(solved(scores, num_iters=num_iters), result)


def extremes(n: int, m: int) -> dict[str, Tensor]:
    """Signs that drive the factors as far apart as they get."""
    corner, steps, one = -torch.ones(n, m), torch.ones(n, m).tril() * 2 - 1, torch.ones(n, m)
    corner[n // 2 :, : m // 2] = 1
    one[0] = -1
    return {
        "corner": corner,
        "steps": steps,
        "one low sample": one,
        "one high sample": -one,
        "one low class": one.new_ones(n, m).index_fill_(1, torch.tensor([0]), -1),
        "random": torch.randint(0, 2, (n, m)) * 2.0 - 1,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_iters", [1, 3, 5, 6, 200])
def test_the_largest_near_scores_need_no_checks(
    num_iters: int,
    dtype: torch.dtype,
    in_logarithms: list[Tensor],
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    torch.manual_seed(0)
    bound = scaling.NEAR[dtype] * 0.05
    scores = torch.stack([*extremes(60, 24).values()]).to(dtype) * bound
    b = torch.rand(24) ** 20
    for marginal in (None, b):
        result = sinkhorn(scores, epsilon=0.05, num_iters=num_iters, class_marginal=marginal)
        expected = float64_loop(scores, 0.05, num_iters, marginal)
        assert row_error(result, expected) <= (1e-5 if dtype == torch.float32 else 1e-11)
    assert not in_logarithms


def test_the_form_is_chosen_for_each_problem(
    in_logarithms: list[Tensor],
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    torch.manual_seed(1)
    near, far, outside = cosines(1, 64, 20), torch.randn(1, 64, 20), torch.randn(1, 64, 20)
    outside[0, 3] -= 80
    scores = torch.cat([far, near, outside, near * 3])
    problem = Problem(scores, 0.05, 3, None, None, None, None)
    no_checks = scaling._near(problem)
    assert no_checks is not None
    assert no_checks.tolist() == [False, True, False, False]
    assert scaling._near(problem._replace(scores=near)) is None
    result = solved(scores)
    assert len(in_logarithms) == 1
    assert torch.equal(in_logarithms[0], outside)
    assert row_error(result, float64_loop(scores, 0.05, 3)) <= 5e-5


@pytest.mark.parametrize("offset", [500.0, -1e4, 1e9])
def test_constants_of_classes_cost_no_digits(
    offset: float,
    float64_loop: Callable[..., Tensor],
    row_error: Callable[[Tensor, Tensor], float],
) -> None:
    scores = (cosines(2, 40, 9) * 1024).round() / 1024
    expected = float64_loop(scores, 0.05, 3)
    scores[:, :, 4] = (scores[:, :, 4].double() + offset).float()
    # What float32 holds of the moved class is all that anyone can use.
    moved = scores.double()
    assert row_error(solved(scores), float64_loop(moved, 0.05, 3)) <= 1e-5
    if abs(offset) < 1e4:
        assert row_error(solved(scores), expected) <= 1e-5


def test_a_masked_score_costs_no_digits(
    float64_loop: Callable[..., Tensor], row_error: Callable[[Tensor, Tensor], float]
) -> None:
    scores = cosines(1, 40, 9)
    scores[0, ::3, 4] = -1e9
    assert row_error(solved(scores), float64_loop(scores, 0.05, 3)) <= 1e-5


@pytest.mark.parametrize("num_iters", FORMS)
def test_kept_memory_carries_nothing_over(num_iters: int) -> None:
    def solve(scores: Tensor) -> Tensor:
        return solved(scores, num_iters=num_iters)

    scores = cosines(4, 48, 12)
    expected = solve(scores)
    spoilt = scores.clone()
    spoilt[::2, 3, 3] = torch.nan
    assert solve(spoilt)[0].isnan().all()
    assert torch.equal(solve(spoilt)[1], expected[1])
    assert torch.equal(solve(scores), expected)
    assert solve(scores).data_ptr() != expected.data_ptr()
    solve(scores * 4)
    assert torch.equal(solve(scores), expected)
    assert torch.equal(solve(scores[1:3]), expected[1:3])


@pytest.mark.parametrize("num_iters", FORMS)
def test_parts_of_a_call_carry_nothing_over(
    num_iters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = cosines(7, 48, 12)
    scores[1, 2, 2] = torch.nan
    scores[4] *= 3
    expected = solved(scores, num_iters=num_iters)
    monkeypatch.setattr(scratch, "CACHED", 2 * 48 * 16)
    assert scratch.together(48, 12) == 2
    result = solved(scores, num_iters=num_iters)
    assert torch.equal(result[[0, 2, 3, 4, 5, 6]], expected[[0, 2, 3, 4, 5, 6]])
    assert result[1].isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_types_are_rounded_once(dtype: torch.dtype) -> None:
    scores = cosines(3, 48, 12).to(dtype)
    for num_iters in FORMS:
        wide = solved(scores.float(), num_iters=num_iters)
        assert torch.equal(solved(scores, num_iters=num_iters), wide.to(dtype))


def test_scores_of_any_strides(
    float64_loop: Callable[..., Tensor], row_error: Callable[[Tensor, Tensor], float]
) -> None:
    scores = cosines(12, 48, 3).transpose(0, 2)
    for num_iters in FORMS:
        result = solved(scores, num_iters=num_iters)
        assert result.is_contiguous()
        assert row_error(result, float64_loop(scores, 0.05, num_iters)) <= 1e-5


def test_large_memory_is_not_kept() -> None:
    made = scratch.Scratch.of_problems(2, 1100, 1000, torch.float32)
    assert made.kernel.numel() > scratch.CACHED
    assert scratch._kept.scratch is None
    kept = scratch.Scratch.of_problems(2, 30, 5, torch.float32)
    assert scratch.Scratch.of_problems(2, 30, 5, torch.float32) is kept


def test_memory_of_inference_mode_serves_outside() -> None:
    scores = cosines(2, 37, 9)
    with torch.inference_mode():
        inside = solved(scores, num_iters=7)
    assert torch.equal(solved(scores, num_iters=7), inside.clone())


def test_threads_share_no_memory() -> None:
    def solve(scores: Tensor) -> Tensor:
        return solved(scores, num_iters=7)

    problems = [cosines(3, 120, 30, seed) for seed in range(4)]
    expected = [solve(scores) for scores in problems]
    wrong: list[int] = []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(60) if not torch.equal(solve(problems[i]), expected[i]))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
