"""Autocast, ``torch.func``, tracers and gradients around ``crkd.ot.sinkhorn``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from crkd.core.errors import InputError
from crkd.ot import sinkhorn
from crkd.ot.problem import BACKENDS, Backend, Problem


def three(scores: Tensor, b: Tensor | None = None, a: Tensor | None = None) -> Tensor:
    return sinkhorn(scores, epsilon=0.05, num_iters=3, class_marginal=b, sample_marginal=a)


@pytest.fixture
def scores() -> Tensor:
    torch.manual_seed(0)
    return torch.rand(4, 3, 30, 7) * 2 - 1


@pytest.mark.parametrize(
    ("backend", "relaxation"), [("torch", None), ("torch", 0.3), ("pot", None)]
)
def test_autocast_changes_no_bit(backend: str, relaxation: float | None, scores: Tensor) -> None:
    def solve() -> Tensor:
        return sinkhorn(scores, epsilon=0.05, num_iters=3, relaxation=relaxation, backend=backend)

    expected = solve()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(solve(), expected)
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16, "autocast still works"


def test_vmap_is_a_leading_dimension(scores: Tensor) -> None:
    vmap, expected = torch.func.vmap, three(scores)
    torch.testing.assert_close(vmap(three)(scores), expected)
    torch.testing.assert_close(vmap(vmap(three))(scores), expected)
    torch.testing.assert_close(vmap(three, 2, 2)(scores.movedim(0, 2)), expected.movedim(0, 2))


def test_vmap_over_marginals(scores: Tensor) -> None:
    vmap = torch.func.vmap
    b, a = torch.rand(4, 7), torch.rand(4, 3, 30)
    expected = three(scores, b[:, None], a)
    torch.testing.assert_close(vmap(three)(scores, b, a), expected)
    torch.testing.assert_close(vmap(three, (0, 1, 0))(scores, b.T, a), expected)
    one = scores[0]
    torch.testing.assert_close(
        vmap(three, (None, 0))(one, b), torch.stack([three(one, row) for row in b])
    )
    torch.testing.assert_close(vmap(three, (0, None))(scores, b[0]), three(scores, b[0]))


def test_vmap_over_scores_that_pose_as_scores_on_a_gpu(
    scores: Tensor, benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Solvers of earlier calls take addresses, which mapped tensors do not have."""
    with benchmark.simulated_gpu(lambda *arguments: None):
        monkeypatch.setattr("crkd.ot.transforms.active", lambda: True)
        monkeypatch.setattr(
            "crkd.ot.transforms.solve_transformed", lambda scores, *rest: scores + 1
        )
        fake = scores.as_subclass(benchmark.FakeCudaTensor)
        assert torch.equal(three(fake), scores + 1)


def test_marginals_are_checked_under_vmap(scores: Tensor) -> None:
    with pytest.raises(InputError, match="class_marginal must be finite, non-negative"):
        torch.func.vmap(three)(scores, -torch.ones(4, 7))
    with pytest.raises(InputError, match=r"class_marginal must have shape \(7,\)"):
        torch.func.vmap(three)(scores, torch.ones(4, 6))


def test_a_gradient_that_is_zero_is_announced(scores: Tensor) -> None:
    tracked = scores.clone().requires_grad_()
    with pytest.warns(UserWarning, match=r"pass scores.detach\(\)") as caught:
        assert not three(tracked).requires_grad
    assert [entry.filename for entry in caught] == [__file__]
    with pytest.warns(UserWarning, match="no gradient flows to class_marginal;"):
        three(scores, torch.rand(7, requires_grad=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        three(tracked.detach())
        with torch.no_grad():
            three(tracked)


def of(wrap: Callable[[Callable[..., Tensor]], Callable[..., Tensor]]) -> Callable[..., Tensor]:
    return lambda scores: wrap(three)(scores).square().sum()


def test_a_gradient_of_torch_func_is_announced(scores: Tensor) -> None:
    func = torch.func
    with pytest.warns(UserWarning, match="no gradient flows"):
        assert not func.grad(of(lambda solve: solve))(scores).any()
    with pytest.warns(UserWarning, match="no gradient flows"):
        assert not func.grad(of(func.vmap))(scores).any()
    with pytest.warns(UserWarning, match="no gradient flows"):
        assert not func.vmap(func.grad(of(lambda solve: solve)))(scores).any()


def test_forward_mode_is_refused(scores: Tensor) -> None:
    with pytest.raises(InputError, match="no forward-mode derivative"):
        torch.func.jvp(three, (scores,), (scores,))


def test_tracers_that_know_no_values(scores: Tensor) -> None:
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(scores)
        assert three(fake, mode.from_tensor(torch.rand(7))).shape == scores.shape
    assert three(scores.to("meta")).shape == scores.shape


def test_numbers_of_numpy(scores: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels read numbers by their size."""
    seen: list[object] = []

    def solve(problem: Problem) -> Tensor:
        seen.extend((problem.epsilon, problem.num_iters))
        return problem.scores

    monkeypatch.setattr(BACKENDS, "get", lambda name: Backend(lambda problem: [], solve))
    sinkhorn(scores, epsilon=np.float32(0.5), num_iters=np.int32(3))  # type: ignore[arg-type]
    assert seen == [0.5, 3]
    assert [type(value) for value in seen] == [float, int]
