from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from crkd.losses.distillation.kd import Kd, kd
from crkd.losses.term import TermContext, build_term
from tests.support.losses import leaf, of_logits, random_logits

CONTEXT = TermContext(num_known=4, student_features=6, teacher_features=8)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def formula(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """T^2 times the mean KL divergence, sample by sample and class by class."""
    total, rows = 0.0, 0
    for z_s, z_t in zip(student.reshape(-1, 4), teacher.reshape(-1, 4), strict=True):
        q, p = softmax(z_s / temperature), softmax(z_t / temperature)
        total += sum(p[k] * (math.log(p[k]) - math.log(q[k])) for k in range(4))
        rows += 1
    return temperature**2 * total / rows


def test_two_classes_by_hand():
    # p = (1/2, 1/2), q = (1/4, 3/4): KL = log 2 - log 3 / 2 at T = 1.
    student, teacher = torch.tensor([[0.0, math.log(3.0)]]), torch.zeros(1, 2)
    expected = math.log(2.0) - 0.5 * math.log(3.0)
    assert kd(student, teacher, temperature=1.0).item() == pytest.approx(expected, rel=1e-6)
    # Logits twice as large at T = 2 have the same distributions; only the factor 4 is new.
    doubled = kd(2 * student, 2 * teacher, temperature=2.0)
    assert doubled.item() == pytest.approx(4 * expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_value_and_gradient_against_the_formula(temperature: float, numeric_gradient: Callable):
    student, teacher = random_logits()
    ours = leaf(student)
    loss = kd(ours, torch.tensor(teacher), temperature=temperature)
    loss.backward()
    assert loss.item() == pytest.approx(formula(student, teacher, temperature), rel=1e-10)
    expected = numeric_gradient(lambda z: formula(z, teacher, temperature), student)
    np.testing.assert_allclose(ours.grad.numpy(), expected, atol=1e-7)


def test_zero_with_zero_gradient_where_the_student_is_the_teacher():
    student, _ = random_logits()
    ours = leaf(student)
    loss = kd(ours, torch.tensor(student))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert ours.grad.abs().max() < 1e-12


def test_the_squared_temperature_keeps_the_gradient_at_the_size_of_the_logits():
    """For a large T the gradient tends to the difference of the centered logits over K."""
    student, teacher = random_logits(1)
    ours = leaf(student)
    kd(ours, torch.tensor(teacher), temperature=1e4).backward()
    difference = student - teacher
    centered = difference - difference.mean(-1, keepdims=True)
    np.testing.assert_allclose(ours.grad.numpy(), centered / 4 / 6, rtol=2e-2, atol=1e-4)


def test_the_temperature_multiplies_that_of_the_head():
    cosines, teacher = torch.rand(1, 5, 4).double(), torch.rand(1, 5, 4).double()
    through_head = kd(cosines / 0.1, teacher / 0.1, temperature=4.0)
    q, log_p = (cosines / 0.4).softmax(-1), (teacher / 0.4).log_softmax(-1)
    divergence = (log_p.exp() * (log_p - q.log())).sum(-1).mean()
    assert through_head.item() == pytest.approx(16 * divergence.item(), rel=1e-10)


def test_every_row_counts():
    student, teacher = (leaf(array) for array in random_logits())
    loss = Kd(temperature=2.0)(of_logits(student, teacher, labeled=2))
    loss.backward()
    assert torch.equal(loss, kd(student, teacher, temperature=2.0))
    assert student.grad.abs().sum(dim=-1).min() > 0


def test_far_apart_logits_are_finite():
    ours = torch.tensor([[4000.0, -4000.0]], requires_grad=True)
    loss = kd(ours, -ours.detach(), temperature=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(8000)
    assert ours.grad.isfinite().all()


def test_where_it_applies_and_its_options():
    for stage in ("discover", "distill"):
        term = build_term("kd", stage=stage, context=CONTEXT)
        assert isinstance(term, Kd)
        assert term.temperature == 4.0
        assert list(term.parameters()) == []
