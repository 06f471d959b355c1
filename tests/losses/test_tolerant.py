from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.kd import kd
from crkd.losses.distillation.tolerant import Tolerant, top_score_difference
from crkd.losses.term import DistillationInputs, TermContext, build_term

CLASSES = 7
CONTEXT = TermContext(num_known=CLASSES, student_features=6, teacher_features=6)


def formula(logits: np.ndarray, top: int) -> float:
    """First score less the mean of the next ones, sample by sample."""
    total, samples = 0.0, logits.reshape(-1, CLASSES)
    for row in samples:
        mass = sum(math.exp(z) for z in row)
        scores = sorted((math.exp(z) / mass for z in row), reverse=True)
        total += scores[0] - sum(scores[k] for k in range(1, top)) / (top - 1)
    return total / len(samples)


def random_logits(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, 3, CLASSES)) * 2


def inputs(student: torch.Tensor, teacher: torch.Tensor | None = None) -> DistillationInputs:
    def outputs(logits: torch.Tensor) -> HeadOutputs:
        return HeadOutputs(torch.zeros(*logits.shape[:2], 6), logits)

    return DistillationInputs(outputs(student), None if teacher is None else outputs(teacher))


def test_by_hand():
    logits = torch.tensor([0.5, 0.1, 0.3, 0.1]).log()
    assert top_score_difference(logits, top=2).item() == pytest.approx(0.2)
    assert top_score_difference(logits, top=3).item() == pytest.approx(0.3)
    assert top_score_difference(logits, top=4).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("top", [2, 5, CLASSES])
def test_value_and_gradient_against_the_formula(top: int, numeric_gradient: Callable):
    logits = random_logits()
    ours = torch.tensor(logits, requires_grad=True)
    term = build_term("tolerant", stage="pretrain", context=CONTEXT, options={"top": top})
    loss = term(inputs(ours))
    loss.backward()
    assert loss.item() == pytest.approx(formula(logits, top), rel=1e-10)
    expected = numeric_gradient(lambda z: formula(z, top), logits)
    np.testing.assert_allclose(ours.grad.numpy(), expected, atol=1e-8)


def test_it_is_one_where_the_network_is_certain_and_zero_where_it_is_undecided():
    certain = torch.tensor([[3000.0, *[0.0] * (CLASSES - 1)]])
    assert top_score_difference(certain).item() == 1
    assert top_score_difference(torch.zeros(1, CLASSES)).item() == pytest.approx(0, abs=1e-7)


def test_near_certainty_it_takes_most_of_the_pull_off_plausible_classes():
    """Of the gradient of cross-entropy, 1 - w - w / (top - 1) and 1 - w remain for w = 2/3."""
    logits = torch.tensor([14.0, 3.0, 2.9, 2.8, 2.7, -2.0, -2.0], requires_grad=True)
    cross_entropy = -logits.log_softmax(-1)[0]
    (alone,) = torch.autograd.grad(cross_entropy, logits, retain_graph=True)
    (both,) = torch.autograd.grad(cross_entropy + 2 / 3 * top_score_difference(logits), logits)
    np.testing.assert_allclose((both / alone)[:5], 1 / 6, rtol=1e-2)
    np.testing.assert_allclose((both / alone)[5:], 1 / 3, rtol=1e-2)


def test_a_later_generation_follows_the_one_before_at_temperature_one():
    student, teacher = torch.tensor(random_logits()), torch.tensor(random_logits(1))
    term = build_term("tolerant", stage="distill", context=CONTEXT)
    expected = 0.0
    for z_s, z_t in zip(student.reshape(-1, CLASSES), teacher.reshape(-1, CLASSES), strict=True):
        q, p = z_s.exp() / z_s.exp().sum(), z_t.exp() / z_t.exp().sum()
        expected += sum(float(p[k] * (p[k] / q[k]).log()) for k in range(CLASSES)) / 6
    assert term(inputs(student, teacher)).item() == pytest.approx(expected, rel=1e-10)
    assert term(inputs(student, student)).item() == pytest.approx(0, abs=1e-12)
    assert not torch.isclose(term(inputs(student, teacher)), kd(student, teacher))


def test_what_it_needs_depends_on_the_stage():
    first = build_term("tolerant", stage="pretrain", context=CONTEXT)
    assert first.top == 5
    assert first.needs == frozenset()
    assert build_term("tolerant", stage="distill", context=CONTEXT).needs == {"teacher_logits"}
    assert Tolerant.needs == {"teacher_logits"}


@pytest.mark.parametrize("top", [1, 0, -1, CLASSES + 1, 2.5, "all"])
def test_top_out_of_range_is_named(top: object):
    with pytest.raises(InputError, match=rf"top is {top}, .* {CLASSES} known .* 2 to {CLASSES}"):
        build_term("tolerant", stage="pretrain", context=CONTEXT, options={"top": top})


def test_too_few_classes_for_the_default_are_named():
    few = CONTEXT._replace(num_known=4)
    with pytest.raises(InputError, match="top is 5, and there are 4 known classes"):
        build_term("tolerant", stage="pretrain", context=few)
    build_term("tolerant", stage="distill", context=few)


def test_top_without_a_meaning_is_refused():
    with pytest.raises(InputError, match="leave it out in stage 'distill'"):
        build_term("tolerant", stage="distill", context=CONTEXT, options={"top": 3})
