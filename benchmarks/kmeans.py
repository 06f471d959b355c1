"""K-means on a million features, as prototypes and baselines of a large set would need it.

Made-up clusters: unit directions plus noise of such a size that clusters hardly overlap, so
that the right answer is known and the accuracy says whether the time was spent well.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np

from benchmarks.rows import row
from crkd.clustering.kmeans import kmeans
from crkd.evaluation.matching import clustering_accuracy

CLUSTERS = 100


def rows(samples: int = 1_000_000, width: int = 768) -> list[dict[str, Any]]:
    """Measure one restart of ten iterations.

    Args:
        samples: N.
        width: D.
    """
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
    return [
        row("kmeans", "s", f"{name} ({found.backend})", seconds),
        row("kmeans", "GiB", f"{name}: peak of the process, features among it", _peak_gib()),
        row("kmeans", "GiB", f"{name}: the features and what made them", before),
        row("kmeans", "%", f"{name}: share of samples in their own cluster", accuracy),
    ]


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
