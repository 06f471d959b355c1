"""One clustering of many: names of clusters do not matter, and majorities win."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from crkd.clustering.consensus import consensus
from crkd.clustering.kmeans import kmeans
from crkd.core.errors import InputError


def test_it_corrects_what_single_clusterings_get_wrong():
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 4, 300)
    given = []
    for _ in range(9):
        wrong = np.where(draw.random(300) < 0.3, draw.integers(0, 4, 300), truth)
        given.append(np.eye(4, dtype=np.float32)[draw.permutation(4)[wrong]])
    single = max(adjusted_rand_score(truth, one.argmax(axis=1)) for one in given)
    found = adjusted_rand_score(truth, consensus(given, 4, seed=0))
    assert found > 0.9 > single


def test_the_names_of_clusters_do_not_matter():
    draw = np.random.default_rng(1)
    given = [draw.dirichlet(np.full(3, 0.1), 60).astype(np.float32) for _ in range(3)]
    turned = [one[:, [2, 0, 1]] for one in given]
    assert adjusted_rand_score(consensus(given, 3, seed=0), consensus(turned, 3, seed=0)) == 1


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="same rows"):
        consensus([np.ones((3, 1), np.float32), np.ones((4, 1), np.float32)], 1, seed=0)
    with pytest.raises(InputError, match="one or more"):
        consensus([], 2, seed=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_kmeans_on_the_roots_of_all_memberships(dtype: type[np.floating]):
    draw = np.random.default_rng(2)
    given = [draw.dirichlet(np.full(width, 0.2), 400).astype(dtype) for width in (3, 5, 4)]
    columns = np.sqrt(np.concatenate(given, axis=1).astype(np.float32))
    expected = kmeans(columns, 3, seed=1, num_restarts=10).assignment
    assert consensus(given, 3, seed=1).tobytes() == expected.tobytes()


def test_it_takes_little_more_memory_than_its_columns():
    clusters = np.random.default_rng(3).integers(0, 4, 40_000)
    given = [np.eye(25, dtype=np.float32)[clusters] for _ in range(4)]
    consensus([part[:100] for part in given], 4, seed=0)
    tracemalloc.start()
    try:
        consensus(given, 4, seed=0, num_restarts=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.6 * sum(part.nbytes for part in given)
