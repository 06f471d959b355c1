"""NMI and ARI against scikit-learn, known answers and properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from crkd.evaluation.agreement import agreement

IDS = st.integers(-1, 6)
PAIRS = st.lists(st.tuples(IDS, IDS), min_size=1, max_size=60).map(
    lambda rows: (np.array([a for a, _ in rows]), np.array([b for _, b in rows]))
)


@settings(deadline=None, max_examples=300)
@given(PAIRS)
def test_both_equal_sklearn(pair):
    first, second = pair
    found = agreement(first, second)
    # scikit-learn calls agreement below the rounding error zero.
    expected = normalized_mutual_info_score(first, second)
    assert found.nmi == pytest.approx(np.clip(expected, 0.0, 1.0), abs=1e-14)
    assert found.ari == pytest.approx(adjusted_rand_score(first, second), abs=1e-14)


@pytest.mark.parametrize(("images", "classes"), [(5_000, 10), (300_000, 1_000), (3_000, 3_000)])
def test_both_equal_sklearn_at_full_size(images, classes):
    draw = np.random.default_rng(classes)
    first = draw.integers(0, classes, images)
    second = np.where(draw.random(images) < 0.5, first, draw.integers(0, classes, images))
    found = agreement(first, second)
    assert found.nmi == pytest.approx(normalized_mutual_info_score(first, second), abs=1e-12)
    assert found.ari == pytest.approx(adjusted_rand_score(first, second), abs=1e-12)


@settings(deadline=None)
@given(PAIRS, st.permutations(range(-1, 7)))
def test_names_and_order_change_nothing(pair, renamed):
    first, second = pair
    found = agreement(first, second)
    names = np.array(renamed)
    for other in (agreement(second, first), agreement(names[first], 1_000 - second)):
        assert other.nmi == pytest.approx(found.nmi, abs=1e-14)
        assert other.ari == found.ari


def test_a_hand_computed_table():
    # The table is [[2, 1], [0, 2]]: 2 of 10 pairs are together in both, 4 in each alone.
    found = agreement(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 1]))
    shared = 0.4 * math.log(5 / 3) + 0.2 * math.log(5 / 9) + 0.4 * math.log(5 / 3)
    entropy = -0.6 * math.log(0.6) - 0.4 * math.log(0.4)
    assert found.nmi == pytest.approx(shared / entropy)
    assert found.ari == pytest.approx((2 - 1.6) / (4 - 1.6))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([3], [5], (1.0, 1.0)),
        ([1, 1, 1], [0, 0, 0], (1.0, 1.0)),
        ([0, 1, 2], [2, 0, 1], (1.0, 1.0)),
        ([0, 0, 0], [0, 1, 2], (0.0, 0.0)),
        ([0, 0, 1, 1], [0, 1, 0, 1], (0.0, -0.5)),
    ],
)
def test_extreme_clusterings(first, second, expected):
    assert agreement(np.array(first), np.array(second)) == pytest.approx(expected)


def test_pairs_of_many_images_do_not_overflow():
    # Products of two numbers of pairs exceed 64 bits from about 80,000 images on.
    first = np.repeat([0, 1], 500_000)
    assert agreement(first, 1 - first).ari == 1.0
    shifted = np.roll(first, 100_000)
    assert agreement(first, shifted).ari == pytest.approx(adjusted_rand_score(first, shifted))
    assert 0 < agreement(first, shifted).ari < 1
