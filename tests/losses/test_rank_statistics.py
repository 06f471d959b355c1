from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crkd.losses.rank_statistics import pairwise_agreement, same_ranks


def softmax(row: np.ndarray) -> np.ndarray:
    e = np.exp(row - row.max())
    return e / e.sum()


def by_hand(first: np.ndarray, second: np.ndarray, alike: np.ndarray) -> float:
    total = 0.0
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            same = float(softmax(a) @ softmax(b))
            total -= math.log(same) if alike[i, j] else math.log(1 - same)
    return total / len(first) ** 2


def test_ranks_follow_the_sets_of_largest_features():
    features = torch.randn(20, 9, generator=torch.Generator().manual_seed(0))
    wanted = [[set(a.topk(2).indices.tolist()) == set(b.topk(2).indices.tolist()) for b in features]
              for a in features]  # fmt: skip
    found = same_ranks(features, 2)
    assert found.tolist() == wanted
    assert 0 < found.sum() - len(features) < len(features) ** 2


def test_value_and_gradient_follow_the_formula(numeric_gradient):
    drawn = np.random.default_rng(0)
    first, second = drawn.normal(size=(2, 5, 3))
    alike = drawn.random((5, 5)) < 0.4
    leaf = torch.tensor(first, requires_grad=True)
    loss = pairwise_agreement(leaf, torch.tensor(second), torch.tensor(alike))
    loss.backward()
    assert loss.item() == pytest.approx(by_hand(first, second, alike), rel=1e-9)
    slopes = numeric_gradient(lambda f: by_hand(f, second, alike), first)
    np.testing.assert_allclose(leaf.grad.numpy(), slopes, atol=1e-7)


def test_sure_and_wrong_stays_finite():
    logits = torch.tensor([[1e4, 0.0], [1e4, 0.0]], requires_grad=True)
    loss = pairwise_agreement(logits, logits, torch.zeros(2, 2, dtype=torch.bool))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_autocast_has_no_effect():
    logits = torch.tensor([[30.0, 0.0], [29.0, 0.0]], requires_grad=True)
    exact = pairwise_agreement(logits, logits.detach(), torch.eye(2, dtype=torch.bool))
    with torch.autocast("cpu", torch.bfloat16):
        loss = pairwise_agreement(logits, logits.detach(), torch.eye(2, dtype=torch.bool))
    loss.backward()
    assert loss.isfinite()
    assert torch.equal(loss, exact)
    assert logits.grad.isfinite().all()
