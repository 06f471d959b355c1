from __future__ import annotations

import math

import pytest
import torch

from crkd.core.errors import InputError
from crkd.ot.marginals import EstimatedPrior, class_prior


def test_uniform_and_given() -> None:
    assert class_prior("uniform", 2, 3).marginal() is None
    given = class_prior("given", 2, 3, weights=[1, 0, 3])
    torch.testing.assert_close(given.marginal(), torch.tensor([0.25, 0.0, 0.75]))
    given.update(torch.full((2, 4, 3), 1 / 3))
    torch.testing.assert_close(given.marginal(), torch.tensor([0.25, 0.0, 0.75]))


def test_estimate_approaches_the_predictions_of_each_head_and_is_smoothed() -> None:
    prior = EstimatedPrior(2, 4, momentum=0.5, smoothing=0.2)
    torch.testing.assert_close(prior.marginal(), torch.full((2, 4), 0.25))
    sizes = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7]])
    views = sizes[None, :, None].expand(3, 2, 5, 4)
    prior.update(views)
    torch.testing.assert_close(prior.marginal(), 0.8 * (0.5 * 0.25 + 0.5 * sizes) + 0.05)
    for _ in range(60):
        prior.update(views)
    torch.testing.assert_close(prior.marginal(), 0.8 * sizes + 0.05)


def test_no_class_is_starved() -> None:
    prior = EstimatedPrior(1, 3, momentum=0.0, smoothing=0.3)
    prior.update(torch.tensor([[[1.0, 0.0, 0.0]]]))
    torch.testing.assert_close(prior.marginal().min(), torch.tensor(0.1))


def test_state_survives_a_checkpoint() -> None:
    prior = EstimatedPrior(1, 3)
    prior.update(torch.tensor([[[0.5, 0.3, 0.2]]]))
    other = EstimatedPrior(1, 3)
    other.load_state_dict(prior.state_dict())
    assert torch.equal(other.marginal(), prior.marginal())


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("even", {}, "unknown class prior 'even'"),
        ("given", {}, "must be 3 numbers"),
        ("given", {"weights": [1, 2]}, "must be 3 numbers"),
        ("given", {"weights": [1, -2, 3]}, "at least 0"),
        ("estimated", {"momentum": 1.0}, "momentum"),
        ("estimated", {"smoothing": 1.5}, "smoothing"),
    ],
)
def test_mistakes_are_named(kind: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        class_prior(kind, 1, 3, **options)  # type: ignore[arg-type]


def test_expected_sizes_replace_equal_ones() -> None:
    sizes = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    uniform = class_prior("uniform", 2, 3, expected=sizes)
    torch.testing.assert_close(uniform.marginal(), sizes.float())
    estimated = EstimatedPrior(2, 3, momentum=0.5, smoothing=0.5, expected=sizes)
    torch.testing.assert_close(estimated.marginal(), sizes.float().expand(2, 3))
    estimated.update(torch.eye(3)[None, :1].repeat(2, 4, 1))
    running = 0.5 * sizes.float() + 0.5 * torch.eye(3)[0]
    torch.testing.assert_close(
        estimated.marginal(), (0.5 * running + 0.5 * sizes.float()).expand(2, 3)
    )


def test_weights_without_a_finite_sum_are_refused() -> None:
    for weights in ([1, 2, math.inf], [1e308, 1e308, 1.0]):
        with pytest.raises(InputError, match="with a finite sum"):
            class_prior("given", 1, 3, weights=weights)


def test_as_many_expected_sizes_as_classes() -> None:
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        EstimatedPrior(1, 3, expected=torch.tensor([0.5, 0.5]))


def test_no_samples_and_no_numbers_change_no_estimate() -> None:
    prior, before = EstimatedPrior(2, 3, momentum=0.5), torch.full((2, 3), 1 / 3)
    prior.update(torch.zeros(2, 0, 3))
    torch.testing.assert_close(prior.marginal(), before)
    predictions = torch.tensor([0.5, 0.25, 0.25]).repeat(2, 4, 1)
    predictions[0, 1, 2] = torch.nan
    prior.update(predictions)
    torch.testing.assert_close(prior.marginal()[0], before[0])
    assert prior.marginal()[1, 0] > 0.35
