from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.kd import kd
from crkd.losses.distillation.tfkd_self import TfKdSelf
from crkd.losses.term import DistillationInputs, TermContext, build_term

CLASSES = 5
CONTEXT = TermContext(num_known=CLASSES, student_features=6, teacher_features=6)


def formula(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """T^2 times the mean divergence, sample by sample and class by class."""
    total = 0.0
    for z_s, z_t in zip(student.reshape(-1, CLASSES), teacher.reshape(-1, CLASSES), strict=True):
        student_mass = sum(math.exp(z / temperature) for z in z_s)
        teacher_mass = sum(math.exp(z / temperature) for z in z_t)
        for k in range(CLASSES):
            p = math.exp(z_t[k] / temperature) / teacher_mass
            q = math.exp(z_s[k] / temperature) / student_mass
            total += p * math.log(p / q)
    return temperature**2 * total / (student.size / CLASSES)


def random_case() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 3, CLASSES)) * 5, rng.normal(size=(2, 3, CLASSES)) * 5


def inputs(student: torch.Tensor, teacher: torch.Tensor) -> DistillationInputs:
    features = torch.zeros(2, 3, 6)
    return DistillationInputs(HeadOutputs(features, student), HeadOutputs(features, teacher))


@pytest.mark.parametrize("temperature", [1.0, 6.0, 20.0])
def test_value_and_gradient_against_the_formula(temperature: float, numeric_gradient: Callable):
    student, teacher = random_case()
    ours = torch.tensor(student, requires_grad=True)
    loss = TfKdSelf(temperature=temperature)(inputs(ours, torch.tensor(teacher)))
    loss.backward()
    assert loss.item() == pytest.approx(formula(student, teacher, temperature), rel=1e-10)
    expected = numeric_gradient(lambda s: formula(s, teacher, temperature), student)
    np.testing.assert_allclose(ours.grad.numpy(), expected, atol=1e-7)


def test_zero_with_zero_gradient_where_the_student_is_the_teacher():
    same = torch.tensor(random_case()[0])
    ours = same.clone().requires_grad_()
    loss = TfKdSelf()(inputs(ours, same))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert ours.grad.abs().max() < 1e-12


def test_the_published_weight_holds_in_the_unit_of_kd():
    """ResNeXt-29: 0.9 times a multiplier of 100 on the mean over samples and 100 classes."""
    student, teacher = torch.randn(2, 2, 3, 100, dtype=torch.float64) * 5
    release = nn.KLDivLoss(reduction="none")(
        (student / 20).log_softmax(-1), (teacher / 20).softmax(-1)
    )
    loss = TfKdSelf()(inputs(student, teacher))
    torch.testing.assert_close(TfKdSelf.weight * loss, 0.9 * 100 * 400 * release.mean())
    torch.testing.assert_close(loss, kd(student, teacher, temperature=20.0))
    assert (TfKdSelf.weight, TfKdSelf.supervised) == (0.9, 0.1)


def test_where_it_applies_and_its_options():
    for stage in ("discover", "distill"):
        term = build_term("tfkd_self", stage=stage, context=CONTEXT)
        assert isinstance(term, TfKdSelf)
        assert term.temperature == 20.0
        assert list(term.parameters()) == []
    for temperature in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="tfkd_self: temperature is"):
            TfKdSelf(temperature=temperature)
