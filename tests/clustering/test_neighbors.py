from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd.clustering import neighbors as module
from crkd.clustering.neighbors import nearest_neighbors
from crkd.core.errors import InputError


def rows(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(2, 12), st.integers(1, 5), st.booleans())
def test_the_nearest_are_those_of_a_plain_search(seed: int, num: int, count: int, faiss: bool):
    features = rows(seed, num)
    distances = np.linalg.norm(features[:, None].astype(float) - features[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    order = distances.argsort(axis=1)[:, : num - 1]
    with pytest.MonkeyPatch.context() as patch:
        if not faiss:
            patch.setattr(module, "has_faiss", lambda: False)
        found = nearest_neighbors(features, count, seed=0)
    np.testing.assert_array_equal(found, order[:, np.arange(count) % (num - 1)])


def test_a_row_is_its_own_neighbor_only_where_it_is_alone():
    same = np.ones((6, 3), np.float32)
    found = nearest_neighbors(same, 3, seed=0)
    assert (found != np.arange(6)[:, None]).all()
    assert nearest_neighbors(same[:1], 2, seed=0).tolist() == [[0, 0]]


def test_a_pool_gives_the_nearest_of_its_rows():
    features = rows(3, 200)
    found = nearest_neighbors(features, 2, seed=1, pool_rows=20)
    pool = np.unique(found)
    assert len(pool) <= 20
    for row in range(200):
        others = pool[pool != row]
        nearest = np.linalg.norm(features[others] - features[row], axis=1).min()
        first = np.linalg.norm(features[found[row, 0]] - features[row])
        assert first <= nearest + 1e-5


def test_no_neighbor_cannot_be_asked_for():
    with pytest.raises(InputError, match="count is 0"):
        nearest_neighbors(rows(0, 3), 0, seed=0)
