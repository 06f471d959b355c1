"""Initial centroids of k-means by greedy k-means++."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Seeding reads every row once per centroid, so large sets are sampled to this many rows.
SEED_ROWS = 2048
SEED_ROWS_PER_CLUSTER = 64


def seed_rows(rows: NDArray[np.float32], num_clusters: int, seed: int) -> NDArray[np.int64]:
    """Draw the rows of the initial centroids by greedy k-means++.

    A row is drawn with a probability proportional to its squared distance to the nearest row
    drawn before. Of several such draws, the one that lowers the inertia most is kept (Arthur and
    Vassilvitskii, 2007). If there are many rows, a random sample represents them.

    Args:
        rows: ``(N, D)`` finite values.
        num_clusters: K, in [1, N].
        seed: seed of the sample and the draws, in [0, 2**32).

    Returns:
        ``(K,)`` positions in [0, N).
    """
    from sklearn.cluster import kmeans_plusplus

    sample = np.arange(len(rows))
    size = max(SEED_ROWS_PER_CLUSTER * num_clusters, SEED_ROWS)
    if size < len(rows):
        sample = np.sort(np.random.default_rng(seed).choice(len(rows), size, replace=False))
    # scikit-learn otherwise converts float32 to float64 in blocks for every centroid.
    candidates = rows[sample].astype(np.float64)
    _, chosen = kmeans_plusplus(candidates, num_clusters, random_state=seed)
    return np.asarray(sample[chosen], dtype=np.int64)
