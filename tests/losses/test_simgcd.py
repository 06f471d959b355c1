from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.losses.simgcd import entropy_gap, self_distillation


def softmax(row: np.ndarray) -> np.ndarray:
    e = np.exp(row - row.max())
    return e / e.sum()


def by_hand(cosines: np.ndarray, teacher: float, student: float, large: int) -> float:
    """The mean over pairs of different views, teacher views first, of the mean over rows."""
    terms = []
    for first in range(large):
        for second in range(len(cosines)):
            if second != first:
                rows = [
                    -float(softmax(a / teacher) @ np.log(softmax(b / student)))
                    for a, b in zip(cosines[first], cosines[second], strict=True)
                ]
                terms.append(sum(rows) / len(rows))
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("views", "large"), [(2, 2), (4, 2)])
def test_value_and_gradient_follow_the_formula(views: int, large: int, numeric_gradient):
    cosines = np.random.default_rng(0).uniform(-1, 1, size=(views, 3, 4))
    leaf = torch.tensor(cosines, requires_grad=True)
    loss = self_distillation(leaf / 0.1, 0.1 / 0.05, large)
    loss.backward()
    assert loss.item() == pytest.approx(by_hand(cosines, 0.05, 0.1, large), rel=1e-9)

    def with_fixed_targets(at: np.ndarray) -> float:
        total, pairs = 0.0, 0
        for first in range(large):
            for second in range(views):
                if second != first:
                    for a, b in zip(cosines[first], at[second], strict=True):
                        total -= float(softmax(a / 0.05) @ np.log(softmax(b / 0.1)))
                    pairs += 1
        return total / pairs / cosines.shape[1]

    slopes = numeric_gradient(with_fixed_targets, cosines)
    np.testing.assert_allclose(leaf.grad.numpy(), slopes, atol=1e-6)


def test_the_sharpening_may_be_a_tensor():
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    loss = self_distillation(logits, torch.tensor(2.0), 2)
    assert loss.shape == ()
    assert torch.equal(loss, self_distillation(logits, 2.0, 2))


def test_one_view_is_refused():
    with pytest.raises(InputError, match="two views"):
        self_distillation(torch.zeros(1, 3, 2), 2.0, 1)


def test_the_gap_follows_the_mean_over_views_and_rows(numeric_gradient):
    logits = np.random.default_rng(1).normal(size=(2, 3, 4)) * 2

    def by_mean(at: np.ndarray) -> float:
        mean = sum(softmax(row) for view in at for row in view) / 6
        return math.log(4) + sum(float(p) * math.log(float(p)) for p in mean)

    leaf = torch.tensor(logits, requires_grad=True)
    gap = entropy_gap(leaf)
    gap.backward()
    assert gap.item() == pytest.approx(by_mean(logits), rel=1e-9)
    np.testing.assert_allclose(leaf.grad.numpy(), numeric_gradient(by_mean, logits), atol=1e-7)


def test_the_gap_is_zero_for_even_predictions_and_ln_c_for_one_class():
    even = 50 * torch.eye(4).repeat(3, 1)
    assert entropy_gap(even).item() == pytest.approx(0, abs=1e-6)
    assert entropy_gap(even[:1].repeat(5, 1)).item() == pytest.approx(math.log(4), rel=1e-6)


@pytest.mark.parametrize("num_large", [-1, 0, 3])
def test_a_number_of_large_views_out_of_range_is_refused(num_large: int):
    with pytest.raises(InputError, match=f"num_large is {num_large}"):
        self_distillation(torch.zeros(2, 4, 3), 2.0, num_large)


def test_a_class_that_nobody_predicts_has_a_finite_gradient():
    logits = torch.tensor([[0.0, 200.0, 1.0], [0.0, 200.0, 200.0]], requires_grad=True)
    gap = entropy_gap(logits)
    gap.backward()
    wanted = math.log(3) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    assert gap.item() == pytest.approx(wanted, rel=1e-6)
    assert logits.grad.isfinite().all()


def test_no_rows_have_a_gap_of_zero():
    logits = torch.zeros(2, 0, 3, requires_grad=True)
    gap = entropy_gap(logits)
    gap.backward()
    assert gap.item() == 0
