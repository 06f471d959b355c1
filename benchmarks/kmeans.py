"""K-means on a million features, and on the pixels of CIFAR-100 against scikit-learn.

The features are made-up clusters: directions plus noise of such a size that clusters hardly
overlap, so that the true classes are known and the accuracy says whether the time was spent well.
Pixels have no such classes; there the inertia is compared.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import row
from crkd.clustering.kmeans import kmeans
from crkd.clustering.seeding import seed_rows
from crkd.core.errors import InputError
from crkd.data.datasets.base import load_dataset
from crkd.evaluation.matching import clustering_accuracy

CLUSTERS = 100
NOVEL = 50
"""Classes of CIFAR-100 from this one on are the novel ones of the published split."""

_row = partial(row, "kmeans")


def rows(
    samples: int = 1_000_000, width: int = 768, data_root: Path | None = None
) -> Iterator[dict[str, Any]]:
    """Measure one restart of ten iterations on features, and ten restarts on pixels.

    Args:
        samples: N of the features.
        width: D of the features.
        data_root: folder of CIFAR-100; None searches the usual places.

    Yields:
        The rows of the result file; those on pixels without a value where CIFAR-100 is not found.
    """
    yield from feature_rows(samples, width)
    yield from pixel_rows(_novel_pixels(data_root))


def feature_rows(samples: int, width: int) -> Iterator[dict[str, Any]]:
    """Measure seconds, memory and accuracy on ``(samples, width)`` features."""
    draw = np.random.default_rng(0)
    labels = draw.integers(CLUSTERS, size=samples)
    centers = draw.normal(size=(CLUSTERS, width)).astype(np.float32)
    features = draw.standard_normal((samples, width), dtype=np.float32)
    features += centers[labels] * np.float32(2.0)
    before = _peak_gib()
    start = time.perf_counter()
    found = kmeans(features, CLUSTERS, seed=0, num_restarts=1, num_iters=10)
    seconds = time.perf_counter() - start
    name = f"k-means, {samples:,} x {width} float32, {CLUSTERS} clusters, 10 iterations, 1 restart"
    accuracy = 100 * clustering_accuracy(found.assignment, labels)
    yield _row("s", f"{name} ({found.backend})", seconds)
    yield _row("GiB", f"{name}: peak of the process, features among it", _peak_gib())
    yield _row("GiB", f"{name}: the features and what made them", before)
    yield _row("%", f"{name}: share of samples in their own cluster", accuracy)


def pixel_rows(
    pixels: NDArray[np.float32] | None, clusters: int = 50, restarts: int = 10
) -> Iterator[dict[str, Any]]:
    """Compare seeding, seconds and inertia with scikit-learn's, which both look at all rows.

    Args:
        pixels: ``(N, D)`` in [0, 1], or None for rows without a value.
        clusters: K.
        restarts: runs of which the best is taken.
    """
    from sklearn.cluster import KMeans, kmeans_plusplus

    name = f"k-means on CIFAR-100 pixels, {clusters} clusters"
    seeding, whole = f"{name}: seeding of 1 restart", f"{name}: {restarts} restarts"
    inertia = f"{name}: inertia after {restarts} restarts"
    if pixels is None:
        yield _row("s", seeding, None)
        yield _row("s", whole, None)
        yield _row("squared distance", inertia, None)
        return
    _, ours = _timed(lambda: seed_rows(pixels, clusters, 0))
    _, theirs = _timed(lambda: kmeans_plusplus(pixels, clusters, random_state=0))
    yield _row("s", seeding, ours, theirs)
    found, ours = _timed(lambda: kmeans(pixels, clusters, seed=0, num_restarts=restarts))
    model = KMeans(clusters, n_init=restarts, max_iter=100, random_state=0)
    _, theirs = _timed(lambda: model.fit(pixels))
    yield _row("s", whole, ours, theirs)
    yield _row("squared distance", inertia, found.inertia, float(model.inertia_))


def _novel_pixels(data_root: Path | None) -> NDArray[np.float32] | None:
    """Return the novel training images of CIFAR-100, ``(25000, 3072)``, or None without it."""
    try:
        part = load_dataset("cifar100", data_root).train
    except InputError:
        return None
    pixels = part.pixels()
    if pixels is None:
        return None
    novel = pixels[np.asarray(part.labels) >= NOVEL]
    return novel.reshape(len(novel), -1).astype(np.float32) / np.float32(255.0)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    made = work()
    return made, time.perf_counter() - start


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
