"""Merged k-means: classes of very different sizes, and sets with few distinct rows."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import adjusted_rand_score

from crkd.clustering.kmeans import kmeans, unit_rows
from crkd.clustering.merging import merged_kmeans


def uneven(sizes, width=16, seed=0):
    draw = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    rows = 4.0 * np.eye(len(sizes), width)[truth] + draw.standard_normal((len(truth), width))
    return unit_rows(rows.astype(np.float32)), truth


def test_small_classes_are_found_next_to_large_ones():
    rows, truth = uneven([400, 400, 400, 40, 40, 40])
    found = adjusted_rand_score(truth, merged_kmeans(rows, 6, seed=0))
    assert found > 0.95 > adjusted_rand_score(truth, kmeans(rows, 6, seed=0).assignment)


def test_the_seed_decides():
    rows, _ = uneven([50, 50, 10])
    first, second = (merged_kmeans(rows, 3, seed=4) for _ in range(2))
    assert np.array_equal(first, second)


def test_few_distinct_rows():
    rows = unit_rows(np.array([[1, 0], [1, 0], [0, 1], [1, 0]], np.float32))
    assert len(np.unique(merged_kmeans(rows, 2, seed=0))) == 2
    assert set(merged_kmeans(rows, 4, seed=0).tolist()) <= set(range(4))
    assert merged_kmeans(rows[:1], 1, seed=0).tolist() == [0]
