from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from crkd.losses.distillation.kd import kd
from crkd.losses.distillation.lwf import Lwf, lwf
from crkd.losses.term import TermContext, build_term
from tests.support.losses import leaf, of_logits, random_logits

CONTEXT = TermContext(num_known=4, student_features=6, teacher_features=8)


def softened(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities to the power 1/T, renormalized: eq. 3 of the paper, literally."""
    y = np.exp(logits - logits.max())
    y = (y / y.sum()) ** (1 / temperature)
    return y / y.sum()


def formula(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    terms = []
    for z_s, z_t in zip(student.reshape(-1, 4), teacher.reshape(-1, 4), strict=True):
        target, said = softened(z_t, temperature), softened(z_s, temperature)
        terms.append(-sum(target[k] * math.log(said[k]) for k in range(4)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_value_and_gradient_against_the_formula(temperature: float, numeric_gradient: Callable):
    student, teacher = random_logits()
    ours = leaf(student)
    loss = lwf(ours, torch.tensor(teacher), temperature=temperature)
    loss.backward()
    assert loss.item() == pytest.approx(formula(student, teacher, temperature), rel=1e-10)
    expected = numeric_gradient(lambda z: formula(z, teacher, temperature), student)
    np.testing.assert_allclose(ours.grad.numpy(), expected, atol=1e-7)


def test_where_the_student_is_the_teacher_the_entropy_remains_and_the_gradient_vanishes():
    student, _ = random_logits()
    ours = leaf(student)
    loss = lwf(ours, torch.tensor(student))
    loss.backward()
    p = torch.tensor(student / 2).softmax(-1)
    entropy = -(p * p.log()).sum(-1).mean()
    assert loss.item() == pytest.approx(entropy.item(), rel=1e-10)
    assert ours.grad.abs().max() < 1e-12


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_its_gradient_is_that_of_kd_over_the_squared_temperature(temperature: float):
    student, teacher = random_logits(1)
    gradients = []
    for loss in (lwf, kd):
        ours = leaf(student)
        loss(ours, torch.tensor(teacher), temperature=temperature).backward()
        gradients.append(ours.grad)
    torch.testing.assert_close(temperature**2 * gradients[0], gradients[1])


def test_every_row_counts():
    student, teacher = (leaf(array) for array in random_logits())
    loss = Lwf(temperature=3.0)(of_logits(student, teacher, labeled=2))
    loss.backward()
    assert torch.equal(loss, lwf(student, teacher, temperature=3.0))
    assert student.grad.abs().sum(dim=-1).min() > 0


def test_where_it_applies_and_its_options():
    for stage in ("discover", "distill"):
        term = build_term("lwf", stage=stage, context=CONTEXT)
        assert isinstance(term, Lwf)
        assert term.temperature == 2.0
        assert list(term.parameters()) == []
