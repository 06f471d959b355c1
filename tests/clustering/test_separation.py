"""Separation of clusters against known answers of normal distributions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm, truncnorm

from crkd.clustering.separation import CLOSE, FEWEST, HALVES, MOST, close_pairs, separation
from crkd.data.vectors.row_file import RowWriter


def normal(count: int, width: int, seed: int, first: float = 0.0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    rows[:, 0] += first
    return rows


def test_clusters_of_any_size_are_compared() -> None:
    """200 of 276 rows take part, and 276 / 200 is no binary fraction."""
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((2 * 276, 8)).astype(np.float32)
    rows[276:, 0] += 20
    assert close_pairs(rows, np.arange(len(rows)) // 276, 2) == []


def test_halves_of_a_normal_distribution_have_the_stated_separation() -> None:
    half = truncnorm(0, np.inf)
    assert pytest.approx(2 * half.mean() / half.std(), abs=0.005) == HALVES
    rows = normal(40_000, 3, 0)
    left = rows[:, 0] < 0
    assert separation(rows[left], rows[~left]) == pytest.approx(HALVES, abs=0.03)
    # An uneven cut separates no better.
    left = rows[:, 0] < norm.ppf(0.2)
    low, high = truncnorm(-np.inf, norm.ppf(0.2)), truncnorm(norm.ppf(0.2), np.inf)
    exact = (high.mean() - low.mean()) / math.sqrt((low.var() + high.var()) / 2)
    assert separation(rows[left], rows[~left]) == pytest.approx(exact, abs=0.03)
    assert exact < CLOSE


@pytest.mark.parametrize("gap", [2.0, 4.0, 8.0])
def test_the_separation_of_two_normal_distributions_is_their_distance(gap: float) -> None:
    found = separation(normal(20_000, 4, 1), normal(20_000, 4, 2, first=gap))
    assert found == pytest.approx(gap, rel=0.03)


def test_chance_separates_nothing_in_many_dimensions() -> None:
    rows = normal(60, 256, 3)
    # With the same rows for the line and on it, d would be that of different classes.
    line = rows[:30].mean(axis=0) - rows[30:].mean(axis=0)
    places = rows[:30] @ line, rows[30:] @ line
    assert (places[0].mean() - places[1].mean()) / places[0].std() > CLOSE
    assert abs(separation(rows[:30], rows[30:])) < 1


def test_the_halves_of_a_class_are_close_and_classes_are_not() -> None:
    """Four classes far apart, one of them cut in half, in each of both orders of ids."""
    rows = np.concatenate([normal(80, 16, c, first=12.0 * c) for c in range(4)])
    truth = np.arange(4).repeat(80)
    assert close_pairs(rows, truth, 4) == []
    cut = np.where((truth == 2) & (rows[:, 1] > 0), 4, truth)
    (pair,) = close_pairs(rows, cut, 6)
    assert (pair.first, pair.second) == (2, 4)
    assert pair.separation == separation(rows[cut == 2], rows[cut == 4])
    assert close_pairs(rows, np.zeros(len(rows), np.int64), 1) == []


def test_small_clusters_are_left_out_and_large_ones_are_sampled(tmp_path: Path) -> None:
    rows = normal(2 * MOST + FEWEST - 1, 8, 5)
    clusters = np.repeat([0, 1, 2], [MOST, MOST, FEWEST - 1])
    clusters[: 2 * MOST] = np.where(rows[: 2 * MOST, 0] < 0, 0, 1)
    (pair,) = close_pairs(rows, clusters, 3)
    assert (pair.first, pair.second) == (0, 1)
    many = normal(20 * MOST, 8, 6)
    cut = (many[:, 0] > 0).astype(np.int64)
    (sampled,) = close_pairs(many, cut, 2)
    assert sampled.separation == pytest.approx(HALVES, abs=0.4)
    # Rows in a file give the same pair.
    writer = RowWriter(tmp_path / "rows", many.nbytes)
    writer.add(many)
    assert close_pairs(writer.finished(), cut, 2) == [sampled]  # type: ignore[arg-type]
