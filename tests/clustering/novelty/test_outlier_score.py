from __future__ import annotations

import numpy as np
import pytest

from crkd.clustering.novelty.outlier_score import Neighbors, OutlierScore, Scale
from crkd.core.errors import InputError


def vectors(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)


def by_hand(row: np.ndarray, reference: np.ndarray) -> float:
    unit = [v / np.sqrt((v.astype(np.float64) ** 2).sum()) for v in (row, *reference)]
    found = sorted(float(np.sqrt(((unit[0] - other) ** 2).sum())) for other in unit[1:])
    return found[5] if found[0] < 1e-3 else found[4]


def test_distance_to_the_fifth_neighbor_counted_by_hand() -> None:
    reference = vectors(40, 0)
    rows = np.concatenate([vectors(9, 1), 3 * reference[:4]])
    wanted = [by_hand(row, reference) for row in rows]
    np.testing.assert_allclose(Neighbors(reference).distances(rows), wanted, atol=1e-6)


def test_a_distance_does_not_depend_on_other_rows() -> None:
    reference, rows = vectors(40, 0), vectors(30, 1)
    alone = [float(Neighbors(reference).distances(row[None])[0]) for row in rows]
    np.testing.assert_allclose(Neighbors(reference).distances(rows), alone, rtol=0, atol=1e-12)


def test_a_scale_has_zero_at_the_center_and_one_at_the_threshold() -> None:
    groups = [np.arange(101.0), np.arange(50.0)]
    scale = Scale.of(groups, false_alarms=0.1)
    assert scale(np.array([50.0, 90.0])).tolist() == [0.0, 1.0]


def test_no_group_has_more_false_alarms_than_asked() -> None:
    reference = vectors(300, 0)
    draw = np.random.default_rng(3)
    groups = [(draw.normal(size=80), vectors(80, 1)), (1 + draw.normal(size=60), vectors(60, 2))]
    score = OutlierScore.fit(reference, groups, false_alarms=0.05)
    shares = [float(np.mean(score.scores(*group) > score.threshold)) for group in groups]
    assert 0 < max(shares) <= 0.05


def test_either_of_the_two_makes_an_outlier() -> None:
    generator = np.random.default_rng(0)
    center = 20 * np.eye(6)[0]
    inside = (center + generator.normal(size=(400, 6))).astype(np.float32)
    usual = generator.normal(size=200)
    score = OutlierScore.fit(inside[:200], [(usual, inside[200:])], false_alarms=0.05)
    far = -inside[:50]
    assert (score.scores(usual[:50], far) > score.threshold).all()
    assert (score.scores(usual[:50] + 20, inside[200:250]) > score.threshold).all()


def test_too_few_reference_rows() -> None:
    with pytest.raises(InputError, match="5 reference rows; give more than 5"):
        Neighbors(vectors(5, 1))
