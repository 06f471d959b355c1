"""Scores of a clustering without labels: silhouette, and stability under resampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import Floats, assign, kmeans

SILHOUETTE_ROWS = 1500
SPLITS = 4


def silhouettes(rows: Floats, assignments: NDArray[np.int64], *, seed: int) -> NDArray[np.float64]:
    """Return the mean silhouette of each of G clusterings, on a sample of the rows.

    Args:
        rows: ``(N, D)``.
        assignments: ``(G, N)``.
        seed: seed of the sample, which is the same for each clustering.

    Returns:
        ``(G,)`` in [-1, 1] (Rousseeuw, 1987); 0 where the sample is in one cluster.
    """
    from sklearn.metrics import pairwise_distances, silhouette_score

    size = min(len(rows), SILHOUETTE_ROWS)
    chosen = np.random.default_rng(seed).choice(len(rows), size, replace=False)
    distances = pairwise_distances(rows[chosen])
    np.fill_diagonal(distances, 0.0)
    scores = np.zeros(len(assignments))
    for number, clusters in enumerate(assignments[:, chosen]):
        if 1 < len(np.unique(clusters)) < size:
            scores[number] = silhouette_score(distances, clusters, metric="precomputed")
    return scores


def stabilities(rows: Floats, counts: NDArray[np.int64], *, seed: int) -> NDArray[np.float64]:
    """Return how well clusterings of two halves of the rows agree on all rows.

    The rows are split into two halves, and each half is clustered separately. Every row is
    assigned to the nearest centroid of each half, and the adjusted Rand index compares the two
    assignments. The result is the mean over four splits (after Lange et al., 2004).

    Args:
        rows: ``(N, D)``.
        counts: ``(G,)`` numbers of clusters, at most N / 2 each.
        seed: seed of splits and clusterings.

    Returns:
        ``(G,)``, 1 for the same clusters and about 0 for unrelated ones.
    """
    from sklearn.metrics import adjusted_rand_score

    draw = np.random.default_rng(seed)
    halves = [np.array_split(draw.permutation(len(rows)), 2) for _ in range(SPLITS)]
    scores = np.zeros((len(counts), SPLITS))
    for number, count in enumerate(counts):
        for split, pair in enumerate(halves):
            assigned = [
                assign(rows, kmeans(rows[half], int(count), seed=seed, num_restarts=2).centroids)
                for half in pair
            ]
            scores[number, split] = adjusted_rand_score(*assigned)
    mean: NDArray[np.float64] = scores.mean(axis=1)
    return mean


def peak_heights(counts: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each score exceeds the line between its two neighbors.

    Silhouette and stability both drift with the number of clusters, so their maximum is not
    informative. At the true number of classes they exceed their neighbors. The first and the last
    score have one neighbor and count as 0. The others are divided by their root mean square.

    Args:
        counts: ``(G,)`` ascending.
        scores: ``(G,)``.
    """
    out = np.zeros(len(counts))
    for here in range(1, len(counts) - 1):
        around = [here - 1, here + 1]
        out[here] = scores[here] - np.interp(counts[here], counts[around], scores[around])
    size = np.sqrt(np.square(out).mean())
    standard: NDArray[np.float64] = out / size if size > 1e-9 else np.zeros(len(counts))
    return standard
