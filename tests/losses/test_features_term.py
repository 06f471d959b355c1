from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.features import Features
from crkd.losses.term import DistillationInputs


def drawn(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, 4, 5))


def value(student: np.ndarray, teacher: np.ndarray, form: str) -> torch.Tensor:
    given = [HeadOutputs(torch.as_tensor(f), torch.zeros(2, 4, 3)) for f in (student, teacher)]
    return Features(5, 5, form=form)(DistillationInputs(*given))


def by_hand(student: np.ndarray, teacher: np.ndarray, form: str) -> float:
    total, spread = 0.0, 0.0
    middle = teacher.mean(axis=(0, 1))
    for f, g in zip(student, teacher, strict=True):
        if form == "batch":
            a, b = f.ravel(), g.ravel()
            total += math.hypot(*(a / math.hypot(*a) - b / math.hypot(*b))) / len(student)
            continue
        for a, b in zip(f, g, strict=True):
            lengths = (math.hypot(*a), math.hypot(*b)) if form == "unit" else (1.0, 1.0)
            total += sum((a / lengths[0] - b / lengths[1]) ** 2) / (len(f) * len(student))
            spread += sum((b - middle) ** 2) / (len(f) * len(student))
    return total / spread if form == "relative" else total


@pytest.mark.parametrize("form", ["relative", "unit", "batch"])
def test_value_and_gradient_follow_the_formula(form: str, numeric_gradient):
    student, teacher = drawn(0), drawn(1)
    leaf = torch.tensor(student, requires_grad=True)
    loss = value(leaf, teacher, form)
    loss.backward()
    assert loss.item() == pytest.approx(by_hand(student, teacher, form), rel=1e-9)
    slopes = numeric_gradient(lambda f: by_hand(f, teacher, form), student)
    np.testing.assert_allclose(leaf.grad.numpy(), slopes, atol=1e-7)


@pytest.mark.parametrize("form", ["unit", "batch"])
def test_the_published_forms_see_no_change_of_length(form: str):
    student = drawn(0)
    assert float(value(3.0 * student, student, form)) == pytest.approx(0.0, abs=2e-6)


def test_a_student_that_says_the_same_of_every_image_loses_one():
    teacher = drawn(0)
    same = np.broadcast_to(teacher.mean(axis=(0, 1)), teacher.shape).copy()
    assert float(value(same, teacher, "relative")) == pytest.approx(1.0)


def test_a_teacher_of_another_width_and_an_unknown_scale_are_refused():
    with pytest.raises(InputError, match="regressor"):
        Features(5, 6)
    with pytest.raises(InputError, match="form"):
        Features(5, 5, form="class")


@pytest.mark.parametrize("rows", [1, 3])
def test_equal_features_of_the_teacher_have_no_scale(rows: int):
    """The mean of three equal numbers differs from them by rounding."""
    teacher = torch.tensor([0.1, 0.7, 0.3, 5.1]).expand(1, rows, 4)
    student = torch.zeros(1, rows, 4, requires_grad=True)
    outputs = [HeadOutputs(features, torch.zeros(1, rows, 3)) for features in (student, teacher)]
    loss = Features(4, 4)(DistillationInputs(*outputs))
    loss.backward()
    assert loss.item() == 0
    assert not student.grad.any()


def test_a_teacher_that_is_not_a_number_shows():
    teacher = drawn(0)
    teacher[0, 0, 0] = math.nan
    assert value(drawn(1), teacher, "relative").isnan()
