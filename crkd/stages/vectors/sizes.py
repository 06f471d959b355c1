"""Sizes that novel classes seem to have, without a label of them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from crkd.clustering.kmeans import kmeans
from crkd.clustering.merging import merged_kmeans
from crkd.clustering.partition_score import partition_score
from crkd.stages.vectors.candidates import by_heads, by_merging
from crkd.stages.vectors.discovery_input import DiscoveryInput

EVEN = 0.9
"""Mean effective share of the clusters from which on classes count as equally large."""
CLEARLY = 0.25
"""Standard deviations by which the score of merged clusters must exceed that of balanced ones. Both
values were chosen on sets of digits, Fashion-MNIST and CIFAR-100 with classes of equal size, or
with every second class thinned to a half or a fifth."""
SEEDS = 5
"""Seeds of the clusters that the sizes are read off."""
MOST_ROWS = 10_000
"""Vectors that the sizes are read off, at most."""


def estimated_class_shares(inputs: DiscoveryInput, seed: int) -> list[float]:
    """Return the sizes that the novel classes seem to have, in parts of the largest, ascending.

    They are the sizes of merged clusters. Errors of clusters make equal classes look uneven. So all
    parts are 1, unless two things agree: k-means and merged k-means have uneven clusters in the
    median over several seeds, and what becomes of merged clusters has a clearly higher score
    than balanced heads (:func:`~crkd.clustering.partition_score.partition_score`).

    Args:
        inputs: vectors of the novel classes, and their spaces.
        seed: of the clusters.
    """
    rows, count = inputs.whitened.values, inputs.num_novel
    if count < 2:
        return [1.0]
    kept = _kept(len(rows), count, seed)
    values = rows[kept]
    found, evenness = [], []
    for number in range(seed, seed + SEEDS):
        merged = np.bincount(merged_kmeans(values, count, seed=number), minlength=count)
        plain = kmeans(values, count, seed=number, num_restarts=3).assignment
        sizes = np.bincount(plain, minlength=count)
        found.append(np.sort(merged))
        evenness.append((effective_share(merged) + effective_share(sizes)) / 2)
    if np.median(evenness) >= EVEN or not _merging_is_better(inputs, kept, seed):
        return [1.0]
    sizes = np.mean(found, axis=0)
    return [float(share) for share in sizes / sizes[-1]]


def effective_share(sizes: NDArray[np.int64]) -> float:
    """Return the effective number of classes, the exponential of the entropy, in parts of all.

    >>> effective_share(np.array([5, 5, 0, 0]))
    0.5
    """
    shares = sizes / sizes.sum()
    entropy = -float(np.sum(shares * np.log(np.maximum(shares, 1e-12))))
    return round(math.exp(entropy) / len(sizes), 6)


def _kept(num_rows: int, num_novel: int, seed: int) -> NDArray[np.int64]:
    most = max(MOST_ROWS, num_novel)
    if num_rows <= most:
        return np.arange(num_rows)
    return np.random.default_rng([seed, 3]).choice(num_rows, most, replace=False)


def _merging_is_better(inputs: DiscoveryInput, kept: NDArray[np.int64], seed: int) -> bool:
    values, count = inputs.whitened.values[kept], inputs.num_novel
    scores = []
    for way in (by_merging, by_heads):
        clusters = way(inputs, seed).logits(inputs.novel[kept]).argmax(axis=1)
        scores.append(partition_score(values, clusters.astype(np.int64), count, seed=seed))
    return scores[0] > scores[1] + CLEARLY
