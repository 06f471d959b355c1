"""Seeding draws as greedy k-means++ says, from all rows or from a sample of them."""

import itertools
from collections import Counter

import numpy as np
import pytest

from crkd.clustering import seeding
from crkd.clustering.seeding import seed_rows


def greedy_pairs(points):
    """Return the probability of every ordered pair of seeds, two draws for the second seed."""
    gaps = (points[:, None] - points[None]) ** 2
    chances = np.zeros((len(points), len(points)))
    for first, near in enumerate(gaps):
        left = np.minimum(near, gaps).sum(axis=1)
        for draws in itertools.product(range(len(points)), repeat=2):
            best = min(draws, key=lambda row: left[row])
            chances[first, best] += np.prod(near[list(draws)] / near.sum()) / len(points)
    return chances


def test_pairs_come_as_often_as_greedy_kmeans_plus_plus_draws_them():
    points = np.array([0.0, 1.0, 3.0, 7.0])
    rows = points[:, None].astype(np.float32)
    expected, number = greedy_pairs(points), 3000
    drawn = Counter(tuple(seed_rows(rows, 2, seed).tolist()) for seed in range(number))
    found = np.array([[drawn[i, j] / number for j in range(4)] for i in range(4)])
    assert expected.sum() == pytest.approx(1.0)
    # Four standard deviations of a share that is estimated from so many draws.
    np.testing.assert_array_less(
        np.abs(found - expected), 4 * np.sqrt(expected * (1 - expected) / number) + 1e-9
    )


@pytest.mark.parametrize("seed", range(10))
def test_copies_are_not_drawn_while_other_rows_are_left(seed):
    draw = np.random.default_rng(seed)
    different = draw.standard_normal((6, 300)).astype(np.float32)
    rows = different[draw.permutation(np.repeat(np.arange(6), [200, 30, 5, 1, 1, 1]))]
    assert len(np.unique(rows[seed_rows(rows, 6, seed)], axis=0)) == 6


def test_rows_are_drawn_even_if_none_differ():
    assert seed_rows(np.ones((5, 3), np.float32), 3, 0).shape == (3,)


def test_a_sample_reaches_all_rows_and_depends_on_the_seed(monkeypatch):
    monkeypatch.setattr(seeding, "SEED_ROWS", 50)
    monkeypatch.setattr(seeding, "SEED_ROWS_PER_CLUSTER", 2)
    rows = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)
    drawn = [seed_rows(rows, 10, seed) for seed in range(30)]
    np.testing.assert_array_equal(drawn[0], seed_rows(rows, 10, 0))
    assert all(len(np.unique(positions)) == 10 for positions in drawn)
    # A row comes with a chance of 1 %, so that 300 draws hit about 260 different ones.
    together = np.unique(np.concatenate(drawn))
    assert len(together) > 200
    assert together.min() < 100
    assert together.max() >= 900


def test_a_large_number_of_clusters_takes_a_larger_sample(monkeypatch):
    monkeypatch.setattr(seeding, "SEED_ROWS", 1)
    monkeypatch.setattr(seeding, "SEED_ROWS_PER_CLUSTER", 1)
    rows = np.arange(100, dtype=np.float32)[:, None]
    positions = seed_rows(rows, 90, 0)
    assert len(np.unique(positions)) == 90
