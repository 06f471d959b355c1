from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from crkd.core.errors import InputError
from crkd.losses.distillation.vid import GaussianRegressor, Vid
from crkd.losses.term import DistillationInputs, TermContext, build_term
from tests.support.losses import of_maps, pooled, random_maps, stacked

STUDENT, TEACHER = (4, 5), (6, 7)
CONTEXT = TermContext(4, 5, 7, STUDENT, TEACHER)


def layer_formula(
    student: np.ndarray, teacher: np.ndarray, weights: list[np.ndarray], raw: np.ndarray
) -> float:
    """Mean of log sigma_c + (t - mu)^2 / (2 sigma_c^2) over samples, channels and places."""
    side = min(student.shape[-1], teacher.shape[-1])
    mean, teacher = pooled(student, side), pooled(teacher, side)
    for number, weight in enumerate(weights):
        mean = np.einsum("oc,nchw->nohw", weight, mean)
        if number < 2:
            mean = np.maximum(mean, 0)
    sigma = np.sqrt(np.log1p(np.exp(raw)) + 1e-5)[:, None, None]
    return float((np.log(sigma) + (teacher - mean) ** 2 / (2 * sigma**2)).mean())


def term_for(**options: object) -> Vid:
    torch.manual_seed(3)
    term = Vid(STUDENT, TEACHER, **options).double()
    with torch.no_grad():
        for regressor in term.regressors:
            # Channels of different variance, so that a mix-up of channels shows.
            regressor.raw_variance.add_(torch.randn(len(regressor.raw_variance)))
    return term


def weights_of(regressor: GaussianRegressor) -> list[torch.Tensor]:
    return [regressor.mean[position].weight for position in (0, 2, 4)]


@pytest.mark.parametrize(("student_side", "teacher_side"), [(4, 4), (8, 4), (4, 8)])
def test_value_and_gradient_against_the_formula(student_side: int, teacher_side: int):
    student, teacher = random_maps(STUDENT, student_side), random_maps(TEACHER, teacher_side, 1)
    term = term_for()
    loss = term(DistillationInputs(of_maps(student), of_maps(teacher)))
    loss.backward()
    total, rng, step = 0.0, np.random.default_rng(0), 1e-6
    for stage, regressor in enumerate(term.regressors):
        weights = [w.detach().numpy()[:, :, 0, 0].copy() for w in weights_of(regressor)]
        raw = regressor.raw_variance.detach().numpy().copy()
        maps, target = stacked(student, stage), stacked(teacher, stage)
        total += layer_formula(maps, target, weights, raw)
        gradients = [
            np.concatenate([view[stage].grad.numpy() for view in student]),
            regressor.raw_variance.grad.numpy(),
            *(w.grad.numpy()[:, :, 0, 0] for w in weights_of(regressor)),
        ]
        for array, gradient in zip([maps, raw, *weights], gradients, strict=True):
            assert gradient.any()
            for flat in rng.choice(array.size, size=min(8, array.size), replace=False):
                index = np.unravel_index(flat, array.shape)
                kept, values = array[index], []
                for shift in (step, -step):
                    array[index] = kept + shift
                    values.append(layer_formula(maps, target, weights, raw))
                array[index] = kept
                numeric = (values[0] - values[1]) / (2 * step)
                assert gradient[index] == pytest.approx(numeric, abs=1e-7)
    assert loss.item() == pytest.approx(total, rel=1e-10)


def test_it_is_the_negative_log_likelihood_but_for_a_constant():
    regressor = term_for().regressors[0]
    student, teacher = random_maps(STUDENT, 4)[0][0], random_maps(TEACHER, 4, 1)[0][0]
    scale = regressor.variance().sqrt().view(1, -1, 1, 1)
    expected = -Normal(regressor.mean(student), scale).log_prob(teacher).mean()
    constant = 0.5 * math.log(2 * math.pi)
    assert regressor(student, teacher).item() == pytest.approx(expected.item() - constant)


def test_variances_start_at_the_published_value():
    for variance in (1e-3, 0.5, 5.0, 100.0):
        term = Vid(STUDENT, TEACHER, init_variance=variance)
        for regressor in term.regressors:
            torch.testing.assert_close(
                regressor.variance(), torch.full_like(regressor.raw_variance, variance)
            )
    raw = Vid(STUDENT, TEACHER).regressors[0].raw_variance
    torch.testing.assert_close(raw, torch.full((6,), math.log(math.exp(5 - 1e-5) - 1)))


def test_trained_variances_become_the_mean_squared_residuals():
    torch.manual_seed(0)
    regressor = GaussianRegressor(4, 6, init_variance=5.0).double()
    regressor.mean.requires_grad_(False)
    student = random_maps(STUDENT, 4, rows=20)[0][0].detach()
    spread = torch.tensor([0.1, 0.5, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    teacher = random_maps(TEACHER, 4, 1, rows=20)[0][0].detach() * spread.view(6, 1, 1)
    optimizer = torch.optim.LBFGS(
        [regressor.raw_variance], max_iter=100, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = regressor(student, teacher)
        loss.backward()
        return loss

    optimizer.step(closure)
    residual = (regressor.mean(student) - teacher).square().mean(dim=(0, 2, 3))
    torch.testing.assert_close(regressor.variance(), residual, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("correlation", [0.3, 0.9])
def test_the_trained_bound_stays_below_the_mutual_information_and_comes_close(correlation: float):
    """Jointly Gaussian s and t, shifted above zero, where the ReLUs of the mean are linear."""
    torch.manual_seed(0)
    s = torch.randn(20000)
    t = correlation * s + math.sqrt(1 - correlation**2) * torch.randn(20000)
    # Two images, one to train on and one to judge by, of 10000 samples each.
    student = torch.stack([s + 6, torch.ones_like(s)]).view(2, 2, 100, 100).transpose(0, 1)
    teacher = (t + 6).view(2, 1, 100, 100)
    regressor = GaussianRegressor(2, 1, init_variance=5.0)
    with torch.no_grad():
        for weight in weights_of(regressor):
            weight.abs_()
    optimizer = torch.optim.LBFGS(
        regressor.parameters(), max_iter=60, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = regressor(student[:1], teacher[:1])
        loss.backward()
        return loss

    optimizer.step(closure)
    entropy_without_constant = 0.5  # (1 + log 2 pi) / 2 less the constant that the loss leaves out
    bound = entropy_without_constant - regressor(student[1:], teacher[1:]).item()
    information = -0.5 * math.log(1 - correlation**2)
    assert information - 0.05 < bound < information + 0.02


def test_the_loss_is_the_sum_over_the_chosen_stages():
    student, teacher = of_maps(random_maps(STUDENT, 4)), of_maps(random_maps(TEACHER, 4, 1))
    inputs = DistillationInputs(student, teacher)
    both = term_for()
    parts = []
    for layer in (1, 2):
        one = Vid(STUDENT, TEACHER, student_layers=[layer], teacher_layers=[layer]).double()
        one.regressors[0].load_state_dict(both.regressors[layer - 1].state_dict())
        parts.append(one(inputs).item())
    assert both(inputs).item() == pytest.approx(sum(parts))
    crossed = Vid(STUDENT, TEACHER, student_layers=(1,), teacher_layers=(2,))
    assert crossed.regressors[0].mean[0].weight.shape == (7, 4, 1, 1)
    assert crossed.double()(inputs).isfinite()


def test_no_gradient_reaches_the_teacher_and_every_row_counts():
    student, teacher = random_maps(STUDENT, 4), random_maps(TEACHER, 4, 1)
    term_for()(DistillationInputs(of_maps(student), of_maps(teacher), None, 1)).backward()
    assert all(m.grad is None for view in teacher for m in view)
    assert all(m.grad.flatten(1).any(dim=1).all() for view in student for m in view)


def test_one_step_changes_every_parameter_also_the_variances():
    inputs = DistillationInputs(
        of_maps(random_maps(STUDENT, 4)), of_maps(random_maps(TEACHER, 4, 1))
    )
    term = term_for()
    before = copy.deepcopy(term.state_dict())
    optimizer = torch.optim.SGD(term.parameters(), lr=0.05)
    first = term(inputs)
    first.backward()
    optimizer.step()
    names = [name for name, _ in term.named_parameters()]
    assert len(names) == 8
    assert sum("raw_variance" in name for name in names) == 2
    for name in names:
        assert (term.state_dict()[name] != before[name]).any(), name
    assert all(
        (r.raw_variance != before[f"regressors.{i}.raw_variance"]).all()
        for i, r in enumerate(term.regressors)
    )
    assert term(inputs) < first


def test_extreme_variances_are_finite():
    term = term_for()
    inputs = DistillationInputs(
        of_maps(random_maps(STUDENT, 4)), of_maps(random_maps(TEACHER, 4, 1))
    )
    for value in (-1000.0, 1000.0):
        with torch.no_grad():
            term.regressors[0].raw_variance.fill_(value)
        loss = term(inputs)
        loss.backward()
        assert loss.isfinite()
        assert term.regressors[0].raw_variance.grad.isfinite().all()


def test_where_it_applies_and_its_options():
    for stage in ("discover", "distill"):
        term = build_term("vid", stage=stage, context=CONTEXT)
        assert isinstance(term, Vid)
        assert len(term.regressors) == 2

    def refused(message: str, context: TermContext = CONTEXT, **options: object) -> None:
        with pytest.raises(InputError, match=message):
            build_term("vid", stage="discover", context=context, options=options)

    for variance in (0.0, 1e-5, math.nan, math.inf):
        refused("vid: init_variance is", init_variance=variance)
    refused("student_layers is 3, but the network has the stages 1 to 2", student_layers=[3])
    refused("teacher_layers is 0", teacher_layers=[0])
    refused("1 stages of the student but 2 of the teacher", student_layers=[1])
    refused("student_layers names no stage", student_layers=[])
    refused("3 of the teacher", CONTEXT._replace(teacher_channels=(1, 2, 3)))
    refused("names no stage.*backbone with feature maps", CONTEXT._replace(student_channels=()))


def test_the_published_number_of_parameters():
    """resnet32x4 to resnet8x4: three layers of 64, 128 and 256 channels, and their variances."""
    channels = (64, 128, 256)
    term = Vid(channels, channels)
    assert sum(p.numel() for p in term.parameters()) == 258496
