"""Known-looking and outlying images on Gaussian data with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from crkd.clustering.novelty import outliers as outliers_module
from crkd.clustering.novelty.known_detector import known_check, known_classes
from crkd.clustering.novelty.outliers import outliers, reject_bucket
from crkd.core.errors import InputError

DIMENSIONS = 16


def gaussians(means, each, seed):
    draw = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(means)), each)
    noise = draw.standard_normal((len(truth), DIMENSIONS)) * np.linspace(0.3, 1.5, DIMENSIONS)
    return (means[truth] + noise).astype(np.float32), truth


def means(count, seed, scale=3.0):
    return scale * np.random.default_rng(seed).standard_normal((count, DIMENSIONS))


def test_separable_classes_are_told_apart():
    old = means(5, 0)
    train, labels = gaussians(old, 200, 1)
    held, _ = gaussians(old, 100, 2)
    known, _ = gaussians(old, 60, 3)
    novel, _ = gaussians(means(4, 9), 60, 4)
    check = known_check(np.vstack([known, novel]), known_classes(train, labels), held)
    is_novel = np.arange(540) >= 300
    assert roc_auc_score(is_novel, check.scores) > 0.95
    assert check.looks_known[~is_novel].mean() == pytest.approx(0.95, abs=0.04)
    assert check.looks_known[is_novel].mean() < 0.1
    assert check.count == check.looks_known.sum()
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
    check = known_check(both, known_classes(train, labels), held, false_positive_rate=rate)
    assert roc_auc_score(np.arange(4000) >= 2000, check.scores) == pytest.approx(0.5, abs=0.03)
    assert abs(check.stranger - 0.5) < 4 * check.noise < 0.1
    assert 1 - check.looks_known.mean() == pytest.approx(rate, abs=0.35 * rate + 0.005)


def test_strangeness_against_the_definition():
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
        known_check(rows, classes, rows, false_positive_rate=0.0)
    with pytest.raises(InputError, match="20 known images are too few"):
        known_check(rows, classes, rows, false_positive_rate=0.01)
    with pytest.raises(InputError, match="no image"):
        known_classes(rows, labels * 2)


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
