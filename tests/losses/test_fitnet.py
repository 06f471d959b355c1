from __future__ import annotations

import numpy as np
import pytest
import torch

from crkd.core.errors import InputError
from crkd.core.types import HeadOutputs
from crkd.losses.distillation.fitnet import FitNet
from crkd.losses.feature_maps import equal_sizes
from crkd.losses.term import DistillationInputs, TermContext, build_term
from tests.support.losses import of_maps, pooled, random_maps, stacked

STUDENT, TEACHER = (2, 3, 4), (3, 5, 6)
CONTEXT = TermContext(4, 4, 6, STUDENT, TEACHER)


def formula(student: np.ndarray, teacher: np.ndarray, parts: dict[str, np.ndarray]) -> float:
    """The hint loss for maps of views times rows, with batch statistics of the regressed map."""
    side = min(student.shape[-1], teacher.shape[-1])
    student, teacher = pooled(student, side), pooled(teacher, side)
    mixed = np.einsum("oc,nchw->nohw", parts["conv"], student)
    mean = mixed.mean(axis=(0, 2, 3), keepdims=True)
    variance = ((mixed - mean) ** 2).mean(axis=(0, 2, 3), keepdims=True)
    normed = (mixed - mean) / np.sqrt(variance + 1e-5)
    normed = normed * parts["weight"][:, None, None] + parts["bias"][:, None, None]
    return float(((np.maximum(normed, 0) - teacher) ** 2).mean())


def parameters(term: FitNet) -> dict[str, torch.Tensor]:
    regressor = term.regressor
    return {
        "conv": regressor.conv.weight,
        "weight": regressor.norm.weight,
        "bias": regressor.norm.bias,
    }


def term_for(seed: int = 0, **options: object) -> FitNet:
    torch.manual_seed(seed)
    term = FitNet(STUDENT, TEACHER, **options).double()
    with torch.no_grad():
        term.regressor.norm.weight.uniform_(0.5, 1.5)
        term.regressor.norm.bias.uniform_(-0.5, 0.5)
    return term


@pytest.mark.parametrize(("student_side", "teacher_side"), [(8, 8), (16, 8), (8, 16)])
def test_value_and_gradient_against_the_formula(student_side: int, teacher_side: int):
    student, teacher = random_maps(STUDENT, student_side), random_maps(TEACHER, teacher_side, 1)
    term = term_for()
    loss = term(DistillationInputs(of_maps(student), of_maps(teacher)))
    loss.backward()
    arrays = {name: value.detach().numpy().copy() for name, value in parameters(term).items()}
    arrays["conv"] = arrays["conv"][:, :, 0, 0]
    maps, hint = stacked(student, 1), stacked(teacher, 1)
    assert loss.item() == pytest.approx(formula(maps, hint, arrays), rel=1e-10)

    ours = {name: value.grad.numpy() for name, value in parameters(term).items()}
    ours["conv"] = ours["conv"][:, :, 0, 0]
    map_gradient = np.concatenate([view[1].grad.numpy() for view in student])
    rng, step = np.random.default_rng(0), 1e-6
    for name, array in (*arrays.items(), ("maps", maps)):
        gradient = map_gradient if name == "maps" else ours[name]
        for flat in rng.choice(array.size, size=min(12, array.size), replace=False):
            index = np.unravel_index(flat, array.shape)
            kept, values = array[index], []
            for shift in (step, -step):
                array[index] = kept + shift
                values.append(formula(maps, hint, arrays))
            array[index] = kept
            numeric = (values[0] - values[1]) / (2 * step)
            assert gradient[index] == pytest.approx(numeric, abs=1e-7)


def test_zero_where_the_student_is_the_teacher_and_the_regressor_the_identity():
    maps = random_maps(TEACHER, 8)
    term = FitNet(TEACHER, TEACHER).double().eval()
    torch.nn.init.dirac_(term.regressor.conv.weight)
    term.regressor.norm.running_var.fill_(1 - term.regressor.norm.eps)
    loss = term(DistillationInputs(of_maps(maps), of_maps(maps)))
    assert loss.item() == pytest.approx(0, abs=1e-20)
    wrong = [[m + 0.5 for m in view] for view in maps]
    assert term(DistillationInputs(of_maps(wrong), of_maps(maps))).item() == pytest.approx(0.25)


def test_only_the_chosen_student_stage_gets_a_gradient():
    student, teacher = random_maps(STUDENT, 8), random_maps(TEACHER, 8, 1)
    term = term_for(hint_layer=3, guided_layer=2)
    term(DistillationInputs(of_maps(student), of_maps(teacher), None, 1)).backward()
    for view in student:
        assert [m.grad is not None and bool(m.grad.any()) for m in view] == [False, True, False]
        assert view[1].grad.flatten(1).any(dim=1).all()
    assert all(m.grad is None for view in teacher for m in view)
    assert term.regressor.conv.weight.shape == (6, 3, 1, 1)


def test_the_larger_map_is_pooled_on_each_side():
    wide, tall = torch.rand(1, 2, 4, 8), torch.rand(1, 2, 8, 4)
    a, b = equal_sizes(wide, tall)
    torch.testing.assert_close(a, wide.view(1, 2, 4, 4, 2).mean(4))
    torch.testing.assert_close(b, tall.view(1, 2, 4, 2, 4).mean(3))


def test_one_value_a_channel_is_finite():
    student = random_maps(STUDENT, 4, views=1, rows=1)
    teacher = random_maps(TEACHER, 4, 1, views=1, rows=1)
    loss = term_for(hint_layer=3)(DistillationInputs(of_maps(student), of_maps(teacher)))
    assert loss.isfinite()


def test_where_it_applies_and_its_options():
    for stage in ("discover", "distill"):
        term = build_term("fitnet", stage=stage, context=CONTEXT)
        assert isinstance(term, FitNet)
        assert term.regressor.conv.weight.shape == (5, 3, 1, 1)
    for option, value in (("hint_layer", 0), ("hint_layer", 4), ("guided_layer", -1)):
        with pytest.raises(InputError, match=f"fitnet: {option} is {value}.*stages 1 to 3"):
            build_term("fitnet", stage="discover", context=CONTEXT, options={option: value})
    with pytest.raises(InputError, match="guided_layer is 3"):
        FitNet((2, 3), TEACHER, hint_layer=3)
    without = CONTEXT._replace(student_channels=())
    with pytest.raises(InputError, match="of which this backbone has none"):
        build_term("fitnet", stage="discover", context=without)
    bare = HeadOutputs(torch.zeros(1, 1, 1), torch.zeros(1, 1, 4))
    with pytest.raises(RuntimeError, match="without maps"):
        FitNet(STUDENT, TEACHER)(DistillationInputs(bare, bare))
