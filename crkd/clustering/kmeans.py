"""K-means on features, and assignment to the nearest centroid."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.seeding import seed_rows
from crkd.core.errors import InputError

Floats = NDArray[np.float32]

# Number of rows whose distances are held at once: 16,384 x 768 float32 are 50 MB.
CHUNK_ROWS = 16_384
# Number of rows for which differences to the centroids are computed at once, so that they stay in
# the cache.
DIFFERENCE_ROWS = 512
# Some versions of faiss have no stopping rule, so it runs in rounds with a check in between.
ROUND_ITERS = 10
RELATIVE_GAIN = 1e-5
# With at least this many numbers (64 MB of float32), only the better restarts run to the end.
LARGE = 2**24
# Below this length the squares of float32 values lose digits.
_SHORTEST = 1e-16


@dataclass(frozen=True, eq=False)
class KMeansResult:
    """The best of several k-means runs.

    Attributes:
        centroids: ``(K, D)`` float32; of unit length when spherical.
        assignment: ``(N,)`` int64, nearest centroid of every row.
        inertia: sum over rows of the squared distance to the nearest centroid; when spherical, of
            the rows at unit length.
        num_restarts: number of runs from which the result was chosen.
        backend: "faiss" or "sklearn".
        num_empty: clusters without a row; above 0 only when there are fewer than K distinct rows.
    """

    centroids: Floats
    assignment: NDArray[np.int64]
    inertia: float
    num_restarts: int
    backend: str
    num_empty: int


def kmeans(
    features: Floats,
    num_clusters: int,
    *,
    seed: int,
    num_restarts: int = 10,
    num_iters: int = 100,
    spherical: bool = False,
) -> KMeansResult:
    """Cluster ``features`` by k-means and return the restart with the lowest inertia.

    Seeding is k-means++ (Arthur and Vassilvitskii, 2007). The iterations run in faiss, or in
    scikit-learn where faiss is not installed. The two backends agree closely, but not bitwise. The
    same seed gives the same result on the same machine and backend.

    If ``features`` hold ``LARGE`` numbers or more, the worse half of the restarts is dropped
    after every ten iterations until one remains (successive halving; Jamieson and Talwalkar,
    2016).

    Args:
        features: ``(N, D)`` finite values; converted to float32.
        num_clusters: K, at most N.
        seed: seed of the k-means++ draws, 0 or above.
        num_restarts: independent runs.
        num_iters: maximum number of iterations of one run; a run stops earlier once converged.
        spherical: whether to scale rows and centroids to unit length, to cluster directions.

    Raises:
        InputError: the shape is wrong, a value is not finite, or a number is out of its range.
    """
    rows = _checked(features)
    for name, value, low in (
        ("num_clusters", num_clusters, 1),
        ("num_restarts", num_restarts, 1),
        ("num_iters", num_iters, 1),
        ("seed", seed, 0),
    ):
        if value < low:
            raise InputError(f"{name} is {value}; it must be at least {low}")
    if num_clusters > len(rows):
        raise InputError(
            f"num_clusters is {num_clusters} but there are only {len(rows)} samples; "
            "ask for fewer clusters or give more samples"
        )
    if spherical:
        rows = unit_rows(rows)
    starts = np.random.SeedSequence(seed).generate_state(num_restarts)
    runs = [_Run(rows[seed_rows(rows, num_clusters, int(start))]) for start in starts]
    for done in range(0, num_iters, ROUND_ITERS):
        for run in runs:
            run.advance(rows, min(ROUND_ITERS, num_iters - done), spherical)
        if rows.size >= LARGE:
            runs = sorted(runs, key=lambda run: run.objective)[: max(1, len(runs) // 2)]
    results = (_fill_empty(rows, run.centroids, spherical) for run in runs)
    centroids, assignment, inertia = min(results, key=lambda result: result[2])
    num_empty = num_clusters - len(np.unique(assignment))
    backend = "faiss" if has_faiss() else "sklearn"
    return KMeansResult(centroids, assignment, inertia, num_restarts, backend, num_empty)


def assign(features: Floats, centroids: Floats) -> NDArray[np.int64]:
    """Return the nearest centroid (Euclidean) of every row.

    For centroids of unit length, this is also the centroid of the largest cosine, whatever the
    length of the rows.

    Args:
        features: ``(N, D)`` finite values.
        centroids: ``(K, D)`` finite values.

    Returns:
        ``(N,)`` ids in [0, K).

    Raises:
        InputError: the shapes do not fit, or a value is not finite.

    >>> assign(np.array([[0.0, 1.0], [2.0, 2.0]]), np.array([[0.0, 0.0], [2.0, 3.0]]))
    array([0, 1])
    """
    rows, targets = _checked(features), _checked(centroids, "centroids")
    if rows.shape[1] != targets.shape[1]:
        raise InputError(
            f"features have {rows.shape[1]} dimensions and centroids {targets.shape[1]}; "
            "both must come from the same network"
        )
    return _nearest(rows, targets)


def has_faiss() -> bool:
    """Return whether faiss can be imported."""
    return importlib.util.find_spec("faiss") is not None


@dataclass
class _Run:
    """One restart.

    Attributes:
        centroids: ``(K, D)`` float32.
        objective: the quantity that the iterations lower; it can be compared between runs.
        converged: whether the last iterations lowered it by very little.
    """

    centroids: Floats
    objective: float = np.inf
    converged: bool = False

    def advance(self, rows: Floats, num_iters: int, spherical: bool) -> None:
        """Run ``num_iters`` more iterations on ``(N, D)`` rows, or none once converged."""
        if self.converged:
            return
        before, iterate = self.objective, _iterate_faiss if has_faiss() else _iterate_sklearn
        self.centroids, self.objective = iterate(rows, self.centroids, num_iters, spherical)
        self.converged = before - self.objective <= RELATIVE_GAIN * abs(self.objective)


def _iterate_faiss(
    rows: Floats, centroids: Floats, num_iters: int, spherical: bool
) -> tuple[Floats, float]:
    import faiss

    clustering: Any = faiss.Kmeans(
        rows.shape[1],
        len(centroids),
        niter=num_iters,
        spherical=spherical,
        # Use every row, however few or many rows a cluster gets.
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),
    )
    clustering.train(rows, init_centroids=centroids)
    # The spherical objective is a similarity, which grows; the other is a distance, which shrinks.
    objective = float(-clustering.obj[-1] if spherical else clustering.obj[-1])
    return np.ascontiguousarray(clustering.centroids, dtype=np.float32), objective


def _iterate_sklearn(
    rows: Floats, centroids: Floats, num_iters: int, spherical: bool
) -> tuple[Floats, float]:
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if spherical:
        return _iterate_spherical(rows, centroids, num_iters)
    model = KMeans(len(centroids), init=centroids, n_init=1, max_iter=num_iters, random_state=0)
    with warnings.catch_warnings():
        # Fewer distinct rows than clusters; num_empty reports it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows)
    return np.ascontiguousarray(model.cluster_centers_, dtype=np.float32), float(model.inertia_)


def _iterate_spherical(rows: Floats, centroids: Floats, num_iters: int) -> tuple[Floats, float]:
    from scipy.sparse import csr_array

    columns = np.arange(len(rows))
    previous = np.full(len(rows), -1)
    for _ in range(num_iters):
        assignment = _nearest(rows, centroids)
        if np.array_equal(assignment, previous):
            break
        members = csr_array(
            (np.ones(len(rows), np.float32), (assignment, columns)), (len(centroids), len(rows))
        )
        sums = np.asarray(members @ rows, dtype=np.float32)
        # An empty cluster, or one whose rows sum to zero, has no direction and is not moved.
        moved = np.linalg.norm(sums, axis=1, keepdims=True) > 0
        centroids = np.where(moved, unit_rows(sums), centroids)
        previous = assignment
    return centroids, float(_distances(rows, centroids, previous).sum())


def _fill_empty(
    rows: Floats, centroids: Floats, spherical: bool
) -> tuple[Floats, NDArray[np.int64], float]:
    """Move every empty cluster to the row farthest from its centroid, while such rows remain."""
    centroids = centroids.copy()
    assignment = _nearest(rows, centroids)
    distances = _distances(rows, centroids, assignment)
    for _ in range(len(centroids)):
        empty = np.flatnonzero(np.bincount(assignment, minlength=len(centroids)) == 0)
        worst = int(distances.argmax())
        # Below rounding, the farthest row equals its centroid: no distinct row remains.
        if not len(empty) or distances[worst] <= 1e-10 * np.square(rows[worst]).sum():
            break
        centroids[empty[0]] = rows[worst]
        assignment = _nearest(rows, centroids)
        distances = _distances(rows, centroids, assignment)
    centroids = unit_rows(centroids) if spherical else centroids
    return centroids, assignment, float(distances.sum())


def _nearest(rows: Floats, centroids: Floats) -> NDArray[np.int64]:
    if has_faiss():
        import faiss

        index: Any = faiss.IndexFlatL2(rows.shape[1])
        index.add(centroids)
        return np.concatenate(
            [index.search(rows[part], 1)[1][:, 0] for part in _chunks(len(rows), CHUNK_ROWS)]
        ).astype(np.int64)
    from sklearn.metrics import pairwise_distances_argmin

    return np.asarray(pairwise_distances_argmin(rows, centroids), dtype=np.int64)


def _distances(
    rows: Floats, centroids: Floats, assignment: NDArray[np.int64]
) -> NDArray[np.float64]:
    distances = np.empty(len(rows))
    for part in _chunks(len(rows), DIFFERENCE_ROWS):
        gaps = rows[part] - centroids[assignment[part]]
        distances[part] = np.einsum("nd,nd->n", gaps, gaps, dtype=np.float64)
    return distances


def _chunks(num_rows: int, size: int) -> Iterator[slice]:
    for start in range(0, num_rows, size):
        yield slice(start, start + size)


def unit_rows(rows: Floats) -> Floats:
    """Return ``(N, D)`` float32 rows at unit length; a row of zeros stays zero, and NaN stays."""
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    # The squares of very large and very small values are not float32 numbers.
    lost = ~np.isfinite(lengths[:, 0]) | (lengths[:, 0] < _SHORTEST)
    if lost.any():
        scaled = rows[lost]
        largest = np.abs(scaled).max(axis=1, keepdims=True, initial=0)
        np.divide(scaled, largest, out=scaled, where=largest != 0)
        lengths[lost] = np.linalg.norm(scaled, axis=1, keepdims=True)
        rows = rows.copy()
        rows[lost] = scaled
    unit: Floats = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths != 0)
    return unit


def _checked(values: Floats, name: str = "features") -> Floats:
    rows = np.asarray(values)
    if rows.ndim != 2 or 0 in rows.shape:
        raise InputError(
            f"{name} has shape {rows.shape}; give a filled (samples, dimensions) array"
        )
    if not np.issubdtype(rows.dtype, np.floating) and not np.issubdtype(rows.dtype, np.integer):
        raise InputError(f"{name} has dtype {rows.dtype}; give real numbers")
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    for part in _chunks(len(rows), CHUNK_ROWS):
        bad = ~np.isfinite(rows[part]).all(axis=1)
        if bad.any():
            row = part.start + int(bad.argmax())
            raise InputError(
                f"{name} row {row} holds a value that is not a finite float32; "
                "remove it or correct what computed it"
            )
    return rows
