"""Distances to the nearest class from statistics alone, on Gaussians with known results."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crkd.clustering.low_rank_gaussians import ClassStatistics, class_statistics
from crkd.clustering.novelty.mahalanobis import ClassDistance

DIMENSIONS, CLASSES = 12, 4
# Features are averages of rectified maps: far enough above 0 that none is clamped.
CENTERS = 30.0 + 6.0 * np.random.default_rng(0).standard_normal((CLASSES, DIMENSIONS))
SPREADS = np.linspace(0.4, 1.6, DIMENSIONS)


def members(each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(CLASSES), each)
    noise = np.random.default_rng(seed).standard_normal((len(labels), DIMENSIONS)) * SPREADS
    return (CENTERS[labels] + noise).astype(np.float32), labels


@pytest.fixture(scope="module")
def statistics() -> ClassStatistics:
    rows, labels = members(400, 1)
    return class_statistics(torch.from_numpy(rows), torch.from_numpy(labels), CLASSES, rank=3)


def test_the_distance_against_the_definition(statistics: ClassStatistics) -> None:
    covariance = np.zeros((DIMENSIONS, DIMENSIONS))
    for factor, residual in zip(statistics.factors, statistics.residual, strict=True):
        covariance += (factor @ factor.T + torch.diag(residual)).double().numpy() / CLASSES
    level = np.trace(covariance) / DIMENSIONS
    inverse = np.linalg.inv(0.9 * covariance + 0.1 * level * np.eye(DIMENSIONS))
    rows, _ = members(2, 5)
    for row, score in zip(rows, ClassDistance.of(statistics).scores(rows), strict=True):
        gaps = row - statistics.means.double().numpy()
        assert score == pytest.approx(min(float(g @ inverse @ g) for g in gaps) ** 0.5, rel=1e-5)


def test_members_fit_and_outliers_do_not(statistics: ClassStatistics) -> None:
    distance = ClassDistance.of(statistics)
    rows, _ = members(500, 2)
    assert distance.fits_nowhere(rows).mean() < 0.002
    between = CENTERS.mean(axis=0) + SPREADS * np.random.default_rng(3).standard_normal((50, 12))
    elsewhere = np.random.default_rng(4).uniform(0, 60, (50, DIMENSIONS))
    assert distance.fits_nowhere(between.astype(np.float32)).all()
    assert distance.fits_nowhere(elsewhere.astype(np.float32)).all()


def test_the_seed_moves_the_threshold_a_little(statistics: ClassStatistics) -> None:
    first, second = (ClassDistance.of(statistics, seed=seed) for seed in (0, 1))
    assert first.threshold == ClassDistance.of(statistics).threshold
    assert first.threshold == pytest.approx(second.threshold, rel=0.1)
