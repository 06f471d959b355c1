"""The score of a clustering: a divided class and two merged classes both lower it."""

from __future__ import annotations

import numpy as np
import pytest

from crkd.clustering.partition_score import fisher_separation, partition_score


def classes(sizes, seed=0):
    """Return round classes, 8 standard deviations apart, and their labels."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = 8 / np.sqrt(2) * np.eye(12)[labels] + draw.standard_normal((len(labels), 12))
    return rows.astype(np.float32), labels


def test_separation_against_the_definition():
    rows, labels = classes([50, 20])
    first, second = (rows[labels == label].astype(np.float64) for label in (0, 1))
    line = first.mean(0) - second.mean(0)
    line /= np.linalg.norm(line)
    pooled = np.sqrt(((first @ line).std() ** 2 + (second @ line).std() ** 2) / 2)
    expected = ((first @ line).mean() - (second @ line).mean()) / pooled
    assert fisher_separation(first.astype(np.float32), second.astype(np.float32)) == pytest.approx(
        expected, rel=1e-4
    )
    assert fisher_separation(rows[:2], rows[50:]) == 0


@pytest.mark.parametrize("sizes", [[60, 60, 60, 60], [200, 200, 20, 20]])
def test_the_true_classes_score_best(sizes):
    rows, labels = classes(sizes)
    right = partition_score(rows, labels, 4, seed=0)
    # Two classes are merged, and the largest one is divided at random.
    wrong = np.where(labels == 3, 2, labels)
    largest = np.flatnonzero(labels == 0)
    wrong[largest[::2]] = 3
    assert right > 0 > partition_score(rows, wrong, 4, seed=0)


def test_a_cluster_without_rows_counts_as_not_separated():
    rows, labels = classes([30, 30])
    assert partition_score(rows, labels, 3, seed=0) < 0
