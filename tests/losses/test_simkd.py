from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.simkd import SimKd
from crkd.losses.term import DistillationInputs, TermContext, build_term

CONTEXT = TermContext(4, 5, 5, (2, 3), (4, 3), nn.Linear(3, 4))


def outputs(*views: torch.Tensor) -> HeadOutputs:
    """Outputs whose last map is given; the stage before is all ones."""
    rows = len(views[0])
    first = torch.ones(rows, 2, 8, 8)
    return HeadOutputs(
        torch.zeros(len(views), rows, 3),
        torch.zeros(len(views), rows, 4),
        maps=tuple((first, view) for view in views),
    )


def pooled(maps: np.ndarray, side: int) -> np.ndarray:
    share = maps.shape[-1] // side
    small = np.zeros((*maps.shape[:-2], side, side))
    for y, x in np.ndindex(*maps.shape[-2:]):
        small[..., y // share, x // share] += maps[..., y, x] / share**2
    return small


def formula(student: np.ndarray, teacher: np.ndarray) -> float:
    """Mean over views, rows, channels and pixels of the smaller map."""
    side = min(student.shape[-1], teacher.shape[-1])
    student, teacher = pooled(student, side), pooled(teacher, side)
    return sum((student[i] - teacher[i]) ** 2 for i in np.ndindex(*student.shape)) / student.size


@pytest.mark.parametrize(("student_side", "teacher_side"), [(2, 2), (4, 2), (2, 4)])
def test_value_and_gradient_against_the_formula(
    student_side: int, teacher_side: int, numeric_gradient: Callable
):
    rng = np.random.default_rng(0)
    student = rng.normal(size=(2, 2, 3, student_side, student_side))
    teacher = rng.normal(size=(2, 2, 3, teacher_side, teacher_side))
    ours = torch.tensor(student, requires_grad=True)
    loss = SimKd()(DistillationInputs(outputs(*ours), outputs(*torch.tensor(teacher))))
    loss.backward()
    assert loss.item() == pytest.approx(formula(student, teacher), rel=1e-10)
    expected = numeric_gradient(lambda s: formula(s, teacher), student)
    np.testing.assert_allclose(ours.grad.numpy(), expected, atol=1e-8)


def test_zero_with_zero_gradient_where_the_maps_agree():
    ours = torch.rand(2, 3, 3, 2, 2, requires_grad=True)
    loss = SimKd()(DistillationInputs(outputs(*ours), outputs(*ours.detach().clone())))
    loss.backward()
    assert loss.item() == 0
    assert not ours.grad.any()


def test_it_looks_at_the_last_map_alone_and_trains_nothing_itself():
    same = torch.rand(3, 3, 2, 2)
    student, teacher = outputs(same), outputs(same)
    elsewhere = teacher._replace(
        known_logits=teacher.known_logits + 1, maps=((torch.zeros(3, 4, 8, 8), same),)
    )
    assert SimKd()(DistillationInputs(student, elsewhere)).item() == 0
    assert list(SimKd().parameters()) == []


def test_where_it_applies():
    term = build_term("simkd", stage="distill", context=CONTEXT)
    assert isinstance(term, SimKd)
    assert term.needs == {"feature_maps", "teacher_classifier"}
    for without in ({"student_channels": ()}, {"teacher_channels": ()}):
        with pytest.raises(InputError, match="simkd compares last feature maps"):
            build_term("simkd", stage="distill", context=CONTEXT._replace(**without))
    with pytest.raises(InputError, match="teacher's classifier, and this teacher has none"):
        build_term("simkd", stage="distill", context=CONTEXT._replace(teacher_head=None))
    bare = HeadOutputs(torch.zeros(1, 1, 3), torch.zeros(1, 1, 4))
    with pytest.raises(RuntimeError, match="without maps"):
        SimKd()(DistillationInputs(bare, bare))
