from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd.core.errors import InputError
from crkd.losses.swapped_prediction import swapped_prediction


def by_pairs(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The double loop over views, term by term."""
    num_views, num_heads, num_samples, _ = logits.shape
    loss = np.zeros(num_heads)
    for head in range(num_heads):
        terms = []
        for large in range(len(targets)):
            for other in range(num_views):
                if other == large:
                    continue
                for sample in range(num_samples):
                    row = logits[other, head, sample]
                    log_p = row - row.max() - np.log(np.exp(row - row.max()).sum())
                    terms.append(-float(targets[large, head, sample] @ log_p))
        loss[head] = np.mean(terms)
    return loss


def random_case(seed: int, views: int, large: int, heads: int, samples: int, classes: int):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(views, heads, samples, classes)) * 4
    targets = rng.dirichlet(np.ones(classes), size=(large, heads, samples))
    return logits, targets


def test_two_views_three_classes_by_hand():
    # View 0 is uniform; view 1 gives the classes 1/2, 1/4, 1/4.
    logits = torch.tensor([[[[0.0, 0.0, 0.0]]], [[[math.log(2.0), 0.0, 0.0]]]])
    targets = torch.tensor([[[[1.0, 0.0, 0.0]]], [[[0.0, 0.5, 0.5]]]])
    # Target of view 0 meets view 1: log 2. Target of view 1 meets view 0: log 3.
    expected = (math.log(2) + math.log(3)) / 2
    torch.testing.assert_close(swapped_prediction(logits, targets), torch.tensor([expected]))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    views=st.integers(2, 5),
    large=st.integers(1, 5),
    heads=st.integers(1, 3),
    samples=st.integers(1, 4),
    classes=st.integers(1, 6),
)
def test_value_against_the_double_loop(seed, views, large, heads, samples, classes):
    logits, targets = random_case(seed, views, min(large, views), heads, samples, classes)
    ours = swapped_prediction(torch.tensor(logits), torch.tensor(targets))
    np.testing.assert_allclose(ours.numpy(), by_pairs(logits, targets), rtol=1e-10, atol=1e-12)


def test_gradient_against_finite_differences():
    logits, targets = random_case(3, 3, 2, 2, 2, 3)
    tensor = torch.tensor(logits, requires_grad=True)
    mix = np.array([0.3, 1.7])
    (swapped_prediction(tensor, torch.tensor(targets)) * torch.tensor(mix)).sum().backward()
    step = 1e-6
    numeric = np.zeros_like(logits)
    for index in np.ndindex(*logits.shape):
        up, down = logits.copy(), logits.copy()
        up[index] += step
        down[index] -= step
        numeric[index] = mix @ (by_pairs(up, targets) - by_pairs(down, targets)) / (2 * step)
    np.testing.assert_allclose(tensor.grad.numpy(), numeric, atol=1e-8)


def test_a_view_never_sees_its_own_target():
    logits, targets = random_case(0, 2, 1, 1, 3, 4)
    tensor = torch.tensor(logits, requires_grad=True)
    swapped_prediction(tensor, torch.tensor(targets)).sum().backward()
    assert not tensor.grad[0].any()
    assert tensor.grad[1].any()


def test_no_gradient_reaches_the_targets():
    logits, targets = random_case(0, 2, 2, 1, 3, 4)
    fixed = torch.tensor(targets, requires_grad=True)
    swapped_prediction(torch.tensor(logits, requires_grad=True), fixed).sum().backward()
    assert fixed.grad is None


def test_large_logits_in_float32_keep_their_digits():
    logits, targets = random_case(1, 4, 2, 2, 16, 100)
    logits = logits * 5
    ours = swapped_prediction(torch.tensor(logits).float(), torch.tensor(targets).float())
    np.testing.assert_allclose(ours.numpy(), by_pairs(logits, targets), rtol=1e-5)


def test_bfloat16_is_summed_in_float32():
    logits, targets = random_case(1, 3, 2, 2, 8, 10)
    half = torch.tensor(logits).to(torch.bfloat16)
    ours = swapped_prediction(half, torch.tensor(targets).to(torch.bfloat16))
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), by_pairs(logits, targets), rtol=2e-2)


def test_without_samples_it_is_a_differentiable_zero():
    logits = torch.randn(3, 2, 0, 4, requires_grad=True)
    loss = swapped_prediction(logits, torch.zeros(2, 2, 0, 4))
    loss.sum().backward()
    assert torch.equal(loss, torch.zeros(2))
    assert logits.grad.shape == logits.shape


@pytest.mark.parametrize(("views", "large"), [(1, 1), (2, 0), (2, 3)])
def test_view_counts_without_a_meaning_are_refused(views: int, large: int):
    with pytest.raises(InputError, match=f"{views} views and targets of {large}"):
        swapped_prediction(torch.zeros(views, 1, 2, 3), torch.zeros(large, 1, 2, 3))


@pytest.mark.parametrize("shape", [(2, 3, 4, 1), (2, 3, 1, 5), (2, 1, 4, 5)])
def test_targets_are_not_broadcast(shape: tuple[int, ...]):
    with pytest.raises(InputError, match="must be equal"):
        swapped_prediction(torch.zeros(2, 3, 4, 5), torch.ones(shape))
