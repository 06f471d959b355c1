from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.contrastive import Contrastive
from crkd.losses.term import DistillationInputs
from crkd.losses.view_contrast import contrast


def by_hand(z: np.ndarray, temperature: float) -> float:
    unit = [[row / math.sqrt(float(row @ row)) for row in view] for view in z]
    places = [(v, n) for v in range(z.shape[0]) for n in range(z.shape[1])]
    total, pairs = 0.0, 0
    for v, n in places:
        others = {
            (w, m): math.exp(float(unit[v][n] @ unit[w][m]) / temperature)
            for w, m in places
            if (w, m) != (v, n)
        }
        for u in range(z.shape[0]):
            if u != v:
                total -= math.log(others[u, n] / sum(others.values()))
                pairs += 1
    return total / pairs


@pytest.mark.parametrize("shape", [(2, 4, 3), (3, 2, 5), (2, 1, 3)])
def test_value_and_gradient_follow_the_formula(shape: tuple[int, ...], numeric_gradient):
    z = np.random.default_rng(0).normal(size=shape)
    leaf = torch.tensor(z, requires_grad=True)
    loss = contrast(leaf, 0.3)
    loss.backward()
    assert loss.item() == pytest.approx(by_hand(z, 0.3), rel=1e-9)
    slopes = numeric_gradient(lambda at: by_hand(at, 0.3), z)
    np.testing.assert_allclose(leaf.grad.numpy(), slopes, atol=1e-7)


def test_equal_images_cost_the_logarithm_of_all_others():
    assert float(contrast(torch.ones(2, 5, 4), 0.2)) == pytest.approx(math.log(9), rel=1e-6)


def test_images_apart_with_equal_views_cost_almost_nothing():
    one = torch.eye(6)
    assert float(contrast(torch.stack([one, one]), 0.05)) < 1e-6


def test_order_of_the_images_does_not_matter():
    z = torch.randn(2, 7, 4, dtype=torch.float64)
    torch.testing.assert_close(contrast(z, 0.2), contrast(z[:, torch.randperm(7)], 0.2))


def test_one_view_and_odd_options_are_refused():
    with pytest.raises(InputError, match="num_views"):
        Contrastive(4)(
            DistillationInputs(HeadOutputs(torch.ones(1, 3, 4), torch.ones(1, 3, 2)), None)
        )
    with pytest.raises(InputError, match="temperature"):
        Contrastive(4, temperature=0.0)
    with pytest.raises(InputError, match="projection"):
        Contrastive(4, projection=0)


def test_autocast_has_no_effect():
    z = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrast(z, 0.1)
    assert torch.equal(loss, contrast(z, 0.1))
