from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.tfkd_reg import TfKdReg, virtual_teacher
from crkd.losses.supervised import cross_entropy
from crkd.losses.term import DistillationInputs, TermContext, build_term

KNOWN, NOVEL = 4, 3
CONTEXT = TermContext(num_known=KNOWN, student_features=6, teacher_features=6)
LABELS = np.array([2, 0, -1])
PSEUDO = np.array([[[2, 0, 6], [2, 0, 4]], [[2, 0, 5], [2, 0, 6]]])


def formula(
    logits: np.ndarray, labels: np.ndarray, temperature: float = 20.0, correct: float = 0.99
) -> float:
    """Mean divergence from the virtual teacher, over labeled samples and classes one by one."""
    total, samples, classes = 0.0, 0, logits.shape[-1]
    for z, y in zip(logits.reshape(-1, classes), labels.reshape(-1), strict=True):
        if y < 0:
            continue
        u = [correct if k == y else (1 - correct) / (classes - 1) for k in range(classes)]
        u_mass, z_mass = sum(math.exp(a / temperature) for a in u), sum(math.exp(a) for a in z)
        for k in range(classes):
            p = math.exp(u[k] / temperature) / u_mass
            total += p * (math.log(p) - math.log(math.exp(z[k]) / z_mass))
        samples += 1
    return total / samples


def outputs(known: torch.Tensor, novel: torch.Tensor | None = None) -> HeadOutputs:
    return HeadOutputs(torch.zeros(*known.shape[:2], 6), known, novel)


def random_logits(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape) * 3


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "correct": 0.9}])
def test_on_labeled_images_against_the_formula(options: dict, numeric_gradient: Callable):
    known = random_logits(2, 3, KNOWN)
    labels = np.broadcast_to(LABELS, (2, 3))
    ours = torch.tensor(known, requires_grad=True)
    loss = TfKdReg(**options)(DistillationInputs(outputs(ours), None, torch.tensor(LABELS), 2))
    loss.backward()
    assert loss.item() == pytest.approx(formula(known, labels, **options), rel=1e-10)
    expected = numeric_gradient(lambda z: formula(z, labels, **options), known)
    np.testing.assert_allclose(ours.grad.numpy(), expected, atol=1e-8)
    assert not ours.grad[:, 2].any()


def test_on_pseudo_labels_against_the_formula(numeric_gradient: Callable):
    known, novel = random_logits(2, 3, KNOWN), random_logits(2, 2, 3, NOVEL)

    def reference(known: np.ndarray, novel: np.ndarray) -> float:
        per_head = np.stack([known, known], axis=1)
        return formula(np.concatenate([per_head, novel], axis=-1), PSEUDO)

    ours = [torch.tensor(array, requires_grad=True) for array in (known, novel)]
    term = build_term("tfkd_reg", stage="discover", context=CONTEXT, options={"on": "pseudo"})
    loss = term(DistillationInputs(outputs(*ours), None, pseudo_labels=torch.tensor(PSEUDO)))
    loss.backward()
    assert loss.item() == pytest.approx(reference(known, novel), rel=1e-10)
    on_known = numeric_gradient(lambda z: reference(z, novel), known)
    on_novel = numeric_gradient(lambda z: reference(known, z), novel)
    np.testing.assert_allclose(ours[0].grad.numpy(), on_known, atol=1e-8)
    np.testing.assert_allclose(ours[1].grad.numpy(), on_novel, atol=1e-8)


def test_pseudo_labels_of_a_network_with_one_head_for_all_classes():
    logits = random_logits(2, 3, KNOWN)
    pseudo = np.array([[[3, 1, 0]], [[3, 1, 1]]])
    inputs = DistillationInputs(
        outputs(torch.tensor(logits)), None, pseudo_labels=torch.tensor(pseudo)
    )
    expected = formula(logits, pseudo)
    assert TfKdReg(on="pseudo")(inputs).item() == pytest.approx(expected, rel=1e-10)


def test_zero_with_zero_gradient_where_the_student_is_the_virtual_teacher():
    u = np.full((1, 2, KNOWN), 0.01 / 3)
    u[0, 0, 1] = u[0, 1, 3] = 0.99
    ours = torch.tensor(u / 20, requires_grad=True)
    loss = virtual_teacher(ours, torch.tensor([[1, 3]]))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert ours.grad.abs().max() < 1e-12


def test_it_is_label_smoothing_but_for_the_entropy_of_its_teacher():
    """The virtual teacher's softmax has two values: a label smoothed by that share."""
    logits = torch.tensor(random_logits(2, 3, KNOWN))
    right, wrong = math.exp(0.99 / 2), math.exp(0.01 / 3 / 2)
    mass = right + (KNOWN - 1) * wrong
    entropy = -(right / mass * math.log(right / mass))
    entropy -= (KNOWN - 1) * wrong / mass * math.log(wrong / mass)
    smoothed = cross_entropy(logits, torch.tensor(LABELS), label_smoothing=KNOWN * wrong / mass)
    loss = virtual_teacher(logits, torch.tensor(LABELS).expand(2, 3), temperature=2.0)
    assert loss.item() == pytest.approx(smoothed.item() - entropy, rel=1e-10)


def test_a_row_that_is_left_out_may_lack_a_class():
    plain = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 2.0]], dtype=torch.float64)
    labels = torch.tensor([-1, 0])
    masked = plain.clone()
    masked[0, 1] = -torch.inf
    masked.requires_grad_()
    loss = virtual_teacher(masked, labels)
    assert loss.item() == virtual_teacher(plain, labels).item()
    loss.backward()
    assert not masked.grad[0].any()
    assert masked.grad[1].isfinite().all()


def test_without_any_label_it_is_a_differentiable_zero():
    ours = torch.tensor(random_logits(2, 3, KNOWN), requires_grad=True)
    loss = virtual_teacher(ours, torch.full((2, 3), -1))
    loss.backward()
    assert loss.item() == 0
    assert not ours.grad.any()


def test_what_it_needs_depends_on_what_it_looks_at():
    for stage in ("pretrain", "discover", "distill"):
        term = build_term("tfkd_reg", stage=stage, context=CONTEXT, options={"on": "labeled"})
        assert isinstance(term, TfKdReg)
        assert (term.temperature, term.correct, term.needs) == (20.0, 0.99, {"labels"})
        assert list(term.parameters()) == []
    for stage in ("discover", "distill"):
        term = build_term("tfkd_reg", stage=stage, context=CONTEXT, options={"on": "pseudo"})
        assert term.needs == {"pseudo_labels"}
    assert TfKdReg.needs == {"labels"}


def test_where_labels_may_be_missing_the_choice_must_be_made():
    with pytest.raises(InputError, match=r"needs labels.*\{on: labeled\}.*\{on: pseudo\}"):
        build_term("tfkd_reg", stage="discover", context=CONTEXT)
    with pytest.raises(InputError, match=r"no pseudo-labels; set options: \{on: labeled\}"):
        build_term("tfkd_reg", stage="pretrain", context=CONTEXT, options={"on": "pseudo"})
    assert build_term("tfkd_reg", stage="distill", context=CONTEXT).needs == {"labels"}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("temperature", value) for value in (0.0, -1.0, math.nan, math.inf)),
        *(("correct", value) for value in (0.0, -0.1, 1.1, math.nan)),
        ("on", "unlabeled"),
    ],
)
def test_options_out_of_range_are_named(option: str, value: object):
    with pytest.raises(InputError, match=f"tfkd_reg: {option} is {value!r}"):
        TfKdReg(**{option: value})
