"""The number of classes on Gaussian mixtures, and the parts that find it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

import crkd.clustering.class_count.estimate as estimation
from crkd.clustering.class_count.estimate import estimate_class_count
from crkd.clustering.class_count.inertia import cluster_counts, inertia_curve
from crkd.clustering.class_count.probe_classes import crowding, probe_classes, total_variance
from crkd.clustering.class_count.validity import peak_heights, silhouettes, stabilities
from crkd.clustering.kmeans import kmeans
from crkd.core.errors import InputError


def mixture(num_known, num_novel, *, seed=0, each=60, evenness=1000.0, spread=0.5, dimensions=32):
    """Tight known classes, and novel ones of another spread and of uneven size."""
    draw = np.random.default_rng(seed)
    means = draw.standard_normal((num_known + num_novel, dimensions))
    labels = np.repeat(np.arange(num_known), each)
    known = means[labels] + 0.2 * draw.standard_normal((len(labels), dimensions))
    shares = draw.dirichlet(np.full(num_novel, evenness))
    truth = draw.choice(num_novel, each * num_novel, p=shares)
    noise = spread * draw.standard_normal((len(truth), dimensions))
    return known.astype(np.float32), labels, (means[num_known + truth] + noise).astype(np.float32)


@pytest.mark.parametrize(
    ("num_known", "num_novel", "evenness", "each"),
    [(10, 3, 1000.0, 60), (6, 5, 6.0, 60), (10, 12, 1000.0, 30), (6, 20, 1000.0, 30)],
)
def test_the_number_of_a_mixture(num_known, num_novel, evenness, each):
    known, labels, novel = mixture(num_known, num_novel, evenness=evenness, each=each)
    count = estimate_class_count(novel, known, labels, seed=0, max_classes=2 * num_novel + 6)
    assert abs(count.estimate - num_novel) <= 0.1 * num_novel
    assert count.low <= num_novel <= count.high
    assert count.num_probes == num_known
    assert count.evidence.votes.sum() == pytest.approx(1.0)


def test_validity_scores_alone_find_clear_clusters():
    _, _, novel = mixture(3, 6, spread=0.3)
    count = estimate_class_count(novel, seed=0)
    assert count.estimate == 6
    assert count.low <= 6 <= count.high
    assert (count.evidence.votes, count.num_probes) == (None, 0)


def test_too_few_known_classes_do_not_anchor():
    known, labels, novel = mixture(2, 5, each=20)
    assert estimate_class_count(novel, known, labels, seed=0).evidence.votes is None


@pytest.mark.parametrize("rows", [1, 2, 10])
def test_few_labeled_images_of_each_class_and_many_unlabeled_ones(monkeypatch, rows):
    """The sample has a tenth of all rows, and every known class."""
    monkeypatch.setattr(estimation, "MAX_ROWS", 100)
    known, labels, novel = mixture(10, 10, each=100, spread=0.3)
    few = np.concatenate([np.flatnonzero(labels == label)[:rows] for label in range(10)])
    for seed in range(3):
        count = estimate_class_count(novel, known[few], labels[few], seed=seed, max_classes=30)
        assert count.num_probes == 10
        assert 1 <= count.low <= count.estimate <= count.high


def test_a_range_that_ends_at_the_limit_says_so():
    known, labels, novel = mixture(4, 3, each=30)
    limited = estimate_class_count(novel, known, labels, seed=0, max_classes=3)
    assert limited.at_limit
    assert "no number above 3 was looked at" in limited.sentence
    free = estimate_class_count(novel, known, labels, seed=0, max_classes=9)
    assert not free.at_limit
    assert free.sentence.endswith(f"estimated: {free.estimate}, range {free.low} to {free.high}")


def test_the_same_seed_gives_the_same_result():
    known, labels, novel = mixture(4, 3, spread=1.0, each=30)
    first, again = (
        estimate_class_count(novel, known, labels, seed=3, max_classes=9) for _ in range(2)
    )
    assert (first.estimate, first.low, first.high) == (again.estimate, again.low, again.high)
    np.testing.assert_array_equal(first.evidence.votes, again.evidence.votes)


@pytest.mark.parametrize(
    ("rows", "limit", "words"),
    [
        (0, None, "0 unlabeled images are too few"),
        (3, None, "3 unlabeled images are too few"),
        (3, 2, "3 unlabeled images are too few"),
        (30, 16, "is 16 for 30 unlabeled images; give 2 to 15"),
        (30, 1, "is 1 for 30 unlabeled images"),
        (30, 0, "is 0 for 30 unlabeled images"),
    ],
)
def test_too_few_images_are_named(rows, limit, words):
    novel = np.random.default_rng(0).standard_normal((rows, 4)).astype(np.float32)
    with pytest.raises(InputError, match=words) as refused:
        estimate_class_count(novel, seed=0, max_classes=limit)
    assert "--" not in str(refused.value), "a function knows no flags"


@pytest.mark.parametrize("rows", [4, 5, 6, 9, 18, 19])
@pytest.mark.parametrize("num_known", [0, 4])
def test_a_few_images_are_enough_for_a_search(rows, num_known):
    _, _, novel = mixture(3, 2, spread=0.05)
    known, labels, _ = mixture(num_known, 2, each=10) if num_known else (None, None, None)
    count = estimate_class_count(novel[:rows], known, labels, seed=0)
    assert count.evidence.counts[-1] <= rows // 2
    assert 1 <= count.low <= count.estimate <= count.high <= rows // 2


def test_known_classes_become_as_blurred_and_as_wide():
    known, labels, novel = mixture(8, 8, spread=0.8)
    wanted = {"crowding_wanted": crowding(novel), "variance_wanted": total_variance(novel)}
    assert crowding(known) < 0.3 * wanted["crowding_wanted"]
    made = probe_classes(known, labels, **wanted)
    assert crowding(made) == pytest.approx(wanted["crowding_wanted"], rel=0.05)
    assert total_variance(made) == pytest.approx(wanted["variance_wanted"], rel=1e-4)
    # The factor between 0.2 and 0.8 is 4, and what a class looks like stays.
    apart = [
        x - np.stack([x[labels == k].mean(0) for k in range(8)])[labels] for x in (known, made)
    ]
    factor = np.linalg.norm(apart[1]) / np.linalg.norm(apart[0])
    assert factor == pytest.approx(4.0, rel=0.15)
    np.testing.assert_allclose(apart[1], factor * apart[0], atol=1e-3)


def test_gains_fall_and_price_the_clusters():
    _, _, novel = mixture(3, 6, spread=0.3)
    curve = inertia_curve(novel, cluster_counts(20), seed=0)
    assert (np.diff(curve.gains) <= 1e-6).all()
    first, last = kmeans(novel, 1, seed=0).inertia, kmeans(novel, 20, seed=0).inertia
    assert curve.gains.sum() == pytest.approx(first - last, rel=0.02)
    high, low = curve.range_of_price(6, 6)
    assert high > 5 * low
    np.testing.assert_array_equal(curve.clusters_worth(np.geomspace(high, low * 1.01, 9)), 6)
    assert curve.clusters_worth(np.array([curve.gains[0] * 2]))[0] == 1


def test_witnesses_against_their_definitions():
    _, _, novel = mixture(3, 6, spread=0.3)
    counts = np.array([3, 6, 11])
    assignments = np.stack([kmeans(novel, int(k), seed=0).assignment for k in counts])
    for score, clusters in zip(silhouettes(novel, assignments, seed=0), assignments, strict=True):
        assert score == pytest.approx(silhouette_score(novel, clusters), abs=1e-3)
    stable = stabilities(novel, counts, seed=0)
    assert stable[1] == pytest.approx(1.0)
    assert stable[2] < 0.95
    noise = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    assert stabilities(noise, np.array([6]), seed=0)[0] < 0.5


def test_bumps_ignore_a_straight_trend():
    counts = np.array([2, 3, 4, 6, 8])
    np.testing.assert_array_equal(peak_heights(counts, 1.0 - 0.1 * counts), np.zeros(5))
    scores = 1.0 - 0.1 * counts
    scores[2] += 0.05
    assert peak_heights(counts, scores).argmax() == 2
