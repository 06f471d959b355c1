from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.class_relation import ClassRelation, class_relation
from crkd.losses.term import DistillationInputs

OPTIONS = [
    {"form": form, "weighting": weighting, "detach_weight": detach}
    for form, weighting, detach in itertools.product(
        ("cross_entropy", "kl"), ("normalized", "none"), (False, True)
    )
]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def formula(
    known: np.ndarray,
    novel: np.ndarray,
    teacher: np.ndarray,
    *,
    temperature: float,
    form: str,
    weighting: str,
    weight: np.ndarray | None = None,
    **_: object,
) -> float:
    """The published sums, written out; ``weight`` replaces w where it is a constant."""
    views, heads, samples, _m = novel.shape
    num_known = known.shape[-1]
    divergence, mass = np.zeros((views, heads, samples)), np.zeros((views, heads, samples))
    for v, h, n in np.ndindex(views, heads, samples):
        p = softmax(teacher[v, n] / temperature)
        q = softmax(known[v, n] / temperature)
        divergence[v, h, n] = sum(-p[k] * math.log(q[k]) for k in range(num_known))
        if form == "kl":
            divergence[v, h, n] += sum(p[k] * math.log(p[k]) for k in range(num_known))
        joint = softmax(np.concatenate([known[v, n], novel[v, h, n]]) / temperature)
        mass[v, h, n] = joint[:num_known].sum()
    if weight is None:
        weight = mass / mass.mean() if weighting == "normalized" else np.ones_like(mass)
    per_head = [temperature**2 * (weight * divergence)[:, h].mean() for h in range(heads)]
    return float(np.mean(per_head))


def known_mass(known: np.ndarray, novel: np.ndarray, temperature: float) -> np.ndarray:
    joint = np.concatenate(
        [np.broadcast_to(known[:, None], (*novel.shape[:3], known.shape[-1])), novel], axis=-1
    )
    return softmax(joint / temperature)[..., : known.shape[-1]].sum(-1)


def random_case(seed: int = 0, views: int = 2, heads: int = 2, samples: int = 3):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(views, samples, 4)) * 5,
        rng.normal(size=(views, heads, samples, 3)) * 5,
        rng.normal(size=(views, samples, 4)) * 5,
    )


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.tensor(array, requires_grad=True) for array in arrays]


def test_two_samples_three_known_classes_by_hand():
    # T = 1. Teacher: (1/2, 1/4, 1/4) for both. Student: uniform, then the teacher's own.
    log2 = math.log(2.0)
    teacher = torch.tensor([[[log2, 0.0, 0.0], [log2, 0.0, 0.0]]])
    known = torch.tensor([[[0.0, 0.0, 0.0], [log2, 0.0, 0.0]]])
    # Known mass: 3 of 3 + 3 = 1/2, then 4 of 4 + 12 = 1/4; mean 3/8; weights 4/3 and 2/3.
    novel = torch.tensor([[[[math.log(3.0)], [math.log(12.0)]]]])
    divergence = (math.log(3.0), 1.5 * log2)
    expected = (4 / 3 * divergence[0] + 2 / 3 * divergence[1]) / 2
    loss = class_relation(known, novel, teacher, temperature=1.0)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    kl = class_relation(known, novel, teacher, temperature=1.0, form="kl")
    assert kl.item() == pytest.approx(4 / 3 * (math.log(3.0) - 1.5 * log2) / 2, rel=1e-6)
    plain = class_relation(known, novel, teacher, temperature=1.0, weighting="none")
    assert plain.item() == pytest.approx(sum(divergence) / 2, rel=1e-6)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_value_against_the_formula(options: dict, temperature: float):
    arrays = random_case()
    ours = class_relation(*tensors(*arrays), temperature=temperature, **options)
    expected = formula(*arrays, temperature=temperature, **options)
    assert ours.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("options", OPTIONS)
def test_gradient_against_finite_differences(options: dict):
    known, novel, teacher = random_case(1)
    leaves = tensors(known, novel, teacher)
    class_relation(*leaves, temperature=4.0, **options).backward()
    weight = None
    if options["detach_weight"] and options["weighting"] == "normalized":
        mass = known_mass(known, novel, 4.0)
        weight = mass / mass.mean()

    def value(k: np.ndarray, n: np.ndarray) -> float:
        return formula(k, n, teacher, temperature=4.0, weight=weight, **options)

    step = 1e-6
    for leaf, array, position in ((leaves[0], known, 0), (leaves[1], novel, 1)):
        numeric = np.zeros_like(array)
        for index in np.ndindex(*array.shape):
            up, down = [known.copy(), novel.copy()], [known.copy(), novel.copy()]
            up[position][index] += step
            down[position][index] -= step
            numeric[index] = (value(*up) - value(*down)) / (2 * step)
        ours = np.zeros_like(array) if leaf.grad is None else leaf.grad.numpy()
        np.testing.assert_allclose(ours, numeric, atol=1e-7)


@pytest.mark.parametrize("options", OPTIONS)
def test_no_gradient_reaches_the_teacher(options: dict):
    leaves = tensors(*random_case())
    class_relation(*leaves, **options).backward()
    assert leaves[2].grad is None
    assert leaves[0].grad.any()


def gradients(**options: object) -> list[torch.Tensor]:
    leaves = tensors(*random_case(2))[:2]
    teacher = torch.tensor(random_case(2)[2])
    loss = class_relation(*leaves, teacher, **options)
    return list(torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True))


def test_the_two_forms_share_a_gradient_only_where_the_weight_is_constant():
    constant = [gradients(form=form, detach_weight=True) for form in ("cross_entropy", "kl")]
    torch.testing.assert_close(constant[0], constant[1])
    free = [gradients(form=form) for form in ("cross_entropy", "kl")]
    assert (free[0][0] - free[1][0]).abs().max() > 1e-3
    assert (free[0][1] - free[1][1]).abs().max() > 1e-3


def test_novel_logits_learn_from_this_term_through_the_weight_alone():
    assert gradients()[1].any()
    assert not gradients(detach_weight=True)[1].any()
    assert not gradients(weighting="none")[1].any()


def test_weight_gradient_lowers_the_known_mass_of_samples_above_the_weighted_mean():
    """d loss / d log eta_i is T^2 w_i (D_i - mean w D) / n, so it sums to nothing."""
    known, novel, teacher = random_case(4, views=1, heads=1, samples=5)
    leaf = torch.tensor(novel, requires_grad=True)
    class_relation(torch.tensor(known), leaf, torch.tensor(teacher), temperature=4.0).backward()
    q, p = softmax(known / 4), softmax(teacher / 4)
    divergence = -(p * np.log(q)).sum(-1)[0]
    mass = known_mass(known, novel, 4.0)[0, 0]
    weight = mass / mass.mean()
    by_log_mass = 16 * weight * (divergence - (weight * divergence).mean()) / 5
    assert by_log_mass.sum() == pytest.approx(0, abs=1e-12)
    # A novel logit z_j lowers log eta by its joint probability over T.
    joint = softmax(np.concatenate([known[0], novel[0, 0]], axis=-1) / 4)[:, 4:]
    np.testing.assert_allclose(
        leaf.grad[0, 0].numpy(), -by_log_mass[:, None] * joint / 4, atol=1e-12
    )


def test_kl_is_zero_where_the_student_is_the_teacher():
    known, novel, _ = random_case()
    leaf = torch.tensor(known, requires_grad=True)
    loss = class_relation(leaf, torch.tensor(novel), torch.tensor(known), form="kl")
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert leaf.grad.abs().max() < 1e-12


def test_the_squared_temperature_keeps_the_gradient_at_the_size_of_the_logits():
    """For a large T the gradient of the plain KL tends to (z_s - z_t) / K, whatever T is."""
    known, novel, teacher = random_case(5)
    leaf = torch.tensor(known, requires_grad=True)
    class_relation(
        leaf,
        torch.tensor(novel),
        torch.tensor(teacher),
        temperature=1e4,
        weighting="none",
    ).backward()
    centered = (known - known.mean(-1, keepdims=True)) - (teacher - teacher.mean(-1, keepdims=True))
    rows = known.shape[0] * known.shape[1]
    np.testing.assert_allclose(leaf.grad.numpy(), centered / 4 / rows, rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize("options", OPTIONS)
def test_without_unlabeled_rows_it_is_a_differentiable_zero(options: dict):
    leaves = tensors(np.zeros((2, 0, 4)), np.zeros((2, 2, 0, 3)), np.zeros((2, 0, 4)))
    loss = class_relation(*leaves, **options)
    loss.backward()
    assert loss.item() == 0
    assert leaves[0].grad.shape == leaves[0].shape


def test_a_vanishing_known_mass_is_finite():
    known, novel, teacher = tensors(*random_case())
    loss = class_relation(known - 4000, novel + 4000, teacher)
    loss.backward()
    assert loss.isfinite()
    assert known.grad.isfinite().all()
    assert novel.grad.isfinite().all()


def outputs(known: torch.Tensor, novel: torch.Tensor | None) -> HeadOutputs:
    return HeadOutputs(torch.zeros(*known.shape[:2], 1), known, novel)


def test_the_term_looks_at_unlabeled_rows_alone():
    known, novel, teacher = tensors(*random_case(samples=5))
    term = ClassRelation()
    inputs = DistillationInputs(
        outputs(known, novel),
        outputs(teacher, None),
        torch.tensor([0, 1, -1, -1, -1]),
        num_labeled=2,
    )
    loss = term(inputs)
    expected = class_relation(known[:, 2:], novel[:, :, 2:], teacher[:, 2:])
    assert torch.equal(loss, expected)
    loss.backward()
    assert not known.grad[:, :2].any()
    assert teacher.grad is None
    assert term(inputs._replace(num_labeled=5)).item() == 0


def test_defaults_are_those_of_the_release():
    term = ClassRelation()
    assert (term.temperature, term.form, term.weighting, term.detach_weight) == (
        4.0,
        "cross_entropy",
        "normalized",
        False,
    )
    assert list(term.parameters()) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [("temperature", 0.0), ("temperature", math.nan), ("form", "mse"), ("weighting", "mean")],
)
def test_options_out_of_range_are_named(option: str, value: object):
    with pytest.raises(InputError, match=f"class_relation: {option} is"):
        ClassRelation(**{option: value})
    with pytest.raises(InputError, match=f"class_relation: {option} is"):
        class_relation(*tensors(*random_case()), **{option: value})


def test_logits_of_the_teacher_are_not_broadcast():
    known, novel, teacher = tensors(*random_case())
    for other in (teacher[:1], teacher[:, :1], teacher[..., :1]):
        with pytest.raises(InputError, match="must have the same samples and the same classes"):
            class_relation(known, novel, other)


def test_a_student_without_novel_heads_is_a_programming_error():
    known, _, teacher = tensors(*random_case())
    with pytest.raises(RuntimeError, match="without novel heads"):
        ClassRelation()(DistillationInputs(outputs(known, None), outputs(teacher, None)))
    with pytest.raises(RuntimeError, match="no teacher outputs"):
        DistillationInputs(outputs(known, None), None).of_teacher()
