"""Distances of a set from known classes, on Gaussian data with known results."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from crkd.clustering.novelty.relative_mahalanobis import fit_relative_mahalanobis
from crkd.clustering.novelty.set_distance import distance_check
from crkd.core.errors import InputError
from tests.support.gaussian_classes import gaussians, means


def test_separable_classes_are_separated():
    old = means(5, 0)
    train, labels = gaussians(old, 200, 1)
    held, _ = gaussians(old, 100, 2)
    known, _ = gaussians(old, 60, 3)
    novel, _ = gaussians(means(4, 9), 60, 4)
    check = distance_check(np.vstack([known, novel]), fit_relative_mahalanobis(train, labels), held)
    is_novel = np.arange(540) >= 300
    assert roc_auc_score(is_novel, check.scores) > 0.95
    assert check.within[~is_novel].mean() == pytest.approx(0.95, abs=0.04)
    assert check.within[is_novel].mean() < 0.1
    assert check.count == check.within.sum()
    pairs = np.mean(
        check.scores[:, None] > fit_relative_mahalanobis(train, labels).novelty_score(held)
    )
    assert check.auroc == pytest.approx(pairs)


@pytest.mark.parametrize("rate", [0.02, 0.2])
def test_samples_of_the_same_distribution_are_not_separated(rate):
    old = means(5, 0)
    train, labels = gaussians(old, 200, 1)
    held, _ = gaussians(old, 400, 2)
    first, _ = gaussians(old, 400, 3)
    second, _ = gaussians(old, 400, 4)
    both = np.vstack([first, second])
    check = distance_check(
        both, fit_relative_mahalanobis(train, labels), held, false_positive_rate=rate
    )
    assert roc_auc_score(np.arange(4000) >= 2000, check.scores) == pytest.approx(0.5, abs=0.03)
    assert abs(check.auroc - 0.5) < 4 * check.auroc_std < 0.1
    assert 1 - check.within.mean() == pytest.approx(rate, abs=0.35 * rate + 0.005)


def test_check_mistakes_are_named():
    rows, labels = gaussians(means(2, 0), 10, 1)
    classes = fit_relative_mahalanobis(rows, labels)
    with pytest.raises(InputError, match="must be in"):
        distance_check(rows, classes, rows, false_positive_rate=0.0)
    with pytest.raises(InputError, match="20 known images are too few"):
        distance_check(rows, classes, rows, false_positive_rate=0.01)
