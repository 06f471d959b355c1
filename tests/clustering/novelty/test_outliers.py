"""Outlying images on Gaussian data with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from crkd.clustering.novelty import outliers as outliers_module
from crkd.clustering.novelty.outliers import outliers, reject_bucket
from crkd.core.errors import InputError
from tests.support.gaussian_classes import DIMENSIONS, gaussians, means


@pytest.mark.parametrize("faiss_there", [True, False])
def test_outliers_far_from_everything(faiss_there, monkeypatch):
    if not faiss_there:
        monkeypatch.setattr(outliers_module, "has_faiss", lambda: False)
    reference, _ = gaussians(means(5, 0), 100, 1)
    inside, _ = gaussians(means(5, 0), 100, 2)
    stray = np.random.default_rng(3).standard_normal((100, DIMENSIONS)).astype(np.float32)
    found = outliers(np.vstack([inside, stray]), reference)
    is_stray = np.arange(600) >= 500
    assert roc_auc_score(is_stray, found.scores) > 0.95
    assert found.rejected[~is_stray].mean() < 0.05
    assert found.rejected[is_stray].mean() > 0.8
    again = outliers(inside, reference)
    order = roc_auc_score(np.arange(1000) >= 500, np.r_[again.scores, outliers_own(reference)])
    assert order == pytest.approx(0.5, abs=0.06)


def outliers_own(reference):
    return outliers(reference, reference).scores


def test_a_row_of_the_reference_is_not_its_own_neighbor():
    reference, _ = gaussians(means(5, 0), 100, 1)
    found = outliers(reference, reference, quantile=0.9, neighbors=1)
    unit = reference / np.linalg.norm(reference, axis=1, keepdims=True)
    distances = np.linalg.norm(unit[:, None] - unit[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_allclose(found.scores, distances.min(1), atol=2e-3)
    assert found.rejected.mean() == pytest.approx(0.1, abs=0.005)


def test_outlier_mistakes_are_named():
    rows = np.eye(4, dtype=np.float32)
    with pytest.raises(InputError, match="quantile is 1"):
        outliers(rows, rows, quantile=1.0)
    with pytest.raises(InputError, match="neighbors is 5 for 4"):
        outliers(rows, rows)


@pytest.mark.parametrize("faiss_there", [True, False])
def test_the_reject_bucket_holds_what_lies_apart(faiss_there, monkeypatch):
    monkeypatch.setattr("crkd.clustering.novelty.outliers.has_faiss", lambda: faiss_there)
    rows, _ = gaussians(means(4, 0), 50, 1)
    strange = np.random.default_rng(5).normal(size=(6, DIMENSIONS)).astype(np.float32) * 20
    found = reject_bucket(np.vstack([rows, strange]))
    assert found.rejected[200:].all()
    assert found.rejected[:200].mean() <= 0.02
    assert not reject_bucket(rows[:5]).rejected.any()
    with pytest.raises(InputError, match="fence"):
        reject_bucket(rows, fence=0.0)
