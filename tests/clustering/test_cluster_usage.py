"""Empty clusters and clusters that are one class, by construction."""

from __future__ import annotations

import numpy as np
import pytest

from crkd.clustering.cluster_usage import merge_suggestions, unused_clusters
from crkd.core.errors import InputError


def heads(truth, maps, num_clusters, *, blur=0.0, seed=0):
    """Logits of heads that predict the cluster maps[h][c] for class c."""
    logits = np.random.default_rng(seed).normal(0, 0.1, (len(maps), len(truth), num_clusters))
    for head, clusters in enumerate(maps):
        logits[head, np.arange(len(truth)), np.array(clusters)[truth]] += 6.0 - blur
    return logits.astype(np.float32)


def test_empty_and_nearly_empty_clusters():
    assignment = np.repeat([0, 1, 3], [50, 49, 1])
    np.testing.assert_array_equal(unused_clusters(assignment, 5), [2, 3, 4])
    assert len(unused_clusters(np.arange(5), 5)) == 0


def test_distinct_clusters_are_not_merged():
    logits = heads(np.repeat(np.arange(4), 30), [[0, 1, 2, 3], [3, 2, 0, 1]], 4)
    assert merge_suggestions(logits, 0) == []


def test_other_heads_that_see_one_class_say_so():
    # Head 0 splits class 2 into clusters 2 and 3; the other heads do not.
    truth = np.repeat([0, 1, 2, 3], 30)
    logits = heads(truth, [[0, 1, 2, 3], [3, 0, 1, 1], [2, 1, 0, 0], [0, 1, 2, 3]], 4)
    (pair,) = merge_suggestions(logits, 0)
    assert (pair.first, pair.second) == (2, 3)
    assert pair.agreement == pytest.approx(2 / 3)


def test_shared_probability_says_so():
    logits = heads(np.repeat(np.arange(4), 30), [[0, 1, 2, 3]], 4)
    # Clusters 1 and 3 are both near on each other's images.
    logits[0, 30:60, 3] += 5.8
    logits[0, 90:, 1] += 5.8
    (pair,) = merge_suggestions(logits, 0)
    assert (pair.first, pair.second) == (1, 3)
    assert pair.overlap > 0.9
    assert np.isnan(pair.agreement)


def test_empty_clusters_are_never_merged():
    # Clusters 2 and 3 have equal probabilities and no image.
    logits = heads(np.repeat(np.arange(2), 30), [[0, 1]], 4)
    logits[:, :, 3] = logits[:, :, 2]
    assert merge_suggestions(logits, 0) == []


def test_a_head_that_is_not_there():
    with pytest.raises(InputError, match="head is 2"):
        merge_suggestions(np.zeros((2, 3, 4), np.float32), 2)
