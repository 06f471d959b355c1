"""Outlying images on Gaussian data with known results."""

from __future__ import annotations

import numpy as np
import pytest

from crkd.clustering.novelty.outliers import INNER, OUTER, reject_bucket, tukey_fence
from tests.support.gaussian_classes import DIMENSIONS, gaussians, means


def test_the_fences_by_hand():
    # Quartiles of 0, 1, ..., 8 are 2 and 6.
    assert tukey_fence(np.arange(9.0), INNER) == 6 + 1.5 * 4
    assert tukey_fence(np.arange(9.0), OUTER) == 6 + 3 * 4


@pytest.mark.parametrize("faiss_there", [True, False])
def test_a_row_is_not_its_own_neighbor(faiss_there, monkeypatch):
    monkeypatch.setattr("crkd.clustering.novelty.outliers.has_faiss", lambda: faiss_there)
    rows, _ = gaussians(means(5, 0), 100, 1)
    found = reject_bucket(rows)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    distances = np.linalg.norm(unit[:, None] - unit[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_allclose(found.scores, np.sort(distances, axis=1)[:, 4], atol=2e-3)
    assert found.threshold == tukey_fence(found.scores, INNER)
    np.testing.assert_array_equal(found.rejected, found.scores > found.threshold)


@pytest.mark.parametrize("faiss_there", [True, False])
def test_the_reject_bucket_holds_outliers(faiss_there, monkeypatch):
    monkeypatch.setattr("crkd.clustering.novelty.outliers.has_faiss", lambda: faiss_there)
    rows, _ = gaussians(means(4, 0), 50, 1)
    outlying = np.random.default_rng(5).normal(size=(6, DIMENSIONS)).astype(np.float32) * 20
    found = reject_bucket(np.vstack([rows, outlying]))
    assert found.rejected[200:].all()
    assert found.rejected[:200].mean() <= 0.02
    assert not reject_bucket(rows[:5]).rejected.any()


def test_outliers_among_clusters_of_several_densities():
    """The spread of the scores of all clusters together must not hide a few foreign rows."""
    random = np.random.default_rng(0)
    centers = np.eye(DIMENSIONS, dtype=np.float32)[:3]
    clusters = [
        center + width * random.normal(size=(100, DIMENSIONS)).astype(np.float32)
        for center, width in zip(centers, (0.02, 0.06, 0.1), strict=True)
    ]
    foreign = random.normal(size=(5, DIMENSIONS)).astype(np.float32)
    found = reject_bucket(np.concatenate([*clusters, foreign]))
    assert found.rejected[300:].all()
    assert found.rejected[:300].mean() <= 0.02
    # The outer fence would miss some of them.
    assert not (found.scores[300:] > tukey_fence(found.scores, OUTER)).all()
