from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from crkd.training.muon import MOMENTUM, Muon, orthogonalized


def polynomial(values: Tensor, steps: int) -> Tensor:
    """The iteration on singular values, written for scalars in float64."""
    for _ in range(steps):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return values


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (1, 7)])
def test_singular_vectors_stay_and_singular_values_follow_the_polynomial(shape: tuple[int, int]):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = polynomial(values / matrix.norm(), 3)
    torch.testing.assert_close(orthogonalized(matrix), left @ values.diag() @ right)


def test_values_of_a_usual_gradient_come_close_to_one():
    torch.manual_seed(1)
    values = torch.linalg.svdvals(orthogonalized(torch.randn(64, 256)).double())
    assert 0.3 < values.min() < values.max() < 1.3


def test_zeros_and_scales():
    assert orthogonalized(torch.zeros(3, 4)).abs().max() == 0
    matrix = torch.randn(6, 8, dtype=torch.float64)
    torch.testing.assert_close(orthogonalized(1e6 * matrix), orthogonalized(matrix))
    assert orthogonalized(torch.randn(2, 3)).dtype == torch.float32


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_orthogonalization_is_that_of_torch():
    torch.manual_seed(2)
    gradient = torch.randn(32, 100)
    weight = nn.Parameter(torch.zeros(32, 100))
    weight.grad = gradient.clone()
    theirs = torch.optim.Muon(
        [weight], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False, ns_steps=5
    )
    theirs.step()
    # torch computes in bfloat16, whose unit roundoff is 2^-8.
    ours = orthogonalized(gradient.double(), steps=5).float()
    torch.testing.assert_close(-weight.detach(), ours, atol=0.02, rtol=0.0)


def muon(weight: nn.Parameter, *others: nn.Parameter) -> Muon:
    groups = [
        {"params": [weight], "matrix": True},
        {"params": list(others), "matrix": False},
    ]
    return Muon(groups if others else groups[:1], lr=0.1, momentum=0.9, weight_decay=0.01)


def test_three_steps_follow_the_formula():
    torch.manual_seed(3)
    start = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    weight = nn.Parameter(start.clone())
    optimizer = muon(weight)
    expected, buffer = start.flatten(1), torch.zeros(4, 12, dtype=torch.float64)
    for _ in range(3):
        gradient = torch.randn_like(start)
        weight.grad = gradient.clone()
        optimizer.step()
        flat = gradient.flatten(1)
        buffer = MOMENTUM * buffer + flat
        step = flat + MOMENTUM * buffer
        left, values, right = torch.linalg.svd(step, full_matrices=False)
        step = left @ polynomial(values / step.norm(), 3).diag() @ right
        expected = expected * 4**0.5 / expected.norm() - 0.1 * step
    torch.testing.assert_close(weight.detach().flatten(1), expected)


def test_the_other_parameters_are_trained_by_sgd():
    torch.manual_seed(4)
    ours, theirs = (nn.Parameter(torch.ones(5)) for _ in range(2))
    weight = nn.Parameter(torch.randn(4, 4, 3, 3))
    optimizer = muon(weight, ours)
    reference = torch.optim.SGD([theirs], lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(3):
        gradient = torch.randn(5)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        weight.grad = torch.randn_like(weight)
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_skipped_step_changes_nothing(value: float):
    torch.manual_seed(5)
    weight, bias = nn.Parameter(torch.randn(4, 4, 3, 3)), nn.Parameter(torch.randn(4))
    optimizer = muon(weight, bias)
    optimizer.found_inf = torch.zeros(())  # type: ignore[attr-defined]
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    for bad in (False, True):
        before = [t.detach().clone() for t in (weight, bias)]
        moments = [s["momentum_buffer"].clone() for s in optimizer.state.values()]
        for parameter in (weight, bias):
            parameter.grad = torch.full_like(parameter, value if bad else 1.0)
        optimizer.found_inf.fill_(bad)  # type: ignore[attr-defined]
        optimizer.step()
    assert all(map(torch.equal, before, (weight.detach(), bias.detach())))
    after = [s["momentum_buffer"] for s in optimizer.state.values()]
    assert len(moments) == 2
    assert all(map(torch.equal, moments, after))
