"""Semi-supervised k-means against a plain float64 loop, and its ties."""

from __future__ import annotations

import numpy as np
import pytest

from crkd.clustering.kmeans import kmeans
from crkd.clustering.semi_kmeans import _seeds, semi_kmeans
from crkd.core.errors import InputError


def mixture(num_classes=6, each=60, seed=0, spread=0.6):
    draw = np.random.default_rng(seed)
    means = draw.standard_normal((num_classes, 8)) * 2
    truth = np.repeat(np.arange(num_classes), each)
    rows = means[truth] + spread * draw.standard_normal((len(truth), 8))
    return rows.astype(np.float32), truth


def plain_loop(rows, labels, centroids, num_iters=200):
    """The same method, one row at a time in float64."""
    rows, centroids = rows.astype(np.float64), centroids.astype(np.float64)
    assignment = labels.copy()
    for _ in range(num_iters):
        for n in range(len(rows)):
            if labels[n] < 0:
                assignment[n] = np.argmin([np.sum((rows[n] - c) ** 2) for c in centroids])
        for k in range(len(centroids)):
            if (assignment == k).any():
                centroids[k] = rows[assignment == k].mean(axis=0)
    inertia = sum(np.sum((r - centroids[a]) ** 2) for r, a in zip(rows, assignment, strict=True))
    return centroids, assignment, inertia


@pytest.mark.parametrize("spread", [0.6, 2.0])
def test_agrees_with_the_plain_loop(spread):
    rows, truth = mixture(each=25, spread=spread)
    labels = np.where((truth < 2) & (np.arange(len(truth)) % 2 == 0), truth, -1)
    ours = semi_kmeans(rows, labels, 6, seed=4, num_restarts=1)
    means = np.stack([rows[labels == k].mean(axis=0) for k in range(2)])
    start = np.random.SeedSequence(4).generate_state(1)[0]
    seeds = _seeds(rows[labels < 0], means, 4, np.random.default_rng(start))
    centroids, assignment, inertia = plain_loop(rows, labels, seeds, num_iters=ours.num_iters + 5)
    np.testing.assert_array_equal(ours.assignment, assignment)
    np.testing.assert_allclose(ours.centroids, centroids, atol=1e-4)
    assert ours.inertia == pytest.approx(inertia, rel=1e-4)


def test_labeled_rows_stay_even_near_another_class():
    rows, truth = mixture()
    labels = np.full(len(rows), -1)
    labels[truth == 0] = 0
    # A row of class 3 that someone labeled 0.
    stray = int(np.flatnonzero(truth == 3)[0])
    labels[stray] = 0
    result = semi_kmeans(rows, labels, 6, seed=0)
    assert (result.assignment[labels == 0] == 0).all()
    others = (truth == 3) & (labels < 0)
    assert (result.assignment[others] != 0).all()


def test_labels_of_half_the_classes_find_the_others():
    rows, truth = mixture()
    labels = np.where((truth < 3) & (np.arange(len(truth)) % 3 == 0), truth, -1)
    result = semi_kmeans(rows, labels, 6, seed=0, spherical=False)
    for number in range(3):
        assert (result.assignment[truth == number] == number).mean() > 0.95
    for number in range(3, 6):
        counts = np.bincount(result.assignment[truth == number], minlength=6)
        assert counts[3:].max() > 0.95 * counts.sum()


def test_without_labels_it_is_k_means():
    rows, _ = mixture()
    free = np.full(len(rows), -1)
    ours = semi_kmeans(rows, free, 6, seed=0, num_restarts=5)
    assert ours.inertia == pytest.approx(kmeans(rows, 6, seed=0).inertia, rel=1e-3)


def test_spherical_ignores_lengths():
    rows, truth = mixture(spread=0.3)
    labels = np.where((truth < 2) & (np.arange(len(truth)) % 2 == 0), truth, -1)
    lengths = np.random.default_rng(1).uniform(0.1, 10, (len(rows), 1)).astype(np.float32)
    plain, scaled = (
        semi_kmeans(r, labels, 6, seed=0, spherical=True) for r in (rows, rows * lengths)
    )
    np.testing.assert_array_equal(plain.assignment, scaled.assignment)
    np.testing.assert_allclose(np.linalg.norm(plain.centroids, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "count", "word"),
    [
        ([0, 2, -1, -1], 3, "skip class 1"),
        ([0, 1, -1, -1], 1, "allow 2 to 4"),
        ([0, 1, -1, -1], 5, "allow 2 to 4"),
        ([-1, -1, -1, -1], 0, "at least 1"),
        ([0, 1], 2, "one for each of 4 rows"),
    ],
)
def test_mistakes_are_named(labels, count, word):
    with pytest.raises(InputError, match=word):
        semi_kmeans(np.eye(4, dtype=np.float32), np.array(labels), count, seed=0)
