"""Iterations by plain scaling against the same iterations in logarithms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from crkd.ot import stabilized
from crkd.ot.iteration import State, in_logarithms


def problem(spread: float, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Scores over epsilon, and logarithms of marginals with zeros."""
    torch.manual_seed(0)
    b, a = torch.rand(5, 1, 9, dtype=dtype) + 0.1, torch.rand(5, 40, 1, dtype=dtype) + 0.1
    b[..., 3], a[:, 7] = 0, 0
    x = torch.randn(5, 40, 9, dtype=dtype) * spread
    x[1, 11] = -torch.inf
    a[1, 11] = 0
    return x, (a / a.sum(1, keepdim=True)).log(), (b / b.sum(2, keepdim=True)).log()


def assert_same(state: State, wanted: State, x: Tensor, atol: float) -> None:
    plan, expected = ((x + s.f + s.g).double().exp() for s in (state, wanted))
    torch.testing.assert_close(plan, expected, atol=atol, rtol=0, equal_nan=True)
    error = state.error.double()
    torch.testing.assert_close(error, wanted.error.double(), atol=atol, rtol=0, equal_nan=True)


@pytest.fixture
def in_logs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of problems that are solved in logarithms, by call."""
    counts: list[int] = []

    def count(x: Tensor, *rest: object) -> State:
        counts.append(len(x))
        return in_logarithms(x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(stabilized, "in_logarithms", count)
    return counts


@pytest.mark.parametrize("cached", [1, 800, 1 << 17])
@pytest.mark.parametrize("tol", [1e-3, 1e-9])
def test_it_does_the_same_iterations(
    tol: float, cached: int, in_logs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stabilized, "CACHED", cached)
    given = problem(3.0)
    for limit in (1, stabilized.BLOCK, 97):
        wanted = in_logarithms(*given, None, tol, limit)
        state = stabilized.iterate(*given, None, tol, limit)
        assert not in_logs, "plain scaling is enough"
        assert torch.equal(state.iterations, wanted.iterations)
        assert_same(state, wanted, given[0], 1e-12)
        expected = in_logarithms(*given, wanted.g.clone(), tol, limit)
        state = stabilized.iterate(*given, wanted.g.clone(), tol, limit)
        assert torch.equal(state.iterations, expected.iterations)
        assert_same(state, expected, given[0], 1e-12)
        in_logs.clear()


def test_float32() -> None:
    given = problem(3.0, torch.float32)
    wanted = in_logarithms(*(values.double() for values in given), None, 0.0, 50)
    assert_same(stabilized.iterate(*given, None, 0.0, 50), wanted, given[0], 3e-6)


def test_problems_out_of_range_are_done_again_in_logarithms(in_logs: list[int]) -> None:
    x, log_a, log_b = problem(3.0, torch.float32)
    x[0] *= 60
    x[2, 5] -= 400
    x[3, :, 2] -= torch.linspace(0, 300, 40)
    x[4, 0, 0] = torch.nan
    for limit in (1, 30):
        in_logs.clear()
        state = stabilized.iterate(x, log_a, log_b, None, 1e-6, limit)
        assert in_logs, "nothing was out of range"
        assert max(in_logs) < len(x), "all was out of range"
        wanted = in_logarithms(x.double(), log_a.double(), log_b.double(), None, 1e-6, limit)
        # The third problem would lose all of its sixth sample, the first most of its samples.
        assert_same(state, wanted, x, 3e-4)
        assert torch.equal(state.iterations[4], wanted.iterations[4])


def test_an_unreachable_class_gets_nothing() -> None:
    x, log_a, log_b = problem(3.0)
    x[2, :, 4] = -torch.inf
    state = stabilized.iterate(x, log_a, log_b, None, 1e-9, 60)
    wanted = in_logarithms(x, log_a, log_b, None, 1e-9, 60)
    assert state.g[2, 0, 4] == -torch.inf
    assert state.iterations[2] == 60
    assert state.error[2] > 0.05
    assert_same(state, wanted, x, 1e-12)
