from __future__ import annotations

import pytest
import torch

from crkd.clustering.low_rank_gaussians import ClassStatistics, class_statistics
from crkd.core.errors import InputError

GENERATOR = torch.Generator().manual_seed(0)


def gaussian(num: int, mean: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
    return mean + torch.randn(num, root.shape[1], generator=GENERATOR) @ root.T


def two_classes() -> tuple[torch.Tensor, torch.Tensor]:
    roots = torch.randn(2, 6, 6, generator=GENERATOR)
    features = [gaussian(4000, 40.0 + 5 * k * torch.ones(6), roots[k]) for k in range(2)]
    return torch.cat(features), torch.arange(2).repeat_interleave(4000)


def test_full_rank_statistics_hold_mean_and_covariance_exactly():
    features, labels = two_classes()
    fitted = class_statistics(features, labels, 2, rank=6)
    for k in range(2):
        rows = features[labels == k].double()
        covariance = fitted.factors[k] @ fitted.factors[k].T + fitted.residual[k].diag()
        torch.testing.assert_close(fitted.means[k].double(), rows.mean(0), rtol=1e-5, atol=1e-5)
        wanted = torch.cov(rows.T, correction=0)
        torch.testing.assert_close(covariance.double(), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rank", [0, 2])
def test_low_rank_statistics_keep_every_variance(rank: int):
    features, labels = two_classes()
    fitted = class_statistics(features, labels, 2, rank=rank)
    variance = fitted.factors.square().sum(-1) + fitted.residual
    for k in range(2):
        wanted = features[labels == k].double().var(0, correction=0)
        torch.testing.assert_close(variance[k].double(), wanted, rtol=1e-4, atol=1e-4)


def test_samples_have_the_moments_of_their_class():
    features, labels = two_classes()
    fitted = class_statistics(features, labels, 2, rank=3)
    classes = torch.ones(40_000, dtype=torch.int64)
    normals = torch.randn(40_000, fitted.num_draws, generator=GENERATOR)
    drawn = fitted.sample(classes, normals)
    covariance = fitted.factors[1] @ fitted.factors[1].T + fitted.residual[1].diag()
    torch.testing.assert_close(drawn.mean(0), fitted.means[1], rtol=0, atol=0.1)
    assert (torch.cov(drawn.T) - covariance).norm() / covariance.norm() < 0.05


def test_samples_of_rectified_features_are_not_negative():
    fitted = class_statistics(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), 1, rank=0)
    shifted = ClassStatistics(fitted.means, fitted.factors, fitted.residual + 1)
    drawn = shifted.sample(torch.zeros(50, dtype=torch.int64), torch.randn(50, 3))
    assert drawn.min() == 0.0
    assert drawn.max() > 0.0


def test_a_class_of_one_image_and_a_class_of_none():
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    fitted = class_statistics(features, torch.tensor([0, 1, 1]), 3, rank=2)
    torch.testing.assert_close(fitted.means[0], features[0])
    assert fitted.factors[0].abs().max() == 0.0
    torch.testing.assert_close(fitted.means[2], features.mean(0))


def test_statistics_follow_each_other_and_take_few_bytes():
    features, labels = two_classes()
    first = class_statistics(features, labels, 2, rank=1)
    both = first.followed_by(class_statistics(features[:4000], labels[:4000], 1, rank=1))
    assert both.num_classes == 3
    assert sum(t.nbytes for t in both.tensors().values()) == 3 * 4 * 6 * (1 + 2)
    torch.testing.assert_close(both.means[2], first.means[0])


def test_bad_statistics_are_refused():
    features, labels = two_classes()
    with pytest.raises(InputError, match="rank"):
        class_statistics(features, labels, 2, rank=7)
    with pytest.raises(InputError, match="no feature"):
        class_statistics(features, -torch.ones_like(labels), 2, rank=1)
    first = class_statistics(features, labels, 2, rank=1)
    with pytest.raises(InputError, match="rank"):
        first.followed_by(class_statistics(features, labels, 2, rank=2))


def test_some_classes_are_taken_from_other_statistics():
    features, labels = two_classes()
    first = class_statistics(features, labels, 2, rank=1)
    shifted = class_statistics(features + 7.0, labels, 2, rank=1)
    mixed = first.with_rows([1], shifted)
    torch.testing.assert_close(mixed.means[0], first.means[0])
    torch.testing.assert_close(mixed.means[1], shifted.means[1])
