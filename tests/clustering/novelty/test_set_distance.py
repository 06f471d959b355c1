"""Distances of a set from known classes, on Gaussian data with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from crkd.clustering.novelty.set_distance import distance_check, known_classes
from crkd.core.errors import InputError
from tests.support.gaussian_classes import DIMENSIONS, gaussians, means


def test_separable_classes_are_told_apart():
    old = means(5, 0)
    train, labels = gaussians(old, 200, 1)
    held, _ = gaussians(old, 100, 2)
    known, _ = gaussians(old, 60, 3)
    novel, _ = gaussians(means(4, 9), 60, 4)
    check = distance_check(np.vstack([known, novel]), known_classes(train, labels), held)
    is_novel = np.arange(540) >= 300
    assert roc_auc_score(is_novel, check.scores) > 0.95
    assert check.within[~is_novel].mean() == pytest.approx(0.95, abs=0.04)
    assert check.within[is_novel].mean() < 0.1
    assert check.count == check.within.sum()
    pairs = np.mean(check.scores[:, None] > known_classes(train, labels).novelty_score(held))
    assert check.stranger == pytest.approx(pairs)


@pytest.mark.parametrize("rate", [0.02, 0.2])
def test_the_same_distribution_is_not_told_apart(rate):
    old = means(5, 0)
    train, labels = gaussians(old, 200, 1)
    held, _ = gaussians(old, 400, 2)
    first, _ = gaussians(old, 400, 3)
    second, _ = gaussians(old, 400, 4)
    both = np.vstack([first, second])
    check = distance_check(both, known_classes(train, labels), held, false_positive_rate=rate)
    assert roc_auc_score(np.arange(4000) >= 2000, check.scores) == pytest.approx(0.5, abs=0.03)
    assert abs(check.stranger - 0.5) < 4 * check.noise < 0.1
    assert 1 - check.within.mean() == pytest.approx(rate, abs=0.35 * rate + 0.005)


def test_the_score_against_the_definition():
    rows, labels = gaussians(means(3, 0), 40, 1)
    classes = known_classes(rows, labels)
    centers = np.stack([rows[labels == k].mean(0) for k in range(3)]).astype(np.float64)

    def shrunk(centered):
        covariance = centered.T @ centered / len(centered)
        level = np.trace(covariance) / DIMENSIONS
        return np.linalg.inv(0.9 * covariance + 0.1 * level * np.eye(DIMENSIONS))

    within, whole = shrunk(rows - centers[labels]), shrunk(rows - rows.mean(0, dtype=np.float64))
    new, _ = gaussians(means(2, 5), 3, 6)
    for row, score in zip(new, classes.novelty_score(new), strict=True):
        gaps, away = row - centers, row - rows.mean(0, dtype=np.float64)
        nearest = min(gap @ within @ gap for gap in gaps)
        assert score == pytest.approx(nearest - away @ whole @ away, rel=1e-4, abs=1e-3)


def test_check_mistakes_are_named():
    rows, labels = gaussians(means(2, 0), 10, 1)
    classes = known_classes(rows, labels)
    with pytest.raises(InputError, match="must be in"):
        distance_check(rows, classes, rows, false_positive_rate=0.0)
    with pytest.raises(InputError, match="20 known images are too few"):
        distance_check(rows, classes, rows, false_positive_rate=0.01)
    with pytest.raises(InputError, match="no image"):
        known_classes(rows, labels * 2)
