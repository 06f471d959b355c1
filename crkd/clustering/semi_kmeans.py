"""Semi-supervised k-means: labeled rows stay in the cluster of their class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import CHUNK_ROWS, Floats, assign, unit_rows
from crkd.clustering.row_pieces import class_sums
from crkd.core.errors import InputError

# Seeding reads every row once per centroid, so it uses a sample of this many rows per cluster.
SEED_ROWS_PER_CLUSTER = 64


@dataclass(frozen=True, eq=False)
class SemiKMeansResult:
    """The best of several runs.

    Attributes:
        centroids: ``(K, D)`` float32, the A labeled classes first.
        assignment: ``(N,)`` int64 in [0, K); a labeled row keeps its label.
        inertia: sum over rows of the squared distance to the row's centroid; when spherical, of
            the rows at unit length.
        num_iters: number of iterations of the chosen run.
    """

    centroids: Floats
    assignment: NDArray[np.int64]
    inertia: float
    num_iters: int


def semi_kmeans(
    features: Floats,
    labels: NDArray[np.int64],
    num_clusters: int,
    *,
    seed: int,
    num_restarts: int = 3,
    num_iters: int = 100,
    spherical: bool = False,
) -> SemiKMeansResult:
    """Cluster ``features`` while labeled rows stay in the cluster of their class.

    Rows of class a belong to centroid a. The first A centroids start at the class means. The
    others are drawn by greedy k-means++ from the unlabeled rows, given those means (Vaze et al.,
    Generalized Category Discovery, 2022, section 3.2). The run with the lowest inertia is
    returned.

    Args:
        features: ``(N, D)`` finite values.
        labels: ``(N,)`` class of every row, [0, A) without a gap, or -1 for an unlabeled row.
        num_clusters: K, at least A; K - A clusters have no labeled row.
        seed: seed of the k-means++ draws, 0 or above.
        num_restarts: independent runs.
        num_iters: maximum number of iterations of one run; a run stops when no row moves.
        spherical: whether to scale rows and centroids to unit length, to cluster directions.

    Raises:
        InputError: the labels are invalid, or there are more clusters than rows to fill them.
    """
    rows = np.ascontiguousarray(features, dtype=np.float32)
    rows = unit_rows(rows) if spherical else rows
    labels = np.asarray(labels, dtype=np.int64)
    anchors = _anchored_means(rows, labels)
    free = np.flatnonzero(labels < 0)
    extra = num_clusters - len(anchors)
    if not 0 <= extra <= len(free):
        raise InputError(
            f"num_clusters is {num_clusters}; {len(anchors)} labeled classes and {len(free)} "
            f"unlabeled rows allow {len(anchors)} to {len(anchors) + len(free)}"
        )
    if num_clusters == 0:
        raise InputError("num_clusters is 0; without labeled rows it must be at least 1")
    runs = []
    for start in np.random.SeedSequence(seed).generate_state(num_restarts):
        seeds = _seeds(rows[free], anchors, extra, np.random.default_rng(start))
        runs.append(_iterate(rows, labels, seeds, num_iters, spherical))
    return min(runs, key=lambda run: run.inertia)


def _anchored_means(rows: Floats, labels: NDArray[np.int64]) -> Floats:
    if labels.shape != (len(rows),):
        raise InputError(f"labels have shape {labels.shape}; give one for each of {len(rows)} rows")
    counts = np.bincount(labels[labels >= 0])
    if (counts == 0).any():
        raise InputError(
            f"labels skip class {int((counts == 0).argmax())}; number the labeled classes from 0 "
            "without a gap"
        )
    kept = labels >= 0
    sums = class_sums(rows[kept], labels[kept], len(counts))
    return (sums / counts[:, None]).astype(np.float32)


def _seeds(free: Floats, anchors: Floats, extra: int, draw: np.random.Generator) -> Floats:
    """Return the anchors and ``extra`` unlabeled rows, drawn by greedy k-means++."""
    size = max(SEED_ROWS_PER_CLUSTER * (len(anchors) + extra), CHUNK_ROWS)
    if size < len(free):
        free = free[draw.choice(len(free), size, replace=False)]
    squares = np.einsum("nd,nd->n", free, free)

    def away(centroids: Floats) -> Floats:
        norms = np.einsum("kd,kd->k", centroids, centroids)
        distances: Floats = np.maximum(squares - 2 * (centroids @ free.T) + norms[:, None], 0.0)
        return distances

    nearest = np.full(len(free), np.inf, dtype=np.float32)
    for anchor in anchors:
        nearest = np.minimum(nearest, away(anchor[None])[0])
    drawn: list[int] = []
    for _ in range(extra):
        weights = np.where(np.isinf(nearest), 1.0, nearest).astype(np.float64)
        # All remaining rows are equal, so any row will do.
        weights = weights if weights.sum() > 0 else np.ones(len(free))
        tries = draw.choice(len(free), 2 + int(np.log(extra)), p=weights / weights.sum())
        left = np.minimum(nearest, away(free[tries]))
        best = int(left.sum(axis=1).argmin())
        drawn.append(int(tries[best]))
        nearest = left[best]
    return np.concatenate([anchors.reshape(-1, free.shape[1]), free[drawn]])


def _iterate(
    rows: Floats, labels: NDArray[np.int64], centroids: Floats, num_iters: int, spherical: bool
) -> SemiKMeansResult:
    assignment, free, step = labels.copy(), labels < 0, 0
    loose = rows[free]
    for step in range(1, num_iters + 1):
        before = assignment[free]
        assignment[free] = assign(loose, centroids)
        if step > 1 and np.array_equal(before, assignment[free]):
            break
        sums = class_sums(rows, assignment, len(centroids))
        counts = np.bincount(assignment, minlength=len(centroids))[:, None]
        # An empty cluster is not moved.
        means = np.where(counts > 0, sums / np.maximum(counts, 1), centroids).astype(np.float32)
        centroids = unit_rows(means) if spherical else means
    inertia = 0.0
    for start in range(0, len(rows), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        inertia += float(np.square(rows[part] - centroids[assignment[part]]).sum(dtype=np.float64))
    return SemiKMeansResult(centroids, assignment, inertia, step)
