"""Relative Mahalanobis distances against the definition."""

from __future__ import annotations

import numpy as np
import pytest

from crkd.clustering.novelty.relative_mahalanobis import fit_relative_mahalanobis
from crkd.core.errors import InputError
from tests.support.gaussian_classes import DIMENSIONS, gaussians, means


def test_the_score_against_the_definition():
    rows, labels = gaussians(means(3, 0), 40, 1)
    classes = fit_relative_mahalanobis(rows, labels)
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


def test_a_class_without_samples_is_refused():
    rows, labels = gaussians(means(2, 0), 10, 1)
    with pytest.raises(InputError, match="no image"):
        fit_relative_mahalanobis(rows, labels * 2)
