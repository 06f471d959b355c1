"""K-means against scikit-learn, both backends, edges, and the digits baseline."""

import importlib
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs

from crkd.clustering import seeding
from crkd.clustering.kmeans import assign, kmeans, unit_rows
from crkd.core.errors import InputError
from crkd.evaluation.matching import clustering_accuracy

# The package gives the function under this name.
clusters = importlib.import_module("crkd.clustering.kmeans")

HAS_FAISS = clusters.has_faiss()


@pytest.fixture(params=["faiss", "sklearn"])
def backend(request, monkeypatch):
    if request.param == "sklearn":
        monkeypatch.setattr(clusters, "has_faiss", lambda: False)
        # Whoever reaches for it all the same fails.
        monkeypatch.setitem(sys.modules, "faiss", None)
    elif not HAS_FAISS:
        pytest.skip("faiss is not installed")
    return request.param


def blobs(num_samples=600, num_clusters=12, dimensions=8, seed=0, spread=1.5):
    rows, truth = make_blobs(
        num_samples, dimensions, centers=num_clusters, cluster_std=spread, random_state=seed
    )
    return rows.astype(np.float32), truth


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_inertia_is_not_worse_than_sklearn(backend, seed):
    rows, _ = blobs(seed=seed, spread=4.0)
    ours = kmeans(rows, 12, seed=seed)
    theirs = KMeans(12, n_init=10, random_state=seed).fit(rows)
    assert ours.backend == backend
    assert ours.inertia <= 1.02 * theirs.inertia_


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("data", ["separated", "digits"])
def test_inertia_is_within_a_percent_of_sklearn(backend, monkeypatch, data, large):
    monkeypatch.setattr(clusters, "LARGE", 0 if large else sys.maxsize)
    rows = blobs(spread=0.5)[0] if data == "separated" else load_digits().data.astype(np.float32)
    num_clusters = 12 if data == "separated" else 10
    ours = kmeans(rows, num_clusters, seed=0)
    theirs = KMeans(num_clusters, n_init=10, random_state=0).fit(rows)
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=0.01)


def test_the_worse_half_of_the_restarts_is_given_up_on_large_data(backend, monkeypatch):
    rows = np.random.default_rng(0).standard_normal((400, 16)).astype(np.float32)
    every = kmeans(rows, 20, seed=0, num_restarts=9)
    monkeypatch.setattr(clusters, "LARGE", rows.size)
    monkeypatch.setattr(clusters, "ROUND_ITERS", 1)
    advance, alive = clusters._Run.advance, []
    monkeypatch.setattr(
        clusters._Run,
        "advance",
        lambda run, *given: (alive.append(id(run)), advance(run, *given)),
    )
    better = kmeans(rows, 20, seed=0, num_restarts=9)
    # 9 restarts begin, 4 of them continue, then 2, then 1.
    assert sorted(Counter(alive).values())[:8] == [1] * 5 + [2] * 2 + [3]
    assert len(set(alive)) == 9
    assert better.num_restarts == 9
    assert better.inertia <= 1.03 * every.inertia


def test_result_is_consistent(backend):
    rows, truth = blobs()
    result = kmeans(rows, 12, seed=0, num_restarts=3)
    distances = ((rows[:, None].astype(np.float64) - result.centroids) ** 2).sum(-1)
    np.testing.assert_array_equal(result.assignment, distances.argmin(1))
    assert result.inertia == pytest.approx(distances.min(1).sum(), rel=1e-5)
    assert result.centroids.shape == (12, 8)
    assert (result.centroids.dtype, result.assignment.dtype) == (np.float32, np.int64)
    assert (result.num_restarts, result.num_empty) == (3, 0)
    assert clustering_accuracy(result.assignment, truth) > 0.99


def test_same_seed_same_result_and_other_seed_not(backend):
    rows = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    first, again = (kmeans(rows, 20, seed=3, num_restarts=2) for _ in range(2))
    np.testing.assert_array_equal(first.centroids, again.centroids)
    np.testing.assert_array_equal(first.assignment, again.assignment)
    other = kmeans(rows, 20, seed=4, num_restarts=2)
    assert not np.array_equal(first.centroids, other.centroids)


def test_more_restarts_are_never_worse(backend):
    rows = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    inertias = [kmeans(rows, 20, seed=0, num_restarts=n).inertia for n in (1, 4, 12)]
    assert inertias == sorted(inertias, reverse=True)


def test_spherical_clusters_directions(backend):
    draw = np.random.default_rng(0)
    directions = np.eye(5, 10)[draw.integers(0, 5, 200)]
    truth = directions.argmax(1)
    lengths = draw.uniform(0.01, 100.0, (200, 1))
    rows = ((directions + 0.05 * draw.standard_normal((200, 10))) * lengths).astype(np.float32)
    result = kmeans(rows, 5, seed=0, spherical=True)
    assert clustering_accuracy(result.assignment, truth) == 1.0
    np.testing.assert_allclose(np.linalg.norm(result.centroids, axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(assign(rows, result.centroids), result.assignment)
    cosines = np.sum(
        rows / np.linalg.norm(rows, axis=1, keepdims=True) * result.centroids[result.assignment],
        axis=1,
    )
    assert result.inertia == pytest.approx(np.sum(2 - 2 * cosines), rel=1e-3)
    assert clustering_accuracy(kmeans(rows, 5, seed=0).assignment, truth) < 1.0


def test_spherical_backends_agree(monkeypatch):
    if not HAS_FAISS:
        pytest.skip("faiss is not installed")
    rows, _ = blobs(spread=4.0)
    with_faiss = kmeans(rows, 6, seed=0, spherical=True)
    monkeypatch.setattr(clusters, "has_faiss", lambda: False)
    without = kmeans(rows, 6, seed=0, spherical=True)
    assert without.inertia == pytest.approx(with_faiss.inertia, rel=0.01)


def test_no_cluster_is_empty_while_rows_differ(backend):
    # Most rows are copies; only the rare ones can fill the clusters.
    rows = np.repeat(np.arange(10, dtype=np.float32)[:, None], [200] + [1] * 9, axis=0)
    result = kmeans(rows, 10, seed=0)
    assert result.num_empty == 0
    assert len(np.unique(result.assignment)) == 10
    assert result.inertia == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("spherical", [False, True])
def test_fewer_different_rows_than_clusters(backend, spherical):
    rows = np.repeat(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), 5, axis=0)
    result = kmeans(rows, 4, seed=0, spherical=spherical)
    assert result.num_empty == 2
    assert np.isfinite(result.centroids).all()
    assert result.inertia == pytest.approx(0.0, abs=1e-6)


def test_as_many_clusters_as_samples(backend):
    rows = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    result = kmeans(rows, 7, seed=0)
    assert sorted(result.assignment) == list(range(7))


@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e-15, 1.0, 1e15, 1e25, 3e38])
def test_unit_rows_of_any_finite_size(size):
    rows = np.random.default_rng(0).uniform(-1, 1, (20, 6)).astype(np.float32)
    rows[3] = 0
    exact = rows.astype(np.float64)
    exact[exact.any(axis=1)] /= np.linalg.norm(exact[exact.any(axis=1)], axis=1, keepdims=True)
    given = rows.copy()
    given[5:] *= np.float32(size)
    before = given.copy()
    # Values of 1e-38 have few digits themselves.
    np.testing.assert_allclose(unit_rows(given), exact, atol=1e-5 if size == 1e-38 else 1e-6)
    np.testing.assert_array_equal(given, before)
    plain = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-30))
    np.testing.assert_array_equal(unit_rows(rows), plain)


def test_rows_of_zeros_stay_finite_when_spherical(backend):
    rows = np.vstack([np.zeros((3, 4)), np.eye(4)]).astype(np.float32)
    result = kmeans(rows, 3, seed=0, spherical=True)
    assert np.isfinite(result.centroids).all()
    assert np.isfinite(result.inertia)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 6), st.integers(1, 8))
def test_assign_is_the_nearest_of_all(seed, num_rows, dimensions, num_centroids):
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((num_rows, dimensions)).astype(np.float32)
    centroids = draw.standard_normal((num_centroids, dimensions)).astype(np.float32)
    distances = ((rows[:, None].astype(np.float64) - centroids) ** 2).sum(-1)
    chosen = np.take_along_axis(distances, assign(rows, centroids)[:, None], 1)[:, 0]
    np.testing.assert_allclose(chosen, distances.min(1), rtol=1e-4, atol=1e-5)


def test_chunks_do_not_change_the_result(backend, monkeypatch):
    rows, _ = blobs()
    whole = kmeans(rows, 12, seed=0, num_restarts=1)
    monkeypatch.setattr(clusters, "CHUNK_ROWS", 64)
    monkeypatch.setattr(clusters, "DIFFERENCE_ROWS", 7)
    parts = kmeans(rows, 12, seed=0, num_restarts=1)
    np.testing.assert_array_equal(whole.assignment, parts.assignment)
    assert parts.inertia == pytest.approx(whole.inertia)


def test_seeding_on_a_sample_still_finds_the_blobs(backend, monkeypatch):
    rows, truth = blobs(num_samples=2000)
    monkeypatch.setattr(seeding, "SEED_ROWS", 64)
    monkeypatch.setattr(seeding, "SEED_ROWS_PER_CLUSTER", 10)
    result = kmeans(rows, 12, seed=0)
    assert clustering_accuracy(result.assignment, truth) > 0.99


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_digits_baseline(backend, seed):
    rows, truth = load_digits(return_X_y=True)
    novel = truth >= 5
    result = kmeans(rows[novel].astype(np.float32), 5, seed=seed, num_restarts=10)
    # scikit-learn's own k-means ends between 0.887 and 0.900 for these seeds.
    assert clustering_accuracy(result.assignment, truth[novel]) == pytest.approx(0.893, abs=0.008)
    assert result.num_restarts == 10


@pytest.mark.parametrize(
    ("features", "changes", "word"),
    [
        (np.zeros((3, 2)), {"num_clusters": 4}, "num_clusters is 4 but there are only 3 samples"),
        (np.zeros((3, 2)), {"num_clusters": 0}, "num_clusters is 0"),
        (np.zeros((3, 2)), {"num_restarts": 0}, "num_restarts is 0"),
        (np.zeros((3, 2)), {"num_iters": 0}, "num_iters is 0"),
        (np.zeros((3, 2)), {"seed": -1}, "seed is -1"),
        (np.array([[0.0], [np.nan], [1.0]]), {}, "row 1"),
        (np.array([[0.0], [1.0], [np.inf]]), {}, "row 2"),
        (np.array([[1e300], [0.0], [1.0]]), {}, "row 0"),
        (np.zeros(3), {}, "shape (3,)"),
        (np.zeros((3, 0)), {}, "shape (3, 0)"),
        (np.zeros((3, 2), complex), {}, "complex"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_mistakes_are_named(features, changes, word):
    with pytest.raises(InputError) as caught:
        kmeans(features, **{"num_clusters": 2, "seed": 0, **changes})
    assert word in str(caught.value)


def test_bad_row_is_numbered_from_the_first(monkeypatch):
    monkeypatch.setattr(clusters, "CHUNK_ROWS", 10)
    features = np.zeros((40, 2), np.float32)
    features[33, 1] = np.nan
    with pytest.raises(InputError, match="row 33"):
        kmeans(features, 2, seed=0)


def test_centroids_of_another_network_are_named():
    with pytest.raises(InputError, match="3 dimensions and centroids 2"):
        assign(np.zeros((4, 3), np.float32), np.zeros((2, 2), np.float32))
