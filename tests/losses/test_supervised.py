from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crkd.losses.supervised import cross_entropy


def by_hand(logits: np.ndarray, labels: np.ndarray, smoothing: float) -> float:
    total, count = 0.0, 0
    classes = logits.shape[-1]
    for view in logits:
        for row, label in zip(view, labels, strict=True):
            if label < 0:
                continue
            target = np.full(classes, smoothing / classes)
            target[label] += 1 - smoothing
            total -= float(target @ (row - np.log(np.exp(row).sum())))
            count += 1
    return total / max(count, 1)


def test_two_classes_by_hand():
    logits = torch.tensor([[[0.0, 0.0], [math.log(3.0), 0.0]]])
    loss = cross_entropy(logits, torch.tensor([0, 0]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_value_and_gradient_against_the_formula(smoothing: float):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 5, 4)) * 3
    labels = np.array([0, -1, 3, 2, -1])
    tensor = torch.tensor(logits, requires_grad=True)
    loss = cross_entropy(tensor, torch.tensor(labels), label_smoothing=smoothing)
    assert loss.item() == pytest.approx(by_hand(logits, labels, smoothing), rel=1e-12)
    loss.backward()
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    target = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    labeled = (labels >= 0)[None, :, None]
    expected = np.where(labeled, probability - target, 0.0) / (3 * 3)
    np.testing.assert_allclose(tensor.grad.numpy(), expected, atol=1e-14)


@pytest.mark.parametrize("labels", [torch.tensor([-1, -1]), torch.empty(0, dtype=torch.int64)])
def test_without_labeled_rows_it_is_a_differentiable_zero(labels: torch.Tensor):
    logits = torch.randn(2, len(labels), 3, requires_grad=True)
    loss = cross_entropy(logits, labels, label_smoothing=0.1)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_bfloat16_logits_are_summed_in_float32():
    logits = torch.randn(2, 64, 10).to(torch.bfloat16)
    labels = torch.randint(0, 10, (64,))
    loss = cross_entropy(logits, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(cross_entropy(logits.double(), labels).item(), rel=1e-5)
