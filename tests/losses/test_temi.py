"""TEMI's loss against a loop in float64, and its gradient against that of autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.losses.temi import exchanged, softmax_, temi_gradient


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


def stacked(student, teacher):
    """Return the logits of x and of x' as the closed form takes them."""
    sides = [torch.cat(pair, dim=1).detach().permute(2, 0, 1) for pair in (student, teacher)]
    return torch.stack(sides, dim=1)


def plain(student, teacher, marginal, exponent):
    """The formula on ``(H, B, M)`` logits, for autograd; ``(H, M)`` marginal."""
    ours, theirs = ([side.log_softmax(-1) for side in pair] for pair in (student, teacher))
    weights = (theirs[0].exp() * theirs[1].exp()).sum(-1).mean(0)
    there = (exponent * (ours[0] + theirs[1]) - marginal.log()[:, None]).logsumexp(-1)
    back = (exponent * (ours[1] + theirs[0]) - marginal.log()[:, None]).logsumexp(-1)
    return -(weights * (there + back) / 2).mean(dim=1)


def loss_of(student, teacher, marginal, exponent=0.6):
    return temi_gradient(stacked(student, teacher), lambda mean: marginal.T, exponent)[0]


@pytest.mark.parametrize("exponent", [0.6, 1.0])
def test_value(exponent):
    student, teacher = (logits(0), logits(1)), (logits(2), logits(3))
    marginal = torch.tensor([[0.2, 0.3, 0.5], [0.4, 0.4, 0.2]], dtype=torch.float64)
    expected = brute(
        [s.numpy() for s in student], [t.numpy() for t in teacher], marginal.numpy(), exponent
    )
    found = loss_of(student, teacher, marginal, exponent)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("exponent", [0.6, 1.0])
def test_the_closed_form_has_the_loss_and_gradient_of_autograd(exponent):
    student = (logits(0).requires_grad_(), logits(1).requires_grad_())
    teacher = (logits(2), logits(3))
    shares = torch.tensor([[0.2, 0.3, 0.5], [0.4, 0.4, 0.2]], dtype=torch.float64)
    seen = []

    def marginal(mean):
        seen.append(mean)
        return shares.T

    expected = plain(student, teacher, shares, exponent)
    expected.sum().backward()
    losses, gradient = temi_gradient(stacked(student, teacher), marginal, exponent)
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(
        gradient.permute(1, 2, 0), torch.cat([side.grad for side in student], dim=1)
    )
    mean = torch.cat(teacher, dim=1).softmax(-1).mean(dim=1)
    torch.testing.assert_close(seen[-1], mean.T)


def test_softmax_of_large_logits_in_place():
    given = torch.tensor([[500.0, -900.0], [499.0, -900.0], [-500.0, 88.0]])
    expected, sums = given.softmax(dim=0), given.logsumexp(dim=0)
    torch.testing.assert_close(softmax_(given), sums)
    torch.testing.assert_close(given, expected)


def test_halves_are_exchanged():
    assert exchanged(torch.arange(6).view(1, 6)).tolist() == [[3, 4, 5, 0, 1, 2]]


def test_using_all_classes_is_better_than_one():
    sure = 40 * torch.eye(3).unsqueeze(0)
    one = 40 * torch.eye(3)[[0, 0, 0]].unsqueeze(0)
    even = loss_of((sure, sure), (sure, sure), torch.full((1, 3), 1 / 3))
    alone = loss_of((one, one), (one, one), torch.tensor([[1.0, 1e-6, 1e-6]]))
    assert even < alone


def test_an_exponent_of_zero_is_refused():
    with pytest.raises(InputError, match="exponent is 0"):
        loss_of((logits(0), logits(1)), (logits(2), logits(3)), torch.ones(2, 3), exponent=0)
