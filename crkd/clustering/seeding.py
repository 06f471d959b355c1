"""Where k-means begins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Seeding reads every row once a centroid; a sample of so many rows serves as well.
SEED_ROWS = 2048
SEED_ROWS_PER_CLUSTER = 64


def seed_rows(rows: NDArray[np.float32], num_clusters: int, seed: int) -> NDArray[np.int64]:
    """Draw the rows at which the clusters begin, by greedy k-means++.

    A row is drawn with a probability proportional to its squared distance to the nearest row
    drawn before; of several such draws the one that lowers the inertia most is kept (Arthur and
    Vassilvitskii, 2007). A random sample represents the rows where there are many.

    Args:
        rows: ``(N, D)`` finite values.
        num_clusters: K, in [1, N].
        seed: of sample and draws, in [0, 2**32).

    Returns:
        ``(K,)`` positions in [0, N).
    """
    from sklearn.cluster import kmeans_plusplus

    sample = np.arange(len(rows))
    size = max(SEED_ROWS_PER_CLUSTER * num_clusters, SEED_ROWS)
    if size < len(rows):
        sample = np.sort(np.random.default_rng(seed).choice(len(rows), size, replace=False))
    # scikit-learn converts float32 to float64 block by block, and again for every centroid.
    candidates = rows[sample].astype(np.float64)
    _, chosen = kmeans_plusplus(candidates, num_clusters, random_state=seed)
    return np.asarray(sample[chosen], dtype=np.int64)
