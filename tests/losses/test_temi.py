"""TEMI's loss against a loop in float64, and its gradient against that of autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.losses.temi import pair_weights, responsibilities, temi


def logits(seed, heads=2, pairs=5, classes=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(heads, pairs, classes, generator=generator, dtype=torch.float64)


def brute(student, teacher, marginal, exponent):
    """The formula of the reference, one number at a time."""

    def softmax(row):
        return np.exp(row) / np.exp(row).sum()

    heads, pairs, classes = student[0].shape
    q = [[[softmax(side[h, i]) for i in range(pairs)] for h in range(heads)] for side in student]
    t = [[[softmax(side[h, i]) for i in range(pairs)] for h in range(heads)] for side in teacher]
    losses = []
    for h in range(heads):
        total = 0.0
        for i in range(pairs):
            weight = sum(t[0][g][i] @ t[1][g][i] for g in range(heads)) / heads
            there = back = 0.0
            for c in range(classes):
                there += (q[0][h][i][c] * t[1][h][i][c]) ** exponent / marginal[h][c]
                back += (q[1][h][i][c] * t[0][h][i][c]) ** exponent / marginal[h][c]
            total += -weight / 2 * (np.log(there) + np.log(back))
        losses.append(total / pairs)
    return np.array(losses)


@pytest.mark.parametrize("exponent", [0.6, 1.0])
def test_value(exponent):
    student, teacher = (logits(0), logits(1)), (logits(2), logits(3))
    marginal = torch.tensor([[0.2, 0.3, 0.5], [0.4, 0.4, 0.2]], dtype=torch.float64)
    expected = brute(
        [s.numpy() for s in student], [t.numpy() for t in teacher], marginal.numpy(), exponent
    )
    found = temi(student, teacher, marginal, exponent=exponent)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_the_gradient_is_what_the_heads_are_trained_with():
    student = [logits(0).requires_grad_(), logits(1).requires_grad_()]
    teacher = (logits(2), logits(3))
    marginal = torch.full((2, 3), 1 / 3, dtype=torch.float64)
    temi((student[0], student[1]), teacher, marginal, exponent=0.6).sum().backward()
    weights = pair_weights(*(t.softmax(-1) for t in teacher))
    for ours, theirs in ((student[0], teacher[1]), (student[1], teacher[0])):
        q = ours.detach().log_softmax(-1)
        r, _ = responsibilities(q, theirs.log_softmax(-1), marginal, 0.6)
        expected = 0.6 * weights[:, None] * (q.exp() - r) / (2 * q.shape[1])
        torch.testing.assert_close(ours.grad, expected)


def test_no_gradient_reaches_the_teacher():
    teacher = logits(1).requires_grad_()
    student = logits(0).requires_grad_()
    loss = temi((student, student), (teacher, teacher), torch.full((2, 3), 1 / 3))
    loss.sum().backward()
    assert teacher.grad is None


def test_using_all_classes_is_better_than_one():
    sure = 40 * torch.eye(3).unsqueeze(0)
    one = 40 * torch.eye(3)[[0, 0, 0]].unsqueeze(0)
    even = temi((sure, sure), (sure, sure), torch.full((1, 3), 1 / 3))
    alone = temi((one, one), (one, one), torch.tensor([[1.0, 1e-6, 1e-6]]))
    assert even < alone


def test_an_exponent_of_zero_is_refused():
    with pytest.raises(InputError, match="exponent is 0"):
        temi((logits(0), logits(1)), (logits(2), logits(3)), torch.ones(2, 3), exponent=0)
