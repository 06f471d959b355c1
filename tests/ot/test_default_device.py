"""Scores on the CPU are solved there, whatever the default device of new tensors is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from crkd.ot import product_threads, sinkhorn, solve, solve_batch
from crkd.ot.marginals import class_prior

A, B = torch.rand(30) + 0.1, torch.rand(6) + 0.1


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(product_threads, "_answers", {})
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


WEIGHTS = {"class_marginal": B, "sample_marginal": A}
WORK: dict[str, Callable[[Tensor], Tensor]] = {
    "sinkhorn": lambda x: sinkhorn(x, epsilon=0.05, num_iters=3),
    "sinkhorn with weights": lambda x: sinkhorn(x, epsilon=0.05, num_iters=3, **WEIGHTS),
    "sinkhorn of POT": lambda x: sinkhorn(x, epsilon=0.05, num_iters=3, backend="pot"),
    "solve": lambda x: solve(x, epsilon=0.5, tol=0.0, max_iters=30).plan,
    "solve with weights": lambda x: solve(x, epsilon=0.5, tol=0, max_iters=30, **WEIGHTS).plan,
    "solve_batch": lambda x: solve_batch(x, 0.5, A, B, tol=0.0, max_iter=30).plan,
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("name", WORK)
def test_the_default_device_changes_no_bit(name: str, scale: float, threads: int) -> None:
    work = WORK[name]
    scores = scale * torch.randn(4, 30, 6, generator=torch.Generator().manual_seed(0))
    torch.set_num_threads(threads)
    expected = work(scores)
    product_threads._answers.clear()
    with torch.device("meta"):
        found = work(scores)
    assert found.device.type == "cpu"
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["uniform", "estimated", "given"])
def test_a_class_prior_has_the_requested_share(kind: str) -> None:
    given = [1.0, 2.0, 1.0] if kind == "given" else None
    with torch.device("meta"):
        prior = class_prior(kind, 2, 3, weights=given, device="cpu")
    values = prior.marginal()
    if kind == "uniform":
        assert values is None
    else:
        assert values is not None
        expected = torch.tensor(given or [1.0, 1.0, 1.0])
        assert torch.allclose(values, (expected / expected.sum()).expand_as(values))
