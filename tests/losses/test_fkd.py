from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.fkd import Fkd
from crkd.losses.distillation.kd import Kd
from crkd.losses.soft_labels import label_mode, log_probabilities
from crkd.losses.term import DistillationInputs, DistillationTerm, TermContext, build_term


def outputs(known: torch.Tensor) -> HeadOutputs:
    return HeadOutputs(torch.zeros(*known.shape[:2], 0), known)


def call(term: DistillationTerm, student: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The labels come as the stored teacher hands them out: as log-probabilities."""
    return term(DistillationInputs(outputs(student), outputs(log_probabilities(labels))))


def logits(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape) * 4


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def leaf(array: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(array, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_value_and_gradient_against_the_formula(temperature: float, numeric_gradient):
    student, labels = logits(0, 2, 5, 6), softmax(logits(1, 2, 5, 6))

    def formula(z: np.ndarray) -> float:
        total = 0.0
        for v in range(2):
            for b in range(5):
                q = softmax(z[v, b] / temperature)
                total -= sum(labels[v, b, k] * math.log(q[k]) for k in range(6))
        return total / 10

    ours = leaf(student)
    loss = call(Fkd(temperature=temperature), ours, torch.tensor(labels))
    loss.backward()
    assert loss.item() == pytest.approx(formula(student), rel=1e-10)
    numeric = numeric_gradient(formula, student)
    np.testing.assert_allclose(ours.grad.numpy(), numeric, atol=1e-8)


@pytest.mark.parametrize("name", ["hard", "marginal_smoothing_k2", "marginal_renorm_k2"])
def test_compressed_labels_are_the_target(name: str):
    student, given = logits(2, 2, 4, 5), torch.tensor(softmax(logits(3, 2, 4, 5)))
    mode = label_mode(name, 5)
    label = mode.expand(mode.compress(given))
    expected = -(label.double().numpy() * np.log(softmax(student))).sum(-1).mean()
    assert call(Fkd(), leaf(student), label).item() == pytest.approx(expected, rel=1e-6)


def test_the_gradient_vanishes_where_the_student_gives_the_label():
    given = logits(4, 1, 3, 4)
    ours = leaf(given)
    loss = call(Fkd(), ours, torch.tensor(softmax(given)))
    loss.backward()
    entropy = -(softmax(given) * np.log(softmax(given))).sum(-1).mean()
    assert loss.item() == pytest.approx(entropy)
    assert ours.grad.abs().max() < 1e-12


def test_it_trains_other_weights_than_kd_whatever_the_weight():
    """On the same labels: a mean at 1 pulls elsewhere than a divergence at 4."""
    images, labels = torch.tensor(logits(5, 8, 3)), torch.tensor(softmax(logits(6, 1, 8, 4)))
    moved = []
    for term in (Fkd(), Kd()):
        weight = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
        call(term, (images @ weight).unsqueeze(0), labels).backward()
        moved.append(weight.grad.flatten() / weight.grad.norm())
    assert moved[0] @ moved[1] < 1 - 1e-3


def test_no_gradient_reaches_the_labels():
    theirs = leaf(logits(7, 1, 2, 3))
    Fkd()(DistillationInputs(outputs(leaf(logits(8, 1, 2, 3))), outputs(theirs))).backward()
    assert theirs.grad is None


def test_without_rows_it_is_a_differentiable_zero():
    ours = leaf(np.zeros((2, 0, 4)))
    loss = call(Fkd(), ours, torch.zeros(2, 0, 4))
    loss.backward()
    assert loss.item() == 0
    assert ours.grad is not None


@pytest.mark.parametrize("scale", [1.0, 3000.0])
def test_half_precision_is_finite(scale: float):
    student, labels = logits(9, 2, 16, 10), torch.tensor(softmax(logits(10, 2, 16, 10)))
    ours = leaf(student * scale, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = call(Fkd(), ours, labels)
    loss.backward()
    assert loss.dtype == torch.float64  # that of the labels, never below float32
    assert loss.item() == pytest.approx(call(Fkd(), leaf(student * scale), labels).item(), rel=2e-2)
    assert ours.grad.isfinite().all()


def test_it_traces_into_one_graph():
    torch._dynamo.reset()
    ours, labels = leaf(logits(11, 2, 4, 5)), torch.tensor(softmax(logits(12, 2, 4, 5)))
    compiled = torch.compile(lambda s: call(Fkd(), s, labels), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(ours), call(Fkd(), ours, labels))


def test_labels_must_be_there():
    with pytest.raises(RuntimeError, match="declares teacher_logits"):
        Fkd()(DistillationInputs(outputs(leaf(logits(0, 1, 2, 3))), None))


def test_options_are_checked():
    with pytest.raises(InputError, match="fkd: temperature is 0"):
        Fkd(temperature=0)
    with pytest.raises(InputError, match=r"does not apply in stage 'pretrain'; choose one of:"):
        build_term("fkd", stage="pretrain", context=TermContext(3, 4, 4))
