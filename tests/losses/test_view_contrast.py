from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crkd.losses.view_contrast import contrast, supervised_contrast


def by_hand(z: np.ndarray, labels: list[int], temperature: float) -> float:
    unit = [[row / math.sqrt(float(row @ row)) for row in view] for view in z]
    places = [(v, n) for v in range(z.shape[0]) for n in range(z.shape[1])]
    total = 0.0
    for v, n in places:
        others = {
            (w, m): math.exp(float(unit[v][n] @ unit[w][m]) / temperature)
            for w, m in places
            if (w, m) != (v, n)
        }
        whole = sum(others.values())
        terms = [-math.log(others[at] / whole) for at in others if labels[at[1]] == labels[n]]
        total += sum(terms) / len(terms)
    return total / len(places)


@pytest.mark.parametrize(
    ("views", "labels"), [(2, [0, 1, 0, 2]), (3, [4, 4]), (2, [0, 0, 0]), (2, [3])]
)
def test_value_and_gradient_follow_the_formula(views: int, labels: list[int], numeric_gradient):
    z = np.random.default_rng(0).normal(size=(views, len(labels), 3))
    leaf = torch.tensor(z, requires_grad=True)
    loss = supervised_contrast(leaf, torch.tensor(labels), 0.3)
    loss.backward()
    assert loss.item() == pytest.approx(by_hand(z, labels, 0.3), rel=1e-9)
    slopes = numeric_gradient(lambda at: by_hand(at, labels, 0.3), z)
    np.testing.assert_allclose(leaf.grad.numpy(), slopes, atol=1e-7)


def test_classes_of_one_sample_give_the_loss_without_labels():
    z = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(supervised_contrast(z, torch.arange(6), 0.2), contrast(z, 0.2))


def test_no_labeled_sample_costs_nothing():
    z = torch.randn(2, 0, 4, requires_grad=True)
    loss = supervised_contrast(z, torch.zeros(0, dtype=torch.int64), 0.07)
    loss.backward()
    assert loss.item() == 0


def test_autocast_has_no_effect():
    z = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1, 2, 0])
    with torch.autocast("cpu", torch.bfloat16):
        loss = supervised_contrast(z, labels, 0.1)
    assert torch.equal(loss, supervised_contrast(z, labels, 0.1))
